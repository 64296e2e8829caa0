"""The transport of the scaled-out size: a Kafka topic for each recipient agency.

The relay's side writes, the worker's side reads its own agency's topic. The outbox is the
promise: a record that is lost, repeated or late costs a lease or an attempt that is refused,
never a message.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from broker.core.errors import Fault, Permanent, Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.cloudevents import Card, headers_of
from broker.edge.crash import crash_point
from broker.edge.jwe import RecipientKey, seal
from broker.edge.kafka_client import KafkaSettings, connection, kafka_faults, quieten
from broker.edge.kafka_consumer import Arrived, KafkaConsumer
from broker.edge.kafka_producer import SupervisedProducer
from broker.ports import Arrival, Dispatch

log = structlog.get_logger(__name__)

OnLost = Callable[[Dispatch, Fault], Awaitable[None]]
OnRoom = Callable[[AgencyId], None]
Observe = Callable[[AgencyId, str], None]  # whose record, and whether the cluster has it
SENT, FAILED = "sent", "failed"


def _unobserved(_recipient: AgencyId, _outcome: str) -> None:
    """Count nothing."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """What a record carries: the open card, and the body that is sealed to the recipient."""

    card: Card
    body: bytes = field(repr=False)


class Parcels(Protocol):
    """Makes ready what a dispatch stands for, at the moment at which it leaves the broker."""

    async def parcel(self, dispatch: Dispatch) -> Parcel | None:
        """Return it, or None when nothing may leave any more.

        Raises:
            Fault: the rules or the message cannot be consulted: nothing leaves.
        """
        ...

    def key(self, recipient: AgencyId) -> RecipientKey:
        """Return the key to which ``recipient`` wants its deliveries encrypted.

        Raises:
            Permanent: none is registered.
        """
        ...


class LagMeter:
    """Counts the records of a topic that its worker has not committed."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._admin: Any = None
        self._reader: Any = None

    async def lag(self, topic: str) -> int:
        """Return how many records of ``topic`` its group, of the same name, is behind.

        Raises:
            Fault: the cluster does not say.
        """
        try:
            with kafka_faults():
                async with asyncio.timeout(self._settings.send_s):
                    await self._connect()
                    return await self._lag(topic)
        except Fault:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """Give the connections back."""
        admin, self._admin = self._admin, None
        reader, self._reader = self._reader, None
        for closing in (admin and admin.close(), reader and reader.stop()):
            if closing is not None:
                await closing

    async def _connect(self) -> None:
        if self._reader is None:
            self._reader = AIOKafkaConsumer(**connection(self._settings), group_id=None)
            self._admin = AIOKafkaAdminClient(**connection(self._settings))
            quieten()
            await self._reader.start()
            await self._admin.start()

    async def _lag(self, topic: str) -> int:
        await self._reader._client._wait_on_metadata(topic)  # noqa: SLF001 - it has no other way
        numbers = self._reader.partitions_for_topic(topic) or ()
        partitions = [TopicPartition(topic, number) for number in numbers]
        ends = await self._reader.end_offsets(partitions)
        firsts = await self._reader.beginning_offsets(partitions)
        found = await self._admin.list_consumer_group_offsets(topic, partitions=partitions)
        # Nothing committed is -1; what retention has removed cannot be waiting either.
        done = {at: max(offset.offset, firsts[at]) for at, offset in found.items()}
        return sum(max(0, end - done.get(at, firsts[at])) for at, end in ends.items())


