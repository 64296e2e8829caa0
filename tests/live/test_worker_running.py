"""`fame deliver` while it runs: what it answers to probes, and what it reads anew."""

import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from tests.live.harness import free_port, running
from tests.live.kafka_world import SUNDERLAND, make_world, new_key
from tests.live.scaled_judge import drain, judge
from tests.live.scaled_world import (
    Scaled,
    WorkerProcess,
    make_scaled,
    new_sandbox,
    wait_for,
    working,
)
from tests.live.services.kafka import KafkaCluster

pytestmark = pytest.mark.live

DRAIN_S = 90.0


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_sandbox(tmp_path_factory.mktemp("worker"))


@pytest.fixture
def scaled(sandbox: Path, tmp_path: Path, kafka: KafkaCluster, postgres_url: str) -> Scaled:
    return make_scaled(sandbox, tmp_path, make_world(kafka), url=postgres_url)


def asked(port: int) -> Callable[[str], int]:
    def status(path: str) -> int:
        try:
            return httpx2.get(f"http://127.0.0.1:{port}{path}").status_code
        except httpx2.TransportError:
            return 0  # it does not listen yet

    return status


def test_a_worker_is_ready_once_it_reads_its_topic(scaled: Scaled) -> None:
    port = free_port()
    status = asked(port)
    with working(scaled.state, FAME_KAFKA__WORKER_PORT=str(port)) as worker:
        wait_for(lambda: status("/readyz") == 200)
        checks = httpx2.get(f"http://127.0.0.1:{port}/readyz?verbose").json()["checks"]
        metrics = httpx2.get(f"http://127.0.0.1:{port}/metrics").text
        assert worker.stop() == 0

    assert checks == {"database": "ok", "policy": "ok", "kafka": "ok", "log": "ok"}
    assert f'fame_worker_partitions{{route="{SUNDERLAND}"}}' in metrics
    assert status("/livez") == 0


def test_a_worker_without_its_cluster_is_alive_and_not_ready(scaled: Scaled) -> None:
    port = free_port()
    status = asked(port)
    nowhere = f"127.0.0.1:{free_port()}"
    given = {"FAME_KAFKA__WORKER_PORT": str(port), "FAME_KAFKA__BOOTSTRAP": nowhere}
    with working(scaled.state, **given) as worker:
        wait_for(lambda: status("/livez") == 200)
        assert status("/readyz") == 503
        checks = httpx2.get(f"http://127.0.0.1:{port}/readyz?verbose").json()["checks"]
        assert worker.stop() == 0

    assert checks == {"database": "ok", "policy": "ok", "kafka": "failed", "log": "ok"}


def test_a_worker_whose_port_is_taken_says_so(scaled: Scaled) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        worker = WorkerProcess.start(scaled.state, FAME_KAFKA__WORKER_PORT=str(port))
        assert worker.process.wait(timeout=60) != 0

    said = worker.log.read_text(encoding="utf-8")
    assert "another program listens there" in said
    assert "kafka.worker_port" in said


def test_a_key_that_is_added_opens_what_waits_for_it(scaled: Scaled) -> None:
    sender = scaled.sender(2)
    key = scaled.state / "agencies" / SUNDERLAND / "encryption.key.pem"
    kept = scaled.state / "kept.pem"
    shutil.move(key, kept)
    key.write_bytes(new_key())
    with running(scaled.state) as broker, working(scaled.state) as worker:
        assert sender.send_pending(broker.port)
        worker.wait_logged("record_quarantined")
        shutil.move(kept, key.with_name("encryption-2.key.pem"))
        drain(scaled.engine, timeout_s=DRAIN_S)
        worker.wait_logged("keys_reloaded")

    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict
    assert len(scaled.dropped) == 2


def test_a_topic_that_is_added_needs_no_restart(scaled: Scaled) -> None:
    sender = scaled.sender(2)
    topics = scaled.state / "topics.toml"
    whole = topics.read_text(encoding="utf-8")
    others = whole.replace(f"[agency.{SUNDERLAND}]", "[agency.somebody-else]")
    assert others != whole
    topics.write_text(others, encoding="utf-8")
    with running(scaled.state) as broker:
        topics.write_text(whole, encoding="utf-8")
        assert sender.send_pending(broker.port)
        with working(scaled.state):
            drain(scaled.engine, timeout_s=DRAIN_S)

    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict
    assert len(scaled.dropped) == 2
