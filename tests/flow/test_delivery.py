"""The life of a pushed delivery: attempts, retries, ends, and what is recorded of each."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.contract import Delivered, Delivery, Deposited, Refused, Result, RetryLater
from broker.core.envelope import parse
from broker.core.errors import Permanent, Transient
from broker.core.instant import from_millis
from broker.core.reasons import Reason
from broker.core.signature import verify_root
from broker.edge import tables
from broker.edge.attempts import Patience
from broker.edge.store import Store
from tests.flow.delivery_world import (
    BROKER,
    CSC,
    HR,
    NOW,
    OTHER_CSC,
    PORTAL,
    SCHOOL,
    World,
    envelope,
    register,
    schemas,
    world,
)

LATER = RetryLater(Reason.RECIPIENT_UNREACHABLE)


async def test_a_pushed_message_arrives_as_its_sender_signed_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)

        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        (given,) = portal.given
        verified = verify_root(parse(given.body), register().agencies[HR].keys, NOW)
        assert verified.digest == (await digest_of(w, sent.accepted.submission_id))
        assert (given.sender, given.recipient, given.attempt) == (HR, PORTAL, 1)
        assert not given.reduced
        assert given.traceparent.startswith(f"00-{'c' * 32}-")
        assert (await w.row(sent))["state"] == "delivered"
        assert w.observed == [("webhook", "delivered")]


async def digest_of(w: World, submission_id: str) -> bytes:
    chosen = select(tables.message.c.digest).where(tables.message.c.id == submission_id)
    return bytes(await w.store.read(lambda conn: conn.execute(chosen).scalar_one()))


async def test_a_delivery_leaves_signed_evidence_that_verifies_and_a_ledger_entry(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        chosen = select(tables.evidence, tables.ledger.c.entry).join(
            tables.ledger, tables.ledger.c.seq == tables.evidence.c.ledger_seq
        )
        (row,) = await w.store.read(lambda conn: conn.execute(chosen).mappings().all())
        evidence = parse(row["document"])
        verify_root(evidence, register().agencies[BROKER].keys, NOW)
        assert schemas().documents["Evidence"].validate(parse(row["document"]))
        assert row["level"] == "L2"
        assert b'"way":"webhook"' in row["entry"]
        assert b"ne-vacancies@1" in row["entry"]
        assert await w.levels(sent) == ["L2"]


async def test_what_a_clause_withholds_does_not_arrive(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council, portal = w.push_to(OTHER_CSC), w.push_to(PORTAL)

        await w.send("VacancyPublished", HR, OTHER_CSC, PORTAL)
        await w.settle()

        assert council.given[0].reduced
        assert not portal.given[0].reduced
        inside = ".//{*}Vacancy/{*}Contact/{*}Name/{*}FamilyName"
        assert parse(portal.given[0].body).find(inside) is not None
        assert parse(council.given[0].body).find(inside) is None
        verify_root(parse(council.given[0].body), register().agencies[BROKER].keys, NOW)


async def test_an_attempt_that_failed_is_made_again_under_the_same_id_and_is_marked(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(LATER, Delivered())

        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        assert (await w.row(sent))["state"] == "pending"
        w.clock.pass_(seconds=2)
        await w.settle()

        first, second = portal.given
        assert first.delivery_id == second.delivery_id
        assert first.body == second.body
        assert (first.attempt, second.attempt) == (1, 2)
        assert (await w.row(sent))["state"] == "delivered"


async def test_nothing_is_tried_again_before_its_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE, after_s=120))
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        w.clock.pass_(seconds=119.9)
        await w.settle()
        assert len(portal.given) == 1
        assert (await w.row(sent))["next_at"] == int((NOW.timestamp() + 120) * 1000)

        w.clock.pass_(seconds=0.1)
        await w.settle()
        assert len(portal.given) == 2


async def test_after_the_last_attempt_the_sender_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(LATER)

        sent = await w.send("VacancyPublished", HR, PORTAL)
        for _ in range(5):
            await w.settle()
            w.clock.pass_(seconds=900)

        assert len(portal.given) == w.patience.attempts_max
        row = await w.row(sent)
        assert row["state"] == "undeliverable"
        assert row["reason"] == Reason.ATTEMPTS_EXHAUSTED.value
        assert await w.levels(sent) == ["undeliverable"]
        (report,) = await w.reports(HR)
        assert report["correlation_id"] == sent.header.message_id


async def test_a_final_refusal_of_the_far_side_is_not_tried_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(Refused(Reason.RECIPIENT_REFUSED))

        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        assert len(portal.given) == 1
        assert (await w.row(sent))["state"] == "undeliverable"
        assert len(await w.reports(HR)) == 1


async def test_an_adapter_that_raises_is_tried_again(tmp_path: Path) -> None:
    async def fail(_delivery: Delivery) -> Result:
        raise ZeroDivisionError("Amy Example")

    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.behave = fail
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        row = await w.row(sent)
        assert (row["state"], row["reason"]) == ("pending", Reason.INTERNAL.value)


async def test_an_attempt_that_hangs_is_ended_by_the_timeout(tmp_path: Path) -> None:
    async def hang(_delivery: Delivery) -> Result:
        await asyncio.Event().wait()
        return Delivered()

    async with world(tmp_path, Patience(attempts_max=3, timeout_s=0.05)) as w:
        portal = w.push_to(PORTAL)
        portal.behave = hang
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        row = await w.row(sent)
        assert (row["state"], row["reason"]) == ("pending", Reason.RECIPIENT_UNREACHABLE.value)


async def test_messages_about_one_child_arrive_in_their_order(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = [await w.send("Referral", SCHOOL, CSC, seed=seed, person=7) for seed in range(3)]
        other = await w.send("Referral", SCHOOL, CSC, seed=9, person=8)
        first, *_ = ids = [one.header.message_id for one in sent]

        async def fail_once(delivery: Delivery) -> Result:
            return LATER if (delivery.message_id, delivery.attempt) == (first, 1) else Delivered()

        council.behave = fail_once
        await w.settle()
        assert {one.message_id for one in council.given} == {first, other.header.message_id}
        w.clock.pass_(seconds=2)
        await w.settle()

        about_one = [one.message_id for one in council.given if one.message_id in ids]
        assert about_one == [first, *ids]


async def test_an_uncollected_or_failing_message_expires_and_no_longer_holds_others_back(
    tmp_path: Path,
) -> None:
    async with world(tmp_path, Patience(attempts_max=1000)) as w:
        council = w.push_to(CSC)
        council.answer(LATER)
        expiry = NOW + timedelta(hours=1)
        first = await w.send("Referral", SCHOOL, CSC, person=7, expires_at=expiry)
        second = await w.send("Referral", SCHOOL, CSC, seed=2, person=7)
        await w.settle()
        w.clock.at = expiry
        await w.service.expire()
        council.answer(Delivered())
        await w.settle()

        assert (await w.row(first))["state"] == "expired"
        assert (await w.row(second))["state"] == "delivered"
        (report,) = await w.reports(SCHOOL)
        assert report["correlation_id"] == first.header.message_id


async def test_a_retry_is_never_planned_beyond_the_expiry(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL).answer(RetryLater(Reason.RECIPIENT_UNREACHABLE, after_s=600))
        expiry = NOW + timedelta(minutes=5)
        sent = await w.send("VacancyPublished", HR, PORTAL, expires_at=expiry)
        await w.settle()

        assert from_millis(int(str((await w.row(sent))["next_at"]))) == expiry


async def test_a_message_that_expired_in_its_lane_is_not_disclosed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        expiry = NOW + timedelta(seconds=5)
        sent = await w.send("VacancyPublished", HR, PORTAL, expires_at=expiry)
        w.clock.at = expiry
        await w.settle()

        assert portal.given == []
        assert (await w.row(sent))["state"] == "expired"


# -- crashes: what the next process finds ---------------------------------------------------


async def crash(w: World) -> None:
    """End everything at once, recording nothing, and start again."""
    await w.runtime.lanes.stop(grace_s=0)
    await w.store.close()
    w.open()
    await w.runtime.relay.adopt()


async def test_a_delivery_claimed_by_a_process_that_died_is_made_by_the_next(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        never = asyncio.Event()
        portal.behave = hold(never)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.runtime.relay.pump()
        await portal.came.wait()
        await crash(w)
        portal.answer(Delivered())
        await w.settle()

        assert [one.attempt for one in portal.given] == [1, 2]
        assert len({one.delivery_id for one in portal.given}) == 1
        assert (await w.row(sent))["state"] == "delivered"
        assert await w.levels(sent) == ["L2"]


def hold(event: asyncio.Event) -> Callable[[Delivery], Awaitable[Result]]:
    async def wait(_delivery: Delivery) -> Result:
        await event.wait()
        return Delivered()

    return wait


async def test_a_message_that_kills_the_process_each_time_is_given_up_in_the_end(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.behave = hold(asyncio.Event())
        sent = await w.send("VacancyPublished", HR, PORTAL)
        for _ in range(w.patience.attempts_max):
            portal.came.clear()
            await w.runtime.relay.pump()
            await portal.came.wait()
            await crash(w)
        await w.settle()

        assert len(portal.given) == w.patience.attempts_max
        assert (await w.row(sent))["state"] == "undeliverable"
        assert len(await w.reports(HR)) == 1


async def test_an_orderly_stop_gives_back_what_was_not_attempted(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.behave = hold(asyncio.Event())
        for seed in range(6):
            await w.send("VacancyPublished", HR, PORTAL, seed=seed)
        await w.runtime.relay.pump()
        await portal.came.wait()
        await w.runtime.stop(grace_s=0)

        chosen = select(tables.delivery.c.attempts)
        attempts = await w.store.read(lambda conn: sorted(conn.execute(chosen).scalars()))
        assert attempts == [0, 0, 1, 1, 1, 1]


async def test_a_dispatch_that_waited_too_long_in_its_lane_is_not_attempted(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        w.park()
        await w.runtime.relay.pump()
        dispatch = await w.transport.receive(PORTAL)
        w.clock.pass_(seconds=45)
        await w.attempts.make(dispatch)

        assert portal.given == []
        row = await w.row(sent)
        assert (row["attempts"], row["lease_owner"]) == (0, None)


async def test_a_worker_whose_lease_another_took_makes_no_attempt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        await w.send("VacancyPublished", HR, PORTAL)
        w.park()
        await w.runtime.relay.pump()
        dispatch = await w.transport.receive(PORTAL)
        await w.runtime.relay.adopt()
        await w.runtime.relay.pump()

        await w.attempts.make(dispatch)
        assert portal.given == []


async def test_an_outcome_is_recorded_although_the_store_was_busy_for_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("broker.edge.attempts.RECORD_AGAIN_S", 0)
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        write, busy = w.store.write, [True, True]

        async def sometimes(self: Store, act: Callable[..., object]) -> object:
            if portal.given and busy and busy.pop():
                raise Transient(Reason.STORE_UNAVAILABLE)
            return await write(act)

        monkeypatch.setattr(Store, "write", sometimes)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        assert busy == []
        assert len(portal.given) == 1
        assert (await w.row(sent))["state"] == "delivered"


async def test_a_deposited_message_is_available_and_not_yet_delivered(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL).answer(Deposited())
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        row = await w.row(sent)
        assert (row["state"], row["delivered_at"]) == ("available", None)
        assert await w.levels(sent) == []


@pytest.mark.parametrize(
    "fault",
    [Transient(Reason.REGISTER_UNAVAILABLE), Permanent(Reason.INTERNAL)],
    ids=["unreachable", "broken"],
)
async def test_a_register_that_cannot_be_asked_holds_the_delivery_and_costs_no_attempt(
    tmp_path: Path, fault: Exception
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC)
        w.consents.fault = fault
        for _ in range(w.patience.attempts_max + 2):
            await w.settle()
            w.clock.pass_(seconds=10)
        assert council.given == []
        row = await w.row(sent)
        assert (row["state"], row["attempts"]) == ("pending", 0)

        w.consents.fault = None
        await w.settle()
        assert [one.attempt for one in council.given] == [1]


async def test_a_node_whose_policy_is_not_the_last_hands_nothing_over(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC)
        w.registers.fault = Transient(Reason.REGISTER_UNAVAILABLE)
        await w.settle()
        row = await w.row(sent)
        assert (council.given, row["state"], row["attempts"]) == ([], "pending", 0)

        w.registers.fault = None
        w.clock.pass_(seconds=10)
        await w.settle()
        assert [one.attempt for one in council.given] == [1]


async def test_no_value_of_a_payload_is_in_any_row_that_is_not_sealed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        council.answer(Refused(Reason.RECIPIENT_REFUSED))
        raw = envelope("Referral", SCHOOL, CSC, now=NOW)
        surname = parse(raw).findtext(".//{*}Subject/{*}Name/{*}FamilyName")
        await w.send("Referral", SCHOOL, CSC)
        await w.settle()

        assert surname
        kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
        assert surname.encode() not in kept
