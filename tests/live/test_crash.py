"""kill -9 at every named point of the path, and at random under load; then the checks.

A short sample of what `make soak` does for longer. Clients retry what they are not sure
about, as senders do; after the drain no check of `checks` may find anything.
"""

import random
import shutil
from pathlib import Path

import pytest

from tests.live.play import finish, play, staged
from tests.live.sizes import EMBEDDED, Embedded, new_state

RANDOM_KILLS = 2


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return new_state(tmp_path_factory.mktemp("crash"))


@pytest.fixture
def size(sandbox: Path, tmp_path: Path) -> Embedded:
    state = tmp_path / "broker"
    shutil.copytree(sandbox, state)
    return Embedded(state)


def seed() -> int:
    """Return a seed of chance; a failure prints it, and tests.live.soak plays it again."""
    return random.randrange(1 << 32)  # noqa: S311 - not a secret


def test_nothing_goes_wrong_when_the_broker_dies_at_one_point_after_the_other(
    size: Embedded,
) -> None:
    number = seed()
    with staged(size, number, pause_s=0.02) as stage:
        missed = [
            point for point in EMBEDDED if not stage.crash_at(point, stage.chance.randint(1, 5))
        ]

    played = finish(stage, number)

    assert missed == []
    assert played.verdict.clean, f"seed {number}\n{played.verdict}"
    assert played.totals()["kills"] == len(EMBEDDED)


def test_nothing_goes_wrong_when_it_is_killed_at_random_under_load(size: Embedded) -> None:
    number = seed()

    played = play(size, number, RANDOM_KILLS)

    assert played.verdict.clean, f"seed {number}\n{played.verdict}"
    assert played.totals()["effects"] > 0
