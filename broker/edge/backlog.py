"""What waits and what was given up, read from the store when metrics are collected."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge.metrics import Metrics
from broker.edge.store import Store
from broker.edge.tables import delivery, ledger, message, quarantine
from broker.ports import Clock

PERIOD_S = 5
_WAITING = (DeliveryState.PENDING.value, DeliveryState.AVAILABLE.value)


@dataclass(frozen=True, slots=True)
class Waiting:
    """Deliveries of one recipient that it does not have yet. ``since`` is in ms since 1970."""

    count: int
    since: int


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits by recipient, what was given up by recipient, and the size of the ledger."""

    waiting: Mapping[AgencyId, Waiting]
    given_up: Mapping[AgencyId, int]
    quarantined: Mapping[AgencyId, int]
    entries: int


def backlog(conn: Connection) -> Backlog:
    """Read the backlog. Its cost grows with what waits and what was given up."""
    waiting = conn.execute(
        select(delivery.c.recipient, func.count(), func.min(message.c.received_at))
        .join(message, message.c.id == delivery.c.message)
        .where(delivery.c.state.in_(_WAITING))
        .group_by(delivery.c.recipient)
    )
    given_up = conn.execute(
        select(delivery.c.recipient, func.count())
        .where(
            delivery.c.state == DeliveryState.UNDELIVERABLE.value,
            delivery.c.reason != Reason.DISCARDED.value,
        )
        .group_by(delivery.c.recipient)
    )
    set_aside = conn.execute(
        select(quarantine.c.recipient, func.count()).group_by(quarantine.c.recipient)
    )
    last = conn.execute(select(func.max(ledger.c.seq))).scalar()
    return Backlog(
        {AgencyId(agency): Waiting(count, since) for agency, count, since in waiting},
        {AgencyId(agency): count for agency, count in given_up},
        {AgencyId(agency): count for agency, count in set_aside},
        0 if last is None else last + 1,
    )


def publisher(store: Store, clock: Clock, metrics: Metrics) -> Callable[[], Awaitable[None]]:
    """Return what brings the gauges of ``metrics`` up to date; it is awaited.

    Anybody who can connect may collect, so collecting often must not keep the store busy:
    within ``PERIOD_S`` of one reading the gauges stay as they are.
    """
    read_at = 0

    async def publish() -> None:
        nonlocal read_at
        now = millis(clock.now())
        if 0 <= now - read_at < 1000 * PERIOD_S:
            return
        read_at = now
        found = await store.read(backlog)
        for gauge in (metrics.queue_depth, metrics.oldest_undelivered, metrics.dead_letters):
            gauge.clear()
        for agency, waits in found.waiting.items():
            metrics.queue_depth.labels(agency).set(waits.count)
            metrics.oldest_undelivered.labels(agency).set(max(0, now - waits.since) / 1000)
        for agency, count in found.given_up.items():
            metrics.dead_letters.labels(agency).set(count)
        metrics.quarantined.clear()
        for agency, count in found.quarantined.items():
            metrics.quarantined.labels(agency).set(count)
        metrics.ledger_entries.set(found.entries)

    return publish
