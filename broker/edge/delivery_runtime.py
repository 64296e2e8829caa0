"""Everything that delivers in one process, put together: relay, lanes, the expiry of what waits."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from broker.core.submission import Committed
from broker.edge import deliveries
from broker.edge.attempts import Attempts
from broker.edge.delivering import Delivering
from broker.edge.delivery_service import DeliveryService
from broker.edge.recall import Recall
from broker.edge.relay import Lease, Relay
from broker.ports import Outgoing, Transport

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """How often the outbox is looked at, and how much one recipient gets at once."""

    lease_s: float = 60.0
    poll_s: float = 1.0
    per_recipient_max: int = 4


class DeliveryRuntime:
    """Starts and stops the delivering half of a broker; `service` is what the routes use."""

    def __init__(
        self,
        attempts: Attempts,
        transport: Transport,
        settings: DeliverySettings,
        outgoing: Outgoing | None = None,
    ) -> None:
        """Deliver by ``transport``, but for what ``outgoing``, when given, sends elsewhere."""
        self._attempts = attempts
        self.outgoing = outgoing or transport
        self._settings = settings
        self.service = DeliveryService(
            attempts.store,
            attempts.discloser,
            attempts.recorder,
            attempts.clock,
            attempts.patience,
        )
        self.lanes = Delivering(transport, attempts, per_recipient_max=settings.per_recipient_max)
        lease = Lease(attempts.owner, timedelta(seconds=settings.lease_s))
        self.relay = Relay(attempts.store, self.outgoing, attempts.clock, lease, self.lanes.serve)
        self.recall = Recall(
            attempts.store,
            attempts.clock,
            wait_max=timedelta(seconds=attempts.patience.backoff_s_max),
            lease=lease.duration,
        )
        self.lanes.wake_when_room(self.relay)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Take up what was left at the last stop, and go on from there."""
        adopted = await self.relay.adopt()
        if adopted:
            log.info("deliveries_resumed", found=adopted)
        self._attempts.store.on_commit(self._committed)
        self._task = asyncio.create_task(
            self.relay.run(self._settings.poll_s, self._chores), name="relay"
        )
        await self.relay.pump()

    async def stop(self, grace_s: float = 5.0) -> None:
        """Take nothing more, and give attempts that are being made some time to end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.lanes.stop(grace_s)
        left = [dispatch.delivery_id for dispatch in self.outgoing.take_back()]
        if left:
            owner = self._attempts.owner
            await self._attempts.store.write(
                lambda conn, _ledger: deliveries.release(conn, owner, left)
            )

    async def _chores(self) -> None:
        await self.service.expire()
        await self.recall.step()

    def _committed(self, news: Committed) -> None:
        if news.recipients:
            self.relay.wake(news.recipients)
