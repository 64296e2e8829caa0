"""One agency's topic, read by a worker of that agency: its own records and nobody else's.

A record's offset is committed only when the worker has said that what became of it is
recorded, and never past one that is still in work. Whatever was read and not committed
comes again: to this worker after a restart, to another after a rebalance. Who of the two
may act is decided in the database, by the lease of the delivery.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition

from broker.core.errors import Fault
from broker.edge.cloudevents import Card, NotOurs, card_of
from broker.edge.jwe import OwnKeys, Unreadable, unseal
from broker.edge.kafka_client import KafkaSettings, consuming, kafka_faults, quieten

COMMIT_AGAIN_S: Final = 0.5
CLOSE_S: Final = 10.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands. ``reign`` counts the times that partitions were given to us."""

    topic: str
    partition: int
    offset: int
    reign: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """A record that is one of ours and opened with the recipient's key."""

    card: Card
    body: bytes = field(repr=False)
    place: Place


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be used. ``why`` holds our words and nothing of the record."""

    place: Place
    why: str


Quarantine = Callable[[Poison], Awaitable[None]]


class Progress:
    """What was taken of each partition and not ended, and so how far it may be committed."""

    def __init__(self) -> None:
        self._open: dict[TopicPartition, set[int]] = {}
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}

    def taken(self, at: TopicPartition, offset: int) -> None:
        """Count a record that is now in work."""
        self._open.setdefault(at, set()).add(offset)
        self._next[at] = offset + 1

    def ended(self, at: TopicPartition, offset: int) -> None:
        """Count a record of which everything is recorded."""
        self._open[at].discard(offset)

    def returned(self, at: TopicPartition, offset: int) -> None:
        """Take back the last record that was taken: it will be read again."""
        self._open[at].discard(offset)
        self._next[at] = offset

    def forget(self, partitions: Collection[TopicPartition]) -> None:
        """Let go of partitions that are no longer ours."""
        for at in partitions:
            self._open.pop(at, None)
            self._next.pop(at, None)
            self._committed.pop(at, None)

    def due(self) -> dict[TopicPartition, int]:
        """Return the offsets to commit: of each partition the first that is not ended."""
        ready = {at: min(self._open[at], default=nxt) for at, nxt in self._next.items()}
        return {at: offset for at, offset in ready.items() if self._committed.get(at) != offset}

    def committed(self, offsets: dict[TopicPartition, int]) -> None:
        """Note what the cluster has."""
        self._committed.update((at, o) for at, o in offsets.items() if at in self._next)

    @property
    def in_work(self) -> int:
        """Return how many records were taken and not ended."""
        return sum(len(offsets) for offsets in self._open.values())


class KafkaConsumer:
    """Takes records, and commits the offsets of those that were settled. `aclose` ends it.

    ``keys`` is asked at once, and again at each record that opens with none of them: a key
    that was added meanwhile needs no restart.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        keys: Callable[[], OwnKeys],
        quarantine: Quarantine,
        *,
        window_max: int = 64,
    ) -> None:
        self._settings = settings
        self._topic = topic
        self._read_keys = keys
        self._keys = keys()
        self._quarantine = quarantine
        self._window_max = window_max
        self._consumer: Any = None
        self._committer: asyncio.Task[None] | None = None
        self._taking = asyncio.Lock()
        self._changed = asyncio.Event()
        self._settled = asyncio.Event()
        self._progress = Progress()
        self.reign = 0
        self.partitions = 0  # of the topic, that are ours now

    async def take(self) -> Arrived:
        """Return the next record that can be used, waiting until there is one.

        At most ``window_max`` records are out at a time. One that cannot be used goes to
        the quarantine and is passed over once it is recorded there.

        Raises:
            Transient: the cluster cannot be reached, or the quarantine cannot record.
            Permanent: the cluster does not let us read this topic.
        """
        async with self._taking:
            while True:
                await self._room()
                consumer = await self._current()
                try:
                    with kafka_faults():
                        record = await consumer.getone()
                except Fault:
                    await self._drop()
                    raise
                arrived = await self._opened(record)
                if arrived is not None:
                    return arrived

    def settle(self, arrived: Arrived) -> None:
        """Say that what became of ``arrived`` is recorded. Its offset is committed soon.

        Nothing happens when its partition was given to another worker meanwhile: that one
        gets the record too, and finds what we recorded.
        """
        self._end(arrived.place)

    async def flush(self) -> None:
        """Commit now whatever is settled.

        Raises:
            Fault: the cluster did not take it; the records may come again.
        """
        due = self._progress.due()
        if not due or self._consumer is None:
            return
        with kafka_faults():
            await self._consumer.commit(due)
        self._progress.committed(due)

    async def aclose(self) -> None:
        """Commit what is settled and leave the group, so that another takes over at once."""
        try:
            async with asyncio.timeout(self._settings.request_s):
                await self.flush()
        except (Fault, TimeoutError):
            log.warning("offsets_not_committed")
        await self._drop()

    @property
    def joined(self) -> bool:
        """Say whether the cluster has it as a reader of the topic, with partitions or without."""
        return self._consumer is not None

    async def _current(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        if self._consumer is None:
            with kafka_faults():
                self._consumer = await self._started()
            self._committer = asyncio.create_task(self._commit_settled())
        return self._consumer

    async def _started(self) -> Any:  # noqa: ANN401 - aiokafka has no types
        consumer = AIOKafkaConsumer(**consuming(self._settings, self._topic))
        quieten()
        consumer.subscribe([self._topic], listener=_Listener(self))
        try:
            async with asyncio.timeout(self._settings.send_s + self._settings.session_s):
                await consumer.start()
        except BaseException:
            await _stop(consumer)
            raise
        return consumer

    async def _drop(self) -> None:
        """Leave the consumer: one that has failed once may fail for ever."""
        consumer, self._consumer = self._consumer, None
        committer, self._committer = self._committer, None
        if committer is not None:
            committer.cancel()
            await asyncio.wait({committer})
        if consumer is not None:
            await _stop(consumer)
        self.reign += 1
        self._progress = Progress()
        self._changed.set()

    async def _room(self) -> None:
        while self._progress.in_work >= self._window_max:
            self._changed.clear()
            await self._changed.wait()

    async def _opened(self, record: Any) -> Arrived | None:  # noqa: ANN401 - no types
        at = TopicPartition(record.topic, record.partition)
        place = Place(record.topic, record.partition, record.offset, self.reign)
        self._progress.taken(at, record.offset)
        try:
            card, body = self._read(record)
        except (NotOurs, Unreadable) as error:
            poison = Poison(place, str(error))
        else:
            return Arrived(card, body, place)
        try:
            await self._quarantine(poison)
        except BaseException:
            # It is not recorded: it must come again before anything after it is committed.
            if place.reign == self.reign:
                self._progress.returned(at, record.offset)
                self._consumer.seek(at, record.offset)
            raise
        self._end(place)
        return None

    def _read(self, record: Any) -> tuple[Card, bytes]:  # noqa: ANN401 - no types
        try:
            return _read(record, self._keys)
        except Unreadable:
            try:
                found = self._read_keys()
            except Fault:
                log.warning("keys_unreadable")
                raise Unreadable("the keys of the agency cannot be read") from None
            if found.keys.keys() == self._keys.keys.keys():
                raise
            self._keys = found
            log.info("keys_reloaded", found=len(found.keys))
            return _read(record, found)

    def _end(self, place: Place) -> None:
        if place.reign == self.reign:
            self._progress.ended(TopicPartition(place.topic, place.partition), place.offset)
            self._settled.set()
            self._changed.set()

    async def _commit_settled(self) -> None:
        while True:
            await self._settled.wait()
            self._settled.clear()
            try:
                await self.flush()
            except Fault as fault:
                log.warning("commit_delayed", code=fault.reason.value, kind=fault.detail)
                self._settled.set()
                await asyncio.sleep(COMMIT_AGAIN_S)

    async def revoked(self, partitions: Collection[TopicPartition]) -> None:
        """Commit what is settled, as long as we may, and let go."""
        try:
            async with asyncio.timeout(self._settings.request_s):
                await self.flush()
        except (Fault, TimeoutError):
            log.warning("offsets_not_committed")
        self.reign += 1
        self.partitions = 0
        self._progress.forget(partitions)
        self._changed.set()

    def assigned(self, partitions: Collection[TopicPartition]) -> None:
        """Note how many partitions are ours now."""
        self.partitions = len(partitions)
        log.info("partitions_assigned", found=len(partitions))


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka has no types
    def __init__(self, consumer: KafkaConsumer) -> None:
        self._consumer = consumer

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        await self._consumer.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        self._consumer.assigned(assigned)


def _read(record: Any, keys: OwnKeys) -> tuple[Card, bytes]:  # noqa: ANN401 - no types
    card = card_of(record.key, record.headers)
    if card.dispatch.recipient != keys.recipient:
        raise NotOurs("ce_recipient is another agency")
    return card, unseal(record.value or b"", keys, card.dispatch.delivery_id)


async def _stop(consumer: Any) -> None:  # noqa: ANN401 - aiokafka has no types
    try:
        async with asyncio.timeout(CLOSE_S):
            await consumer.stop()
    except TimeoutError:
        log.warning("consumer_left")
