"""A producer that is replaced when it fails, because aiokafka's does not recover by itself.

After an outage it can stay in `OutOfOrderSequenceNumber` for good (aiokafka issue 1017), and
an idempotent one retries a record for ever. So each record has a time limit, and after
any failure the producer is left and the next record is given to a new one. What had become
of the record is then unknown; the outbox sends it again, and delivery ids make that safe.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
from aiokafka import AIOKafkaProducer

from broker.core.errors import Fault, Transient
from broker.core.reasons import Reason
from broker.edge.crash import crash_point
from broker.edge.kafka_client import KafkaSettings, kafka_faults, producing, quieten

CLOSE_S: Final = 5.0

log = structlog.get_logger(__name__)


@dataclass(slots=True, eq=False)
class _Life:
    """One producer, from its start until it is left."""

    producer: Any
    ended: asyncio.Future[None] = field(default_factory=asyncio.Future)


class SupervisedProducer:
    """Sends records and says when the cluster has them. `aclose` ends it."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._life: _Life | None = None
        self._starting = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self.lives = 0  # producers made so far

    async def send(
        self, topic: str, key: bytes, value: bytes, headers: Sequence[tuple[str, bytes]]
    ) -> None:
        """Return once as many nodes as the topic demands have the record.

        The offset is not passed on. For a record that was found to be there already it is
        -1 plus its place in its batch, which nobody can tell from a true one.

        Raises:
            Transient: the cluster does not answer in time: the record may be there, or
                come to be there later.
            Permanent: it is too large, the topic is not there, or it is not ours to write.
        """
        with kafka_faults():
            async with asyncio.timeout(self._settings.send_s):
                life = await self._current()
        try:
            with kafka_faults():
                async with asyncio.timeout(self._settings.send_s):
                    sent = await life.producer.send(
                        topic, value=value, key=key, headers=list(headers)
                    )
                    sent.add_done_callback(_looked_at)
                    crash_point("K13")
                    await asyncio.wait({sent, life.ended}, return_when=asyncio.FIRST_COMPLETED)
                    if not sent.done():
                        raise Transient(Reason.TRANSPORT_UNAVAILABLE, "the producer was replaced")
                    sent.result()
        except Fault as fault:
            # A batch that failed leaves a gap in the numbers that the cluster counts.
            self._leave(life, fault)
            raise

    async def aclose(self) -> None:
        """End the producer, and wait a little for those that were left."""
        life, self._life = self._life, None
        if life is not None:
            try:
                async with asyncio.timeout(CLOSE_S):
                    await life.producer.stop()
            except TimeoutError:
                await _abandon(life.producer)
        if self._closing:
            await asyncio.wait(self._closing)

    async def _current(self) -> _Life:
        async with self._starting:
            if self._life is None:
                producer = AIOKafkaProducer(**producing(self._settings))
                quieten()
                try:
                    await producer.start()
                except BaseException:
                    await _abandon(producer)
                    raise
                self.lives += 1
                self._life = _Life(producer)
            return self._life

    def _leave(self, life: _Life, fault: Fault) -> None:
        if self._life is not life:
            return
        self._life = None
        life.ended.set_result(None)
        log.warning("producer_replaced", code=fault.reason.value, kind=fault.detail)
        task = asyncio.create_task(_abandon(life.producer))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


async def _abandon(producer: Any) -> None:  # noqa: ANN401 - aiokafka has no types
    """End ``producer`` without sending what it holds, which its `stop` would try for ever."""
    producer._closed = True  # noqa: SLF001 - or it complains that it was not stopped
    sender = producer._sender.sender_task  # noqa: SLF001 - nothing public ends it
    for _ in range(2):  # the first time, it waits for the requests that it has open
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait({sender}, timeout=CLOSE_S)
    await producer.client.close()


def _looked_at(sent: "asyncio.Future[object]") -> None:
    """Take notice of an error that nobody waits for any more, so that it is not reported."""
    if not sent.cancelled():
        sent.exception()
