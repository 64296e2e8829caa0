"""PostgreSQL: one database for any number of nodes.

A transaction that writes takes one advisory lock first, so that the nodes write in turn:
the ledger is one sequence without gaps, and what was asked at the start still holds at the
end. Each node commits in groups, so a turn serves everything that waits at that node.
Every commit is synced (`synchronous_commit=on`), and says to the other nodes whom it concerns.
"""

import contextlib
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

import orjson
import psycopg
import structlog
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url

from broker.core.errors import BrokerError, Transient
from broker.core.reasons import Reason
from broker.core.submission import Committed
from broker.edge.clock import SharedClock, SystemClock
from broker.edge.database import (
    DATABASE_ERRORS,
    Interrupted,
    StoreSettings,
    as_fault,
    cursor_of,
    store_faults,
)
from broker.edge.database_news import CHANNEL, News
from broker.edge.database_silence import GRACE_S, Listened
from broker.edge.partitions import tend
from broker.ports import Clock

log = structlog.get_logger(__name__)

_DRIVER = "postgresql+psycopg"
_TURN = 0x46414D45_0001  # advisory locks are numbers, agreed among the nodes of a database
_SCHEMA = 0x46414D45_0002
_SCHEMA_S = 600  # a migration may take this long, and a node that starts waits for it
_NOTE_BYTES_MAX = 7900  # PostgreSQL's own bound is 8000
_CONNECT_S = 5
_COMPLETION_UNKNOWN = "40003"
# A connection on which nobody answers is found out in half a minute, and a node that sleeps
# in a transaction loses its turn.
_KEEPALIVES = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 25_000,
}


class PostgresDatabase:
    """One database, shared: see the head of this module."""

    # A server that crashed is usually back within two seconds; then callers are told.
    patience: tuple[float, ...] = (0.02, 0.1, 0.3, 0.6, 1.0)

    def __init__(self, url: str, settings: StoreSettings) -> None:
        parsed = make_url(url).set(drivername=_DRIVER)
        if settings.password is not None:
            parsed = parsed.set(password=settings.password)
        self._url = parsed
        self._settings = settings
        self.node = f"{socket.gethostname()[:40]}:{secrets.token_hex(8)}"
        self.writing = self._engine(1, read_only=False)
        self._shared = SharedClock()
        self.clock: Clock = self._shared
        self._measure_clock()
        self._news = News(self._listening_connection, self.node, self._shared)

    def _measure_clock(self) -> None:
        try:
            with self._listening_connection() as conn:
                self._shared.measure(conn)
        except DATABASE_ERRORS as error:
            raise as_fault(error) from None

    def _engine(self, connections: int, *, read_only: bool) -> Engine:
        engine = create_engine(
            self._url,
            paramstyle="format",
            hide_parameters=True,  # an error's text names the statement, never what was in it
            pool_size=connections,
            max_overflow=0,
            pool_timeout=self._settings.busy_timeout_s,
            connect_args=self._options(read_only=read_only),
        )

        def connect(_dialect: object, _record: object, args: Any, options: Any) -> Listened:  # noqa: ANN401
            return self._listened(Listened.connect(*args, **options))

        event.listen(engine, "do_connect", connect)
        return engine

    def _listened(self, conn: Listened) -> Listened:
        """Have ``conn`` outlast a statement that the server itself ends, and not much longer."""
        conn.answer_s = self._settings.statement_timeout_s + GRACE_S
        return conn

    def _options(self, *, read_only: bool) -> dict[str, Any]:
        """Return what each connection is opened with; nothing rests on the server's defaults.

        A writer reads what was committed up to each statement, because its turn may have
        begun after its first one. A reader sees one instant throughout.
        """
        settings = self._settings
        isolation = "repeatable\\ read" if read_only else "read\\ committed"
        given = {
            "synchronous_commit": "on",
            "default_transaction_isolation": isolation,
            "default_transaction_read_only": "on" if read_only else "off",
            "statement_timeout": _millis(settings.statement_timeout_s),
            "lock_timeout": _millis(settings.busy_timeout_s),
            "idle_in_transaction_session_timeout": _millis(settings.statement_timeout_s),
            "timezone": "UTC",
        }
        return {
            "options": " ".join(f"-c {name}={value}" for name, value in given.items()),
            "target_session_attrs": "any" if read_only else "read-write",
            "application_name": "fame",
            "connect_timeout": _CONNECT_S,
            **_KEEPALIVES,
        }

    def _listening_connection(self) -> "psycopg.Connection[Any]":
        url: URL = self._url.set(drivername="postgresql")
        conninfo = url.render_as_string(hide_password=False)
        options = self._options(read_only=False)
        return self._listened(Listened.connect(conninfo, autocommit=True, **options))

    def reading(self) -> Engine:
        """Return the engine of connections that read, each transaction one instant."""
        return self._engine(self._settings.readers, read_only=True)

    @contextlib.contextmanager
    def migration(self) -> Iterator[Connection]:
        """Hold the schema alone: of two nodes that start at once one waits for the other."""
        with self.writing.begin() as conn:
            for name in ("lock_timeout", "statement_timeout"):
                conn.exec_driver_sql(f"SET LOCAL {name} = '{_SCHEMA_S}s'")
            raw = cast("Listened", conn.connection.driver_connection)
            raw.answer_s = _SCHEMA_S + GRACE_S
            try:
                conn.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_SCHEMA})")
                yield conn
            finally:
                self._listened(raw)

    @contextlib.contextmanager
    def transaction(self, conn: Connection) -> Iterator[None]:
        """Write in turn with the other nodes, and commit at the end.

        Raises:
            Transient: the connection went while the commit was under way. It may have been
                kept or not, so nothing is acknowledged, and to send again is safe.
        """
        begun = conn.begin()
        try:
            cursor_of(conn).execute(f"SELECT pg_advisory_xact_lock({_TURN})")
            yield
        except BaseException:
            with contextlib.suppress(*DATABASE_ERRORS):
                begun.rollback()
            raise
        try:
            begun.commit()
        except DATABASE_ERRORS as error:
            raise _not_committed(error) from None

    def announce(self, conn: Connection, committed: Committed) -> None:
        """Have PostgreSQL tell the other nodes, at the commit, whom it concerns."""
        cursor = cursor_of(conn)
        for note in _notes(self.node, committed):
            cursor.execute("SELECT pg_notify(%s, %s)", (CHANNEL, note))

    def start_listening(self, tell: Callable[[Committed], None]) -> None:
        """Tell what other nodes announce, from a thread of its own."""
        self._news.start(tell)

    def broken(self, conn: Connection) -> bool:
        """Whether the connection is of no more use."""
        if conn.closed or conn.invalidated:
            return True
        raw = conn.connection.driver_connection
        return raw is None or bool(raw.closed)

    def tidy(self, _conn: Connection, _written_bytes: int, *, idle: bool) -> bool:  # noqa: ARG002
        """Do nothing: the server keeps its own log."""
        return True

    def partition(self, conn: Connection, at: datetime) -> bool:
        """Make room for the months to come, let go of empty ones; False when it has to wait."""
        try:
            with conn.begin_nested():
                tend(conn, at)
        except DATABASE_ERRORS as error:
            if self.broken(conn):
                raise
            log.warning("partitions_delayed", reason=as_fault(error).reason.value)
            return False
        return True

    def close(self, *, sound: bool) -> None:  # noqa: ARG002 - what failed there is not here
        """End the listener and the writing connection."""
        self._news.stop()
        self.writing.dispose()


