"""The workers that deliver: a lane for each recipient, so that none waits for another.

A recipient that hangs fills its own lane and its own few attempts. Lanes come into being
with the first dispatch and cost one waiting task each.
"""

import asyncio

import structlog

from broker.core.errors import Fault, Transient
from broker.core.identity import AgencyId
from broker.edge.attempts import Attempts
from broker.edge.relay import Relay
from broker.ports import Arrival, Incoming

RECEIVE_AGAIN_S = 1.0

log = structlog.get_logger(__name__)


class Delivering:
    """The lanes of one process. `serve` opens one; `stop` ends all."""

    def __init__(self, transport: Incoming, attempts: Attempts, *, per_recipient_max: int) -> None:
        self._transport = transport
        self._attempts = attempts
        self._per_recipient_max = per_recipient_max
        self._lanes: dict[AgencyId, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._relay: Relay | None = None

    def wake_when_room(self, relay: Relay) -> None:
        """Have ``relay`` told when a lane can take more."""
        self._relay = relay

    def serve(self, recipient: AgencyId) -> "asyncio.Task[None]":
        """See to it that somebody takes the dispatches of ``recipient``; return its task."""
        if recipient not in self._lanes:
            self._lanes[recipient] = asyncio.create_task(
                self._lane(recipient), name=f"lane {recipient}"
            )
        return self._lanes[recipient]

    async def stop(self, grace_s: float) -> None:
        """End the lanes; attempts that are being made get ``grace_s`` seconds to finish."""
        for lane in self._lanes.values():
            lane.cancel()
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)
        if self._running:
            _done, late = await asyncio.wait(self._running, timeout=grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _lane(self, recipient: AgencyId) -> None:
        places = asyncio.Semaphore(self._per_recipient_max)
        while True:
            await places.acquire()
            arrival = await self._received(recipient)
            task = asyncio.create_task(self._take(arrival, places))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _received(self, recipient: AgencyId) -> Arrival:
        """Return the next arrival, waiting until the transport can be reached again."""
        while True:
            try:
                return await self._transport.receive(recipient)
            except Transient as fault:
                log.warning("transport_away", code=fault.reason.value, recipient=recipient)
                await asyncio.sleep(RECEIVE_AGAIN_S)

    async def _take(self, arrival: Arrival, places: asyncio.Semaphore) -> None:
        dispatch = arrival.dispatch
        try:
            await self._attempts.make(arrival)
        except Fault as fault:
            log.warning(
                "attempt_not_recorded", code=fault.reason.value, delivery_id=dispatch.delivery_id
            )
        except Exception as error:
            # The lease runs out and the attempt, which was counted, is made again: what
            # always fails ends as undeliverable.
            log.exception("attempt_failed", exc_info=error, delivery_id=dispatch.delivery_id)
        finally:
            places.release()
            await self._transport.done(arrival)
            self._wake(dispatch.recipient)

    def _wake(self, recipient: AgencyId) -> None:
        if self._relay is not None:
            self._relay.wake((recipient,))
