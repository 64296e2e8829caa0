"""The harness judged where PostgreSQL and Kafka are: each safeguard is taken away once."""

import asyncio
import random
from contextlib import suppress
from pathlib import Path

import pytest

from broker.core.errors import Transient
from tests.live.harness import running
from tests.live.kafka_world import make_world
from tests.live.mutants import without_constraint_in_postgres
from tests.live.play import Played, finish, staged
from tests.live.scaled_judge import drain, judge, rows
from tests.live.scaled_world import Scaled, make_scaled, new_sandbox, wait_for, working
from tests.live.services.kafka import KafkaCluster
from tests.live.sizes import OnPostgres, new_state, use_postgres

pytestmark = pytest.mark.live

SOUND = ("broker",)
AGAIN = 5


def mutant(name: str) -> tuple[str, str]:
    return ("tests.live.mutants", name)


def sent_again(state: Path, url: str, *module: str) -> Played:
    """Have clients send settled messages again by themselves; nothing else happens."""
    seed = random.randrange(1 << 32)  # noqa: S311 - not a secret
    size = OnPostgres(state, module, url=url)
    patience_s = 60 if module == SOUND else 6
    with staged(size, seed, subjects=1, pause_s=0.02, settle_s=patience_s) as stage:
        stage.wait_asked_again(AGAIN)
    return finish(stage, seed)


@pytest.fixture
def on_postgres(tmp_path: Path, postgres_url: str) -> Path:
    """A broker that has made its tables and is stopped."""
    state = new_state(tmp_path)
    use_postgres(state, postgres_url)
    with running(state) as broker:
        assert broker.stop() == 0
    return state


def test_postgresql_as_it_is_keeps_nothing_twice(on_postgres: Path, postgres_url: str) -> None:
    verdict = sent_again(on_postgres, postgres_url, *SOUND).verdict

    assert verdict.clean, str(verdict)


def test_the_constraint_alone_keeps_a_message_from_being_kept_twice(
    on_postgres: Path, postgres_url: str
) -> None:
    verdict = sent_again(on_postgres, postgres_url, *mutant("forgetful")).verdict

    assert not verdict.red & {"duplicate", "receipts_differ"}, str(verdict)


def test_without_the_constraint_of_postgresql_the_checks_turn_red(
    on_postgres: Path, postgres_url: str
) -> None:
    without_constraint_in_postgres(postgres_url)

    verdict = sent_again(on_postgres, postgres_url, *mutant("forgetful")).verdict

    assert verdict.red >= {"duplicate", "receipts_differ"}, str(verdict)


@pytest.fixture
def scaled(tmp_path: Path, kafka: KafkaCluster, postgres_url: str) -> Scaled:
    return make_scaled(new_sandbox(tmp_path), tmp_path / "own", make_world(kafka), url=postgres_url)


@pytest.mark.parametrize("module", [SOUND, mutant("premature")], ids=["as it is", "mutant"])
def test_no_offset_is_committed_before_the_outcome_is_recorded(
    module: tuple[str, ...], scaled: Scaled
) -> None:
    """The outbox makes good for it, so nothing is lost; the order itself is looked at.

    The worker dies with the recipient's answer in its hand, and nobody sends anew meanwhile.
    """
    sender = scaled.sender(1)

    def behind() -> int | None:
        with suppress(Transient):  # a cluster that was not asked before needs a moment
            return asyncio.run(scaled.kafka.lag())
        return None

    with running(scaled.state) as broker:
        assert sender.send_pending(broker.port)
        wait_for(lambda: behind() == 1)
        assert broker.stop() == 0
    with working(scaled.state, crash="K16:1", module=module) as worker:
        assert worker.process.wait(timeout=60) == -9
    unrecorded = rows(
        scaled.engine, "SELECT attempts, in_doubt FROM delivery WHERE closed_at IS NULL"
    )
    wait_for(lambda: behind() is not None)
    committed = behind() == 0
    with running(scaled.state), working(scaled.state):
        drain(scaled.engine, timeout_s=90.0)

    assert unrecorded == [(1, 1)]
    assert committed == (module != SOUND)
    verdict = judge(scaled.engine, sender, scaled.drops)
    assert verdict.clean, verdict
    assert len(scaled.dropped) == 1