def _millis(seconds: float) -> int:
    return max(1, round(seconds * 1000))  # 0 would mean for ever


def _not_committed(error: Exception) -> BrokerError:
    """Return what a failed commit means: only an answer of the server says that it failed."""
    fault = as_fault(error)
    state = getattr(getattr(error, "orig", error), "sqlstate", None) or ""
    rolled_back = state.startswith("40") and state != _COMPLETION_UNKNOWN
    if rolled_back or not isinstance(fault, Interrupted):
        return fault
    return Transient(Reason.STORE_UNAVAILABLE, "whether the commit was made is not known")


def _notes(node: str, committed: Committed) -> Iterator[str]:
    """Yield what to announce, in as many notes as it takes: ids of agencies and messages."""
    words = [("r", str(one)) for one in sorted(committed.recipients)]
    words += [("c", one) for one in sorted(committed.correlations)]
    note: dict[str, list[str]] = {"r": [], "c": []}
    size = len(node) + 40
    for kind, word in words:
        if size + len(word) + 3 > _NOTE_BYTES_MAX:
            yield orjson.dumps({"n": node, **note}).decode()
            note, size = {"r": [], "c": []}, len(node) + 40
        note[kind].append(word)
        size += len(word) + 3
    if note["r"] or note["c"]:
        yield orjson.dumps({"n": node, **note}).decode()


@dataclass(frozen=True, slots=True)
class Examined:
    """What `fame doctor` wants to know of a server. ``unsafe`` names settings that lose commits."""

    version: str
    schema: str
    encrypted: bool
    local: bool
    unsafe: tuple[str, ...]
    behind_s: float  # this machine's clock, of the database's


def examine(url: str, settings: StoreSettings) -> Examined:
    """Look at the server at ``url`` without changing anything.

    Raises:
        Fault: it cannot be reached, or does not let us in.
    """
    database = PostgresDatabase(url, settings)
    reading = database.reading()
    try:
        with store_faults(), reading.connect() as conn:
            return _examined(conn, database)
    finally:
        reading.dispose()
        database.close(sound=True)


def _examined(conn: Connection, database: PostgresDatabase) -> Examined:
    raw = conn.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    off = conn.exec_driver_sql(
        "SELECT name FROM pg_settings WHERE setting = 'off'"
        " AND name IN ('fsync', 'full_page_writes', 'synchronous_commit') ORDER BY name"
    )
    host = raw.info.host
    schema = conn.exec_driver_sql("SELECT to_regclass('alembic_version') IS NOT NULL").scalar()
    if schema:
        schema = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    behind = database.clock.now() - SystemClock().now()
    return Examined(
        version=str(conn.exec_driver_sql("SHOW server_version").scalar()),
        schema=str(schema or "not made yet"),
        encrypted=bool(raw.pgconn.ssl_in_use),
        local=host.startswith("/") or host in {"localhost", "127.0.0.1", "::1"},
        unsafe=tuple(off.scalars()),
        behind_s=behind.total_seconds(),
    )
