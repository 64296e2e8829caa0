"""Where messages are kept: one writer that commits in groups, and threads that read.

An answer from `submit` or `write` means: on the disk, in one transaction with its ledger
entries. A fault means that nothing of it was kept, with one exception that no store can
rule out: when the process dies between commit and answer. Sending again is then safe,
because the same message gets its first receipt.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self, TypeVar, cast

from sqlalchemy import Connection, Engine

from broker.core.errors import Permanent
from broker.core.reasons import Reason
from broker.core.receipt import Issuer
from broker.core.submission import Accepted, Committed, Place, Submission
from broker.edge.accepting import Acceptance
from broker.edge.database import (
    StoreLost,
    WriterLock,
    checkpoint,
    database_file,
    reading_engine,
    store_faults,
    writing_engine,
)
from broker.edge.ledger import Ledger, LedgerCheck, verify_ledger
from broker.edge.migrations import migrate
from broker.edge.sealing import KeyRing
from broker.edge.writer import SIZE_BOUNDS, Counts, StoreSettings, Writer

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

    def __init__(
        self, writer: Writer, readers: "_Readers", engine: Engine, lock: WriterLock
    ) -> None:
        self._writer = writer
        self._readers = readers
        self._engine = engine
        self._lock = lock

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
        file = database_file(url)
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            lock = WriterLock(file, settings.busy_timeout_s)
        except OSError as error:
            raise Permanent(Reason.INTERNAL, f"cannot open {file}: {error.strerror}") from error
        engine = writing_engine(url, busy_timeout_s=settings.busy_timeout_s)
        try:
            with store_faults(), lock:
                migrate(engine)
        except BaseException:
            engine.dispose()
            lock.close()
            raise
        writer = Writer(engine, lock, Acceptance(ring, issuer, engine.dialect), settings)
        return cls(writer, _Readers(url, settings), engine, lock)

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
        try:
            with store_faults(), self._lock, self._engine.connect() as conn:
                if self.lost is None:
                    checkpoint(conn, "TRUNCATE")
        finally:
            # SQLite checkpoints once more when the last connection goes.
            self._engine.dispose()
            self._lock.close()


class _Readers:
    """Threads that read, each with its own connection."""

    def __init__(self, url: str, settings: StoreSettings) -> None:
        self._engine = reading_engine(
            url, busy_timeout_s=settings.busy_timeout_s, connections=settings.readers
        )
        self._threads = ThreadPoolExecutor(settings.readers, "store-reader")
        self._local = threading.local()

    async def run(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._read, query)

    def _read(self, query: Callable[[Connection], T]) -> T:
        with store_faults():
            conn: Connection | None = getattr(self._local, "conn", None)
            if conn is None:
                conn = self._local.conn = self._engine.connect()
            with conn.begin():
                return query(conn)

    def close(self) -> None:
        self._threads.shutdown()
        self._engine.dispose()
