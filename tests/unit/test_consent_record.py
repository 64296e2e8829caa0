"""What may be recorded of a consent, what a change of it is, and what the ledger says of it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.capacity import FACTORS, Assessment
from broker.core.consent import Consent
from broker.core.consent_record import (
    Statement,
    consent_entry,
    lineage,
    recorded,
    superseded,
    withdrawn,
)
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import millis
from broker.core.ledger import canonical
from broker.core.reasons import Reason
from tests.unit.policy_world import CONSENT, CSC, NOW, YOT, register

GIVEN = NOW - timedelta(days=1)
LATER = NOW + timedelta(days=1)
STATEMENT = Statement(
    kind="GDPR_BASIS",
    status="ACTIVE",
    purposes=frozenset({"YJ"}),
    message_types=frozenset({"Check"}),
    recipients=frozenset({CSC}),
    form="EXPLICIT_WRITTEN",
    given_at=GIVEN,
    given_by="SUBJECT",
    capacity="ADULT",
    wording="share-3",
    review_at=LATER,
)


def made(statement: Statement = STATEMENT) -> Consent:
    return recorded(
        statement,
        consent_id="c-7",
        subject=SubjectRef("ab12"),
        agency=YOT,
        register=register(),
        now=NOW,
    )


def test_a_record_holds_what_was_said_and_who_recorded_it() -> None:
    consent = made()

    assert (consent.consent_id, consent.version, consent.status) == ("c-7", 1, "ACTIVE")
    assert (consent.recorded_by, consent.recorded_at) == (YOT, NOW)
    assert consent.holds(NOW)


@pytest.mark.parametrize(
    "change",
    [
        {"status": "WITHDRAWN"},
        {"purposes": frozenset()},
        {"message_types": frozenset()},
        {"recipients": frozenset()},
        {"recipients": frozenset({AgencyId("any-school")})},
        {"purposes": frozenset({"CURIOSITY"})},
        {"given_at": NOW + timedelta(microseconds=1)},
        {"review_at": GIVEN},
        {"expires_at": GIVEN},
        {"categories": frozenset({"education", "secrets"})},
        {"form": "IMPLIED"},
        {"form": "IMPLIED", "kind": "CONFIDENTIALITY"},
        {"given_by": "CARER_NO_PR"},
        {"capacity": "GILLICK_COMPETENT"},
        {"kind": "RETAIN_18_25", "given_by": "PR_HOLDER", "capacity": "GILLICK_NOT_COMPETENT"},
    ],
)
def test_what_nobody_could_rely_on_is_not_recorded(change: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refused:
        made(replace(STATEMENT, **change))  # type: ignore[arg-type]

    assert refused.value.reason is Reason.CONSENT_UNUSABLE
    assert refused.value.detail


@pytest.mark.parametrize(
    "change",
    [
        {"status": "REFUSED", "given_by": "CARER_NO_PR", "capacity": "GILLICK_NOT_COMPETENT"},
        {"form": "IMPLIED", "kind": "SERVICE_AGREEMENT"},
        {"expires_at": LATER, "given_at": NOW},
    ],
)
def test_a_refusal_is_recorded_whoever_said_it_and_so_is_what_is_clear(
    change: dict[str, object],
) -> None:
    assert made(replace(STATEMENT, **change)).version == 1  # type: ignore[arg-type]


def test_withdrawing_is_a_further_version_and_happens_once() -> None:
    gone = withdrawn(CONSENT, NOW)

    assert gone == replace(CONSENT, status="WITHDRAWN", version=2, recorded_at=NOW)
    with pytest.raises(Rejection):
        withdrawn(gone, NOW)


def test_it_is_kept_who_took_it_back_and_when_that_was_said() -> None:
    told = withdrawn(CONSENT, NOW, "PR_HOLDER", GIVEN)
    ahead = withdrawn(CONSENT, NOW, "SUBJECT", LATER)

    assert (told.withdrawn_by, told.withdrawn_at) == ("PR_HOLDER", GIVEN)
    assert (ahead.withdrawn_by, ahead.withdrawn_at) == ("SUBJECT", NOW)
    entry = consent_entry(told, peer="p")
    assert (entry["withdrawn_by"], entry["withdrawn_at"]) == ("PR_HOLDER", millis(GIVEN))
    assert "withdrawn_by" not in consent_entry(withdrawn(CONSENT, NOW), peer="p")


def test_the_ledger_says_of_which_categories_and_not_with_whose_help() -> None:
    part = replace(CONSENT, categories=frozenset({"health", "education"}), support="INTERPRETER")
    entry = consent_entry(part, peer="p")

    assert entry["categories"] == ["education", "health"]
    assert "INTERPRETER" not in str(entry)
    assert "categories" not in consent_entry(CONSENT, peer="p")


def test_a_record_takes_the_place_of_one_of_the_same_agency_and_person() -> None:
    new = replace(CONSENT, consent_id="c-2", supersedes="c-1")

    assert superseded(CONSENT, new, NOW).status == "SUPERSEDED"
    for old in (
        replace(CONSENT, recorded_by=CSC),
        replace(CONSENT, subject=SubjectRef("cd34")),
        replace(CONSENT, status="SUPERSEDED"),
    ):
        with pytest.raises(Rejection):
            superseded(old, new, NOW)


def test_a_record_answers_for_those_it_took_the_place_of() -> None:
    first = replace(CONSENT, supersedes="c-3")
    second = replace(CONSENT, consent_id="c-2", supersedes="c-1")
    round_again = replace(CONSENT, consent_id="c-3", supersedes="c-2")

    assert lineage("c-2", [second]) == {"c-2", "c-1"}
    assert lineage("c-2", [first, second, round_again]) == {"c-1", "c-2", "c-3"}


def test_the_ledger_says_who_may_rely_on_it_and_nothing_of_competence() -> None:
    assessment = Assessment("canary-assessor", GIVEN, frozenset(FACTORS))
    consent = replace(made(), capacity="GILLICK_COMPETENT", assessment=assessment)

    entry = consent_entry(consent, peer="mtls:5e")

    assert (entry["kind"], entry["consent"], entry["version"]) == ("consent", "c-7", 1)
    assert (entry["recipients"], entry["agency"], entry["peer"]) == ([CSC], YOT, "mtls:5e")
    assert (entry["expires_at"], entry["review_at"]) == (None, millis(LATER))
    assert b"canary" not in canonical(entry)
    assert consent_entry(replace(consent, expires_at=LATER), peer="")["expires_at"] == millis(LATER)


def test_a_record_may_name_everybody_and_everything_that_there_is() -> None:
    there = register()
    everything = replace(
        STATEMENT,
        recipients=frozenset(there.agencies),
        purposes=frozenset(there.purposes),
        categories=frozenset(there.lists["DataCategory"]),
    )

    consent = made(everything)

    assert (consent.recipients, consent.purposes) == (everything.recipients, everything.purposes)
    assert consent.categories == everything.categories
