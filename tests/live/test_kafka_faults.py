"""The transport while a real Kafka is damaged: kill -9, silence, no majority, zombies."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from aiokafka import TopicPartition

from broker.core.errors import Transient
from broker.core.reasons import Reason
from broker.edge.kafka import KafkaOutgoing
from broker.edge.kafka_consumer import KafkaConsumer
from broker.ports import Dispatch
from tests.live.kafka_world import (
    PASSWORD,
    SUNDERLAND,
    World,
    dispatch,
    make_world,
)
from tests.live.services.kafka import KafkaCluster

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]


@pytest.fixture
def world(kafka: KafkaCluster, no_socket_left: None) -> World:
    del no_socket_left  # torn down after whatever a test opened
    kafka.breakable()
    return make_world(kafka)


async def insist(outgoing: KafkaOutgoing, one: Dispatch) -> None:
    """Send again until it is acknowledged, as the outbox does."""
    while True:
        try:
            await outgoing.publish(one)
        except Transient:
            continue
        return


async def read_all(world: World, wanted: set[str]) -> set[str]:
    """Read until every wanted delivery has been seen."""
    consumer = world.consumer()
    seen: set[str] = set()
    async with asyncio.timeout(20):
        while not wanted <= seen:
            seen.add((await consumer.take()).card.dispatch.delivery_id)
    await consumer.aclose()
    return seen


def leader(world: World) -> int:
    """Return a node that leads a partition of Sunderland's topic."""
    name = world.topics.topics[SUNDERLAND].name
    listed = world.admin._admin.list_topics(name, timeout=10).topics[name]
    number: int = listed.partitions[0].leader
    return number


async def test_what_was_acknowledged_survives_and_without_a_majority_nothing_is(
    world: World,
) -> None:
    outgoing = world.outgoing(send_s=3.0)
    acknowledged: set[str] = set()

    async def send(first: int) -> None:
        for number in range(first, first + 40):
            await insist(outgoing, dispatch(number=number))
            acknowledged.add(dispatch(number=number).delivery_id)

    # One node dies under load: nothing that was acknowledged is lost, and the load goes on.
    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(send(first)) for first in range(0, 200, 40)]
        while len(acknowledged) < 60:
            await asyncio.wait(tasks, timeout=0.01)
        first = leader(world)
        world.cluster.kill(first)
        await asyncio.gather(*tasks)
    # A second one dies: what is sent now is not acknowledged, and the outbox is told.
    second = first % 3 + 1
    world.cluster.kill(second)
    await outgoing.send(dispatch(number=1001))
    with pytest.raises(Transient) as failed:
        await outgoing.publish(dispatch(number=1000))
    await outgoing.settled()
    # Both come back: it goes on by itself.
    world.cluster.begin(first, second)
    await asyncio.to_thread(world.cluster.wait_started, first, second)
    async with asyncio.timeout(60):
        await insist(outgoing, dispatch(number=2000))
    await outgoing.aclose()

    assert failed.value.reason is Reason.TRANSPORT_UNAVAILABLE
    assert [one for one, _ in world.desk.lost] == [dispatch(number=1001)]
    wanted = acknowledged | {dispatch(number=2000).delivery_id}
    assert len(wanted) == 201
    assert await read_all(world, wanted) >= wanted


async def test_a_node_that_falls_silent_holds_nobody_up_for_long(world: World) -> None:
    """The cluster itself needs 9 s to notice; when the node also led the controllers, longer."""
    outgoing = world.outgoing()
    await outgoing.publish(dispatch(number=0))
    sent = [dispatch(number=number) for number in range(1, 15)]

    world.cluster.pause(leader(world))
    try:
        async with asyncio.timeout(60):
            await asyncio.gather(*(insist(outgoing, one) for one in sent))
    finally:
        world.cluster.heal()
        await outgoing.aclose()

    wanted = {one.delivery_id for one in sent}
    assert await read_all(world, wanted) >= wanted


async def test_a_producer_whose_numbers_are_out_of_order_is_replaced(world: World) -> None:
    producer = world.producer()
    topic = world.topics.topics[SUNDERLAND].name
    await producer.send(topic, b"0", b"first", [])
    life = producer._life
    assert life is not None
    for partition in (0, 1):
        numbers = life.producer._txn_manager
        numbers.increment_sequence_number(TopicPartition(topic, partition), 5)

    with pytest.raises(Transient) as failed:
        await producer.send(topic, b"0", b"second", [])
    await producer.send(topic, b"0", b"third", [])
    await producer.aclose()

    assert failed.value.detail == "OutOfOrderSequenceNumber"
    assert producer.lives == 2


async def test_a_zombie_does_not_turn_back_what_its_successor_has_done(world: World) -> None:
    outgoing = world.outgoing()
    await outgoing.publish(dispatch(number=0))
    zombie = start_zombie(world)
    assert zombie.stdout is not None
    assert zombie.stdin is not None
    took = await asyncio.to_thread(zombie.stdout.readline)
    zombie.send_signal(signal.SIGSTOP)

    try:
        await outgoing.publish(dispatch(number=7))
        await outgoing.aclose()
        successor = world.consumer(session_s=4.0)
        working = asyncio.create_task(work(successor))
        async with asyncio.timeout(30):
            while await world.lag():
                await asyncio.wait({working}, timeout=0.1)
        zombie.send_signal(signal.SIGCONT)
        print("settle it", file=zombie.stdin, flush=True)
        said = await asyncio.to_thread(zombie.stdout.readline)
    finally:
        zombie.kill()
        zombie.wait()
        zombie.stdin.close()
        zombie.stdout.close()
    behind = await world.lag()
    working.cancel()
    await asyncio.wait({working})
    await successor.aclose()

    assert took.split() == ["took", dispatch(number=0).delivery_id]
    assert said.split()[0] in {"settled", "refused"}
    assert behind == 0


async def work(consumer: KafkaConsumer) -> None:
    """Take and settle whatever comes."""
    while True:
        consumer.settle(await consumer.take())


def start_zombie(world: World) -> "subprocess.Popen[str]":
    """Start a worker of Sunderland's in a process of its own."""
    access = world.cluster.access
    told = {
        "bootstrap": access.bootstrap,
        "ca_file": str(access.ca_file),
        "user": f"fame-deliver-{SUNDERLAND}",
        "password": PASSWORD,
        "agency": SUNDERLAND,
        "topic": world.topics.topics[SUNDERLAND].name,
        "key": world.private[SUNDERLAND].decode(),
        "session_s": 2.0,
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.live.zombie_worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    print(json.dumps(told), file=process.stdin, flush=True)
    return process
