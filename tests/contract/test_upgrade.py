"""A broker of today begins on the database of an older one that has messages in every stage."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import create_engine

from adapters.contract import Delivered, Refused, RetryLater
from broker.core.errors import Rejection
from broker.core.outcome import Level
from broker.core.reasons import Reason
from broker.edge.intake import Submitted
from broker.edge.ledger import verify_ledger
from broker.edge.peers import Peer
from broker.edge.telemetry import Trace
from tests.contract.test_migrations import config
from tests.flow.delivery_world import (
    CSC,
    HR,
    OTHER_CSC,
    PORTAL,
    SCHOOL,
    World,
    envelope,
    world,
)

# Before bodies had a table of their own, before doubt was kept, and the last one before today's.
OLDER = ("0009", "0012", "0013")
TO_PORTAL = ("VacancyPublished", HR, PORTAL)
TO_COUNCIL = ("VacancyPublished", HR, OTHER_CSC)
REFERRAL = ("Referral", SCHOOL, CSC)


@pytest.fixture
async def w(tmp_path: Path, blank_url: str) -> AsyncIterator[World]:
    async with world(tmp_path, url=blank_url) as made:
        yield made


def set_back(url: str, version: str) -> None:
    """Make the database what a broker with the tables of ``version`` leaves behind."""
    engine = create_engine(url)
    with engine.begin() as conn:
        command.downgrade(config(conn), version)
        left = conn.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    engine.dispose()
    assert left == version


async def delivery_id(w: World, sent: Submitted) -> str:
    return str((await w.row(sent))["id"])


async def referred(w: World, person: int) -> Submitted:
    sent = await w.send(*REFERRAL, person=person)
    await w.settle()
    return sent


async def receipt(w: World, raw: bytes) -> bytes:
    answer = await w.intake.submit(raw, Peer(frozenset({HR}), "peer"), Trace("c" * 32, "d" * 16))
    return bytes(answer.accepted.receipt)


@pytest.mark.parametrize("older", OLDER)
async def test_messages_in_every_stage_go_on_after_an_upgrade(
    w: World, blank_url: str, older: str
) -> None:
    portal, council = w.push_to(PORTAL), w.push_to(OTHER_CSC)
    lying, read, dealt_with = [await referred(w, person) for person in (1, 2, 3)]
    for one in (read, dealt_with):
        await w.service.disclose(await delivery_id(w, one), CSC)
    await w.service.acknowledge(await delivery_id(w, dealt_with), CSC, Level.READ, None)
    arrived = await w.send(*TO_PORTAL, seed=1)
    await w.settle()
    council.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE))
    tried = await w.send(*TO_COUNCIL, seed=2)
    await w.settle()
    portal.answer(Refused(Reason.RECIPIENT_REFUSED))
    given_up = await w.send(*TO_PORTAL, seed=3)
    await w.settle()
    await w.close()
    w.open()
    w.park()
    in_hand = await w.send(*TO_PORTAL, seed=4)
    await w.runtime.relay.pump()
    raw = envelope(*TO_PORTAL, seed=5)
    acknowledged = await receipt(w, raw)
    everything = (lying, read, dealt_with, arrived, tried, given_up, in_hand)
    before = {one: await w.row(one) for one in everything}
    levels = {one: await w.levels(one) for one in everything}
    await w.store.close()  # and no more: the broker dies with one in its hand

    set_back(blank_url, older)
    w.open()
    assert {one: await w.levels(one) for one in everything} == levels
    assert {one: (await w.row(one))["state"] for one in everything} == {
        one: row["state"] for one, row in before.items()
    }
    assert await receipt(w, raw) == acknowledged
    portal.answer(Delivered())
    council.answer(Delivered())
    w.clock.pass_(minutes=30)
    await w.settle()

    assert len(council.given) == 2
    assert council.given[0].body == council.given[1].body
    assert len(portal.given) == 4  # what arrived, what was refused, and two since
    for one in (arrived, tried, in_hand):
        assert (await w.row(one))["state"] == "delivered"
        assert (await w.levels(one))[-1] == "L2"
    for one in (lying, read):
        assert (await w.service.disclose(await delivery_id(w, one), CSC)).body
        await w.service.acknowledge(await delivery_id(w, one), CSC, Level.READ, None)
    with pytest.raises(Rejection):
        await w.service.disclose(await delivery_id(w, dealt_with), CSC)
    await w.service.replay(await delivery_id(w, given_up), "operator")
    await w.settle()
    assert (await w.row(given_up))["state"] == "delivered"
    assert (await w.store.read(verify_ledger)).first_bad is None
