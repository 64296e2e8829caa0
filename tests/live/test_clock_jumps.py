"""Clocks that jump an hour and back under load: the process's own, a node's, the database's.

What must hold: nothing acknowledged is lost, doubled without its mark, or stuck when the
clock is right again. What is refused as too old or from the future meanwhile is refused lawfully.
"""

import random
import re
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from broker.cli.init import make
from tests.live.faked_clock import FakedClock
from tests.live.play import Played, Stage, finish, staged
from tests.live.shared_size import Shared
from tests.live.sizes import SETTINGS, Embedded

pytestmark = pytest.mark.live

FAKED = ("tests.live.faked_clock",)
NOTICED_S = 120.0
PAUSE_S = 0.25  # what waits to be collected at the end costs time
SHOWN = timedelta(minutes=10)
STAMP = re.compile(rb'"ts":"([^"]+)"')
BACK, RECALLED = b'"clock_went_back"', b'"deliveries_recalled"'
AHEAD = """
CREATE SCHEMA apart;
CREATE TABLE apart.ahead (hours integer NOT NULL);
INSERT INTO apart.ahead VALUES (0);
CREATE SCHEMA ahead;
CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
  $$ SELECT pg_catalog.clock_timestamp() + hours * interval '1 hour' FROM apart.ahead $$;
"""


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sandbox of yesterday: its certificates are good an hour ago, too."""
    state = tmp_path_factory.mktemp("clocks") / "broker"
    yesterday = datetime.now(UTC) - timedelta(days=1)  # noqa: TID251 - a sandbox of its own
    make(state, sandbox=True, port=0, at=yesterday)
    with (state / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    return state


@pytest.fixture
def state(sandbox: Path, tmp_path: Path) -> Path:
    state = tmp_path / "broker"
    shutil.copytree(sandbox, state)
    return state


@pytest.fixture
def clock(tmp_path: Path) -> FakedClock:
    made = FakedClock(tmp_path / "clock")
    made.set("+0h")
    return made


def logged(state: Path, words: bytes) -> int:
    return (state / "broker.log").read_bytes().count(words)


def jump(state: Path, clock: FakedClock, hours: int) -> None:
    """Set the clock, and wait until a process has written something by it."""
    clock.set(f"{hours:+d}h")
    shown = datetime.now(UTC) + timedelta(hours=hours)  # noqa: TID251 - the right clock
    log = state / "broker.log"

    def written() -> bool:
        stamps = STAMP.findall(log.read_bytes()[-20_000:])
        return any(abs(datetime.fromisoformat(one.decode()) - shown) < SHOWN for one in stamps)

    wait_for(written)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + NOTICED_S
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def acknowledge_some(stage: Stage, count: int = 5) -> None:
    """Wait until more messages were acknowledged."""
    before = len(stage.recorder.acknowledged)
    wait_for(lambda: len(stage.recorder.acknowledged) >= before + count)


def refused(played: Played) -> set[int]:
    """Return with which statuses messages were refused for good."""
    return {e.status for e in played.history.events if e.status in range(400, 500)} - {429}


def test_the_clock_of_a_single_broker_jumps_an_hour_and_back(
    state: Path, clock: FakedClock
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    size = Embedded(state, FAKED, environment=clock.environment)
    with staged(size, seed, subjects=1, pause_s=PAUSE_S) as stage:
        acknowledge_some(stage)
        jump(state, clock, +1)
        acknowledge_some(stage)
        clock.set("+0h")
        wait_for(lambda: logged(state, BACK))
        acknowledge_some(stage)
        jump(state, clock, -1)
        clock.set("+0h")
        acknowledge_some(stage)

    played = finish(stage, seed)

    assert played.verdict.clean, f"seed {seed}\n{played.verdict}"


def test_what_it_accepted_and_held_while_it_was_ahead_is_delivered_after_a_restart(
    state: Path, clock: FakedClock
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    size = Embedded(state, FAKED, environment=clock.environment)
    with staged(size, seed, subjects=1, pause_s=PAUSE_S) as stage:
        clock.set("+1h")
        assert stage.crash_at("K12", 3, 60.0)  # claimed: due and held by a clock that is wrong
        clock.set("+0h")
        stage.size.start()
        wait_for(lambda: logged(state, RECALLED))
        acknowledge_some(stage)

    played = finish(stage, seed)

    assert played.verdict.clean, f"seed {seed}\n{played.verdict}"


def test_a_node_whose_own_clock_jumps_refuses_nothing_and_puts_nothing_off(
    state: Path, clock: FakedClock, postgres_url: str
) -> None:
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    size = Shared(state, postgres_url, FAKED, {"n1": clock.environment})
    with staged(size, seed, subjects=1, pause_s=PAUSE_S) as stage:
        for offset in (1, -1, 0):
            jump(state, clock, offset)
            acknowledge_some(stage)

    played = finish(stage, seed)

    assert played.verdict.clean, f"seed {seed}\n{played.verdict}"
    assert refused(played) <= {409}  # another body under an id that was used
    assert not logged(state, BACK)
    assert not logged(state, RECALLED)


def test_the_clock_of_the_database_jumps_an_hour_and_back_for_all_its_nodes(
    state: Path, postgres_url: str
) -> None:
    """The nodes ask for the time without naming a schema, so here another answers."""
    seed = random.randrange(1 << 32)  # noqa: S311 - printed with a failure
    database = postgres_url.replace("+psycopg", "")
    name = postgres_url.rpartition("/")[2]
    with psycopg.connect(database, autocommit=True) as admin:
        admin.execute(AHEAD)
        admin.execute(f'ALTER DATABASE "{name}" SET search_path = ahead, pg_catalog'.encode())
        size = Shared(state, postgres_url)
        with staged(size, seed, subjects=1, pause_s=PAUSE_S) as stage:
            acknowledge_some(stage)
            admin.execute("UPDATE apart.ahead SET hours = 1")
            stage.kill()  # its successor measures at its start
            acknowledge_some(stage)
            admin.execute("UPDATE apart.ahead SET hours = 0")
            wait_for(lambda: logged(state, BACK))
            acknowledge_some(stage)

    played = finish(stage, seed)

    assert played.verdict.clean, f"seed {seed}\n{played.verdict}"
