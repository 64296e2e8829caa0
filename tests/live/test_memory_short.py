"""A broker that may have hardly any more memory, while somebody sends what takes much of it.

Nobody is told that a message is bad because we could not read it; nothing acknowledged is
lost; and when there is memory again, the same process goes on.
"""

import random
import resource
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.live.harness import client_context
from tests.live.play import Stage, finish, staged
from tests.live.short_of_memory import MANY
from tests.live.sizes import Embedded, new_state
from tests.live.workload import SENDERS

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
MORE = 24 * 1024 * 1024  # one of them takes more, and ordinary messages do not
SHED = 20
AT_ONCE = 4
NOTICED_S = 120.0
SPACES = b" " * (2 * 1024 * 1024 - len(MANY))
XML = {"content-type": "application/xml"}


@pytest.mark.parametrize("more", [0, 500_000, 1_000_000])
def test_a_message_that_memory_does_not_suffice_for_is_not_told_that_it_is_bad(more: int) -> None:
    command = [sys.executable, "-m", "tests.live.short_of_memory", str(more)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, timeout=120)

    assert done.stdout.split() == [b"broker.overloaded", b"sender.envelope"]


def limit(pid: int, *, squeezed: bool) -> None:
    """Let a process have ``MORE`` than it has, or whatever it wants."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
    bound = pages * resource.getpagesize() + MORE if squeezed else resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_AS, (bound, resource.RLIM_INFINITY))


@contextmanager
def flooded(stage: Stage) -> Iterator[Counter[str]]:
    """Have several send what takes much memory, for a block; yield what they were told."""
    told: Counter[str] = Counter()
    off = threading.Event()

    def send() -> None:
        context = client_context(stage.size.state, SENDERS[0])
        while not off.is_set():
            try:
                with httpx2.Client(verify=context, timeout=30) as client:
                    url = f"https://localhost:{stage.size.ports()[0]}/messages"
                    answer = client.post(url, content=MANY + SPACES, headers=XML)
                    told[answer.json()["code"]] += 1
            except (httpx2.TransportError, IndexError, ValueError):
                time.sleep(0.05)

    threads = [threading.Thread(target=send) for _ in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    try:
        yield told
    finally:
        off.set()
        for thread in threads:
            thread.join()


def acknowledge_some(stage: Stage, count: int = 5) -> None:
    """Wait until more messages were acknowledged."""
    before, until = len(stage.recorder.acknowledged), time.monotonic() + NOTICED_S
    while len(stage.recorder.acknowledged) < before + count:
        assert time.monotonic() < until, "nothing is acknowledged any more"
        time.sleep(0.05)


def test_a_broker_short_of_memory_sheds_and_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    size = Embedded(new_state(tmp_path))
    with staged(size, seed, subjects=1, pause_s=0.1) as stage:
        acknowledge_some(stage)
        assert size.broker is not None
        pid, until = size.broker.process.pid, time.monotonic() + NOTICED_S
        limit(pid, squeezed=True)
        with flooded(stage) as told:
            while told["broker.overloaded"] < SHED and not size.died():
                assert time.monotonic() < until, f"only told {told}"
                time.sleep(0.05)
        if not size.died():
            limit(pid, squeezed=False)
        size.start()  # if it died: it may, and what it acknowledged is there
        acknowledge_some(stage)

    played = finish(stage, seed)

    assert played.verdict.clean, f"seed {seed}\n{played.verdict}"
    # Ordinary messages were at most shed; 409 is for another body under an id that was used.
    assert {e.status for e in played.history.events if e.status in range(400, 500)} <= {409, 429}
    assert set(told) <= {"broker.overloaded", "broker.internal", "sender.envelope"}, told
