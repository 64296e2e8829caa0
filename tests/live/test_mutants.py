"""The harness judged: each safeguard is taken away once, and the checks must notice.

Every scenario is played with the broker as it is, too, and is clean then.
"""

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.live.mutants import without_constraint
from tests.live.play import Played, Stage, finish, staged
from tests.live.power_cut import CALLS, OPTIONS, lost
from tests.live.sizes import Embedded, new_state
from tests.live.tools import require
from tests.live.workload import PUSHED

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
ACKNOWLEDGED = 25
AGAIN = 5


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = new_state(tmp_path_factory.mktemp("mutants"))
    size = Embedded(state)
    size.start()  # makes the database
    assert size.broker is not None
    size.broker.stop()
    return state


def sent_again(stage: Stage) -> None:
    """Clients send settled messages again by themselves; nothing else happens."""
    stage.wait_asked_again(AGAIN)
    stage.acts["looked on"] += 1


def stopped_while_it_waits(stage: Stage) -> None:
    """Die with deliveries claimed; meanwhile their recipient is suspended."""
    assert stage.crash_at("K12", 2)
    with stage.stopped(PUSHED, down=True):
        time.sleep(1.5)


def dead_before_the_end(stage: Stage) -> None:
    """Die around the record of a delivery."""
    assert stage.crash_at("K17", 3)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens, to which mutant, and which checks must notice at least."""

    happens: Callable[[Stage], None]
    mutant: str
    red: frozenset[str]

    def play(self, state: Path, *, sound: bool) -> Played:
        module = ("broker",) if sound else ("tests.live.mutants", self.mutant)
        seed = random.randrange(1 << 32)  # noqa: S311 - not a secret
        with staged(Embedded(state, module), seed, subjects=1, pause_s=0.02, settle_s=15) as stage:
            self.happens(stage)
        return finish(stage, seed)


SCENARIOS = [
    Scenario(sent_again, "forgetful", frozenset({"duplicate", "receipts_differ"})),
    Scenario(stopped_while_it_waits, "trusting", frozenset({"unauthorised"})),
    Scenario(dead_before_the_end, "hasty", frozenset({"lost"})),
]


@pytest.mark.parametrize("sound", [True, False], ids=["as it is", "mutant"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.mutant)
def test_the_checks_tell_the_broker_from_its_mutant(
    scenario: Scenario,
    sound: bool,  # noqa: FBT001
    sandbox: Path,
    tmp_path: Path,
) -> None:
    state = tmp_path / "broker"
    shutil.copytree(sandbox, state)
    if scenario.mutant == "forgetful" and not sound:
        without_constraint(state / "data" / "fame.db")

    verdict = scenario.play(state, sound=sound).verdict

    if sound:
        assert verdict.clean, str(verdict)
    else:
        assert verdict.red >= scenario.red, str(verdict)


@pytest.mark.parametrize("sound", [True, False], ids=["as it is", "mutant"])
def test_a_power_cut_loses_nothing_acknowledged_unless_commits_are_not_synced(
    sound: bool,  # noqa: FBT001
    tmp_path: Path,
) -> None:
    database, trace = tmp_path / "fame.db", tmp_path / "trace"
    module = ("tests.live.store_child",) if sound else ("tests.live.mutants", "unsynced", "store")
    strace = [require("strace"), *OPTIONS, "-o", str(trace), "-e", CALLS]
    child = [sys.executable, "-m", *module, str(database), "m", str(ACKNOWLEDGED), "1"]

    subprocess.run([*strace, *child], cwd=ROOT, check=True, capture_output=True)
    acknowledged, missing = lost(trace, database, tmp_path)

    assert acknowledged == ACKNOWLEDGED
    assert bool(missing) != sound
