"""A claim goes the way it was made for, or back; and nobody's wakes put off what has its time."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import pytest

from broker.core.identity import AgencyId
from broker.edge.relay import Lease, Relay
from broker.edge.store import Store
from broker.ports import Dispatch
from tests.contract.stores import NOW, RECIPIENT, open_store
from tests.contract.test_deliveries import Outbox


class Standing:
    def now(self) -> datetime:
        return NOW


class Changing:
    """A way that is another one whenever ``ways`` says so; it keeps what it is sent."""

    def __init__(self, *ways: bool) -> None:
        self.ways = list(ways)
        self.sent: list[Dispatch] = []

    def remote(self, _recipient: AgencyId) -> bool:
        return self.ways.pop(0) if len(self.ways) > 1 else self.ways[0]

    def room(self, _recipient: AgencyId) -> int:
        return 10

    async def send(self, dispatch: Dispatch) -> None:
        self.sent.append(dispatch)

    def take_back(self) -> list[Dispatch]:
        return []


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


def relay(store: Store, way: Changing, served: list[AgencyId]) -> Relay:
    return Relay(store, way, Standing(), Lease("one", timedelta(seconds=60)), served.append)


@pytest.mark.parametrize("away", [True, False])
async def test_what_has_another_way_since_it_was_claimed_goes_back_as_if_never_claimed(
    store: Store, *, away: bool
) -> None:
    outbox, way, served = Outbox(store), Changing(away, not away), list[AgencyId]()
    await outbox.add("a")

    count = await relay(store, way, served).pump((RECIPIENT,))

    (claimed,) = await outbox.claim("two")
    assert (count, way.sent, served) == (0, [], [])
    assert claimed.attempt == 1
    assert (await outbox.load(claimed.delivery_id)).in_doubt == 1


@pytest.mark.parametrize("away", [True, False])
async def test_what_keeps_its_way_is_sent_under_its_number(store: Store, *, away: bool) -> None:
    outbox, way, served = Outbox(store), Changing(away), list[AgencyId]()
    await outbox.add("a")

    count = await relay(store, way, served).pump((RECIPIENT,))

    (sent,) = way.sent
    held = await outbox.load(sent.delivery_id)
    assert (count, served) == (1, [] if away else [RECIPIENT])
    assert (sent.attempt, held.attempts) == (1, 0 if away else 1)


async def test_what_is_due_is_sent_and_chores_are_done_while_others_are_woken_all_the_time(
    store: Store,
) -> None:
    here = False
    outbox, way, done = Outbox(store), Changing(here), asyncio.Event()
    await outbox.add("a")
    made = relay(store, way, [])

    async def wake() -> None:
        while True:
            made.wake((AgencyId("somebody-else"),))
            await asyncio.sleep(0)

    async def chores() -> None:
        done.set()

    async with asyncio.timeout(30):
        at_work = [asyncio.create_task(one) for one in (made.run(0.05, chores), wake())]
        try:
            await done.wait()
        finally:
            for task in at_work:
                task.cancel()
            await asyncio.gather(*at_work, return_exceptions=True)

    assert [sent.recipient for sent in way.sent] == [RECIPIENT]
