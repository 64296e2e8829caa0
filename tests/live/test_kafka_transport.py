"""The transport on a real Kafka of three nodes: records, access, offsets, poison, rebalance."""

import asyncio
import base64
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from jwcrypto.jwe import JWE, InvalidJWEData
from jwcrypto.jwk import JWK

from broker.core.asyncapi import HEADERS
from broker.core.errors import Permanent, Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.cloudevents import headers_of
from broker.edge.jwe import ALGORITHM, ENCRYPTION, seal
from broker.edge.kafka import KafkaIncoming, KafkaOutgoing
from broker.edge.kafka_client import MutualTls, Scram
from broker.edge.kafka_consumer import Poison
from broker.edge.kafka_producer import SupervisedProducer
from broker.ports import Dispatch
from tests.live.kafka_world import (
    BODY,
    BROKER,
    CANARY,
    GATESHEAD,
    SUNDERLAND,
    World,
    card,
    dispatch,
    make_world,
    scratch,
    soon,
)
from tests.live.services.kafka import KafkaCluster
from tests.live.services.presence import need

pytestmark = pytest.mark.live


@pytest.fixture
def world(kafka: KafkaCluster, no_socket_left: None) -> World:
    del no_socket_left  # torn down after whatever a test opened
    return make_world(kafka)


@pytest.fixture
async def ends(world: World) -> AsyncIterator[tuple[KafkaOutgoing, KafkaIncoming]]:
    outgoing, incoming = world.outgoing(), KafkaIncoming(world.consumer(), SUNDERLAND)
    yield outgoing, incoming
    await incoming.aclose()
    await outgoing.aclose()


async def test_a_dispatch_comes_out_as_it_went_in(
    ends: tuple[KafkaOutgoing, KafkaIncoming],
) -> None:
    outgoing, incoming = ends
    sent = [dispatch(number=n) for n in range(20)]

    for one in sent:
        await outgoing.send(one)
    arrivals = [await soon(incoming.receive(SUNDERLAND)) for _ in sent]
    got = [arrival.dispatch for arrival in arrivals]

    assert sorted(got, key=lambda d: d.delivery_id) == sent
    for key in {d.order_key for d in sent}:
        assert [d for d in got if d.order_key == key] == [d for d in sent if d.order_key == key]
    assert {arrival.body for arrival in arrivals} == {BODY}
    for arrival in arrivals:
        await incoming.done(arrival)


async def test_a_worker_receives_for_its_own_agency_only(
    ends: tuple[KafkaOutgoing, KafkaIncoming],
) -> None:
    with pytest.raises(Permanent) as refused:
        await ends[1].receive(GATESHEAD)

    assert refused.value.reason is Reason.TRANSPORT_REFUSED


async def test_kcat_reads_headers_and_key_and_only_the_recipient_reads_the_value(
    world: World, tmp_path: Path
) -> None:
    sent = dispatch(number=3)
    outgoing = world.outgoing()

    await outgoing.publish(sent)
    await outgoing.aclose()
    read = kcat(world, tmp_path, SUNDERLAND)
    not_read = kcat(world, tmp_path, GATESHEAD)

    assert b"authorization failed" in not_read.stderr
    assert not not_read.stdout
    (line,) = read.stdout.splitlines()
    record = json.loads(line)
    assert record["key"] == sent.order_key
    pairs = record["headers"]
    headers = dict(zip(pairs[::2], pairs[1::2], strict=True))
    assert list(headers) == list(HEADERS)
    assert headers["ce_specversion"] == "1.0"
    assert headers["ce_id"] == sent.delivery_id
    assert headers["ce_type"] == "fame.Referral.1.0"
    assert headers["content-type"] == "application/jose"
    assert headers["traceparent"] == card(sent).traceparent
    assert CANARY not in line
    assert opened_by_a_peer(record["payload"], world.private[SUNDERLAND]) == BODY
    with pytest.raises(InvalidJWEData):
        opened_by_a_peer(record["payload"], world.private[GATESHEAD])


def kcat(world: World, tmp_path: Path, agency: AgencyId) -> subprocess.CompletedProcess[bytes]:
    """Read Sunderland's topic with kcat, under the certificate of the worker of ``agency``.

    Debian's has a librdkafka that fails at SCRAM-SHA-512 in OpenSSL 3.
    """
    leaf = world.cluster.certificate(f"fame-deliver-{agency}")
    settings = {
        "bootstrap.servers": world.cluster.mutual_bootstrap,
        "security.protocol": "SSL",
        "ssl.ca.location": world.cluster.access.ca_file,
        "ssl.certificate.location": leaf.certificate,
        "ssl.key.location": leaf.key,
    }
    text = "".join(f"{key}={value}\n" for key, value in settings.items())
    config = scratch(tmp_path, "kcat.conf", text)
    topic = world.topics.topics[SUNDERLAND].name
    command = [need("kcat", "kcat"), "-F", str(config), "-C", "-t", topic, "-e", "-q", "-J"]
    return subprocess.run(command, capture_output=True, check=False, timeout=20)


