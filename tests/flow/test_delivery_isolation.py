"""One recipient's trouble is nobody else's: lanes, bounds, the running relay."""

import asyncio
import random
import time
from pathlib import Path

import pytest

from adapters.contract import Delivered, Delivery, Result, RetryLater
from broker.core.errors import Transient
from broker.core.reasons import Reason
from broker.edge.attempts import Patience
from tests.flow.delivery_world import CSC, HR, OTHER_CSC, PORTAL, SCHOOL, World, world

SOON_S = 5.0


async def hang(_delivery: Delivery) -> Result:
    await asyncio.Event().wait()
    return Delivered()


async def test_a_hanging_recipient_slows_nobody_else(tmp_path: Path) -> None:
    async with world(tmp_path, Patience(attempts_max=3, timeout_s=20)) as w:
        dead, portal = w.push_to(OTHER_CSC), w.push_to(PORTAL)
        dead.behave = hang
        for seed in range(30):
            await w.send("VacancyPublished", HR, OTHER_CSC, seed=seed)
        began = time.monotonic()
        for seed in range(10):
            await w.send("VacancyPublished", HR, PORTAL, seed=seed)
        await w.runtime.start()
        async with asyncio.timeout(SOON_S):
            await arrived(w, portal.given, 10)

        assert time.monotonic() - began < SOON_S
        # What the dead one costs is bounded: its few attempts, and its lane.
        assert len(dead.given) == 4


async def arrived(w: World, given: list[Delivery], number: int) -> None:
    """Wait until ``number`` deliveries came."""
    while len(given) < number:
        far = next(one for one in w.far.values() if one.given is given)
        far.came.clear()
        if len(given) < number:
            await far.came.wait()


async def test_no_more_attempts_than_allowed_are_made_at_once_for_one_recipient(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        running = most = 0
        full = asyncio.Event()

        async def count(_delivery: Delivery) -> Result:
            nonlocal running, most
            running += 1
            most = max(most, running)
            if running == 4:
                await w.store.read(lambda _conn: None)  # time enough for a fifth to come
                full.set()
            async with asyncio.timeout(SOON_S):
                await full.wait()
            running -= 1
            return Delivered()

        portal.behave = count
        for seed in range(12):
            await w.send("VacancyPublished", HR, PORTAL, seed=seed)
        await w.settle()

        assert len(portal.given) == 12
        assert most == 4


async def test_the_outbox_gives_a_lane_no_more_than_it_holds(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL)
        w.park()
        for seed in range(20):
            await w.send("VacancyPublished", HR, PORTAL, seed=seed)

        assert await w.runtime.relay.pump() == 16
        assert await w.runtime.relay.pump() == 0


async def test_a_commit_wakes_the_relay_without_waiting_for_its_timer(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        await w.runtime.start()

        await w.send("VacancyPublished", HR, PORTAL)
        async with asyncio.timeout(0.9):  # the timer rings each second
            await portal.came.wait()


async def test_messages_about_one_child_follow_each_other_without_waiting_for_the_timer(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        for seed in range(5):
            await w.send("Referral", SCHOOL, CSC, seed=seed, person=3)
        await w.runtime.start()

        async with asyncio.timeout(0.9):
            await arrived(w, council.given, 5)


async def test_the_relay_outlives_a_store_that_is_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        rounds = asyncio.Semaphore(0)

        async def chores() -> None:
            rounds.release()
            raise Transient(Reason.STORE_UNAVAILABLE)

        relay = asyncio.create_task(w.runtime.relay.run(0.01, chores))
        async with asyncio.timeout(SOON_S):
            for _ in range(3):
                await rounds.acquire()
        assert not relay.done()
        relay.cancel()
        await asyncio.gather(relay, return_exceptions=True)


async def test_a_lane_outlives_an_attempt_that_fails_for_reasons_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        make, faults = type(w.attempts).make, [ZeroDivisionError(), Transient(Reason.INTERNAL)]

        async def sometimes(self: object, dispatch: object) -> None:
            if faults:
                raise faults.pop()
            await make(self, dispatch)  # type: ignore[arg-type]

        monkeypatch.setattr(type(w.attempts), "make", sometimes)
        for seed in range(3):
            await w.send("VacancyPublished", HR, PORTAL, seed=seed)
        await w.settle()

        assert len(portal.given) == 1


def test_the_wait_between_attempts_grows_with_jitter_and_is_bounded() -> None:
    patience = Patience(backoff_s_first=1, backoff_s_max=60)
    rng = random.Random(7)  # noqa: S311 - jitter

    for attempt, ceiling in ((1, 1), (2, 2), (4, 8), (7, 60), (500, 60)):
        waits = [patience.wait_s(attempt, rng) for _ in range(300)]
        assert all(0 <= wait <= ceiling for wait in waits)
        assert max(waits) > 0.9 * ceiling
        assert min(waits) < 0.1 * ceiling


@pytest.mark.parametrize(("asked", "least"), [(30.0, 30.0), (1e9, 60.0), (0.0, 0.0), (None, 0.0)])
def test_what_the_recipient_asks_for_is_honoured_up_to_the_bound(
    asked: float | None, least: float
) -> None:
    patience = Patience(backoff_s_first=1, backoff_s_max=60)
    rng = random.Random(7)  # noqa: S311 - jitter

    waits = [patience.wait_s(3, rng, asked) for _ in range(50)]
    assert min(waits) >= least
    assert max(waits) <= 60


async def test_a_recipient_that_asks_for_a_week_is_tried_again_before(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE, after_s=7 * 86_400), Delivered())
        await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        w.clock.pass_(seconds=w.patience.backoff_s_max)
        await w.settle()

        assert len(portal.given) == 2