class KafkaOutgoing:
    """The relay's side: seals and sends, and knows how full each recipient's lane is.

    A lane holds what was sent and what the worker has not committed, so a worker that is
    away for long leaves its deliveries in the outbox, where they cost nothing.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        producer: SupervisedProducer,
        meter: LagMeter,
        topics: Mapping[AgencyId, str],
        parcels: Parcels,
        *,
        lane_max: int,
        on_lost: OnLost,
        on_room: OnRoom,
        observe: Observe = _unobserved,
    ) -> None:
        self._producer = producer
        self._meter = meter
        self._topics = topics
        self._parcels = parcels
        self._lane_max = lane_max
        self._on_lost = on_lost
        self._on_room = on_room
        self._observe = observe
        self.reachable = True  # as far as the last answer said
        self._free: defaultdict[AgencyId, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(lane_max)
        )
        self._sending: defaultdict[AgencyId, int] = defaultdict(int)
        self._behind: defaultdict[AgencyId, int] = defaultdict(int)
        self._tasks: set[asyncio.Task[None]] = set()
        self._last: dict[tuple[AgencyId, str], asyncio.Task[None]] = {}

    def remote(self, _recipient: AgencyId) -> bool:
        """Say that no worker is in this process."""
        return True

    def take_back(self) -> list[Dispatch]:
        """Return nothing: what was sent is in the cluster, and counts as no attempt."""
        return []

    def room(self, recipient: AgencyId) -> int:
        """Return how many more dispatches the lane of ``recipient`` takes now."""
        return max(0, self._lane_max - self._sending[recipient] - self._behind[recipient])

    async def send(self, dispatch: Dispatch) -> None:
        """Begin to send ``dispatch``; wait only while as many are on their way as a lane holds.

        What then fails is told to ``on_lost``, so that its lease can be ended at once.
        """
        await self._free[dispatch.recipient].acquire()
        self._sending[dispatch.recipient] += 1
        lane = (dispatch.recipient, dispatch.order_key)
        task = asyncio.create_task(self._carry(dispatch, self._last.get(lane)))
        self._last[lane] = task
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, lane))

    async def publish(self, dispatch: Dispatch) -> bool:
        """Send ``dispatch`` and return when the cluster has it; False if it may not leave.

        Raises:
            Fault: see `SupervisedProducer.send` and `Parcels`.
        """
        recipient = dispatch.recipient
        topic = self._topics.get(recipient)
        if topic is None:
            raise Permanent(Reason.TRANSPORT_REFUSED, "the recipient has no topic")
        key = self._parcels.key(recipient)
        parcel = await self._parcels.parcel(dispatch)
        if parcel is None:
            return False
        value = seal(parcel.body, key, recipient, dispatch.delivery_id)
        order_key = dispatch.order_key.encode("ascii")
        await self._producer.send(topic, order_key, value, headers_of(parcel.card))
        self._behind[recipient] += 1
        self.reachable = True
        self._observe(recipient, SENT)
        crash_point("K14")
        return True

    async def settled(self) -> None:
        """Wait until nothing is on its way to the cluster."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def watch(self, every_s: float) -> None:
        """Measure the lanes that are in use every ``every_s`` seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            in_use = [agency for agency, behind in self._behind.items() if behind]
            # When none is, any one tells whether the cluster can be reached.
            await self.measure(in_use or list(self._topics)[:1])

    async def measure(self, recipients: Iterable[AgencyId]) -> None:
        """Ask the cluster how far the workers of ``recipients`` are behind.

        While it does not answer, lanes only fill.
        """
        for recipient in recipients:
            before = self._behind[recipient]
            had_room = self.room(recipient)
            try:
                lag = await self.lag(recipient)
            except Fault as fault:
                log.warning("lag_unknown", code=fault.reason.value, recipient=recipient)
                self.reachable = False
                if isinstance(fault, Transient):
                    return  # the cluster is away: it would be for the others too
                continue
            self.reachable = True
            # What was sent meanwhile may or may not be in the answer: count it.
            self._behind[recipient] += lag - before
            if self.room(recipient) > had_room:
                self._on_room(recipient)

    async def lag(self, recipient: AgencyId) -> int:
        """Ask the cluster how many records the workers of ``recipient`` have not dealt with.

        Raises:
            Fault: it does not say, or there is no such topic.
        """
        topic = self._topics.get(recipient)
        if topic is None:
            raise Permanent(Reason.TRANSPORT_REFUSED, "the recipient has no topic")
        return await self._meter.lag(topic)

    def behind(self) -> Iterable[tuple[AgencyId, float]]:
        """Return how many records of each topic are not dealt with, as last measured."""
        return list(self._behind.items())

    async def aclose(self) -> None:
        """Wait for what is on its way, within its time limit, and end the connections."""
        await self.settled()
        await self._producer.aclose()
        await self._meter.aclose()

    def _ended(self, lane: tuple[AgencyId, str], task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._last.get(lane) is task:
            del self._last[lane]

    async def _carry(self, dispatch: Dispatch, before: asyncio.Task[None] | None) -> None:
        try:
            if before is not None:
                await asyncio.wait({before})  # of the same key: in order
            await self.publish(dispatch)
        except Fault as fault:
            log.warning("record_not_sent", code=fault.reason.value, recipient=dispatch.recipient)
            self._observe(dispatch.recipient, FAILED)
            await self._on_lost(dispatch, fault)
        finally:
            self._sending[dispatch.recipient] -= 1
            self._free[dispatch.recipient].release()


class KafkaIncoming:
    """The worker's side: reads the topic of one agency."""

    def __init__(self, consumer: KafkaConsumer, recipient: AgencyId) -> None:
        self._consumer = consumer
        self._recipient = recipient

    async def receive(self, recipient: AgencyId) -> Arrival:
        """Take the next dispatch for ``recipient``, waiting until there is one.

        Raises:
            Fault: see `KafkaConsumer.take`; Permanent, too, when it is not our topic to read.
        """
        if recipient != self._recipient:
            raise Permanent(Reason.TRANSPORT_REFUSED, "this worker works for another agency")
        arrived = await self._consumer.take()
        return Arrival(arrived.card.dispatch, arrived.body, arrived)

    async def done(self, arrival: Arrival) -> None:
        """Say that what became of ``arrival`` is recorded: its offset is committed soon."""
        assert isinstance(arrival.place, Arrived)  # it came from `receive`
        self._consumer.settle(arrival.place)

    async def aclose(self) -> None:
        """Commit what is settled, leave the group, and end the connections."""
        await self._consumer.aclose()
