"""Shadows in the database: begun and ended for every node at once, and what they found.

What was found is counted by what it has in common, so that a busy flow costs a few rows a day.
It holds codes, paths and counts, and the ids of a first and a last submission as examples.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import orjson
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from broker.core.instant import from_millis, millis
from broker.core.ledger import operator_entry
from broker.core.shadow import Comparison, Found
from broker.core.whatif import Turn
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.tables import shadow, shadow_finding

DAY_MS: Final = 24 * 3_600_000
ACTIVE_MAX: Final = 4  # each makes every message that it touches be decided once more
PROMOTED: Final = "promoted"
DROPPED: Final = "dropped"


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """One draft that is, or was, beside what is in force. ``protocol`` is its id@version."""

    shadow_id: str
    protocol: str
    draft: str  # the file
    digest: str
    started_at: datetime
    ended_at: datetime | None = None
    ended: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """What comparisons have in common. ``path``: one element of it; empty: the decision."""

    found: str
    sender: str
    recipient: str
    message_type: str
    purpose: str
    live_reason: str = ""
    live_protocol: str = ""
    live_clause: str = ""
    draft_reason: str = ""
    draft_protocol: str = ""
    draft_clause: str = ""
    path: str = ""

    @property
    def key(self) -> str:
        """A digest of all of it."""
        return hashlib.sha256(orjson.dumps([getattr(self, name) for name in _PARTS])).hexdigest()


_PARTS: Final = tuple(Finding.__slots__)


@dataclass(frozen=True, slots=True)
class Tally:
    """How often something was found, and the submissions that are named for it, if any."""

    count: int
    first: str | None
    last: str | None

    def and_then(self, later: "Tally") -> "Tally":
        """Return both together."""
        return Tally(self.count + later.count, self.first or later.first, later.last or self.last)


def findings_of(one: Comparison, submission_id: str) -> Iterator[tuple[Finding, Tally]]:
    """Yield what is recorded of one comparison: the decision, and each path that differs."""
    example = None if one.unsaid or one.found is Found.SKIPPED else submission_id
    tally = Tally(1, example, example)
    about = Finding(
        one.found.value, one.sender, one.recipient, one.message_type, one.purpose,
        one.live.reason, one.live.protocol, one.live.clause,
        one.draft.reason, one.draft.protocol, one.draft.clause,
    )  # fmt: skip
    yield about, tally
    for turn, paths in ((Turn.SHOWS_MORE, one.more), (Turn.SHOWS_LESS, one.less)):
        for path in paths:
            yield replace(about, found=turn.value, path=path), tally


def shadows(conn: Connection, *, active: bool = False) -> list[ShadowRow]:
    """Return the shadows on record, the newest first; ``active``: those that go on."""
    query = select(shadow).order_by(shadow.c.id.desc())
    if active:
        query = query.where(shadow.c.ended_at.is_(None))
    return [
        ShadowRow(
            row.id,
            row.protocol,
            row.draft,
            row.digest,
            from_millis(row.started_at),
            None if row.ended_at is None else from_millis(row.ended_at),
            row.ended or "",
        )
        for row in conn.execute(query)
    ]


def start(conn: Connection, ledger: Ledger, one: ShadowRow, *, operator: str) -> ShadowRow | None:
    """Begin ``one`` under a new id and return it; None: it goes on already, or too many do."""
    going = shadows(conn, active=True)
    if len(going) >= ACTIVE_MAX or any(other.protocol == one.protocol for other in going):
        return None
    begun = replace(one, shadow_id=new_id())
    conn.execute(
        insert(shadow).values(
            id=begun.shadow_id,
            protocol=begun.protocol,
            draft=begun.draft,
            digest=begun.digest,
            started_at=millis(begun.started_at),
        )
    )
    _tell(ledger, "shadow-start", begun, operator, begun.started_at)
    return begun


def end(  # noqa: PLR0913 - the facts of one end
    conn: Connection,
    ledger: Ledger,
    one: ShadowRow,
    how: str,
    *,
    operator: str,
    at: datetime,
    forget: bool = False,
) -> bool:
    """End ``one`` on every node; False when it had ended. ``forget``: what it found goes now."""
    ended = conn.execute(
        update(shadow)
        .where(shadow.c.id == one.shadow_id, shadow.c.ended_at.is_(None))
        .values(ended_at=millis(at), ended=how)
    )
    if forget:
        conn.execute(delete(shadow_finding).where(shadow_finding.c.shadow == one.shadow_id))
    if not ended.rowcount:
        return False
    _tell(ledger, f"shadow-{how}", one, operator, at)
    return True


def _tell(ledger: Ledger, act: str, one: ShadowRow, operator: str, at: datetime) -> None:
    entry = operator_entry(act, operator=operator, target=one.protocol, at=at, digest=one.digest)
    ledger.append(entry)


def add(
    conn: Connection,
    _ledger: Ledger,
    found: Mapping[tuple[str, Finding], Tally],
    at: datetime,
) -> None:
    """Add what was found, by shadow and finding; of one that has ended nothing is added."""
    going = {one.shadow_id for one in shadows(conn, active=True)}
    day = millis(at) // DAY_MS
    for (shadow_id, finding), tally in sorted(found.items(), key=lambda one: one[0][1].key):
        if shadow_id not in going:
            continue
        place = {"b_shadow": shadow_id, "b_day": day, "b_key": finding.key}
        more = {"b_count": tally.count, "b_first": tally.first, "b_last": tally.last}
        if not conn.execute(_MORE, place | more).rowcount:
            conn.execute(
                insert(shadow_finding).values(
                    shadow=shadow_id,
                    day=day,
                    key=finding.key,
                    count=tally.count,
                    first_message=tally.first,
                    last_message=tally.last,
                    **{name: getattr(finding, name) for name in _PARTS},
                )
            )


# The writer writes alone among all nodes: nobody inserts the row between this and the insert.
_MORE = (
    update(shadow_finding)
    .where(
        shadow_finding.c.shadow == bindparam("b_shadow"),
        shadow_finding.c.day == bindparam("b_day"),
        shadow_finding.c.key == bindparam("b_key"),
    )
    .values(
        count=shadow_finding.c.count + bindparam("b_count"),
        first_message=func.coalesce(shadow_finding.c.first_message, bindparam("b_first")),
        last_message=func.coalesce(bindparam("b_last"), shadow_finding.c.last_message),
    )
)


def findings(conn: Connection, shadow_id: str) -> list[tuple[Finding, Tally]]:
    """Return what a shadow found on all days together, the most frequent first."""
    columns = [shadow_finding.c[name] for name in _PARTS]
    query = (
        select(
            *columns,
            func.sum(shadow_finding.c.count),
            func.min(shadow_finding.c.first_message),
            func.max(shadow_finding.c.last_message),  # ids grow with time
        )
        .where(shadow_finding.c.shadow == shadow_id)
        .group_by(*columns)
    )
    found = [
        (Finding(*parts), Tally(int(count), first, last))
        for *parts, count, first, last in conn.execute(query)
    ]
    return sorted(found, key=lambda one: (-one[1].count, one[0].key))


def over(conn: Connection, before: int) -> bool:
    """Return whether anything was found, or any shadow ended, before ``before``."""
    old = select(shadow_finding.c.key).where(shadow_finding.c.day < before // DAY_MS).limit(1)
    ended = select(shadow.c.id).where(shadow.c.ended_at < before).limit(1)
    return any(conn.execute(query).first() is not None for query in (old, ended))


def prune(conn: Connection, _ledger: Ledger, before: int) -> None:
    """Forget what was found before ``before``, and the shadows that ended before."""
    ended = select(shadow.c.id).where(shadow.c.ended_at < before)
    conn.execute(delete(shadow_finding).where(shadow_finding.c.day < before // DAY_MS))
    conn.execute(delete(shadow_finding).where(shadow_finding.c.shadow.in_(ended)))
    conn.execute(delete(shadow).where(shadow.c.ended_at < before))
