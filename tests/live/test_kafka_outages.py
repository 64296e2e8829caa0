"""What goes wrong between broker and worker, one fault at a time, each with its stated outcome."""

import asyncio
import json
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from tests.contract.running import BROKER
from tests.contract.sink import Asked, Sink, answer, sink
from tests.live.harness import BrokerProcess, client_context, running
from tests.live.kafka_world import CANARY, SUNDERLAND, make_world
from tests.live.scaled_judge import Sender, drain, judge, rows
from tests.live.scaled_world import (
    FLOW,
    Scaled,
    make_scaled,
    new_sandbox,
    wait_for,
    working,
)
from tests.live.services.kafka import KafkaCluster, librdkafka
from tests.live.services.roundabout import LossyWay

pytestmark = pytest.mark.live

DRAIN_S = 90.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_sandbox(tmp_path_factory.mktemp("outages"))


def attempts(scaled: Scaled) -> set[int]:
    return {row[0] for row in rows(scaled.engine, "SELECT attempts FROM delivery")}


def lag(scaled: Scaled) -> int:
    return asyncio.run(scaled.kafka.lag())


def topic(scaled: Scaled) -> str:
    return scaled.kafka.topics.topics[SUNDERLAND].name


def published(scaled: Scaled) -> int:
    """Return how many records the agency's topic ever had."""
    found = scaled.kafka.admin._admin.list_offsets(
        {TopicPartition(topic(scaled), number): OffsetSpec.latest() for number in (0, 1)}
    )
    return sum(one.result().offset for one in found.values())


def produce(scaled: Scaled, values: Sequence[bytes]) -> None:
    """Write records of somebody's own making to the agency's topic."""

    async def send() -> None:
        producer = scaled.kafka.producer()
        for value in values:
            await producer.send(topic(scaled), b"00", value, [("ce_id", value)])
        await producer.aclose()

    asyncio.run(send())


def test_records_that_cannot_be_used_are_set_aside_and_the_others_go_on(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka))
    produce(scaled, [CANARY, CANARY * 2])
    sender = scaled.sender(4)
    with running(scaled.state) as broker, working(scaled.state) as worker:
        assert sender.send_pending(broker.port)
        drain(scaled.engine, timeout_s=DRAIN_S)
        wait_for(lambda: lag(scaled) == 0)
        code = worker.stop()
        listed = operated(broker, scaled, "ls")

    aside = rows(scaled.engine, "SELECT topic, position, recipient, code FROM quarantine")
    assert code == 0
    assert len(scaled.dropped) == 4
    assert sorted(aside) == [
        (topic(scaled), offset, SUNDERLAND, "broker.record_unreadable") for offset in (0, 1)
    ]
    assert listed[SUNDERLAND]["quarantined"] == 2
    assert CANARY not in worker.log.read_bytes()
    assert attempts(scaled) == {1}


def operated(broker: BrokerProcess, scaled: Scaled, *arguments: str) -> dict[str, Any]:
    """Return what `fame route` tells the operator, by recipient."""
    command = ["-m", "broker", "route", *arguments, "--config", str(scaled.state), "--json"]
    done = subprocess.run(
        [sys.executable, *command],
        env={"FAME_HTTP__PORT": str(broker.port), "FAME_BROKER__URL": url(broker)},
        capture_output=True,
        check=True,
    )
    return {row["recipient"]: row for row in json.loads(done.stdout)}


def url(broker: BrokerProcess) -> str:
    return f"https://localhost:{broker.port}"


def test_while_no_worker_comes_the_topic_stays_small_and_nothing_is_used_up(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    scaled = make_scaled(
        sandbox, tmp_path, make_world(kafka), lane_max=4, lease_s=2.0, attempts_max=2
    )
    sender = scaled.sender(12)
    with running(scaled.state) as broker:
        assert sender.send_pending(broker.port)
        wait_for(lambda: published(scaled) >= 4)
        ended = rows(scaled.engine, "SELECT max(lease_until) FROM delivery")[0][0]
        wait_for(lambda: clock_ms() > ended + 6000)  # three leases later
        in_topic, counted = published(scaled), attempts(scaled)
        waiting = operated(broker, scaled, "lag")[SUNDERLAND]
        with working(scaled.state):
            drain(scaled.engine, timeout_s=DRAIN_S)

    assert in_topic <= 8
    assert counted == {0}
    assert waiting["waiting"] == 12
    assert 0 < waiting["behind"] <= 8
    assert len(scaled.dropped) == 12
    assert attempts(scaled) == {1}
    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict


def clock_ms() -> int:
    return round(time.time() * 1000)


def test_a_topic_that_lost_its_records_is_filled_again_from_the_outbox(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka))
    sender = scaled.sender(5)
    admin = AdminClient(librdkafka(kafka.access))
    with running(scaled.state) as broker:
        assert sender.send_pending(broker.port)
        wait_for(lambda: published(scaled) >= 5)
        gone = admin.delete_records([TopicPartition(topic(scaled), n, -1) for n in (0, 1)])
        assert [one.result() is not None for one in gone.values()] == [True, True]
        with working(scaled.state):
            drain(scaled.engine, timeout_s=DRAIN_S)

    assert len(scaled.dropped) == 5
    assert attempts(scaled) == {1}
    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict


def test_a_paused_route_is_paused_for_the_worker_too(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka))
    sender = scaled.sender(3)
    with running(scaled.state) as broker:
        assert sender.send_pending(broker.port)
        wait_for(lambda: published(scaled) >= 3)
        change(broker, scaled, "pause")
        with working(scaled.state):
            wait_for(lambda: lag(scaled) == 0)
            before = len(scaled.dropped), attempts(scaled)
            change(broker, scaled, "resume")
            drain(scaled.engine, timeout_s=DRAIN_S)

    assert before == (0, {0})
    assert len(scaled.dropped) == 3
    assert attempts(scaled) == {1}


