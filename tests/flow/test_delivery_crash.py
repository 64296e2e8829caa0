"""kill -9 of a real broker while it delivers: nothing lost, and no effect twice."""

import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import pytest

from broker.cli import init
from broker.cli.client import client
from broker.cli.demo import DELIVERY, _set_route
from broker.cli.processes import Program, free_port, wait_for_port
from broker.cli.stories import until
from broker.edge.clock import SystemClock
from tests.flow.delivery_world import HR, PORTAL

KILLED = -9


@contextmanager
def broker(home: Path, port: int, crash: str = "") -> Iterator[Program]:
    arguments = ["broker", "serve", "--config", str(home / "fame.toml")]
    program = Program("broker", arguments, home / "logs" / "broker.log", FAME_CRASH=crash)
    with program:
        wait_for_port(port, program)
        yield program


@pytest.mark.parametrize("point", ["K12", "K15", "K16", "K17"])
def test_a_broker_killed_while_delivering_delivers_once_and_loses_nothing(
    tmp_path: Path, point: str
) -> None:
    home, port, sink_port = tmp_path / "home", free_port(), free_port()
    init.make(home, sandbox=True, port=port, at=SystemClock().now())
    (home / "logs").mkdir()
    with (home / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write(DELIVERY)
    _set_route(home, PORTAL, sink_port)
    with ExitStack() as stack:
        system = Program(
            "portal",
            ["adapters.case_system", str(home), PORTAL, str(sink_port)],
            home / "logs" / "portal.log",
        )
        stack.enter_context(system)
        wait_for_port(sink_port, system)
        message = vacancy(home)
        with broker(home, port, f"{point}:1") as doomed:
            send(home, message)
            until(lambda: doomed.ended, "for the broker to die")
            assert doomed.exit_code == KILLED
        with broker(home, port):
            answer = send(home, message)
            assert answer is not None
            assert answer.status_code == 200  # the first receipt again: it was kept
            submission = answer.headers["location"].rpartition("/")[2]
            until(lambda: state(home, submission) == "delivered", "for the delivery")

    database = sqlite3.connect(home / "agencies" / PORTAL / "case_system.db")
    assert database.execute("SELECT count(*) FROM received").fetchone() == (1,)
    database.close()


def vacancy(home: Path) -> bytes:
    made = subprocess.run(
        [
            *(sys.executable, "-m", "broker", "sample", "make", "VacancyPublished"),
            *("--from", HR, "--to", PORTAL, "--purpose", "JOBS", "--sign"),
            *("--config", str(home / "fame.toml")),
        ],
        check=True,
        capture_output=True,
    )
    return made.stdout


def send(home: Path, message: bytes) -> httpx2.Response | None:
    """Return the broker's answer, or None: it died before it could give one."""
    with client(home, HR) as made:
        try:
            headers = {"content-type": "application/xml"}
            return made.post("/messages", content=message, headers=headers)
        except httpx2.TransportError:
            return None


def state(home: Path, submission: str) -> str:
    with client(home, HR) as made:
        view = made.get(f"/messages/{submission}").json()
    return str(view["recipients"][0]["state"])
