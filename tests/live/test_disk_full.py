"""A whole broker on a disk that is full."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from broker.core.reasons import Reason
from tests.live.harness import client_context, running
from tests.live.sizes import SQLITE, new_state
from tests.live.tools import mounted
from tests.live.workload import COLLECTED, LINES, Mint, Signed

pytestmark = pytest.mark.live

LINE = LINES[2]
SPACE = 1024 * 1024
MANY = 2000  # more than there is room for
NOTICED_S = 60.0
XML = {"content-type": "application/xml"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with a few megabytes."""
    with mounted(tmp_path / "disk", "8m") as made:
        yield made


@pytest.fixture
def state(tmp_path: Path, disk: Path) -> Path:
    """A sandbox whose database is on the small disk; it is ready with half a megabyte left."""
    state = new_state(tmp_path)
    file = state / "fame.toml"
    written = file.read_text(encoding="utf-8")
    assert SQLITE in written
    here = f'url = "sqlite:///{disk}/fame.db"\nfree_bytes_min = {SPACE // 2}'
    file.write_text(written.replace(SQLITE, here), encoding="utf-8")
    return state


def fill(file: Path, size: int) -> None:
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, size)


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + NOTICED_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_it_says_so_keeps_what_it_acknowledged_and_goes_on_when_there_is_space(
    state: Path, disk: Path
) -> None:
    mint = Mint(state, random.Random())  # noqa: S311 - not a secret
    filler = disk / "filler"
    with running(state) as broker:
        base = f"https://localhost:{broker.port}"
        as_sender = client_context(state, LINE.sender)
        as_recipient = client_context(state, COLLECTED)
        with (
            httpx2.Client(verify=as_sender, base_url=base, timeout=30) as sender,
            httpx2.Client(verify=as_recipient, base_url=base, timeout=30) as recipient,
        ):

            def send(message: Signed) -> httpx2.Response:
                return sender.post("/messages", content=message.envelope, headers=XML)

            fill(filler, shutil.disk_usage(disk).free - SPACE)
            kept: list[tuple[Signed, bytes]] = []
            for number in range(MANY):
                refused = mint.make(LINE, 1, number)
                answer = send(refused)
                if not answer.is_success:
                    break
                kept.append((refused, answer.content))
            unready = sender.get("/readyz")
            listed = recipient.get(f"/mailbox/{COLLECTED}")
            again = send(refused)
            filler.unlink()
            wait_for(lambda: sender.get("/readyz").is_success)
            wait_for(lambda: send(refused).is_success)
            repeated = [send(message).content for message, _receipt in kept]

    assert kept
    for one in (answer, again):
        assert one.status_code == 507
        assert one.json()["code"] == Reason.STORE_FULL.value
        assert int(one.headers["retry-after"]) > 0
    assert unready.status_code == 503
    assert listed.status_code == 200
    assert repeated == [receipt for _message, receipt in kept]