def change(broker: BrokerProcess, scaled: Scaled, act: str) -> None:
    """Have an operator pause or resume the agency's route."""
    with httpx2.Client(verify=client_context(scaled.state, "fame-broker")) as client:
        answered = client.post(f"{url(broker)}/operator/routes/{SUNDERLAND}/{act}")
    assert answered.is_success, answered.text


def test_while_too_few_nodes_are_there_messages_are_taken_and_wait(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    kafka.breakable()
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka))
    sender = scaled.sender(3)
    with running(scaled.state) as broker, working(scaled.state):
        kafka.kill(1)
        kafka.kill(2)
        assert sender.send_pending(broker.port)
        with httpx2.Client(verify=client_context(scaled.state, BROKER)) as client:
            ready = f"{url(broker)}/readyz?verbose"
            wait_for(lambda: client.get(ready).json()["checks"].get("kafka") == "failed")
            answered = client.get(ready)
        kafka.heal()
        drain(scaled.engine, timeout_s=DRAIN_S)

    assert (answered.status_code, len(sender.acknowledged)) == (200, 3)
    assert len(scaled.dropped) == 3
    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict


async def test_a_zombie_worker_is_fenced_and_its_delivery_recorded_once(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka), session_s=2.0)
    held = asyncio.Event()

    async def hold_the_first(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.header("Fame-Attempt") == "1":
            await held.wait()
        await answer(200)(asked, writer)

    sender = scaled.sender(1)
    async with sink(recipient_tls(scaled.state), hold_the_first) as system:
        by_webhook(scaled, system)
        with running(scaled.state) as broker, working(scaled.state) as zombie:
            assert await asyncio.to_thread(sender.send_pending, broker.port)
            async with asyncio.timeout(60):
                await system.came.wait()
            zombie.signal(signal.SIGSTOP)
            with working(scaled.state) as successor:
                await asyncio.to_thread(drain, scaled.engine, timeout_s=DRAIN_S)
                settled = rows(scaled.engine, "SELECT state, attempts, delivered_at FROM delivery")
                held.set()
                zombie.signal(signal.SIGCONT)
                # It is fenced, and then goes on as one of two.
                again = scaled.sender(6)
                assert await asyncio.to_thread(again.send_pending, broker.port)
                await asyncio.to_thread(drain, scaled.engine, timeout_s=DRAIN_S)
                alive = [zombie.process.poll(), successor.process.poll()]

    assert settled[0][:2] == ("delivered", 2)
    assert alive == [None, None]
    first = [one for one in system.asked if one.header("Fame-Message-Id") in sender.messages]
    assert [one.header("Fame-Attempt") for one in first] == ["1", "2"]
    assert len({one.header("Fame-Delivery-Id") for one in first}) == 1
    assert len(system.asked) == 2 + 6
    counted = rows(
        scaled.engine, "SELECT message, count(*) FROM evidence WHERE level = 'L2' GROUP BY 1"
    )
    assert [count for _, count in counted] == [1] * 7
    assert settled[0] in rows(scaled.engine, "SELECT state, attempts, delivered_at FROM delivery")


def recipient_tls(state: Path) -> ssl.SSLContext:
    folder = state / "agencies" / SUNDERLAND
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=state / "ca/ca.cert.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(folder / "tls.cert.pem", folder / "tls.key.pem")
    return context


def by_webhook(scaled: Scaled, system: Sink) -> None:
    agency = scaled.state / "protocols" / "agencies" / f"{SUNDERLAND}.toml"
    text = agency.read_text(encoding="utf-8")
    drop = f'adapter = "file_drop"\nsettings = {{ directory = "{SUNDERLAND}" }}'
    assert drop in text
    route = f'adapter = "webhook"\nsettings = {{ url = "{system.url}" }}'
    agency.write_text(text.replace(drop, route), encoding="utf-8")


def test_an_answer_that_is_lost_doubles_a_record_and_no_delivery(
    sandbox: Path, tmp_path: Path, kafka: KafkaCluster
) -> None:
    kafka.breakable()
    scaled = make_scaled(sandbox, tmp_path, make_world(kafka), bootstrap=kafka.way_bootstrap)
    first, second = (
        Sender(scaled.state, FLOW.sender, {one: body})
        for one, body in scaled.sender(2).messages.items()
    )
    with LossyWay(kafka.ways).open() as way, running(scaled.state) as broker:
        assert first.send_pending(broker.port)
        wait_for(lambda: published(scaled) == 1)  # it has a connection now
        way.losing.set()
        assert second.send_pending(broker.port)
        wait_for(lambda: published(scaled) == 2)
        wait_for(lambda: b"record_not_sent" in (scaled.state / "broker.log").read_bytes())
        way.losing.clear()
        wait_for(lambda: published(scaled) >= 3 + 1)  # the first one's lease has ended, too
        with working(scaled.state, FAME_KAFKA__BOOTSTRAP=kafka.access.bootstrap):
            drain(scaled.engine, timeout_s=DRAIN_S)
            wait_for(lambda: lag(scaled) == 0)

    assert len(scaled.dropped) == 2
    assert attempts(scaled) == {1}
    for sender in (first, second):
        assert judge(scaled.engine, sender, scaled.drops).lost == ()
        assert len(sender.acknowledged) == 1
