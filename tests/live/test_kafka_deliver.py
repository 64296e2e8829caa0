"""`fame serve` and `fame deliver` as processes, with PostgreSQL and a Kafka of three nodes."""

import asyncio
import json
from pathlib import Path

import pytest

from broker.cli import run
from broker.core.asyncapi import HEADERS
from broker.core.envelope import parse
from tests.live.harness import running
from tests.live.kafka_world import GATESHEAD, SUNDERLAND, make_world
from tests.live.scaled_judge import drain, judge, rows
from tests.live.scaled_world import (
    Scaled,
    WorkerProcess,
    make_scaled,
    new_sandbox,
    wait_for,
    working,
)
from tests.live.services.kafka import KafkaCluster
from tests.live.test_kafka_transport import kcat

pytestmark = pytest.mark.live

DRAIN_S = 90.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_sandbox(tmp_path_factory.mktemp("scaled"))


@pytest.fixture
def scaled(sandbox: Path, tmp_path: Path, kafka: KafkaCluster, postgres_url: str) -> Scaled:
    return make_scaled(sandbox, tmp_path, make_world(kafka), url=postgres_url)


def attempts(scaled: Scaled) -> list[int]:
    return [row[0] for row in rows(scaled.engine, "SELECT attempts FROM delivery")]


def lag(scaled: Scaled) -> int:
    return asyncio.run(scaled.kafka.lag())


def test_what_is_sent_to_two_brokers_is_delivered_by_two_workers_once(
    scaled: Scaled, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = scaled.sender(10), scaled.sender(10)
    with (
        running(scaled.state) as one,
        running(scaled.state) as other,
        working(scaled.state) as left,
        working(scaled.state) as right,
    ):
        assert first.send_pending(one.port)
        assert second.send_pending(other.port)
        drain(scaled.engine, timeout_s=DRAIN_S)
        wait_for(lambda: lag(scaled) == 0)
        codes = [left.stop(), right.stop(), one.stop(), other.stop()]

    assert codes == [0, 0, 0, 0]
    assert run(["doctor", "--json", "--config", str(scaled.state)]) in {0, 1}
    findings = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in findings if one["what"] == "kafka"] == ["green"]
    only_the_open_part_is_readable(scaled, tmp_path, [*first.messages.values()])
    assert len(scaled.dropped) == 20
    assert set(attempts(scaled)) == {1}
    first.messages = {**first.messages, **second.messages}
    first.acknowledged |= second.acknowledged
    verdict = judge(scaled.engine, first, scaled.drops)
    assert verdict.clean, verdict
    logs = b"".join(log.read_bytes() for log in scaled.state.glob("*.log"))
    assert b"PRIVATE KEY" not in logs
    assert b"only-for-tests" not in logs


@pytest.mark.parametrize("point", ["K13", "K14", "K15", "K16", "K17"])
def test_nothing_is_lost_or_doubled_when_a_process_dies_at(point: str, scaled: Scaled) -> None:
    sender = scaled.sender(6)
    broker_dies = point in {"K13", "K14"}
    crash = f"{point}:3"
    with (
        running(scaled.state, crash=crash if broker_dies else "") as broker,
        working(scaled.state, crash="" if broker_dies else crash) as worker,
    ):
        worker.wait_logged("worker_started")
        dying = broker.process if broker_dies else worker.process
        sender.send_pending(broker.port)
        assert dying.wait(timeout=60) == -9, "the point was never passed three times"
        if broker_dies:
            assert worker.stop() == 0  # it finishes what it has begun
    with running(scaled.state) as broker, working(scaled.state):
        assert sender.send_pending(broker.port)
        drain(scaled.engine, timeout_s=DRAIN_S)

    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict
    assert len(scaled.dropped) == len(sender.acknowledged) == 6
    # What may have been handed over before is marked, and what certainly was not is not: of
    # the deliveries in a worker's hands when it died, of which it has four at the most.
    marked = sum(attempt > 1 for attempt in attempts(scaled))
    least, most = {"K15": (1, 4), "K16": (1, 4), "K17": (0, 3)}.get(point, (0, 0))
    assert least <= marked <= most


def test_a_worker_reads_no_topic_but_its_own(scaled: Scaled) -> None:
    route = 'adapter = "file_drop"\nsettings = { directory = "x" }'
    agency = scaled.state / "protocols" / "agencies" / f"{GATESHEAD}.toml"
    agency.write_text(agency.read_text().replace('adapter = "mailbox"', route))
    worker = WorkerProcess.start(
        scaled.state,
        GATESHEAD,
        FAME_KAFKA__WORKER_PRINCIPAL=f"fame-deliver-{SUNDERLAND}",
    )

    code = worker.process.wait(timeout=60)

    assert code == 5
    assert "broker.transport_refused" in worker.log.read_text()


def only_the_open_part_is_readable(scaled: Scaled, tmp_path: Path, sent: list[bytes]) -> None:
    """Read the topic with kcat: key and headers as documented, and nothing of any payload."""
    read = kcat(scaled.kafka, tmp_path, SUNDERLAND).stdout
    records = [json.loads(line) for line in read.splitlines()]
    keys = {row[0] for row in rows(scaled.engine, "SELECT order_key FROM delivery")}
    names = {
        element.text
        for body in sent
        for element in parse(body).iterfind("{*}Payload//*")
        if len(element) == 0 and element.text and element.text.isalpha() and len(element.text) > 6
    }
    assert len(records) >= 20
    assert {record["key"] for record in records} == keys
    assert all(record["headers"][::2] == list(HEADERS) for record in records)
    assert len(names) > 10
    assert not [name for name in names if name.encode() in read]
