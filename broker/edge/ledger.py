"""The ledger inside one transaction of the writer, and its check from outside."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, Integer, Select, func, literal_column, select

from broker.core.identity import AgencyId
from broker.core.ledger import canonical, first_fault, leaf_hash
from broker.core.submission import Committed, Place
from broker.edge.database import cursor_of
from broker.edge.tables import ledger as ledger_table
from broker.edge.tables import message

_Mark = tuple[int, int, int]


class Ledger:
    """What the transaction that is being written adds, and whom it concerns.

    Entries get the next free numbers. Nothing is believed about the number but what the
    table says in this very transaction, so an abandoned one leaves no gap.
    """

    def __init__(self, first: int) -> None:
        self._first = first
        self._rows: list[dict[str, object]] = []
        self._recipients: list[AgencyId] = []
        self._correlations: list[str] = []

    @classmethod
    def of(cls, conn: Connection) -> "Ledger":
        """Return the ledger as ``conn``, which holds the right to write, finds it."""
        cursor = cursor_of(conn)
        cursor.execute("SELECT coalesce(max(seq) + 1, 0) FROM ledger")
        return cls(*cursor.fetchall()[0])

    def append(self, entry: Mapping[str, object]) -> Place:
        """Add ``entry`` at the next free number and return its place.

        Raises:
            TypeError: the entry holds what a ledger does not.
        """
        sequence = self._first + len(self._rows)
        written = canonical({"seq": sequence, **entry})
        leaf = leaf_hash(written)
        self._rows.append({"seq": sequence, "leaf": leaf, "entry": written})
        return Place(sequence, leaf)

    def wake(self, recipient: AgencyId | None = None, correlation: str | None = None) -> None:
        """Have those told who wait for deliveries to ``recipient`` or for a conversation."""
        if recipient is not None:
            self._recipients.append(recipient)
        if correlation is not None:
            self._correlations.append(correlation)

    @property
    def rows(self) -> list[dict[str, object]]:
        """The rows to insert."""
        return self._rows

    @property
    def committed(self) -> Committed:
        """What to tell once the transaction is committed."""
        return Committed(frozenset(self._recipients), frozenset(self._correlations))

    def mark(self) -> _Mark:
        """Return a place to come back to."""
        return len(self._rows), len(self._recipients), len(self._correlations)

    def rewind(self, mark: _Mark) -> None:
        """Forget everything since ``mark``."""
        rows, recipients, correlations = mark
        del self._rows[rows:]
        del self._recipients[recipients:]
        del self._correlations[correlations:]


@dataclass(frozen=True, slots=True)
class LedgerCheck:
    """What a check of the whole ledger found; ``fault`` is empty when all is well."""

    entries: int
    first_bad: int | None = None
    fault: str = ""


def verify_ledger(conn: Connection) -> LedgerCheck:
    """Check every entry, and that each message has the entry that its row names."""
    entries = conn.execute(select(func.count()).select_from(ledger_table)).scalar_one()
    columns = ledger_table.c
    rows = conn.execution_options(yield_per=1000).execute(
        select(columns.seq, columns.leaf, columns.entry).order_by(columns.seq)
    )
    bad = first_fault((row.seq, row.leaf, row.entry) for row in rows)
    if bad is not None:
        return LedgerCheck(entries, *bad)
    stray = conn.execute(_stray(conn)).scalar()
    if stray is not None:
        return LedgerCheck(entries, stray, "a message names this entry, which is about another")
    return LedgerCheck(entries)


def _stray(conn: Connection) -> Select[int]:
    """Return the query for a message whose entry does not hold its id."""
    about = ledger_table.alias("about")
    found: ColumnElement[int]
    if conn.dialect.name == "postgresql":
        found = literal_column("position(convert_to(message.id, 'UTF8') in about.entry)", Integer)
    else:
        found = func.instr(about.c.entry, func.cast(message.c.id, about.c.entry.type))
    return (
        select(message.c.ledger_seq)
        .outerjoin(about, about.c.seq == message.c.ledger_seq)
        .where(about.c.entry.is_(None) | (found == 0))
        .order_by(message.c.ledger_seq)
        .limit(1)
    )
