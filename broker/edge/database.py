"""Connections to the database, and what its errors mean.

SQLite is used so that an acknowledged commit survives a power cut: write-ahead log, a sync
with each commit, no memory mapping. Of all connections in all processes one at a time
writes or moves the log into the file, under a lock of ours: SQLite before 3.51.3 can
corrupt a database when two connections do that at the same moment (the WAL-reset bug).
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from broker.core.errors import BrokerError, Permanent, Transient
from broker.core.reasons import Reason

_PAGE_BYTES = 8192  # a sealed 5 KB message and its receipt take one page each
_CACHE_KIB = 64 * 1024
_LOG_KEPT_BYTES = 64 * 1024 * 1024  # a log that grew in a storm is cut back to this
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

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error)


class StoreLost(Transient):
    """The disk failed to keep what it was told to: nothing is certain until reopened.

    After a failed sync the kernel may drop the changes and report success the next time,
    so the only safe acts left are to stop acknowledging and to start again.
    """


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


def cursor_of(conn: Connection) -> DBAPICursor:
    """Return a bare cursor on ``conn``: a fifth of the cost, for the statements of every batch."""
    return conn.connection.cursor()


def checkpoint(conn: Connection, mode: str = "PASSIVE") -> None:
    """Move the log into the database file, as far as readers let it be moved.

    SQLite's own automatic one ignores a failed sync and would later take the log's room
    for new entries although the file does not hold the old ones.
    """
    raw = conn.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    raw.execute(f"PRAGMA wal_checkpoint({mode})").fetchall()


@contextlib.contextmanager
def store_faults() -> Iterator[None]:
    """Turn every error of the database into one of ours; ours pass through as they are.

    Raises:
        Transient: full, locked or not reachable.
        StoreLost: see there.
        Permanent: anything else that the database says.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        raise as_fault(error) from error


def as_fault(error: Exception) -> BrokerError:
    """Return what ``error`` means for whoever asked. It holds no statement and no value."""
    if isinstance(error, BrokerError):
        return error
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", None)
    if not isinstance(name, str):
        return Permanent(Reason.INTERNAL, f"the database layer failed: {type(error).__name__}")
    if name in _FULL:
        return Transient(Reason.STORE_FULL, "the disk is full", retry_after_s=30)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return Transient(Reason.STORE_UNAVAILABLE, "the database is locked")
    if name.startswith(_LOST):
        return StoreLost(Reason.STORE_UNAVAILABLE, f"the disk failed: {name}", retry_after_s=30)
    if name in _UNREACHABLE:
        return Transient(Reason.STORE_UNAVAILABLE, f"the database is not reachable: {name}")
    return Permanent(Reason.INTERNAL, f"the database refused: {name}")


# Growing the index of the log, which is shared memory, is how a full disk shows first.
_FULL = frozenset({"SQLITE_FULL", "SQLITE_IOERR_SHMSIZE"})
_LOST = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
_UNREACHABLE = frozenset({"SQLITE_CANTOPEN", "SQLITE_PROTOCOL"})
