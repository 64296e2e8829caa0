"""Collecting: what lies ready is read by its recipient and by nobody else, and is on record."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Connection

from adapters.contract import Delivered, Delivery, Result, RetryLater
from broker.core.agency import SUSPENDED
from broker.core.errors import Rejection, Transient
from broker.core.outcome import Level
from broker.core.reasons import Reason
from broker.edge.intake import Submitted
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from tests.flow.delivery_world import (
    CSC,
    HR,
    NOW,
    OTHER_CSC,
    POLICE,
    PORTAL,
    SCHOOL,
    YOT,
    World,
    world,
)


async def deposited(w: World, *, person: int = 1) -> tuple[str, Submitted]:
    sent = await w.send("Referral", SCHOOL, CSC, person=person)
    await w.settle()
    return str((await w.row(sent))["id"]), sent


async def test_a_message_lies_in_the_mailbox_until_it_is_acknowledged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)

        (listed,) = await w.service.mailbox_list(CSC, 10, None)
        assert (listed["delivery_id"], listed["state"]) == (delivery_id, "available")
        assert (listed["message_id"], listed["level"]) == (sent.header.message_id, "L1")
        first = await w.service.disclose(delivery_id, CSC)
        again = await w.service.disclose(delivery_id, CSC)
        assert first == again
        assert [one["level"] for one in await w.service.mailbox_list(CSC, 10, None)] == ["L2"]
        await w.service.acknowledge(delivery_id, CSC, Level.READ, None)

        assert await w.service.mailbox_list(CSC, 10, None) == []
        with pytest.raises(Rejection) as gone:
            await w.service.disclose(delivery_id, CSC)
        assert gone.value.reason is Reason.NOT_FOUND


@dataclass(slots=True)
class Held:
    """A store that is held up for a while at its next write, and what happens meanwhile."""

    store: Store
    meanwhile: Callable[[], None]

    async def read(self, query: Callable[[Connection], object]) -> object:
        return await self.store.read(query)

    async def write(self, act: Callable[[Connection, Ledger], object]) -> object:
        written = await self.store.write(act)
        self.meanwhile()
        return written


@pytest.mark.parametrize(("held_s", "given"), [(0.9, True), (1.1, False)])
async def test_what_was_stopped_while_the_reading_was_being_recorded_is_not_given(
    tmp_path: Path, held_s: float, *, given: bool
) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)

        def meanwhile() -> None:
            w.clock.pass_(seconds=held_s)
            w.registers.change_agency(SCHOOL, status=SUSPENDED)

        service = replace(w.service, store=Held(w.store, meanwhile))  # type: ignore[arg-type]
        if given:
            await service.disclose(delivery_id, CSC)
        else:
            with pytest.raises(Rejection) as stopped:
                await service.disclose(delivery_id, CSC)
            assert stopped.value.reason is Reason.AGENCY_SUSPENDED
        assert await w.levels(sent) == ["L2"]


async def test_a_deposit_is_no_disclosure_and_the_first_reading_is(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        assert await w.levels(sent) == []

        w.clock.pass_(minutes=5)
        await w.service.disclose(delivery_id, CSC)
        w.clock.pass_(minutes=5)
        await w.service.disclose(delivery_id, CSC)

        assert await w.levels(sent) == ["L2"]
        assert (await w.row(sent))["delivered_at"] == int(NOW.timestamp() * 1000) + 300_000


@pytest.mark.parametrize("other", [SCHOOL, OTHER_CSC, POLICE])
async def test_nobody_but_the_recipient_reads_or_acknowledges(
    tmp_path: Path, other: object
) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)

        assert await w.service.mailbox_list(other, 10, None) == []  # type: ignore[arg-type]
        for attempt in (
            w.service.disclose(delivery_id, other),  # type: ignore[arg-type]
            w.service.acknowledge(delivery_id, other, Level.READ, None),  # type: ignore[arg-type]
            w.service.disclose("01938af0-0000-7000-8000-000000000000", other),  # type: ignore[arg-type]
        ):
            with pytest.raises(Rejection) as refusal:
                await attempt
            assert refusal.value.reason is Reason.NOT_FOUND
            assert refusal.value.detail == ""
        assert (await w.row(sent))["state"] == "available"


async def test_reading_and_dealing_with_a_message_are_each_recorded_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        await w.service.disclose(delivery_id, CSC)
        await w.service.acknowledge(delivery_id, CSC, Level.READ, None)
        w.clock.pass_(hours=1)
        await w.service.acknowledge(delivery_id, CSC, Level.READ, None)
        await w.service.acknowledge(delivery_id, CSC, Level.BUSINESS, "allocated")

        assert await w.levels(sent) == ["L2", "L3", "L4"]
        assert (await w.row(sent))["read_at"] == int(NOW.timestamp() * 1000)
        view = await w.service.message_view(sent.accepted.submission_id, frozenset({SCHOOL}))
        assert [row["level"] for row in view["recipients"]] == ["L4"]  # type: ignore[attr-defined]


async def test_a_pushed_message_is_acknowledged_too(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC)
        delivery_id, sent = await deposited(w)

        assert await w.service.mailbox_list(CSC, 10, None) == []
        await w.service.acknowledge(delivery_id, CSC, Level.BUSINESS, "allocated")

        assert await w.levels(sent) == ["L2", "L4"]


async def test_an_acknowledgement_that_overtakes_the_record_of_the_push_proves_the_push(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)

        async def acknowledge_at_once(delivery: Delivery) -> Result:
            await w.service.acknowledge(delivery.delivery_id, CSC, Level.BUSINESS, "done")
            return Delivered()

        council.behave = acknowledge_at_once
        _delivery_id, sent = await deposited(w)

        assert await w.levels(sent) == ["L2", "L4"]
        assert (await w.row(sent))["state"] == "delivered"


async def test_an_acknowledgement_after_a_lost_answer_ends_the_attempts(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        council.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE))
        delivery_id, sent = await deposited(w)
        await w.service.acknowledge(delivery_id, CSC, Level.BUSINESS, "done")
        w.clock.pass_(hours=1)
        await w.settle()

        assert len(council.given) == 1
        assert await w.levels(sent) == ["L2", "L4"]


async def test_what_was_refused_meanwhile_is_not_acknowledged(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        w.registers.change_agency(SCHOOL, status="suspended")
        with pytest.raises(Rejection):
            await w.service.disclose(delivery_id, CSC)

        with pytest.raises(Rejection) as refusal:
            await w.service.acknowledge(delivery_id, CSC, Level.READ, None)
        assert refusal.value.reason is Reason.NOT_FOUND
        assert await w.levels(sent) == ["refused"]


async def test_nobody_acknowledges_what_was_not_read(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)

        with pytest.raises(Rejection) as refusal:
            await w.service.acknowledge(delivery_id, CSC, Level.READ, None)

        assert refusal.value.reason is Reason.REQUEST_INVALID
        assert await w.levels(sent) == []


@pytest.mark.parametrize("level", [Level.ACCEPTED, Level.DELIVERED])
async def test_the_brokers_own_levels_are_not_for_recipients_to_give(
    tmp_path: Path, level: Level
) -> None:
    async with world(tmp_path) as w:
        delivery_id, _sent = await deposited(w)
        await w.service.disclose(delivery_id, CSC)

        with pytest.raises(Rejection) as refusal:
            await w.service.acknowledge(delivery_id, CSC, level, None)
        assert refusal.value.reason is Reason.REQUEST_INVALID


async def test_the_mailbox_is_listed_page_by_page_in_order(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        expected = [(await deposited(w, person=number))[0] for number in range(5)]

        listed, after = [], None
        while page := await w.service.mailbox_list(CSC, 2, after):
            listed += [str(one["delivery_id"]) for one in page]
            after = listed[-1]

        assert listed == expected


async def test_a_page_does_not_start_from_another_agencys_delivery(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        vacancy = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        await deposited(w)
        foreign = str((await w.row(vacancy))["id"])

        assert await w.service.mailbox_list(CSC, 10, foreign) == []


async def test_what_is_not_collected_in_time_expires_and_the_sender_is_told(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        w.clock.pass_(days=5)
        with pytest.raises(Rejection) as gone:
            await w.service.disclose(delivery_id, CSC)
        await w.service.expire()
        await w.settle()

        assert gone.value.reason is Reason.NOT_FOUND
        row = await w.row(sent)
        assert (row["state"], row["reason"]) == ("expired", Reason.NOT_COLLECTED.value)
        assert await w.levels(sent) == ["expired"]
        assert len(await w.reports(SCHOOL)) == 1


async def test_what_was_read_and_never_acknowledged_leaves_the_mailbox_in_the_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        await w.service.disclose(delivery_id, CSC)
        w.clock.pass_(days=5)
        assert await w.service.expire() == 1
        await w.settle()

        assert await w.service.mailbox_list(CSC, 10, None) == []
        assert (await w.row(sent))["state"] == "delivered"
        assert await w.levels(sent) == ["L2"]
        assert await w.reports(SCHOOL) == []
        assert await w.service.expire() == 0


async def test_whoever_waits_for_an_answer_gets_it_before_the_worker_does(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("Referral", SCHOOL, CSC)
        delivery_id = str((await w.row(sent))["id"])

        disclosed = await w.service.disclose(delivery_id, CSC)
        await w.settle()

        assert disclosed.message_type == "Referral"
        assert (await w.row(sent))["state"] == "delivered"
        assert await w.levels(sent) == ["L2"]


async def test_a_worker_that_was_overtaken_by_the_recipient_records_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        held = asyncio.Event()

        async def hold(_delivery: Delivery) -> Result:
            await held.wait()
            return Delivered()

        council.behave = hold
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.runtime.relay.pump()
        await council.came.wait()
        await w.service.disclose(council.given[0].delivery_id, CSC)
        held.set()
        await w.transport.settled()

        assert await w.levels(sent) == ["L2"]
        assert (await w.row(sent))["state"] == "delivered"


async def test_two_readers_at_once_leave_one_piece_of_evidence(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)

        read = await asyncio.gather(*(w.service.disclose(delivery_id, CSC) for _ in range(8)))

        assert len({one.body for one in read}) == 1
        assert await w.levels(sent) == ["L2"]


async def test_a_register_that_cannot_be_asked_hands_out_nothing_and_ends_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        delivery_id, sent = await deposited(w)
        w.consents.fault = Transient(Reason.REGISTER_UNAVAILABLE)

        with pytest.raises(Transient):
            await w.service.disclose(delivery_id, CSC)

        assert (await w.row(sent))["state"] == "available"


async def test_a_message_is_viewed_by_its_parties_only(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("YOTCheckRequest", YOT, CSC, SCHOOL)
        await w.settle()

        async def seen(*agencies: object) -> list[object]:
            view = await w.service.message_view(
                sent.accepted.submission_id,
                frozenset(agencies),  # type: ignore[arg-type]
            )
            return [row["recipient"] for row in view["recipients"]]  # type: ignore[attr-defined]

        assert sorted(map(str, await seen(YOT))) == [SCHOOL, CSC]
        assert await seen(CSC) == [CSC]
        assert await seen(SCHOOL) == [SCHOOL]
        with pytest.raises(Rejection) as refusal:
            await seen(POLICE)
        assert refusal.value.reason is Reason.NOT_FOUND


async def test_expiry_is_what_the_sender_said(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        until = NOW + timedelta(minutes=30)
        sent = await w.send("Referral", SCHOOL, CSC, expires_at=until)
        await w.settle()
        w.clock.at = until - timedelta(milliseconds=1)
        await w.service.expire()
        assert (await w.row(sent))["state"] == "available"

        w.clock.at = until
        await w.service.expire()
        assert (await w.row(sent))["state"] == "expired"
