"""A database that was set back: what may have been handed over since is in doubt, and waits."""

from collections.abc import AsyncIterator

import orjson
import pytest
from sqlalchemy import select

from broker.core.instant import from_millis
from broker.core.outcome import DeliveryState
from broker.edge.pausing import pauses
from broker.edge.restoring import Restored, doubtful, mark_restored
from broker.edge.store import Store, verify_ledger
from broker.edge.tables import ledger
from tests.contract.stores import RECIPIENT, open_store
from tests.contract.test_deliveries import T0, Outbox

AT = from_millis(T0)


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


async def restored(store: Store) -> Restored:
    return await store.write(lambda conn, entries: mark_restored(conn, entries, AT))


async def test_what_is_open_is_marked_as_handed_over_perhaps_and_what_has_ended_is_not(
    store: Store,
) -> None:
    outbox = Outbox(store)
    for subject in ("ended", "given up", "never tried"):
        await outbox.add(subject)
    ended, given_up, untried = await outbox.claim(limit=3)
    await outbox.end(ended)
    await outbox.end(given_up, DeliveryState.UNDELIVERABLE)
    before = {one.delivery_id: await outbox.load(one.delivery_id) for one in (ended, given_up)}

    would = await store.read(doubtful)
    done = await restored(store)

    assert would == done == Restored(2, (RECIPIENT,))
    assert await outbox.load(ended.delivery_id) == before[ended.delivery_id]
    again = await outbox.load(given_up.delivery_id)
    assert again.attempts == before[given_up.delivery_id].attempts + 1
    assert again.in_doubt == before[given_up.delivery_id].in_doubt + 1
    waiting = await outbox.load(untried.delivery_id)
    assert (waiting.attempts, waiting.in_doubt) == (2, 2)


async def test_a_delivery_never_tried_is_not_a_first_attempt_any_more(store: Store) -> None:
    outbox = Outbox(store)
    await outbox.add("a")

    await restored(store)

    (claimed,) = await outbox.claim()
    assert claimed.attempt == 2


async def test_it_is_in_the_ledger_once_and_a_pause_that_was_there_stays(store: Store) -> None:
    outbox = Outbox(store)
    await outbox.add("a")
    await restored(store)

    again = await restored(store)

    assert again == Restored(1, ())
    assert [one.recipient for one in await store.read(pauses)] == [RECIPIENT]
    found = await store.read(lambda conn: list(conn.execute(select(ledger.c.entry)).scalars()))
    acts = [entry["act"] for entry in map(orjson.loads, found) if entry["kind"] == "operator"]
    assert acts == ["pause", "restore", "restore"]
    assert (await store.read(verify_ledger)).fault == ""
