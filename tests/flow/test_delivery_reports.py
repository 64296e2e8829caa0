"""Non-delivery reports, and what an operator does with what was given up."""

from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import func, select

from adapters.contract import Delivered, Refused, RetryLater
from broker.core.envelope import parse, read_header
from broker.core.errors import Rejection
from broker.core.examine import examine
from broker.core.identity import AgencyId
from broker.core.limits import LIMITS
from broker.core.outcome import DiscardCause
from broker.core.reasons import Reason
from broker.core.signature import ProfileVerifier
from broker.edge import deliveries, tables
from broker.edge.reports import is_report, report_id
from broker.edge.store import verify_ledger
from tests.flow.delivery_world import (
    BROKER,
    HR,
    NOW,
    PORTAL,
    World,
    envelope,
    register,
    schemas,
    world,
)

REPORT = ".//{urn:fame:report:1.0}"
NOWHERE = "01938af0-0000-7000-8000-000000000000"


async def given_up(w: World) -> str:
    """Return a delivery that the recipient's system refused; its sender collects by polling."""
    w.push_to(PORTAL).answer(Refused(Reason.RECIPIENT_REFUSED))
    sent = await w.send("VacancyPublished", HR, PORTAL)
    await w.settle()
    return str((await w.row(sent))["id"])


async def count(w: World, message_type: str) -> int:
    chosen = select(func.count()).where(tables.message.c.message_type == message_type)
    return int(await w.store.read(lambda conn: conn.execute(chosen).scalar_one()))


