"""Takes back what was put off, or held, while the clock ran ahead.

An instant written by a clock that is an hour fast lies an hour in the future once the clock
is right again, and nothing would touch that delivery before. No wait and no lease of the
broker is longer than its settings say, so whatever lies further ahead was written by a wrong
clock. To end a lease is safe at any time: who held it records nothing (`deliveries.settle`,
`deliveries.take_over`), and the next attempt carries a higher number.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import ColumnElement, Connection, select, update

from broker.core.instant import millis
from broker.edge.deliveries import PENDING
from broker.edge.store import Store
from broker.edge.tables import delivery
from broker.ports import Clock

EVERY_S = 15.0  # between two looks; at once when the clock is seen to go back
# Two nodes do not measure the same instant, and what did not get into a topic waits for a minute
# however short the retries are.
SLACK_S = 90.0
STEP_S = 2.0  # what goes back less is a clock that is being set right slowly
BATCH = 500

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Horizon:
    """The latest instants that a right clock can have written, in milliseconds."""

    next_at: int
    lease_until: int

    @property
    def put_off(self) -> ColumnElement[bool]:
        """Whether a delivery waits for longer than any waits."""
        return delivery.c.next_at > self.next_at

    @property
    def held(self) -> ColumnElement[bool]:
        """Whether a delivery is held for longer than any is."""
        return delivery.c.lease_until > self.lease_until


def beyond(conn: Connection, horizon: Horizon, limit: int = BATCH) -> list[str]:
    """Return pending deliveries that a wrong clock put off or held."""
    found: list[str] = []
    for wrong in (horizon.put_off, horizon.held):  # each with its own index, or none
        chosen = select(delivery.c.id).where(delivery.c.state == PENDING, wrong).limit(limit)
        found += conn.execute(chosen).scalars()
    return sorted({*found})


def take_back(conn: Connection, ids: list[str], horizon: Horizon, now: int) -> None:
    """Make deliveries due, and nobody's, as far as they still lie beyond the ``horizon``."""
    chosen = update(delivery).where(delivery.c.id.in_(ids), delivery.c.state == PENDING)
    conn.execute(chosen.where(horizon.put_off).values(next_at=now))
    conn.execute(chosen.where(horizon.held).values(lease_owner=None, lease_until=None))


class Recall:
    """The chore of one process; ``wait_max`` and ``lease`` are the longest of their kind."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        wait_max: timedelta,
        lease: timedelta,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._clock = clock
        self._wait_max_ms = round(1000 * (wait_max.total_seconds() + SLACK_S))
        self._lease_ms = round(1000 * (lease.total_seconds() + SLACK_S))
        self._seconds = seconds
        self._at_zero: float | None = None  # the clock, when seconds were 0, at the earliest
        self._next_s = 0.0

    async def step(self) -> int:
        """Take back what lies too far ahead, if it is time to look; return how much it was."""
        if self._went_back():
            self._next_s = 0.0
        if self._seconds() < self._next_s:
            return 0
        now = millis(self._clock.now())
        horizon = Horizon(now + self._wait_max_ms, now + self._lease_ms)
        found = await self._store.read(lambda conn: beyond(conn, horizon))
        if found:
            await self._store.write(lambda conn, _ledger: take_back(conn, found, horizon, now))
            log.warning("deliveries_recalled", found=len(found))
        # As much as that is probably not all.
        self._next_s = 0.0 if len(found) >= BATCH else self._seconds() + EVERY_S
        return len(found)

    def _went_back(self) -> bool:
        """Whether the clock was set back since the last time; an operator has to know."""
        before = self._seconds()
        now = self._clock.now().timestamp()
        after = self._seconds()
        back_s = 0.0 if self._at_zero is None else self._at_zero - (now - before)
        self._at_zero = now - after
        if back_s <= STEP_S:
            return False
        log.warning("clock_went_back", seconds=round(back_s))
        return True
