"""Payloads end with their time; what was decided and proved about them stays."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta

import orjson
import pytest
from sqlalchemy import select, update

from broker.core.instant import millis
from broker.core.outcome import RecipientVerdict
from broker.edge import erasing, tables
from broker.edge.erasing import Eraser
from broker.edge.store import Store, verify_ledger
from tests.contract import stores
from tests.contract.stores import NOW, PERMITTED, RECIPIENT, submission

DAYS = 30


class At:
    """A clock that stands."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant

    def now(self) -> datetime:
        return self._instant


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = stores.open_store(url)
    yield opened
    await opened.close()


async def close_all(store: Store) -> None:
    closed = update(tables.delivery).values(state="delivered", closed_at=millis(NOW))
    await store.write(lambda conn, _: conn.execute(closed).close())


def eraser(store: Store, days_later: float) -> Eraser:
    return Eraser(store, At(NOW + timedelta(days=days_later)), DAYS)


async def readable(store: Store) -> list[str]:
    columns = tables.message.c
    query = select(columns.message_id).where(columns.wrapped_key.is_not(None))
    return await store.read(lambda conn: list(conn.execute(query).scalars()))


async def test_a_payload_ends_after_its_days_and_the_rest_stays(store: Store) -> None:
    verdict = RecipientVerdict(RECIPIENT, PERMITTED, reduced=b"<less/>")
    accepted = await store.submit(submission("m-1", verdicts=(verdict,)))
    await close_all(store)

    early = await eraser(store, DAYS - 0.1).once()
    before = await readable(store)
    late = await eraser(store, DAYS + 0.1).once()
    again = await store.submit(submission("m-1", verdicts=(verdict,)))

    key = select(tables.message.c.wrapped_key)
    assert (early, before, late) == (0, ["m-1"], 1)
    assert await store.read(lambda c: c.execute(key).scalars().all()) == [None]
    assert await store.read(lambda c: c.execute(select(tables.sealed_body)).all()) == []
    assert (again.duplicate, again.receipt) == (True, accepted.receipt)


async def test_what_is_not_over_is_kept_however_old_it_is(store: Store) -> None:
    await store.submit(submission("m-1"))

    assert await eraser(store, 10 * DAYS).once() == 0
    assert await readable(store) == ["m-1"]


async def test_erasing_is_in_the_ledger_in_numbers_only(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "BATCH", 2)
    for number in range(3):
        await store.submit(submission(f"m-{number}"))
    await close_all(store)

    due = await eraser(store, DAYS + 1).due(10)
    erased = await eraser(store, DAYS + 1).once()

    entries = await store.read(
        lambda c: c.execute(select(tables.ledger.c.entry).order_by("seq")).scalars().all()
    )
    said = [orjson.loads(entry) for entry in entries[3:]]
    assert (due, erased) == (3, 3)
    assert [(one["kind"], one["act"], one["facts"]["messages"]) for one in said] == [
        ("operator", "erase", 2),
        ("operator", "erase", 1),
    ]
    assert "m-1" not in str(said)
    assert (await store.read(verify_ledger)).fault == ""


async def test_what_a_decision_was_made_from_ends_with_the_payload(store: Store) -> None:
    verdict = RecipientVerdict(RECIPIENT, PERMITTED, record='{"v":1}')
    await store.submit(submission("m-1", verdicts=(verdict,)))
    await close_all(store)
    held = select(tables.decision.c.facts)
    before = await store.read(lambda conn: conn.execute(held).scalars().all())

    await eraser(store, DAYS + 0.1).once()

    after = await store.read(lambda conn: conn.execute(held).scalars().all())
    assert (before, after) == (['{"v":1}'], [None])
