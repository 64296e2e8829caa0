"""The embedded database: one SQLite file, opened so that nothing acknowledged is lost.

An acknowledged commit survives a power cut: write-ahead log, a sync with each commit, no
memory mapping. Of all connections in all processes one at a time writes or moves the log
into the file, under a lock of ours: SQLite before 3.51.3 can corrupt a database when two
connections do that at the same moment (the WAL-reset bug).
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url

from broker.core.errors import Fault, Permanent, Transient
from broker.core.reasons import Reason
from broker.core.submission import Committed
from broker.edge.clock import SystemClock
from broker.edge.database import StoreLost, StoreSettings, store_faults
from broker.ports import Clock

_PAGE_BYTES = 8192  # a sealed 5 KB message and its receipt take one page each
_CACHE_KIB = 64 * 1024
_LOG_KEPT_BYTES = 64 * 1024 * 1024  # a log that grew in a storm is cut back to this
_LOG_BYTES_IDLE = 256 * 1024  # with nothing else to do; small steps, since a commit waits for one
_LOCK_POLL_S = 0.002

_PRAGMAS = (
    f"page_size = {_PAGE_BYTES}",  # counts only for a new file
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "mmap_size = 0",
    f"cache_size = -{_CACHE_KIB}",
    f"journal_size_limit = {_LOG_KEPT_BYTES}",
    "wal_autocheckpoint = 0",  # the writer does it, because SQLite hides an error in its own
)


def database_file(url: str) -> Path:
    """Return the file of an SQLite ``url``.

    Raises:
        Permanent: another database, or one in memory, which no restart would find again.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in {None, "", ":memory:"}:
        raise Permanent(Reason.INTERNAL, "store.url is not that of an SQLite file")
    return Path(str(parsed.database))


def writing_engine(url: str, *, busy_timeout_s: float) -> Engine:
    """Return the engine of the one connection that writes."""
    return _engine(url, busy_timeout_s, begin="BEGIN IMMEDIATE", pragmas=_PRAGMAS, connections=1)


def reading_engine(url: str, *, busy_timeout_s: float, connections: int) -> Engine:
    """Return the engine of the connections that read; a write through them is an error."""
    pragmas = (*_PRAGMAS, "query_only = ON")
    return _engine(url, busy_timeout_s, begin="BEGIN", pragmas=pragmas, connections=connections)


def _engine(
    url: str, busy_timeout_s: float, *, begin: str, pragmas: tuple[str, ...], connections: int
) -> Engine:
    database_file(url)
    engine = create_engine(
        url,
        hide_parameters=True,  # an error's text names the statement, never what was in it
        pool_size=connections,
        max_overflow=0,
        connect_args={
            "timeout": busy_timeout_s,
            "isolation_level": None,  # transactions begin where we say so, and nowhere else
            "check_same_thread": False,
        },
    )

    @event.listens_for(engine, "connect")
    def configure(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's own
        connection.exec_driver_sql(begin)

    return engine


class WriterLock:
    """A lock between processes on writing one database, held for a transaction at a time.

    It lets an operator's command write beside a running broker. It falls with its process.
    """

    def __init__(self, database: Path, timeout_s: float) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._file = os.open(database.with_name(database.name + ".lock"), flags, 0o600)
        self._timeout_s = timeout_s

    def __enter__(self) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Transient(
                        Reason.STORE_UNAVAILABLE, "another process is writing"
                    ) from None
                time.sleep(_LOCK_POLL_S)
            else:
                return

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def close(self) -> None:
        """Give the lock's file back."""
        os.close(self._file)


def checkpoint(conn: Connection, mode: str = "PASSIVE") -> None:
    """Move the log into the database file, as far as readers let it be moved.

    SQLite's own automatic one ignores a failed sync and would later take the log's room
    for new entries although the file does not hold the old ones.
    """
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


class SqliteDatabase:
    """One file, one node: see the head of this module."""

    node = "embedded"  # the same again after a restart, so that it finds what it held
    patience: tuple[float, ...] = ()  # what is locked or full is the caller's to try again
    clock: Clock = SystemClock()

    def __init__(self, url: str, settings: StoreSettings) -> None:
        file = database_file(url)
        self._url = url
        self._settings = settings
        self._log_bytes = 0
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            self._lock = WriterLock(file, settings.busy_timeout_s)
        except OSError as error:
            raise Permanent(Reason.INTERNAL, f"cannot open {file}: {error.strerror}") from error
        self.writing = writing_engine(url, busy_timeout_s=settings.busy_timeout_s)

    def reading(self) -> Engine:
        """Return the engine of connections that read."""
        settings = self._settings
        return reading_engine(
            self._url, busy_timeout_s=settings.busy_timeout_s, connections=settings.readers
        )

    @contextlib.contextmanager
    def migration(self) -> Iterator[Connection]:
        """Hold the database alone, for its schema."""
        with self._lock, self.writing.begin() as conn:
            yield conn

    @contextlib.contextmanager
    def transaction(self, conn: Connection) -> Iterator[None]:
        """Write, alone among all processes, and commit at the end."""
        with self._lock, conn.begin():
            yield

    def announce(self, conn: Connection, committed: Committed) -> None:
        """Say nothing: there is no other node."""

    def start_listening(self, tell: Callable[[Committed], None]) -> None:
        """Listen to nobody: there is no other node."""

    def broken(self, _conn: Connection) -> bool:
        """Whether the connection is of no more use: a file has no connection to lose."""
        return False

    def tidy(self, conn: Connection, written_bytes: int, *, idle: bool) -> bool:
        """Move the log into the database file when it is long, or when there is time.

        False when that failed and nothing was lost by it: the log holds all, and grows.

        Raises:
            StoreLost: the disk failed.
        """
        self._log_bytes += written_bytes
        bound = _LOG_BYTES_IDLE if idle else self._settings.log_bytes_max
        if self._log_bytes < bound:
            return True
        try:
            with store_faults(), self._lock:
                checkpoint(conn)
        except StoreLost:
            raise
        except Fault:
            return False
        self._log_bytes = 0
        return True

    def partition(self, _conn: Connection, _at: datetime) -> bool:
        """Do nothing: one file has no partitions."""
        return True

    def close(self, *, sound: bool) -> None:
        """Let go of the file; ``sound``: move what is left of the log into it first."""
        try:
            if sound:
                with store_faults(), self._lock, self.writing.connect() as conn:
                    checkpoint(conn, "TRUNCATE")
        finally:
            # SQLite checkpoints once more when the last connection goes.
            self.writing.dispose()
            self._lock.close()
