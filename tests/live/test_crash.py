"""kill -9 at every named point of the path, and at random under load; then the oracle.

The sender retries what it is not sure about, as senders do. After the drain nothing that
was acknowledged may be missing and nothing may have had two effects (`harness`).
"""

import random
import shutil
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broker.cli.init import make
from broker.core.signing import load_signing_key
from tests.bench.bench_http import Flow, messages
from tests.live.harness import BrokerProcess, Sender, drain, judge, running

# Order of the path; K13, K14 and K18 are passed only when scaled out or by checkpoints.
EMBEDDED = (
    "K1",
    "K2",
    "K3",
    "K4",
    "K5",
    "K6",
    "K7",
    "K8",
    "K9",
    "K10",
    "K11",
    "K12",
    "K15",
    "K16",
    "K17",
)
RECIPIENT = "sunderland-csc"
FLOW = Flow("hylton-school", "sims", RECIPIENT, "Referral", "CP")
COUNT = 12
RANDOM_KILLS = 6


@dataclass(frozen=True, slots=True)
class World:
    """A sandbox whose recipient takes files, and the folder that they are dropped in."""

    state: Path
    drops: Path

    def sender(self, count: int) -> Sender:
        folder = self.state / "agencies" / FLOW.sender
        key = load_signing_key(
            (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
        )
        bodies = messages(FLOW, key, count, 5000)
        return Sender(self.state, FLOW.sender, {_id_of(body): body for body in bodies})


def _id_of(body: bytes) -> str:
    start = body.index(b"MessageId>") + len(b"MessageId>")
    return body[start : start + 36].decode()


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("crash") / "broker"
    make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
    return state


@pytest.fixture
def world(sandbox: Path, tmp_path: Path) -> World:
    state = tmp_path / "broker"
    drops = state / "data" / "drops"
    shutil.copytree(sandbox, state)
    (drops / RECIPIENT).mkdir(parents=True)
    agency = state / "protocols" / "agencies" / f"{RECIPIENT}.toml"
    text = agency.read_text(encoding="utf-8")
    route = f'adapter = "file_drop"\nsettings = {{ directory = "{RECIPIENT}" }}'
    assert 'adapter = "mailbox"' in text
    agency.write_text(text.replace('adapter = "mailbox"', route), encoding="utf-8")
    return World(state, drops)


def finish(world: World, sender: Sender) -> None:
    """Run a broker that is left alone until everything is settled and delivered."""
    with running(world.state) as broker:
        assert sender.send_pending(broker.port)
        assert sender.send_pending(broker.port, again=True)  # every receipt is the first again
        drain(world.state)


@pytest.mark.parametrize("point", EMBEDDED)
def test_nothing_is_lost_or_doubled_when_the_broker_dies_at(point: str, world: World) -> None:
    sender = world.sender(COUNT)
    with running(world.state, crash=f"{point}:5") as broker:
        while broker.process.poll() is None and sender.send_pending(broker.port):
            drain(world.state, timeout_s=5)
            if not sender.pending():
                break
        assert broker.process.wait(timeout=20) == -9, "the point was never passed five times"

    finish(world, sender)

    verdict = judge(world.state, sender, world.drops)
    assert verdict.clean, verdict
    assert len(sender.acknowledged) == COUNT
    assert len(list((world.drops / RECIPIENT).glob("*.xml"))) == COUNT


def test_nothing_is_lost_or_doubled_when_it_is_killed_at_random_under_load(world: World) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - printed, so that a failure can be repeated
    chance = random.Random(seed)  # noqa: S311 - not a secret
    sender = world.sender(150)
    for _ in range(RANDOM_KILLS):
        broker = BrokerProcess.start(world.state)
        timer = threading.Timer(chance.uniform(0.05, 0.5), broker.kill)
        try:
            broker.wait_ready()
            timer.start()
            while sender.pending() and sender.send_pending(broker.port):
                pass
            timer.join()
        finally:
            broker.kill()

    finish(world, sender)

    verdict = judge(world.state, sender, world.drops)
    assert verdict.clean, (seed, verdict)
    assert len(sender.acknowledged) == 150, seed
