"""Where messages are kept: one writer that commits in groups, and threads that read.

An answer from `submit` or `write` means: on the disk, in one transaction with its ledger
entries. A fault means that nothing of it was kept, with one exception that no store can
rule out: when the process dies between commit and answer. Sending again is then safe,
because the same message gets its first receipt.
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Self, TypeVar, cast

from sqlalchemy import Connection

from broker.core.receipt import Issuer
from broker.core.submission import Accepted, Committed, Place, Submission
from broker.edge.accepting import Acceptance
from broker.edge.database import (
    DATABASE_ERRORS,
    Database,
    Interrupted,
    StoreLost,
    StoreSettings,
    drop,
    in_time,
    open_database,
    store_faults,
)
from broker.edge.ledger import Ledger, LedgerCheck, verify_ledger
from broker.edge.migrations import migrate
from broker.edge.sealing import KeyRing
from broker.edge.writer import SIZE_BOUNDS, Counts, Writer
from broker.ports import Clock

__all__ = [
    "SIZE_BOUNDS",
    "Accepted",
    "Committed",
    "Ledger",
    "LedgerCheck",
    "Place",
    "Store",
    "StoreLost",
    "StoreSettings",
    "StoreStats",
    "Submission",
    "verify_ledger",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What the store is doing. ``lost``: a disk failed, and only opening it again helps."""

    queued: int
    lost: bool
    counts: Counts


class Store:
    """The messages, decisions, deliveries, evidence and ledger of one broker."""

    def __init__(self, writer: Writer, readers: "_Readers", database: Database) -> None:
        self._writer = writer
        self._readers = readers
        self._database = database

    @classmethod
    def open(
        cls, url: str, *, ring: KeyRing, issuer: Issuer, settings: StoreSettings | None = None
    ) -> Self:
        """Return the store at ``url``, made or migrated as needed.

        Raises:
            Transient: it is locked, full or not reachable.
            Permanent: it is not a store of this broker, or newer than this program.
        """
        settings = settings or StoreSettings()
        database = open_database(url, settings)
        try:
            with store_faults():
                migrate(database.migration())
                with database.migration() as conn:
                    database.partition(conn, database.clock.now())
        except BaseException:
            database.close(sound=False)
            raise
        acceptance = Acceptance(ring, issuer, database.writing.dialect)
        writer = Writer(database, acceptance, settings)
        database.start_listening(writer.tell)
        return cls(writer, _Readers(database, settings), database)

    @property
    def clock(self) -> Clock:
        """The clock that all nodes of this store share."""
        return self._database.clock

    @property
    def node(self) -> str:
        """In whose name this process holds leases: unique among those that run."""
        return self._database.node

    async def submit(
        self,
        submission: Submission,
        also: Callable[[Connection, Ledger], object] | None = None,
    ) -> Accepted:
        """Keep ``submission`` and return its receipt, or the first one if it is kept already.

        ``also`` runs in its transaction, if the submission is new; what it raises undoes
        both, and is raised here.

        Raises:
            Rejection: another message was accepted under its id.
            Transient: the store is full, locked, lost or overloaded; nothing was kept.
            Permanent: this submission cannot be written.
        """
        return cast("Accepted", await self._writer.put(submission, also))

    async def write(self, act: Callable[[Connection, Ledger], T]) -> T:
        """Run ``act`` in the next transaction and return its value once that is committed.

        It runs in the writing thread: it must be short, wait for nothing, and neither
        commit nor roll back. What it raises is raised here, and nothing of it is kept.
        """
        return cast("T", await self._writer.put(act))

    async def read(self, query: Callable[[Connection], T]) -> T:
        """Run ``query`` on a connection that cannot write and sees one instant throughout."""
        return await self._readers.run(query)

    async def partition(self, at: datetime) -> bool:
        """Make room for the months after ``at``, let go of empty ones; False: try again later."""
        return await self.write(lambda conn, _ledger: self._database.partition(conn, at))

    def on_commit(self, listener: Callable[[Committed], None]) -> None:
        """Have ``listener`` called on the running event loop after commits that concern others."""
        self._writer.listen(listener)

    @property
    def lost(self) -> StoreLost | None:
        """The fault that ended this store's acknowledgements, if there was one."""
        return self._writer.lost

    def stats(self) -> StoreStats:
        """Return what the store is doing, for metrics."""
        return StoreStats(self._writer.queued, self.lost is not None, self._writer.counts)

    async def close(self) -> None:
        """Finish what is queued, then let go of the database."""
        await asyncio.get_running_loop().run_in_executor(None, self._close)

    def _close(self) -> None:
        self._writer.stop()
        self._readers.close()
        self._database.close(sound=self.lost is None)


class _Readers:
    """Threads that read, each with its own connection."""

    def __init__(self, database: Database, settings: StoreSettings) -> None:
        self._database = database
        self._engine = database.reading()
        self._threads = ThreadPoolExecutor(settings.readers, "store-reader")
        self._local = threading.local()
        self._open: set[Connection] = set()

    async def run(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        for wait_s in in_time(self._database.patience):
            try:
                return self._once(query)
            except Interrupted:
                time.sleep(wait_s)
        return self._once(query)

    def _once(self, query: Callable[[Connection], T]) -> T:
        with store_faults():
            conn: Connection | None = getattr(self._local, "conn", None)
            if conn is None:
                conn = self._local.conn = self._engine.connect()
                self._open.add(conn)
            try:
                with conn.begin():
                    return query(conn)
            except DATABASE_ERRORS:
                if self._database.broken(conn):
                    self._local.conn = None
                    self._open.discard(conn)
                    drop(conn)
                raise

    def close(self) -> None:
        self._threads.shutdown()
        for conn in self._open:
            drop(conn)
        self._engine.dispose()
