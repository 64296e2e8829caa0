"""The workers that deliver: a lane for each recipient, so that none waits for another.

A recipient that hangs fills its own lane and its own few attempts. Lanes come into being
with the first dispatch and cost one waiting task each.
"""

import asyncio

import structlog

from broker.core.errors import Fault
from broker.core.identity import AgencyId
from broker.edge.attempts import Attempts
from broker.edge.relay import Relay
from broker.ports import Dispatch, Transport

log = structlog.get_logger(__name__)


class Delivering:
    """The lanes of one process. `serve` opens one; `stop` ends all."""

    def __init__(self, transport: Transport, attempts: Attempts, *, per_recipient_max: int) -> None:
        self._transport = transport
        self._attempts = attempts
        self._per_recipient_max = per_recipient_max
        self._lanes: dict[AgencyId, asyncio.Task[None]] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._relay: Relay | None = None

    def wake_when_room(self, relay: Relay) -> None:
        """Have ``relay`` told when a lane can take more."""
        self._relay = relay

    def serve(self, recipient: AgencyId) -> None:
        """See to it that somebody takes the dispatches of ``recipient``."""
        if recipient not in self._lanes:
            self._lanes[recipient] = asyncio.create_task(
                self._lane(recipient), name=f"lane {recipient}"
            )

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
            dispatch = await self._transport.receive(recipient)
            task = asyncio.create_task(self._take(dispatch, places))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _take(self, dispatch: Dispatch, places: asyncio.Semaphore) -> None:
        try:
            await self._attempts.make(dispatch)
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
            await self._transport.done(dispatch)
            self._wake(dispatch.recipient)

    def _wake(self, recipient: AgencyId) -> None:
        if self._relay is not None:
            self._relay.wake((recipient,))
