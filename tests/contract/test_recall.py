"""Deliveries that a clock running ahead put off or held, once it is right again."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest
from structlog.testing import capture_logs

from broker.core.instant import from_millis, millis
from broker.core.outcome import DeliveryState
from broker.edge import deliveries, recall
from broker.edge.recall import EVERY_S, SLACK_S, STEP_S, Recall
from broker.edge.store import Store
from broker.ports import Dispatch
from tests.contract.stores import NOW, RECIPIENT, open_store
from tests.contract.test_deliveries import LEASE, T0, Outbox

HOUR_MS = 3_600_000
WAIT_MAX = timedelta(seconds=900)
SLACK_MS = round(1000 * SLACK_S)
PENDING = DeliveryState.PENDING.value


class Clock:
    """A clock that a test sets, and the seconds that go on whatever it does."""

    def __init__(self) -> None:
        self.at = NOW
        self.seconds = 0.0

    def now(self) -> datetime:
        return self.at

    def set(self, at_ms: int) -> None:
        """Set the clock: no time passes."""
        self.at = from_millis(at_ms)

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.at += timedelta(seconds=seconds)
        self.seconds += seconds


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


@pytest.fixture
def outbox(store: Store) -> Outbox:
    return Outbox(store)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chore(store: Store, clock: Clock) -> Recall:
    return Recall(
        store,
        clock,
        wait_max=WAIT_MAX,
        lease=timedelta(milliseconds=LEASE),
        seconds=lambda: clock.seconds,
    )


async def put_off(outbox: Outbox, until: int) -> str:
    """Have a delivery wait until then."""
    await outbox.add(f"{until:x}")
    (claimed,) = await outbox.claim()
    held = await outbox.load(claimed.delivery_id)
    await outbox.do(lambda conn: deliveries.settle(conn, held, next_at=until))
    return claimed.delivery_id


async def test_what_was_accepted_while_the_clock_ran_ahead_is_due_when_it_is_right(
    outbox: Outbox, chore: Recall
) -> None:
    await outbox.add("a", late_ms=HOUR_MS)
    before = await outbox.claim()

    assert await chore.step() == 1
    assert before == []
    assert len(await outbox.claim()) == 1


async def test_only_what_waits_longer_than_anything_waits_is_taken_back(
    outbox: Outbox, chore: Recall
) -> None:
    longest = T0 + 900_000 + SLACK_MS
    lawful = await put_off(outbox, longest)
    wrong = await put_off(outbox, longest + 1)

    assert await chore.step() == 1
    assert [one.delivery_id for one in await outbox.claim()] == [wrong]
    assert lawful in {one.delivery_id for one in await outbox.claim(now=longest)}


async def test_only_a_lease_that_outlasts_every_lease_is_ended(
    outbox: Outbox, chore: Recall
) -> None:
    await outbox.add("a")
    (lawful,) = await outbox.claim(now=T0 + SLACK_MS)
    await outbox.add("b")
    (wrong,) = await outbox.claim(now=T0 + SLACK_MS + 1)

    assert await chore.step() == 1
    (again,) = await outbox.claim("two")
    assert (again.delivery_id, again.attempt) == (wrong.delivery_id, 2)
    assert (await outbox.load(lawful.delivery_id)).lease_owner == "one"


async def test_whoever_held_it_records_nothing_any_more(outbox: Outbox, chore: Recall) -> None:
    await outbox.add("a")
    (claimed,) = await outbox.claim(now=T0 + HOUR_MS)
    zombie = await outbox.load(claimed.delivery_id)

    await chore.step()

    def deliver(held: deliveries.Held) -> object:
        return outbox.do(lambda conn: deliveries.settle(conn, held, state="delivered"))

    assert not await deliver(zombie)  # type: ignore[misc]
    await outbox.claim("two")
    assert not await deliver(zombie)  # type: ignore[misc]
    assert await deliver(await outbox.load(claimed.delivery_id))  # type: ignore[misc]


async def test_a_record_that_stands_for_an_ended_claim_is_void(
    outbox: Outbox, chore: Recall, store: Store
) -> None:
    await outbox.add("a")
    until = T0 + HOUR_MS + LEASE
    (claimed,) = await store.write(
        lambda conn, _ledger: deliveries.claim(
            conn, RECIPIENT, owner="relay", now=T0, until=until, limit=1, counted=False
        )
    )
    record = Dispatch(
        claimed.delivery_id, RECIPIENT, claimed.order_key, claimed.attempt, from_millis(until)
    )

    await chore.step()

    taken = outbox.do(lambda conn: deliveries.take_over(conn, record, owner="worker", until=until))
    assert not await taken
    (again,) = await outbox.claim()
    assert again.attempt == 1  # nobody attempted it


async def test_order_is_kept_among_what_is_taken_back(outbox: Outbox, chore: Recall) -> None:
    await outbox.add("a", late_ms=HOUR_MS)
    await outbox.add("a", late_ms=HOUR_MS - 1)

    assert await chore.step() == 2
    (first,) = await outbox.claim()
    await outbox.end(first)
    (second,) = await outbox.claim()
    assert first.delivery_id < second.delivery_id


async def test_what_is_over_stays_as_it_is(outbox: Outbox, chore: Recall) -> None:
    await outbox.add("a", late_ms=HOUR_MS)
    (claimed,) = await outbox.claim(now=T0 + HOUR_MS)
    await outbox.end(claimed)

    assert await chore.step() == 0
    assert (await outbox.load(claimed.delivery_id)).state is DeliveryState.DELIVERED


async def test_a_delivery_that_changed_since_it_was_found_is_left_alone(outbox: Outbox) -> None:
    await outbox.add("a", late_ms=HOUR_MS)
    horizon = recall.Horizon(T0, T0)
    found = await outbox.store.read(lambda conn: recall.beyond(conn, horizon))
    (claimed,) = await outbox.claim(now=T0 + HOUR_MS)
    held = await outbox.load(claimed.delivery_id)
    await outbox.do(lambda conn: deliveries.settle(conn, held, next_at=T0 - 5))

    await outbox.do(lambda conn: recall.take_back(conn, found, horizon, T0))

    assert found == [claimed.delivery_id]
    assert await outbox.claim(now=T0 - 5) != []


async def test_it_looks_seldom_and_at_once_when_the_clock_goes_back(
    outbox: Outbox, chore: Recall, clock: Clock
) -> None:
    assert await chore.step() == 0
    clock.set(T0 + HOUR_MS)
    await outbox.add("a", late_ms=HOUR_MS)
    with capture_logs() as logs:
        assert await chore.step() == 0  # no look: and the clock went forward
        clock.set(T0)
        assert await chore.step() == 1

    said = {line["event"]: line for line in logs}
    assert said["clock_went_back"]["seconds"] == HOUR_MS // 1000
    assert said["deliveries_recalled"]["found"] == 1


async def test_what_another_process_wrote_late_is_found_by_the_timer(
    outbox: Outbox, chore: Recall, clock: Clock
) -> None:
    assert await chore.step() == 0
    await outbox.add("a", late_ms=2 * HOUR_MS)
    clock.wait(EVERY_S - 1)
    assert await chore.step() == 0
    clock.wait(1)
    assert await chore.step() == 1


async def test_a_clock_that_is_set_right_slowly_is_no_alarm(chore: Recall, clock: Clock) -> None:
    await chore.step()
    clock.set(millis(clock.at) - round(1000 * STEP_S))

    with capture_logs() as logs:
        await chore.step()

    assert logs == []


async def test_much_is_taken_back_in_parts_one_after_the_other(
    outbox: Outbox, chore: Recall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recall, "BATCH", 2)
    monkeypatch.setattr(recall.beyond, "__defaults__", (2,))
    for number in range(5):
        await outbox.add(f"{number}", late_ms=HOUR_MS)

    assert [await chore.step() for _ in range(4)] == [2, 2, 1, 0]
    assert len(await outbox.claim()) == 5
