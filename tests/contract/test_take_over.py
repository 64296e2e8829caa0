"""Claims that a relay makes for a worker in another process: who may take them over, and when."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from broker.core.instant import from_millis
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge import deliveries
from broker.edge.naming import EMBEDDED, OwnName
from broker.edge.store import Store
from broker.ports import Dispatch
from tests.contract.stores import RECIPIENT, open_store
from tests.contract.test_deliveries import LEASE, T0, Outbox

LATER = T0 + 10 * LEASE


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


class Relays(Outbox):
    """An outbox whose relays send to workers in other processes."""

    async def dispatch(self, now: int = T0, owner: str = "relay") -> Dispatch:
        (claimed,) = await self.store.write(
            lambda conn, _ledger: deliveries.claim(
                conn, RECIPIENT, owner=owner, now=now, until=now + LEASE, limit=1, counted=False
            )
        )
        until = from_millis(now + LEASE)
        return Dispatch(claimed.delivery_id, RECIPIENT, claimed.order_key, claimed.attempt, until)

    async def take(self, dispatch: Dispatch, owner: str = "worker", now: int = T0) -> bool:
        return bool(
            await self.do(
                lambda conn: deliveries.take_over(conn, dispatch, owner=owner, until=now + LEASE)
            )
        )


@pytest.fixture
def relays(store: Store) -> Relays:
    return Relays(store)


async def test_a_claim_counts_when_it_is_taken_over_and_not_before(relays: Relays) -> None:
    await relays.add("a")

    dispatch = await relays.dispatch()
    before = await relays.load(dispatch.delivery_id)
    assert await relays.take(dispatch)
    after = await relays.load(dispatch.delivery_id)

    assert (before.lease_owner, before.attempts) == ("relay", 0)
    assert (after.lease_owner, after.attempts) == ("worker", 1)
    assert dispatch.attempt == 1


async def test_the_same_record_is_taken_over_once(relays: Relays) -> None:
    await relays.add("a")
    dispatch = await relays.dispatch()

    assert await relays.take(dispatch, "one")
    assert not await relays.take(dispatch, "one")
    assert not await relays.take(dispatch, "two", LATER)


async def test_leases_that_run_out_while_no_worker_comes_use_up_nothing(relays: Relays) -> None:
    await relays.add("a")
    stale = [await relays.dispatch(T0 + n * LEASE) for n in range(20)]
    newest = await relays.dispatch(T0 + 20 * LEASE, owner="another relay")

    assert {one.attempt for one in stale} == {1}
    assert not any([await relays.take(one) for one in stale])  # claimed anew since
    assert await relays.take(newest)


async def test_a_lease_that_ran_out_unclaimed_is_still_good_for_its_record(relays: Relays) -> None:
    await relays.add("a")
    dispatch = await relays.dispatch()

    assert await relays.take(dispatch, now=LATER)


async def test_a_worker_that_was_away_is_fenced_by_its_successor(relays: Relays) -> None:
    await relays.add("a")
    first = await relays.dispatch()
    await relays.take(first, "zombie")
    zombie = await relays.load(first.delivery_id)
    second = await relays.dispatch(LATER)
    await relays.take(second, "successor", LATER)
    successor = await relays.load(first.delivery_id)

    def record(held: deliveries.Held, state: DeliveryState) -> object:
        return relays.do(lambda conn: deliveries.settle(conn, held, state=state.value))

    assert second.attempt == 2
    assert not await record(zombie, DeliveryState.UNDELIVERABLE)  # type: ignore[misc]
    assert await record(successor, DeliveryState.DELIVERED)  # type: ignore[misc]
    assert not await relays.take(replace(second, attempt=3), "zombie", LATER)


async def test_what_could_not_be_sent_is_given_back_uncounted(relays: Relays) -> None:
    await relays.add("a")
    dispatch = await relays.dispatch()
    reason = Reason.TRANSPORT_UNAVAILABLE

    await relays.do(lambda conn: deliveries.give_back(conn, dispatch, "relay", T0 + 5, reason))
    again = await relays.dispatch(T0 + 5)

    assert again.attempt == 1
    assert not await relays.take(dispatch)
    assert await relays.take(again)


async def test_nobody_gives_back_what_a_worker_has_taken_over(relays: Relays) -> None:
    await relays.add("a")
    dispatch = await relays.dispatch()
    await relays.take(dispatch)
    reason = Reason.TRANSPORT_UNAVAILABLE

    await relays.do(lambda conn: deliveries.give_back(conn, dispatch, "relay", T0, reason))

    assert (await relays.load(dispatch.delivery_id)).lease_owner == "worker"


async def test_a_record_that_was_postponed_uncounted_is_void(relays: Relays) -> None:
    await relays.add("a")
    dispatch = await relays.dispatch()
    await relays.take(dispatch)
    held = await relays.load(dispatch.delivery_id)
    await relays.do(lambda conn: deliveries.settle(conn, held, attempts=0, next_at=LATER))

    assert not await relays.take(dispatch)


def test_no_two_running_processes_have_one_name(tmp_path: Path) -> None:
    database = tmp_path / "fame.db"
    first, second = OwnName("serve", database), OwnName("serve", database)
    workers = [OwnName("deliver").name for _ in range(3)]

    assert first.name == EMBEDDED
    assert len({first.name, second.name, *workers}) == 5
    second.close()
    first.close()
    again = OwnName("serve", database)
    again.close()
    assert again.name == EMBEDDED
