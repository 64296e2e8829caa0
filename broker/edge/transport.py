"""The transport inside one process: a bounded lane of dispatches for each recipient.

The outbox table is the durable half; what is lost from here with the process comes again
when its lease has ended.
"""

import asyncio
from collections import defaultdict

from broker.core.identity import AgencyId
from broker.ports import Arrival, Dispatch


class InProcessTransport:
    """A `Transport` for the embedded size."""

    def __init__(self, *, lane_max: int) -> None:
        self._lanes: defaultdict[AgencyId, asyncio.Queue[Dispatch]] = defaultdict(
            lambda: asyncio.Queue(maxsize=lane_max)
        )
        self._lane_max = lane_max

    def remote(self, _recipient: AgencyId) -> bool:
        """Say that every worker is in this process."""
        return False

    def room(self, recipient: AgencyId) -> int:
        """Return how many more dispatches the lane of ``recipient`` takes now."""
        return self._lane_max - self._lanes[recipient].qsize()

    async def send(self, dispatch: Dispatch) -> None:
        """Put ``dispatch`` in its recipient's lane, waiting while the lane is full."""
        await self._lanes[dispatch.recipient].put(dispatch)

    async def receive(self, recipient: AgencyId) -> Arrival:
        """Take the next dispatch for ``recipient``, waiting until there is one."""
        return Arrival(await self._lanes[recipient].get())

    async def done(self, arrival: Arrival) -> None:
        """Mark one dispatch as recorded; `settled` waits for this."""
        self._lanes[arrival.dispatch.recipient].task_done()

    async def settled(self) -> None:
        """Wait until every dispatch sent so far has been recorded."""
        for lane in list(self._lanes.values()):
            await lane.join()

    def take_back(self) -> list[Dispatch]:
        """Return every dispatch that no worker has received; none of them will be."""
        left = []
        for lane in self._lanes.values():
            while not lane.empty():
                left.append(lane.get_nowait())
                lane.task_done()
        return left
