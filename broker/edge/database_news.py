"""What other nodes committed, heard from PostgreSQL; and its clock, on the same connection.

Being told is a matter of speed alone. Whenever a note may have been missed, and every few
seconds besides, everybody is told to look again.
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import structlog

from broker.core.identity import AgencyId
from broker.core.submission import Committed
from broker.edge.clock import SharedClock

CHANNEL = "fame_committed"
LOOK_S = 2.0  # look again, and measure the clock, this often
AGAIN_S = 0.5  # between attempts to connect

_MISSED = Committed(frozenset(), frozenset(), missed=True)

log = structlog.get_logger(__name__)


class News:
    """A thread with a connection of its own that listens, from `start` to `stop`."""

    def __init__(
        self, connect: Callable[[], "psycopg.Connection[Any]"], node: str, clock: SharedClock
    ) -> None:
        self._connect = connect
        self._node = node
        self._clock = clock
        self._closing, self._closer = socket.socketpair()
        self._thread: threading.Thread | None = None

    def start(self, tell: Callable[[Committed], None]) -> None:
        """Begin to ``tell``, from the thread."""
        self._thread = threading.Thread(
            target=self._run, args=(tell,), name="store-news", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End the thread and wait until it has ended."""
        self._closer.close()
        if self._thread is not None:
            self._thread.join()
        self._closing.close()

    def _run(self, tell: Callable[[Committed], None]) -> None:
        while not self._closed(0):
            try:
                with self._connect() as conn:
                    conn.execute(f"LISTEN {CHANNEL}")
                    self._listen(conn, tell)
            except psycopg.Error as error:
                log.warning("store_news_interrupted", code=error.sqlstate or "unreachable")
                tell(_MISSED)
                if self._closed(AGAIN_S):
                    return

    def _listen(self, conn: "psycopg.Connection[Any]", tell: Callable[[Committed], None]) -> None:
        """Tell what is announced, until closed or until the connection goes."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._closing, selectors.EVENT_READ)
            selector.register(conn.fileno(), selectors.EVENT_READ)
            look_at = 0.0
            while True:
                # By a time of its own: nodes that have much to say must not put it off.
                if time.monotonic() >= look_at:
                    self._clock.measure(conn)
                    tell(_MISSED)  # a measurement may have brought notes along
                    look_at = time.monotonic() + LOOK_S
                ready = selector.select(max(0.0, look_at - time.monotonic()))
                if any(key.fileobj is self._closing for key, _ in ready):
                    return
                for notify in conn.notifies(timeout=0) if ready else ():
                    news = read_note(notify.payload, self._node)
                    if news is not None:
                        tell(news)

    def _closed(self, wait_s: float) -> bool:
        with selectors.DefaultSelector() as selector:
            selector.register(self._closing, selectors.EVENT_READ)
            return bool(selector.select(wait_s))


def read_note(note: str, node: str) -> Committed | None:
    """Return what another node announced, or None when ``node`` did itself.

    A note that cannot be read is taken as news of whatever kind, for anybody can write one.
    """
    try:
        found = orjson.loads(note)
        if found["n"] == node:
            return None
        recipients = frozenset(AgencyId(word) for word in found["r"])
        return Committed(recipients, frozenset(found["c"]))
    except (ValueError, TypeError, KeyError):
        return _MISSED
