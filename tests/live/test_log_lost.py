"""A log that cannot be written: a full disk, a reader that went, a reader that sleeps.

The log is for operators; nothing rests on it. The broker takes and hands over messages as
before, says in its probe and its metrics that lines are lost, and holds no more of them than
it has room for. When the log can be written again, it says how many are missing.
"""

import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2
import pytest

from tests.live.harness import BrokerProcess, client_context
from tests.live.history import BROKER
from tests.live.sizes import new_state
from tests.live.tools import mounted, require
from tests.live.workload import COLLECTED, LINES, Mint

pytestmark = pytest.mark.live

LINE = LINES[2]
MANY = 400  # lines that fill what is between the broker and its reader
NOTICED_S = 60.0
XML = {"content-type": "application/xml"}
LOST = re.compile(r"^fame_log_lines_lost(?:_total)? ([0-9.e+]+)$", re.MULTILINE)


def into(redirection: str, *arguments: str) -> Sequence[str]:
    """Return what starts a command with its standard error led elsewhere."""
    return (require("bash"), "-c", f'"$@" {redirection}', *(arguments or ("log",)))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk for logs alone, of a few kilobytes."""
    with mounted(tmp_path / "logs", "16k") as made:
        yield made


class World:
    """A broker whose log goes astray, and those that speak to it."""

    def __init__(self, state: Path, prefix: Sequence[str]) -> None:
        self.state = state
        self.mint = Mint(state, random.Random())  # noqa: S311 - not a secret
        self.receipts: dict[bytes, bytes] = {}
        self.broker = BrokerProcess.start(state, prefix=prefix)

    def client(self, agency: str) -> httpx2.Client:
        base = f"https://localhost:{self.broker.port}"
        context = client_context(self.state, agency)
        return httpx2.Client(verify=context, base_url=base, timeout=30)

    def send(self, count: int) -> None:
        """Send messages, each with a line in the log, and three that are rejected at once."""
        with self.client(LINE.sender) as client:
            for _ in range(count):
                made = self.mint.make(LINE, 1, len(self.receipts)).envelope
                answer = client.post("/messages", content=made, headers=XML)
                assert answer.status_code == 202
                self.receipts[made] = answer.content
                for _more in range(3):
                    refused = client.post("/messages", content=b"<no/>", headers=XML)
                    assert refused.status_code in range(400, 500)

    def said(self) -> tuple[int, str, float]:
        """Return the status of the probe, what it says of the log, and how many lines are lost."""
        with self.client(BROKER) as client:
            ready = client.get("/readyz?verbose")
            found = LOST.search(client.get("/metrics").text)
        assert found is not None
        return ready.status_code, ready.json()["checks"]["log"], float(found.group(1))

    def keeps_all(self) -> bool:
        """Whether each message that was accepted is there, and can be read by its recipient."""
        with self.client(LINE.sender) as client:
            again = {
                made: client.post("/messages", content=made, headers=XML).content
                for made in self.receipts
            }
        with self.client(COLLECTED) as client:
            listed = client.get(f"/mailbox/{COLLECTED}", params={"limit": 100}).json()
        return again == self.receipts and len(listed["deliveries"]) == len(self.receipts)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + NOTICED_S
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[[Sequence[str]], World]]:
    state = new_state(tmp_path)
    worlds: list[World] = []

    def started(prefix: Sequence[str]) -> World:
        worlds.append(World(state, prefix))
        assert worlds[0].broker.wait_ready()
        return worlds[0]

    yield started
    for world in worlds:
        world.broker.kill()


Start = Callable[[Sequence[str]], World]


def test_a_full_disk_of_logs_costs_lines_and_says_how_many(start: Start, disk: Path) -> None:
    log, filler = disk / "broker.log", disk / "filler"
    world = start(into(f"2>>{log}"))
    filler.write_bytes(b"x" * 4096)

    world.send(MANY // 4)
    wait_for(lambda: world.said()[2] > 0)
    full = world.said()
    kept = world.keeps_all()
    filler.unlink()
    log.write_bytes(b"")  # as whoever turns logs over does
    world.send(1)
    wait_for(lambda: b'"log_lines_lost"' in log.read_bytes())
    wait_for(lambda: world.said()[1] == "ok")
    lines = log.read_bytes().splitlines()

    assert full[:2] == (200, "failed")
    assert kept
    (told,) = [json.loads(line) for line in lines if b'"log_lines_lost"' in line]
    assert told["found"] >= full[2]


@pytest.mark.parametrize(
    ("redirection", "lost"),
    [
        pytest.param("2> >(exec head -c 1 >/dev/null)", True, id="went"),
        pytest.param("2> >(exec sleep 600)", False, id="sleeps"),
    ],
)
def test_a_reader_of_the_log_that_is_gone_or_sleeps_holds_nothing_up(
    start: Start, redirection: str, *, lost: bool
) -> None:
    world = start(into(redirection))

    world.send(MANY // 4)
    wait_for(lambda: world.said()[1] == "failed")
    status, _log, count = world.said()

    assert status == 200
    assert (count > 0) or not lost  # what has room is held for a reader that may wake
    assert world.keeps_all()
