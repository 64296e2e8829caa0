"""Our own tables, in our own SQLite file: cases, what came, what is to be sent.

What came and what is to be sent because of it are written in one transaction, so that a
message is answered once whatever fails in between. An answer keeps its bytes: sent twice, it
is the same message to the broker.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Self

from adapters.case_system.trust import Message

TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
CREATE TABLE IF NOT EXISTS child (
  nhs_number TEXT PRIMARY KEY, status TEXT NOT NULL, plan_started TEXT NOT NULL,
  worker_given TEXT NOT NULL, worker_family TEXT NOT NULL, worker_phone TEXT NOT NULL,
  withheld_because TEXT
);
CREATE TABLE IF NOT EXISTS received (
  delivery_id TEXT PRIMARY KEY, sender TEXT NOT NULL, message_id TEXT NOT NULL,
  message_type TEXT NOT NULL, reduced INTEGER NOT NULL, body BLOB NOT NULL,
  UNIQUE (sender, message_id)
);
CREATE TABLE IF NOT EXISTS outgoing (
  number INTEGER PRIMARY KEY, path TEXT NOT NULL, media_type TEXT NOT NULL, body BLOB NOT NULL,
  state TEXT NOT NULL DEFAULT 'waiting', code TEXT
);
"""


@dataclass(frozen=True, slots=True)
class Child:
    """What is on file of a child. With ``withheld_because``, a refusal code, nothing is told."""

    nhs_number: str = field(repr=False)
    status: str
    plan_started: str
    worker_given: str
    worker_family: str
    worker_phone: str
    withheld_because: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request to the broker that has to succeed some day."""

    path: str
    media_type: str
    body: bytes = field(repr=False)
    number: int = 0


class Records:
    """The database, used from the event loop's thread only."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    @classmethod
    def open(cls, file: Path) -> Self:
        """Return the records in ``file``, made when it is not there."""
        connection = sqlite3.connect(file)
        connection.executescript(TABLES)
        return cls(connection)

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def put_child(self, child: Child) -> None:
        """Open or replace a case."""
        with self._db:
            self._db.execute(
                "INSERT OR REPLACE INTO child VALUES (?, ?, ?, ?, ?, ?, ?)", astuple(child)
            )

    def child(self, nhs_number: str) -> Child | None:
        """Return the case of a child, or None: not known here."""
        found = self._db.execute("SELECT * FROM child WHERE nhs_number = ?", (nhs_number,))
        row = found.fetchone()
        return None if row is None else Child(*row)

    def knows(self, delivery_id: str, message: Message) -> bool:
        """Whether this came before: the delivery, or the same message in another delivery."""
        found = self._db.execute(
            "SELECT 1 FROM received WHERE delivery_id = ? OR (sender = ? AND message_id = ?)",
            (delivery_id, message.header.sender, message.header.message_id),
        )
        return found.fetchone() is not None

    def keep(
        self, delivery_id: str, message: Message, body: bytes, because: Sequence[Outgoing]
    ) -> None:
        """Keep what came, together with what is to be sent because of it."""
        header = message.header
        with self._db:  # one transaction
            self._db.execute(
                "INSERT INTO received VALUES (?, ?, ?, ?, ?, ?)",
                (
                    delivery_id,
                    header.sender,
                    header.message_id,
                    header.message_type,
                    message.reduced,
                    body,
                ),
            )
            self._queue(because)

    def queue(self, *outgoing: Outgoing) -> None:
        """Have these sent."""
        with self._db:
            self._queue(outgoing)

    def _queue(self, outgoing: Sequence[Outgoing]) -> None:
        self._db.executemany(
            "INSERT INTO outgoing (path, media_type, body) VALUES (?, ?, ?)",
            [(one.path, one.media_type, one.body) for one in outgoing],
        )

    def waiting(self) -> list[Outgoing]:
        """Return what is still to be sent, oldest first."""
        rows = self._db.execute(
            "SELECT path, media_type, body, number FROM outgoing "
            "WHERE state = 'waiting' ORDER BY number"
        )
        return [Outgoing(*row) for row in rows]

    def settled(self, outgoing: Outgoing, state: str, code: str | None = None) -> None:
        """Note what became of something to be sent: ``sent`` or ``failed``."""
        with self._db:
            self._db.execute(
                "UPDATE outgoing SET state = ?, code = ? WHERE number = ?",
                (state, code, outgoing.number),
            )
