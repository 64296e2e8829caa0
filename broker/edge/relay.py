"""The relay moves committed deliveries whose time has come from the outbox to the transport.

It is woken by every commit that made deliveries, by every lane that has room again, and by
a timer, which finds retries, leases that ran out, and what a lost wake-up left behind. It
takes from the outbox no more than a lane has room for, so a recipient that takes nothing
costs a few leased rows.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from broker.core.errors import Fault
from broker.core.identity import AgencyId
from broker.core.instant import from_millis, millis
from broker.edge import deliveries
from broker.edge.crash import crash_point
from broker.edge.pausing import is_paused
from broker.edge.store import Store
from broker.ports import Clock, Dispatch, Outgoing

CLAIMS_MAX = 64  # deliveries of one recipient in one transaction

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Lease:
    """In whose name deliveries are claimed, and for how long.

    ``owner`` is unique among running processes, and the same again after a restart, so that
    a process finds what its predecessor left.
    """

    owner: str
    duration: timedelta


class Relay:
    """One process's relay. `run` never returns; `pump` makes one round."""

    def __init__(
        self,
        store: Store,
        outgoing: Outgoing,
        clock: Clock,
        lease: Lease,
        on_dispatch: Callable[[AgencyId], object],
    ) -> None:
        self._store = store
        self._outgoing = outgoing
        self._clock = clock
        self._lease = lease
        self._on_dispatch = on_dispatch
        self._woken: set[AgencyId] = set()
        self._bell = asyncio.Event()

    def wake(self, recipients: Iterable[AgencyId]) -> None:
        """Have the deliveries of ``recipients`` looked at soon."""
        self._woken.update(recipients)
        self._bell.set()

    async def adopt(self) -> int:
        """Take up what this owner held when it last stopped. Once, before `run`."""
        owner = self._lease.owner
        return await self._store.write(lambda conn, _ledger: deliveries.adopt(conn, owner))

    async def run(self, poll_s: float, chores: Callable[[], Awaitable[object]]) -> None:
        """Pump when woken, and every ``poll_s`` seconds for all; then do ``chores`` too.

        What is woken all the time does not put off what has to wait for its time: the timer
        runs by itself. A fault of the store is logged and waited out: nothing is lost by waiting.
        """
        loop = asyncio.get_running_loop()
        next_s = loop.time() + poll_s
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(next_s):
                    await self._bell.wait()
            try:
                if loop.time() < next_s:
                    await self.pump(self._take_woken())
                    continue
                await self.pump()
                await chores()
                next_s = loop.time() + poll_s
            except Fault as fault:
                log.warning("relay_delayed", reason=fault.reason.value)
                await asyncio.sleep(poll_s)

    async def pump(self, recipients: Iterable[AgencyId] | None = None) -> int:
        """Send what is due, for ``recipients`` or for everybody, and return the number sent."""
        now = millis(self._clock.now())
        if recipients is None:
            recipients = await self._store.read(lambda conn: deliveries.due_recipients(conn, now))
        room = {
            recipient: min(CLAIMS_MAX, free)
            for recipient in recipients
            if (free := self._outgoing.room(recipient)) > 0
        }
        if not room:
            return 0
        away = frozenset(filter(self._outgoing.remote, room))
        dispatches = await self._store.write(lambda conn, _ledger: self._claim(conn, room, away))
        crash_point("K12")
        moved = []
        for dispatch in dispatches:
            if self._outgoing.remote(dispatch.recipient) != (dispatch.recipient in away):
                moved.append(dispatch)
                continue
            await self._outgoing.send(dispatch)
            if dispatch.recipient not in away:
                self._on_dispatch(dispatch.recipient)
        await self._release(moved, away)
        return len(dispatches) - len(moved)

    async def _release(self, moved: Sequence[Dispatch], away: Collection[AgencyId]) -> None:
        """Give back what the register has another way for than when it was claimed.

        Whether a claim counts as an attempt depends on the way, so it must not go the other.
        """
        if not moved:
            return
        owner = self._lease.owner
        there = [one.delivery_id for one in moved if one.recipient in away]
        here = [one.delivery_id for one in moved if one.recipient not in away]

        def release(conn: Connection, _ledger: object) -> None:
            deliveries.release(conn, owner, there, counted=False)
            deliveries.release(conn, owner, here)

        await self._store.write(release)

    def _claim(
        self, conn: Connection, room: dict[AgencyId, int], away: Collection[AgencyId]
    ) -> list[Dispatch]:
        now = self._clock.now()
        until = now + self._lease.duration
        return [
            Dispatch(
                delivery_id=claimed.delivery_id,
                recipient=claimed.recipient,
                order_key=claimed.order_key,
                attempt=claimed.attempt,
                lease_until=from_millis(millis(until)),
            )
            for recipient, limit in room.items()
            if not is_paused(conn, recipient)
            for claimed in deliveries.claim(
                conn,
                recipient,
                owner=self._lease.owner,
                now=millis(now),
                until=millis(until),
                limit=limit,
                counted=recipient not in away,
            )
        ]

    def _take_woken(self) -> set[AgencyId]:
        self._bell.clear()
        woken, self._woken = self._woken, set()
        return woken
