"""Between acceptance and disclosure the rules can change: what counts is what they say then."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import delete, select, update

from adapters.contract import Delivered, RetryLater
from broker.core.agency import SUSPENDED
from broker.core.envelope import parse
from broker.core.errors import Permanent, Rejection
from broker.core.outcome import FieldRule
from broker.core.reasons import Reason
from broker.core.signature import verify_root
from broker.edge import tables
from tests.flow.delivery_world import (
    BROKER,
    CSC,
    HR,
    NOW,
    OTHER_CSC,
    PORTAL,
    SCHOOL,
    World,
    register,
    world,
)

NAME = ".//{*}Vacancy/{*}Contact/{*}Name/{*}FamilyName"
TITLE = ".//{*}Vacancy/{*}Title"


def suspend_recipient(w: World) -> None:
    w.registers.change_agency(CSC, status=SUSPENDED)


def suspend_sender(w: World) -> None:
    w.registers.change_agency(SCHOOL, status=SUSPENDED)


def revoke_protocol(w: World) -> None:
    kept = w.registers.current.protocols.values()
    w.registers.put(protocols=[one for one in kept if one.protocol_id != "ne-referrals"])


def run_out_protocol(w: World) -> None:
    w.clock.at += timedelta(days=3650)


def revoke_certificate(w: World) -> None:
    (key,) = w.registers.current.agencies[SCHOOL].keys
    w.registers.change_agency(SCHOOL, keys=(replace(key, revoked_at=w.clock.at),))


def unregister_certificate(w: World) -> None:
    w.registers.change_agency(SCHOOL, keys=())


CHANGES = [
    (revoke_certificate, Reason.CERTIFICATE_REVOKED),
    (unregister_certificate, Reason.CERTIFICATE_REVOKED),
    (suspend_recipient, Reason.AGENCY_SUSPENDED),
    (suspend_sender, Reason.AGENCY_SUSPENDED),
    (revoke_protocol, Reason.TYPE_NOT_COVERED),
    (run_out_protocol, Reason.ISP_EXPIRED),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES)
async def test_what_is_withdrawn_before_a_push_is_not_pushed_and_the_sender_is_told(
    tmp_path: Path, change: Callable[[World], None], reason: Reason
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC, expires_at=NOW + timedelta(days=7300))

        change(w)
        await w.settle()

        assert council.given == []
        row = await w.row(sent)
        assert (row["state"], row["reason"]) == ("refused", reason.value)
        assert await w.levels(sent) == ["refused"]
        assert len(await w.reports(SCHOOL)) == 1


@pytest.mark.parametrize(("change", "reason"), CHANGES)
async def test_what_is_withdrawn_before_it_is_collected_is_not_handed_out(
    tmp_path: Path, change: Callable[[World], None], reason: Reason
) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("Referral", SCHOOL, CSC, expires_at=NOW + timedelta(days=7300))
        await w.settle()
        delivery_id = str((await w.row(sent))["id"])

        change(w)
        with pytest.raises(Rejection) as refusal:
            await w.service.disclose(delivery_id, CSC)
        await w.settle()

        assert refusal.value.reason is reason
        assert (await w.row(sent))["state"] == "refused"
        assert len(await w.reports(SCHOOL)) == 1
        with pytest.raises(Rejection) as gone:
            await w.service.disclose(delivery_id, CSC)
        assert gone.value.reason is Reason.NOT_FOUND


async def test_a_certificate_that_ran_out_or_was_replaced_meanwhile_stops_nothing(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC, expires_at=NOW + timedelta(days=30))

        (old,) = w.registers.current.agencies[SCHOOL].keys
        (new,) = w.registers.current.agencies[CSC].keys  # any other will do
        w.registers.change_agency(SCHOOL, keys=(new, replace(old, valid_until=w.clock.at)))
        w.clock.at += timedelta(days=1)
        await w.settle()

        assert len(council.given) == 1
        assert (await w.row(sent))["state"] == "delivered"


async def test_what_is_withdrawn_after_the_first_reading_is_not_read_a_second_time(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.settle()
        delivery_id = str((await w.row(sent))["id"])
        await w.service.disclose(delivery_id, CSC)

        suspend_sender(w)
        with pytest.raises(Rejection):
            await w.service.disclose(delivery_id, CSC)

        assert (await w.row(sent))["state"] == "delivered"  # it was, before
        assert await w.levels(sent) == ["L2"]


async def test_a_retry_asks_the_rules_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        council.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE))
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.settle()
        suspend_sender(w)
        w.clock.pass_(seconds=2)
        await w.settle()

        assert len(council.given) == 1
        assert (await w.row(sent))["state"] == "refused"


async def test_an_operators_replay_asks_the_rules_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC).answer(RetryLater(Reason.RECIPIENT_UNREACHABLE))
        sent = await w.send("Referral", SCHOOL, CSC)
        for _ in range(w.patience.attempts_max):
            await w.settle()
            w.clock.pass_(seconds=900)
        attempts = len(w.far[CSC].given)
        suspend_sender(w)
        await w.service.replay(str((await w.row(sent))["id"]), "operator")
        await w.settle()

        assert len(w.far[CSC].given) == attempts
        assert (await w.row(sent))["state"] == "refused"


# -- an agreement that was narrowed or widened -----------------------------------------------


Rules = tuple[FieldRule, ...]


def change_vacancy_rules(w: World, change: Callable[[Rules], Rules]) -> None:
    """Put a register in force in which the rules of the vacancy agreement are others."""
    w.registers.put(
        protocols=[
            replace(one, flows=tuple(replace(flow, items=change(flow.items)) for flow in one.flows))
            if one.protocol_id == "ne-vacancies"
            else one
            for one in w.registers.current.protocols.values()
        ]
    )


def without_title(rules: Rules) -> Rules:
    return (*rules, FieldRule("Vacancy/Title", "FORBIDDEN"))


def with_everything(rules: Rules) -> Rules:
    kept = tuple(rule for rule in rules if rule.include != "FORBIDDEN")
    return (*kept, FieldRule("Vacancy", "ALLOWED"))


async def test_a_field_forbidden_since_the_acceptance_does_not_arrive(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        await w.send("VacancyPublished", HR, PORTAL)
        change_vacancy_rules(w, without_title)
        await w.settle()

        (given,) = portal.given
        assert given.reduced
        assert parse(given.body).find(TITLE) is None
        assert parse(given.body).find(NAME) is not None
        verify_root(parse(given.body), register().agencies[BROKER].keys, NOW)


async def test_a_field_forbidden_since_is_taken_from_what_was_reduced_already(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(OTHER_CSC)
        await w.send("VacancyPublished", HR, OTHER_CSC)
        change_vacancy_rules(w, without_title)
        await w.settle()

        body = parse(council.given[0].body)
        assert body.find(TITLE) is None
        assert body.find(NAME) is None
        assert body.find(".//{*}Vacancy/{*}Contact/{*}Phone") is not None


async def test_a_field_allowed_only_since_the_acceptance_does_not_arrive(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(OTHER_CSC)
        await w.send("VacancyPublished", HR, OTHER_CSC)
        change_vacancy_rules(w, with_everything)
        await w.settle()

        (given,) = council.given
        assert given.reduced
        assert parse(given.body).find(NAME) is None


async def test_of_an_agreement_narrowed_here_and_widened_there_the_stricter_holds_for_each_field(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(OTHER_CSC)
        await w.send("VacancyPublished", HR, OTHER_CSC)
        change_vacancy_rules(w, lambda rules: without_title(with_everything(rules)))
        await w.settle()

        body = parse(council.given[0].body)
        assert body.find(NAME) is None
        assert body.find(TITLE) is None
        assert body.find(".//{*}Vacancy/{*}Contact/{*}Phone") is not None


async def test_a_change_of_the_register_elsewhere_changes_no_byte(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(OTHER_CSC)
        council.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE), Delivered())
        await w.send("VacancyPublished", HR, OTHER_CSC)
        await w.settle()
        w.registers.put()
        w.clock.pass_(seconds=2)
        await w.settle()

        first, second = council.given
        assert first.body == second.body


async def test_every_attempt_after_a_narrowing_shows_the_same_bytes(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        portal.answer(RetryLater(Reason.RECIPIENT_UNREACHABLE), Delivered())
        await w.send("VacancyPublished", HR, PORTAL)
        change_vacancy_rules(w, without_title)
        await w.settle()
        w.clock.pass_(seconds=2)
        await w.settle()

        first, second = portal.given
        assert first.body == second.body
        assert first.reduced


async def test_a_narrowed_reading_from_the_mailbox_is_the_same_each_time(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        delivery_id = str((await w.row(sent))["id"])
        change_vacancy_rules(w, without_title)

        first = await w.service.disclose(delivery_id, PORTAL)
        second = await w.service.disclose(delivery_id, PORTAL)

        assert first.body == second.body
        assert parse(first.body).find(TITLE) is None


# -- what is stored was changed, erased or is missing ------------------------------------------


async def test_an_erased_message_is_disclosed_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.store.write(
            lambda conn, _ledger: conn.execute(update(tables.message).values(wrapped_key=None))
        )
        await w.settle()

        assert council.given == []
        assert (await w.row(sent))["state"] == "expired"


@pytest.mark.parametrize("gone", [tables.AS_SENT, CSC])
async def test_what_was_to_be_reduced_is_never_disclosed_as_it_was_sent(
    tmp_path: Path, gone: str
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("VacancyPublished", HR, CSC)
        body = tables.sealed_body
        lost = await w.store.write(
            lambda conn, _ledger: (
                conn.execute(delete(body).where(body.c.recipient == gone)).rowcount
            )
        )
        await w.settle()

        assert (lost, council.given) == (1, [])
        assert (await w.row(sent))["state"] == "expired"


async def test_a_stored_message_that_was_changed_is_disclosed_to_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.store.write(
            lambda conn, _ledger: conn.execute(update(tables.message).values(digest=b"\0" * 32))
        )
        await w.settle()

        assert council.given == []
        assert (await w.row(sent))["state"] == "pending"


async def test_a_message_without_its_ledger_entry_is_not_reduced_anew(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        await w.store.write(
            lambda conn, _ledger: conn.execute(update(tables.message).values(ledger_seq=999))
        )
        w.registers.put()

        with pytest.raises(Permanent):
            await w.service.disclose(str((await w.row(sent))["id"]), PORTAL)


async def test_the_ledger_names_the_register_that_the_last_decision_was_made_with(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        w.push_to(PORTAL)
        await w.send("VacancyPublished", HR, PORTAL)
        change_vacancy_rules(w, without_title)
        await w.settle()

        chosen = select(tables.ledger.c.entry).order_by(tables.ledger.c.seq.desc()).limit(1)
        entry = await w.store.read(lambda conn: conn.execute(chosen).scalar_one())
        assert f'"register":"{w.registers.current.digest}"'.encode() in entry