def opened_by_a_peer(text: object, private: bytes) -> bytes:
    """Open a JWE with a JOSE library that is not ours."""
    token = JWE(algs=[ALGORITHM, ENCRYPTION])
    token.deserialize(str(text))
    token.decrypt(JWK.from_pem(private))
    opened: bytes = token.payload
    return opened


async def test_a_peer_seals_what_we_open(world: World) -> None:
    sent = dispatch()
    ours = seal(BODY, world.desk.key(SUNDERLAND), SUNDERLAND, sent.delivery_id)
    header = json.loads(base64.urlsafe_b64decode(ours.split(b".")[0] + b"=="))
    del header["epk"]
    theirs = JWE(BODY, json.dumps(header), algs=[ALGORITHM, ENCRYPTION])
    theirs.add_recipient(JWK.from_pem(world.private[SUNDERLAND]))
    producer = world.producer()

    await producer.send(
        world.topics.topics[SUNDERLAND].name,
        sent.order_key.encode(),
        theirs.serialize(compact=True).encode(),
        headers_of(card(sent)),
    )
    await producer.aclose()
    consumer = world.consumer()
    arrived = await soon(consumer.take())
    await consumer.aclose()

    assert arrived.body == BODY


@pytest.mark.parametrize(
    "principal", [f"fame-deliver-{GATESHEAD}", BROKER], ids=["another worker", "the broker"]
)
async def test_nobody_reads_the_topic_of_an_agency_but_its_worker(
    world: World, principal: str
) -> None:
    consumer = world.consumer(SUNDERLAND, principal)

    with pytest.raises(Permanent) as refused:
        await soon(consumer.take())
    await consumer.aclose()

    assert refused.value.reason is Reason.TRANSPORT_REFUSED
    assert "Authorization" in refused.value.detail


async def test_a_worker_writes_no_topic_not_even_its_own(world: World) -> None:
    producer = world.producer(f"fame-deliver-{SUNDERLAND}", send_s=6.0)

    with pytest.raises(Permanent) as refused:
        await producer.send(world.topics.topics[SUNDERLAND].name, b"0", b"x", [])
    await producer.aclose()

    assert refused.value.reason is Reason.TRANSPORT_REFUSED


async def test_a_wrong_password_is_refused_and_not_tried_for_ever(world: World) -> None:
    settings = world.settings(BROKER)
    producer = SupervisedProducer(replace(settings, identity=Scram(BROKER, "wrong")))

    with pytest.raises((Permanent, Transient)) as refused:
        await producer.send(world.topics.topics[SUNDERLAND].name, b"0", b"x", [])
    await producer.aclose()

    assert "wrong" not in str(refused.value)


async def test_a_certificate_is_as_good_as_a_password(world: World) -> None:
    leaf = world.cluster.certificate(BROKER)
    settings = replace(
        world.settings(BROKER),
        bootstrap=world.cluster.mutual_bootstrap,
        identity=MutualTls(leaf.certificate, leaf.key),
    )
    producer = SupervisedProducer(settings)

    await producer.send(world.topics.topics[SUNDERLAND].name, b"0", b"x", [])
    await producer.aclose()

    assert producer.lives == 1


async def test_an_offset_is_committed_only_behind_what_is_settled(world: World) -> None:
    await publish(world, [dispatch(number=7 * n) for n in range(3)])  # one key, one partition
    first = world.consumer()
    taken = [await soon(first.take()) for _ in range(3)]

    first.settle(taken[1])
    await first.aclose()
    second = world.consumer()
    again = [await soon(second.take()) for _ in range(3)]
    second.settle(again[0])
    second.settle(again[1])
    await second.aclose()
    third = world.consumer()
    rest = await soon(third.take())
    await third.aclose()

    assert [one.card for one in again] == [one.card for one in taken]
    assert rest.card == taken[2].card


async def test_no_more_than_the_window_is_out_at_a_time(world: World) -> None:
    await publish(world, [dispatch(number=n) for n in range(3)])
    consumer = world.consumer(window_max=2)
    taken = [await soon(consumer.take()) for _ in range(2)]
    third = asyncio.create_task(consumer.take())

    done, _ = await asyncio.wait({third}, timeout=0.3)
    assert not done
    consumer.settle(taken[0])

    assert (await asyncio.wait_for(third, 5)).card not in {one.card for one in taken}
    await consumer.aclose()


