"""What the store asks of a database, and what the errors of any database mean.

There are two: `database_sqlite` for one node and one file, `database_postgres` for any
number of nodes. What differs between them is here and there, and nowhere else.
"""

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, Engine, make_url
from sqlalchemy.engine.interfaces import DBAPICursor
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as SQLAlchemyTimeout

from broker.core.errors import BrokerError, Permanent, Transient
from broker.core.reasons import Reason
from broker.core.submission import Committed
from broker.ports import Clock

try:
    from psycopg import Error as PostgresError
except ImportError:  # an extra, for those who scale out
    PostgresError = sqlite3.Error  # type: ignore[misc,assignment]

DATABASE_ERRORS = (SQLAlchemyError, sqlite3.Error, PostgresError)


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Bounds of the store.

    ``busy_timeout_s``: wait for a lock that somebody else holds. ``statement_timeout_s``: no
    statement takes longer (PostgreSQL). ``log_bytes_max``: a longer write-ahead log is moved
    into the file between two batches (SQLite). ``password``: of the database's user.
    """

    batch_max: int = 256
    queue_max: int = 2048
    readers: int = 2
    busy_timeout_s: float = 2.0
    statement_timeout_s: float = 10.0
    log_bytes_max: int = 16 * 1024 * 1024
    password: str | None = field(default=None, repr=False)


class StoreLost(Transient):
    """The disk failed to keep what it was told to: nothing is certain until reopened.

    After a failed sync the kernel may drop the changes and report success the next time,
    so the only safe acts left are to stop acknowledging and to start again.
    """


class Interrupted(Transient):
    """The transaction ended before it was to be committed: nothing was kept.

    A connection that went, a deadlock: the same again may go through at once.
    """


class Database(Protocol):
    """One database, as the store uses it. Its writing engine serves a single thread."""

    node: str  # in whose name this process holds leases
    patience: tuple[float, ...]  # seconds between attempts at what was `Interrupted`
    clock: Clock  # the one that all nodes on this database share
    writing: Engine

    def reading(self) -> Engine:
        """Return the engine of connections that cannot write and see one instant each time."""
        ...

    def migration(self) -> AbstractContextManager[Connection]:
        """Return a transaction in which no other process changes the schema."""
        ...

    def transaction(self, conn: Connection) -> AbstractContextManager[None]:
        """Return a transaction that writes, alone among all nodes, and commits at its end.

        Raises:
            Transient: whether it was committed is not known.
        """
        ...

    def announce(self, conn: Connection, committed: Committed) -> None:
        """Tell the other nodes, once this transaction is committed, whom it concerns."""
        ...

    def start_listening(self, tell: Callable[[Committed], None]) -> None:
        """From now on ``tell`` what other nodes announce, until closed."""
        ...

    def broken(self, conn: Connection) -> bool:
        """Whether the connection is of no more use."""
        ...

    def tidy(self, conn: Connection, written_bytes: int, *, idle: bool) -> bool:
        """Do what is to be done between two transactions; False when it has to wait."""
        ...

    def partition(self, conn: Connection, at: datetime) -> bool:
        """Make room for the months to come, let go of empty ones; False when it has to wait."""
        ...

    def close(self, *, sound: bool) -> None:
        """Let go of the database; ``sound``: it did not fail."""
        ...


def open_database(url: str, settings: StoreSettings) -> Database:
    """Return the database at ``url``.

    Raises:
        Permanent: there is no such kind of database, or it cannot be used.
    """
    # Each is imported by whoever uses it: PostgreSQL's driver need not be installed.
    kind = kind_of(url)
    if kind == "sqlite":
        from broker.edge.database_sqlite import SqliteDatabase  # noqa: PLC0415

        return SqliteDatabase(url, settings)
    if kind == "postgresql":
        try:
            from broker.edge.database_postgres import PostgresDatabase  # noqa: PLC0415
        except ImportError as error:
            detail = "PostgreSQL needs its driver: pip install 'fame-broker[postgres]'"
            raise Permanent(Reason.INTERNAL, detail) from error
        return PostgresDatabase(url, settings)
    raise Permanent(
        Reason.INTERNAL, "store.url is neither an SQLite file nor a PostgreSQL database"
    )


def kind_of(url: str) -> str:
    """Return the kind of database that ``url`` names, or ``""``."""
    try:
        return make_url(url).get_backend_name()
    except ArgumentError:
        return ""


def cursor_of(conn: Connection) -> DBAPICursor:
    """Return a bare cursor on ``conn``: a fifth of the cost, for the statements of every batch."""
    return conn.connection.cursor()


def drop(conn: Connection) -> None:
    """Let go of a connection that is of no more use, and of what its pool still has of it."""
    with contextlib.suppress(*DATABASE_ERRORS):
        conn.invalidate()
    with contextlib.suppress(*DATABASE_ERRORS):
        conn.close()


@contextlib.contextmanager
def store_faults() -> Iterator[None]:
    """Turn every error of the database into one of ours; ours pass through as they are.

    Raises:
        Transient: full, locked or not reachable.
        Interrupted: the connection went, or another transaction was in the way.
        StoreLost: see there.
        Permanent: anything else that the database says.
    """
    try:
        yield
    except DATABASE_ERRORS as error:
        raise as_fault(error) from None  # PostgreSQL's own words hold values of the row


def in_time(waits: Sequence[float]) -> Iterator[float]:
    """Yield ``waits`` between attempts; none when the attempts alone took twice as long."""
    until = time.monotonic() + 2 * sum(waits)
    for wait_s in waits:
        if time.monotonic() > until:
            return
        yield wait_s


def as_fault(error: Exception) -> BrokerError:
    """Return what ``error`` means for whoever asked. It holds no statement and no value."""
    if isinstance(error, BrokerError):
        return error
    if isinstance(error, MemoryError):  # SQLite's own, too
        return Transient(Reason.OVERLOADED, "too little memory to write it")
    cause = error.orig if isinstance(error, DBAPIError) else error
    if isinstance(cause, sqlite3.Error):
        name = getattr(cause, "sqlite_errorname", None)
        if isinstance(name, str):
            return _sqlite_fault(name)
    elif isinstance(cause, PostgresError):
        return _postgres_fault(cause.sqlstate, cause.diag.constraint_name, type(cause).__name__)
    elif isinstance(error, SQLAlchemyTimeout):
        return Transient(Reason.OVERLOADED, "no connection to the database is free")
    return Permanent(Reason.INTERNAL, f"the database layer failed: {type(error).__name__}")


def _sqlite_fault(name: str) -> BrokerError:
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


def _postgres_fault(state: str | None, constraint: str | None, kind: str) -> BrokerError:
    """Return what a SQLSTATE means. None with an operational error: no server answered."""
    if state is None:
        if kind in {"OperationalError", "ConnectionTimeout"}:
            return Interrupted(Reason.STORE_UNAVAILABLE, "the database is not reachable")
        return Permanent(Reason.INTERNAL, f"the database layer failed: {kind}")
    if state == _DISK_FULL:
        return Transient(Reason.STORE_FULL, "the database's disk is full", retry_after_s=30)
    if state in _ENDED or state[:2] in _ENDED_CLASSES:
        return Interrupted(Reason.STORE_UNAVAILABLE, f"the transaction was ended: {state}")
    if state in _TIMED_OUT:
        return Transient(Reason.STORE_UNAVAILABLE, f"the database took too long: {state}")
    if state[:2] in _SERVER_CLASSES:
        detail = f"the database cannot serve now: {state}"
        return Transient(Reason.STORE_UNAVAILABLE, detail, retry_after_s=5)
    return Permanent(Reason.INTERNAL, f"the database refused: {state} {constraint or ''}".rstrip())


_DISK_FULL = "53100"
# Ended by an administrator, a crash or a start that is not over, or because this node slept.
_ENDED = frozenset({"57P01", "57P02", "57P03", "57P05", "25P03"})
_ENDED_CLASSES = frozenset({"08", "40"})  # connection lost; deadlock or not serializable
_TIMED_OUT = frozenset({"55P03", "57014", "25P04"})  # for a lock, a statement, a transaction
_SERVER_CLASSES = frozenset({"53", "58"})  # out of something; the system it runs on