async def test_a_report_is_a_message_that_anybody_can_examine(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        (listed,) = await w.reports(HR)
        disclosed = await w.service.disclose(str(listed["delivery_id"]), HR)

        message = examine(
            disclosed.body,
            peer_agencies=None,
            agencies=register().agencies,
            schemas=schemas(),
            verifier=ProfileVerifier(),
            limits=LIMITS,
            now=NOW,
        )
        assert message.header.sender == BROKER
        assert message.header.message_id == report_id(delivery_id)
        assert message.payload.findtext(f"{REPORT}Outcome") == "UNDELIVERABLE"
        assert message.payload.findtext(f"{REPORT}Reason") == "recipient.refused"
        assert message.payload.findtext(f"{REPORT}Recipient") == PORTAL
        assert message.payload.findtext(f"{REPORT}Attempts") == "1"


async def test_a_report_names_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await given_up(w)
        (listed,) = await w.reports(HR)
        body = (await w.service.disclose(str(listed["delivery_id"]), HR)).body

        header = read_header(parse(body))
        assert header.practitioner is None
        sent = parse(envelope("VacancyPublished", HR, PORTAL))
        for element in sent.iterfind(".//{urn:fame:vacancy:1.0}*"):
            text = (element.text or "").strip()
            assert len(text) < 12 or text.encode() not in body


async def test_a_report_is_pushed_to_a_sender_that_is_pushed_to(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(HR)
        await given_up(w)

        (given,) = council.given
        assert (given.sender, given.message_type) == (BROKER, "NonDeliveryReport")


async def test_a_report_that_cannot_be_pushed_lies_in_the_mailbox_and_is_not_reported(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.push_to(HR).answer(Refused(Reason.RECIPIENT_REFUSED))
        await given_up(w)

        assert len(await w.reports(HR)) == 1
        assert await count(w, "NonDeliveryReport") == 1


async def test_a_report_that_nobody_collects_expires_without_another(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await given_up(w)
        w.clock.pass_(days=31)
        await w.service.expire()
        await w.settle()

        assert await w.reports(HR) == []
        assert await count(w, "NonDeliveryReport") == 1


async def test_a_delivery_is_reported_once_however_often_it_ends(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        for _ in range(3):
            w.clock.pass_(minutes=1)
            await w.service.replay(delivery_id, "operator")
            await w.settle()

        assert len(w.far[PORTAL].given) == 4
        assert await count(w, "NonDeliveryReport") == 1
        chosen = select(func.count()).select_from(tables.evidence)
        assert await w.store.read(lambda conn: conn.execute(chosen).scalar_one()) == 1


async def test_a_report_reaches_a_sender_with_whom_no_agreement_covers_reports(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        w.registers.put(protocols=())
        (listed,) = await w.reports(HR)

        assert (await w.service.disclose(str(listed["delivery_id"]), HR)).body
        assert delivery_id


async def test_nobody_else_sends_as_a_report_what_the_rules_forbid(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("NonDeliveryReport", PORTAL, HR)

        assert sent.accepted.refused_all


async def test_a_report_is_one_only_when_the_broker_itself_sent_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        held = await w.store.read(lambda conn: deliveries.load(conn, delivery_id))
        assert held is not None

        forged = replace(held, message_type="NonDeliveryReport")
        assert not is_report(held, BROKER)
        assert not is_report(forged, BROKER)
        assert is_report(replace(forged, sender=BROKER), BROKER)


async def test_what_was_given_up_is_not_handed_to_its_recipient_either(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)

        with pytest.raises(Rejection) as refusal:
            await w.service.disclose(delivery_id, PORTAL)
        assert refusal.value.reason is Reason.NOT_FOUND


# -- operators ---------------------------------------------------------------------------


async def test_what_was_given_up_is_listed_replayed_and_arrives_marked(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        (letter,) = await w.service.dead_letters(10, None)
        assert (letter["delivery_id"], letter["reason"]) == (delivery_id, "recipient.refused")

        w.far[PORTAL].answer(Delivered())
        await w.service.replay(delivery_id, "operator-7")
        await w.settle()

        assert [one.attempt for one in w.far[PORTAL].given] == [1, 2]
        assert await w.service.dead_letters(10, None) == []
        assert await entries(w, b'"act":"replay"') == [True]


async def entries(w: World, holding: bytes) -> list[bool]:
    """Return True for each ledger entry that holds these bytes, and the operator's id."""
    chosen = select(tables.ledger.c.entry)
    rows = await w.store.read(lambda conn: conn.execute(chosen).scalars().all())
    return [b"operator-7" in entry for entry in rows if holding in entry]


async def test_after_the_last_attempt_a_replay_makes_one_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE))
        sent = await w.send("VacancyPublished", HR, PORTAL)
        for _ in range(w.patience.attempts_max):
            await w.settle()
            w.clock.pass_(seconds=900)
        await w.service.replay(str((await w.row(sent))["id"]), "operator")
        await w.settle()
        w.clock.pass_(seconds=900)
        await w.settle()

        assert len(portal.given) == w.patience.attempts_max + 1
        assert portal.given[-1].attempt > 1
        assert (await w.row(sent))["state"] == "undeliverable"


async def test_what_is_discarded_stays_undelivered_and_is_listed_no_more(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        await w.service.discard(delivery_id, "operator-7", DiscardCause.WRONG_RECIPIENT)
        await w.settle()

        assert await w.service.dead_letters(10, None) == []
        assert len(w.far[PORTAL].given) == 1
        assert await entries(w, b'"why":"wrong-recipient"') == [True]


async def test_only_what_was_given_up_is_replayed_or_discarded(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        delivered = str((await w.row(sent))["id"])

        for delivery_id, reason in (
            (delivered, Reason.REQUEST_INVALID),
            (NOWHERE, Reason.NOT_FOUND),
        ):
            for act in (
                w.service.replay(delivery_id, "operator"),
                w.service.discard(delivery_id, "operator", DiscardCause.DUPLICATE),
            ):
                with pytest.raises(Rejection) as refusal:
                    await act
                assert refusal.value.reason is reason
        assert len(w.far[PORTAL].given) == 1


async def test_what_expired_is_not_replayed(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        w.clock.pass_(days=6)

        with pytest.raises(Rejection) as refusal:
            await w.service.replay(delivery_id, "operator")
        assert refusal.value.reason is Reason.EXPIRED


async def test_dead_letters_are_listed_page_by_page(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        expected = [await given_up(w) for _ in range(3)]

        first = await w.service.dead_letters(2, None)
        second = await w.service.dead_letters(2, str(first[-1]["delivery_id"]))

        assert [one["delivery_id"] for one in (*first, *second)] == expected


async def test_the_ledger_verifies_after_all_of_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        delivery_id = await given_up(w)
        await w.service.replay(delivery_id, "operator")
        await w.settle()
        await w.service.discard(delivery_id, "operator", DiscardCause.DUPLICATE)

        check = await w.store.read(verify_ledger)
        assert check.fault == ""
        assert check.entries > 5


def test_a_report_id_follows_from_the_delivery_and_is_like_no_other() -> None:
    first, second = report_id("01938af0-1111-7000-8000-000000000001"), report_id(NOWHERE)

    assert first == report_id("01938af0-1111-7000-8000-000000000001")
    assert first != second
    assert AgencyId(first[14]) == "5"  # a name-based UUID, RFC 9562 §5.5
