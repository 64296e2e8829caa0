"""A PostgreSQL that is held: its connections stay open and say nothing."""

import random
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from tests.live.harness import BrokerProcess, client_context, running
from tests.live.services.postgres import Postgres
from tests.live.sizes import new_state, use_postgres
from tests.live.workload import LINES, Mint, Signed

pytestmark = pytest.mark.live

LINE = LINES[2]
ANSWERED_S = 40.0
RECOVERED_S = 60.0
XML = {"content-type": "application/xml"}


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_state(tmp_path_factory.mktemp("held"))


@pytest.fixture
def broker(sandbox: Path, tmp_path: Path, postgres_url: str) -> Iterator[BrokerProcess]:
    state = Path(shutil.copytree(sandbox, tmp_path / "broker"))
    use_postgres(state, postgres_url)
    settings = state / "fame.toml"
    settings.write_text(
        settings.read_text().replace("[store]", "[store]\nstatement_timeout_s = 2.0")
    )
    with running(state) as process:
        yield process


@pytest.fixture
def client(broker: BrokerProcess) -> Iterator[httpx2.Client]:
    context = client_context(broker.state, LINE.sender)
    base = f"https://localhost:{broker.port}"
    with httpx2.Client(verify=context, base_url=base, timeout=ANSWERED_S) as made:
        yield made


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + RECOVERED_S
    while not what():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_while_it_is_held_requests_are_told_so_in_time_and_later_all_goes_on(
    postgres: Postgres, broker: BrokerProcess, client: httpx2.Client
) -> None:
    mint = Mint(broker.state, random.Random())  # noqa: S311 - not a secret
    before, during = (mint.make(LINE, 1, number) for number in range(2))

    def send(message: Signed) -> httpx2.Response:
        return client.post("/messages", content=message.envelope, headers=XML)

    first = send(before)
    with postgres.held(), ThreadPoolExecutor() as at_once:
        asked = [at_once.submit(send, during), at_once.submit(client.get, "/readyz")]
        alive = client.get("/livez")
        refused, unready = (one.result() for one in asked)
    wait_for(lambda: client.get("/readyz").is_success)
    again = send(during)
    repeated = send(before)

    assert (first.status_code, refused.status_code) == (202, 503)
    assert int(refused.headers["retry-after"]) > 0
    assert (unready.status_code, alive.status_code) == (503, 200)
    assert again.is_success
    assert repeated.content == first.content