async def test_a_record_that_cannot_be_used_is_set_aside_and_passed_over(world: World) -> None:
    good = dispatch(number=7)
    key = good.order_key.encode()
    other = replace(good, delivery_id=dispatch(number=14).delivery_id)
    sealed = seal(BODY, world.desk.key(SUNDERLAND), SUNDERLAND, good.delivery_id)
    strange = seal(BODY, world.desk.key(GATESHEAD), GATESHEAD, good.delivery_id)
    headers = headers_of(card(good))
    producer = world.producer()
    topic = world.topics.topics[SUNDERLAND].name
    for value, said in [
        (b"not a JWE", headers),
        (sealed, headers[1:]),
        (sealed, headers_of(card(other))),  # moved to another delivery
        (strange, headers),
        (sealed, headers_of(card(replace(good, recipient=GATESHEAD)))),
        (sealed, headers),
    ]:
        await producer.send(topic, key, value, said)
    await producer.aclose()
    consumer = world.consumer()

    arrived = await soon(consumer.take())
    consumer.settle(arrived)
    await consumer.aclose()

    assert arrived.body == BODY
    assert [poison.place.offset for poison in world.poison] == [0, 1, 2, 3, 4]
    assert all(CANARY.decode() not in poison.why for poison in world.poison)


async def test_a_poison_record_that_could_not_be_recorded_comes_again(world: World) -> None:
    seen: list[Poison] = []

    async def record(poison: Poison) -> None:
        seen.append(poison)
        if len(seen) == 1:
            raise Transient(Reason.STORE_UNAVAILABLE)

    producer = world.producer()
    await producer.send(
        world.topics.topics[SUNDERLAND].name, dispatch().order_key.encode(), b"", []
    )
    await producer.aclose()
    await publish(world, [dispatch()])
    consumer = world.consumer()
    consumer._quarantine = record

    with pytest.raises(Transient):
        await soon(consumer.take())
    arrived = await soon(consumer.take())
    await consumer.aclose()

    assert arrived.card.dispatch == dispatch()
    assert [poison.place.offset for poison in seen] == [0, 0]


async def test_what_a_worker_settles_after_a_rebalance_counts_for_nothing(world: World) -> None:
    await publish(world, [dispatch(number=n) for n in range(14)])
    first = world.consumer()
    held = [await soon(first.take()) for _ in range(14)]

    second = world.consumer()
    got = await soon(second.take())
    for arrived in held:
        first.settle(arrived)  # its reign has ended
    await first.aclose()
    await second.aclose()
    third = world.consumer()
    again = [await soon(third.take()) for _ in range(14)]
    await third.aclose()

    assert got.card in {one.card for one in held}
    assert {one.card for one in again} == {one.card for one in held}


async def test_two_workers_of_one_agency_share_its_topic(world: World) -> None:
    workers = [world.consumer(), world.consumer()]
    got: list[list[str]] = [[], []]

    async def work(index: int) -> None:
        while True:
            arrived = await workers[index].take()
            workers[index].settle(arrived)
            got[index].append(arrived.card.dispatch.delivery_id)

    tasks = [asyncio.create_task(work(index)) for index in range(2)]
    async with asyncio.timeout(15):
        while [worker.partitions for worker in workers] != [1, 1]:
            await asyncio.wait(tasks, timeout=0.02)
    sent = [dispatch(number=n) for n in range(14)]
    await publish(world, sent)
    async with asyncio.timeout(15):
        while len(got[0]) + len(got[1]) < len(sent):
            await asyncio.wait(tasks, timeout=0.02)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for worker in workers:
        await worker.aclose()

    assert all(got)
    assert sorted(got[0] + got[1]) == [one.delivery_id for one in sent]


async def test_a_lane_is_full_until_the_worker_commits(world: World) -> None:
    outgoing = world.outgoing(lane_max=3)
    for number in range(3):
        await outgoing.send(dispatch(number=number))
    await outgoing.settled()
    assert outgoing.room(SUNDERLAND) == 0
    assert outgoing.room(GATESHEAD) == 3
    await outgoing.measure([SUNDERLAND])
    assert outgoing.room(SUNDERLAND) == 0

    consumer = world.consumer()
    taken = [await soon(consumer.take()) for _ in range(3)]
    for one in taken[:2]:
        consumer.settle(one)
    await consumer.aclose()
    await outgoing.measure([SUNDERLAND])
    await outgoing.aclose()

    assert outgoing.room(SUNDERLAND) >= 1
    assert world.desk.room == [SUNDERLAND]


async def test_what_may_not_leave_any_more_is_not_sent(world: World) -> None:
    world.desk.withdrawn.add(dispatch(number=7).delivery_id)
    outgoing = world.outgoing()

    assert not await outgoing.publish(dispatch(number=7))
    assert await outgoing.publish(dispatch(number=14))
    await outgoing.aclose()
    consumer = world.consumer()
    arrived = await soon(consumer.take())
    await consumer.aclose()

    assert arrived.card.dispatch == dispatch(number=14)


async def test_a_message_of_the_largest_size_travels(world: World) -> None:
    world.desk.body = bytes(2 * 1024 * 1024)
    await publish(world, [dispatch()])
    consumer = world.consumer()

    arrived = await soon(consumer.take())
    await consumer.aclose()

    assert arrived.body == world.desk.body


async def publish(world: World, dispatches: list[Dispatch]) -> None:
    """Send and wait until the cluster has them."""
    outgoing = world.outgoing()
    for one in dispatches:
        await outgoing.publish(one)
    await outgoing.aclose()
