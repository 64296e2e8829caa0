"""The store remembers how far the policy log had come, on each database and for all its nodes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from broker.core.errors import Transient
from broker.core.in_force import InForce
from broker.core.policy_head import head_of
from broker.core.policy_log import designation
from broker.core.table import Mistake
from broker.edge.policy_book import PolicyBook, last_head
from broker.edge.store import Store, verify_ledger
from broker.edge.tables import ledger
from tests.contract.stores import open_store
from tests.unit.signatories import Desk, by_agency, person


@asynccontextmanager
async def node(url: str) -> AsyncIterator[tuple[Store, PolicyBook]]:
    store = open_store(url)
    try:
        yield store, PolicyBook(store, store.clock)
    finally:
        await store.close()


def stopped() -> tuple[InForce, InForce, Desk]:
    """A policy, the same after a suspension, and the desk of the second."""
    desk = Desk().found()
    before = desk.in_force()
    desk.act("suspend", "csc", "checks@1", cause="incident")
    return before, desk.in_force(), desk


async def entries(store: Store) -> list[dict[str, object]]:
    chosen = select(ledger.c.entry).order_by(ledger.c.seq)
    found = await store.read(lambda conn: conn.execute(chosen).scalars().all())
    return [json.loads(one) for one in found]


async def test_each_growth_of_the_log_is_an_entry_of_the_ledger(url: str) -> None:
    before, after, _desk = stopped()
    async with node(url) as (store, book):
        for held in (before, before, after, after):
            await book.enter(held)
        written = await entries(store)
        assert (await store.read(verify_ledger)).fault == ""

    assert [(one["kind"], one["lines"], one["lost"]) for one in written] == [
        ("policy", len(before.policy.acts), None),
        ("policy", len(after.policy.acts), None),
    ]
    assert written[1]["digest"] == head_of(after.policy).digest


async def test_where_nothing_was_ever_in_force_there_is_nothing_to_remember(url: str) -> None:
    async with node(url) as (store, book):
        await book.enter(Desk().in_force())
        assert await book.is_last(Desk().in_force())
        assert await entries(store) == []


async def test_a_log_that_was_cut_while_the_broker_was_stopped_is_refused(url: str) -> None:
    before, after, _desk = stopped()
    async with node(url) as (_store, book):
        await book.enter(after)

    async with node(url) as (store, book):
        with pytest.raises(Mistake, match="was in force and is gone or changed"):
            await book.enter(before)
        assert await store.read(last_head) == head_of(after.policy)
        assert len(await entries(store)) == 1


async def test_a_node_whose_files_are_older_neither_begins_nor_decides(url: str) -> None:
    before, after, _desk = stopped()
    async with node(url) as (_one, here), node(url) as (_other, there):
        await here.enter(before)
        await there.enter(before)
        assert await here.is_last(before)

        await there.enter(after)

        assert not await here.is_last(before)
        with pytest.raises(Mistake, match="gone or changed"):
            await here.enter(before)
        await here.enter(after)  # its files have come
        assert await here.is_last(after)


async def test_a_log_that_lost_lines_for_good_goes_on_and_that_is_recorded(url: str) -> None:
    _before, after, desk = stopped()
    async with node(url) as (store, book):
        await book.enter(after)
        lost = desk.cut(1)
        desk.restore(lost)
        restored = desk.in_force()

        await book.enter(restored)

        assert (await entries(store))[-1]["lost"] == {"lines": lost.lines, "digest": lost.digest}
        with pytest.raises(Mistake, match="gone or changed"):
            await book.enter(after)  # what was lost comes back too late
        await book.enter(restored)


async def test_a_first_person_that_the_agency_did_not_name_is_not_followed(url: str) -> None:
    desk = Desk().found()
    async with node(url) as (store, book):
        await book.enter(desk.in_force())
        desk.act("withdraw", "csc", person=desk.acts[1].person)
        detail = designation(person("operator")[1], "x", "y")
        confirm = by_agency("police")  # a key that is registered, and not csc's
        desk.act("designate", "csc", by="operator", confirm=confirm, **detail)

        with pytest.raises(Mistake, match="no signing certificate registered for csc"):
            await book.enter(desk.in_force())
        assert len(await entries(store)) == 1
        desk.acts.pop()
        desk.designate("csc", "operator")
        await book.enter(desk.in_force())


async def test_a_naming_that_was_seen_outlives_the_key_that_confirmed_it(url: str) -> None:
    desk = Desk().found()
    async with node(url) as (_store, book):
        await book.enter(desk.in_force())
        desk.act("suspend", "csc", "checks@1", cause="incident")
        held = desk.in_force()
        bare = {name: replace(one, keys=()) for name, one in held.register.agencies.items()}
        rotated = replace(held, register=replace(held.register, agencies=bare))

        await book.enter(rotated)


def test_a_process_records_the_log_before_it_takes_up_its_work(url: str) -> None:
    before, after, _desk = stopped()
    store = open_store(url)
    PolicyBook(store, store.clock).begin(after)

    with pytest.raises(Mistake, match="gone or changed"):
        PolicyBook(store, store.clock).begin(before)
    with pytest.raises(Transient, match="closing"):  # nothing is left running
        asyncio.run(PolicyBook(store, store.clock).enter(after))


async def test_a_process_may_begin_inside_an_event_loop(tmp_path: Path, url: str) -> None:
    before, _after, _desk = stopped()
    async with node(url) as (store, book):
        book.begin(before)
        assert len(await entries(store)) == 1
