"""Decisions to share without consent: which count, how far one carries, and its review."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from lxml import etree

from broker.core import remedy
from broker.core.consent_messages import claim_of, decision_id_of
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, SubjectRef
from broker.core.limits import OVERRIDE_REVIEW_S, OVERRIDE_S_MAX
from broker.core.outcome import Decision, Permitted, Refused
from broker.core.override import (
    REASONS,
    DisclosureClaim,
    Override,
    decided,
    override_entry,
    override_for,
    review_entry,
)
from broker.core.reasons import Reason
from broker.core.samples import sample_payload
from tests.unit import policy_world
from tests.unit.policy_world import CAMHS, CONSENT, CSC, NOW, YOT, flow, register

SUBJECT = SubjectRef("ab12")
MICROSECOND = timedelta(microseconds=1)
GATEWAY = policy_world.permitted().gateway
CLAIM = DisclosureClaim(
    reason="SIGNIFICANT_HARM",
    gateway=GATEWAY,
    purposes=frozenset({"YJ"}),
    message_types=frozenset({"Check"}),
    recipients=frozenset({CSC}),
    detriment="NOT_DETRIMENTAL",
    decided_by="P-1",
    approved_by="P-2",
    made_at=NOW,
)


def made(claim: DisclosureClaim = CLAIM) -> Override:
    return decided(
        claim,
        override_id="o-1",
        subject=SUBJECT,
        agency=YOT,
        practitioners=("decider", "approver"),
        register=register(),
        now=NOW,
    )


OVERRIDE = made()
EXPLICIT = flow(consent="EXPLICIT_REQUIRED", conditions=None)


def test_a_record_is_short_lived_and_has_a_day_of_review() -> None:
    assert OVERRIDE.until == NOW + timedelta(seconds=OVERRIDE_S_MAX)
    assert OVERRIDE.review_by == NOW + timedelta(seconds=OVERRIDE_REVIEW_S)
    assert (OVERRIDE.decided_by, OVERRIDE.approved_by) == ("decider", "approver")


def test_a_decision_may_name_everybody_there_is() -> None:
    everybody = frozenset(register().agencies)

    assert made(replace(CLAIM, recipients=everybody)).recipients == everybody


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_of_the_list_counts(reason: str) -> None:
    assert made(replace(CLAIM, reason=reason)).reason == reason


@pytest.mark.parametrize(
    "change",
    [
        {"reason": "CURIOSITY"},
        {"approved_by": "P-1"},
        {"approved_by": "p-1"},
        {"approved_by": " P-1 "},
        {"decided_by": "P 1", "approved_by": "P\t 1"},
        {"approved_by": "\N{CYRILLIC CAPITAL LETTER ER}-1"},
        {"decided_by": "\N{FULLWIDTH LATIN CAPITAL LETTER P}-1", "approved_by": "P-1"},
        {"detriment": "DETRIMENTAL"},
        {"detriment": ""},
        {"gateway": "NONE"},
        {"purposes": frozenset()},
        {"message_types": frozenset()},
        {"recipients": frozenset()},
        {"recipients": frozenset({AgencyId("any-school")})},
        {"made_at": NOW + MICROSECOND},
        {"made_at": NOW - timedelta(seconds=OVERRIDE_S_MAX)},
    ],
)
def test_what_lacks_anything_is_not_recorded(change: dict[str, object]) -> None:
    with pytest.raises(Rejection) as refused:
        made(replace(CLAIM, **change))  # type: ignore[arg-type]

    assert refused.value.reason is Reason.OVERRIDE_UNUSABLE
    assert refused.value.detail


def test_a_power_that_is_not_in_force_or_bears_no_disclosure_is_none() -> None:
    known = register()
    past = NOW - timedelta(days=365 * 20)
    others = [name for name, one in known.gateways.items() if not one.bears_flow]

    assert others
    for gateway, now in [(others[0], NOW), (GATEWAY, past)]:
        with pytest.raises(Rejection):
            decided(
                replace(CLAIM, gateway=gateway, made_at=now),
                override_id="o-1",
                subject=SUBJECT,
                agency=YOT,
                practitioners=("a", "b"),
                register=known,
                now=now,
            )


def asked(override: Override | None, *changes: policy_world.Change, **facts: Any) -> Decision:
    return policy_world.decided(*(changes or (EXPLICIT,)), override=override, **facts)


def test_it_answers_the_question_of_consent() -> None:
    for consents in ((), (replace(CONSENT, status="WITHDRAWN"),)):
        decision = asked(OVERRIDE, consents=consents)
        assert isinstance(decision, Permitted)
        assert decision.override == "o-1"
        assert decision.consents == ()
        assert remedy.OVERRIDDEN in decision.warnings


def test_where_consent_carries_or_is_not_asked_nothing_was_overridden() -> None:
    for decision in (asked(OVERRIDE, consents=(CONSENT,)), asked(OVERRIDE, flow())):
        assert isinstance(decision, Permitted)
        assert decision.override is None
        assert remedy.OVERRIDDEN not in decision.warnings


@pytest.mark.parametrize(
    "change",
    [
        {"agency": CSC},
        {"recipients": frozenset({CAMHS})},
        {"purposes": frozenset({"EH"})},
        {"message_types": frozenset({"Other"})},
        {"gateway": "ANOTHER"},
        {"recorded_at": NOW + MICROSECOND},
        {"until": NOW},
    ],
)
def test_it_carries_what_it_names_and_no_further(change: dict[str, object]) -> None:
    decision = asked(replace(OVERRIDE, **change))  # type: ignore[arg-type]

    assert isinstance(decision, Refused)
    assert decision.reason is Reason.NO_CONSENT


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"detriment": "DETRIMENTAL"}, Reason.DETRIMENTAL),
        ({"gateway": "ANOTHER"}, Reason.GATEWAY_PARTIES),
        ({"practitioner": None}, Reason.PRACTITIONER),
        ({"purpose": "EH"}, Reason.PURPOSE_NOT_COVERED),
        ({"recipient": AgencyId("nobody")}, Reason.RECIPIENT_UNKNOWN),
    ],
)
def test_it_answers_no_other_question(facts: dict[str, object], reason: Reason) -> None:
    decision = asked(OVERRIDE, **facts)

    assert isinstance(decision, Refused)
    assert decision.reason is reason


def test_it_carries_what_consent_to_a_part_leaves_out_and_only_if_it_carries() -> None:
    some = replace(CONSENT, categories=frozenset({"education"}))
    other = replace(OVERRIDE, recipients=frozenset({CAMHS}))

    alone = policy_world.decided(EXPLICIT, consents=(some,))
    carried = policy_world.decided(EXPLICIT, consents=(some,), override=OVERRIDE)
    beside = policy_world.decided(EXPLICIT, consents=(some,), override=other)
    whole = policy_world.decided(EXPLICIT, consents=(CONSENT,), override=OVERRIDE)

    for decision, override, partly in (
        (alone, None, True),
        (carried, "o-1", False),
        (beside, None, True),
        (whole, None, False),
    ):
        assert isinstance(decision, Permitted)
        assert decision.override == override
        assert decision.reach.whole is not partly
        assert (remedy.PARTLY in decision.warnings) is partly
        assert (remedy.OVERRIDDEN in decision.warnings) is (override is not None)


def test_it_is_the_senders_own_and_about_this_person() -> None:
    assert override_for(OVERRIDE, SUBJECT, YOT) is OVERRIDE
    assert override_for(OVERRIDE, SubjectRef("cd34"), YOT) is None
    assert override_for(OVERRIDE, None, YOT) is None
    assert override_for(OVERRIDE, SUBJECT, CSC) is None
    assert override_for(None, SUBJECT, YOT) is None


def test_the_ledger_has_codes_and_pseudonyms() -> None:
    entry = override_entry(
        OVERRIDE, peer="mtls:5e", submission="s-1", message_id="m-1", protocol="consent@1"
    )

    assert (entry["kind"], entry["reason"], entry["gateway"]) == (
        "override",
        "SIGNIFICANT_HARM",
        GATEWAY,
    )
    assert "P-1" not in str(entry)


def test_a_review_is_by_somebody_else_and_says_whether_it_was_in_time() -> None:
    facts = {"outcome": "JUSTIFIED", "agency": YOT, "peer": "p", "submission": "s-1"}
    for at, in_time in (
        (OVERRIDE.review_by, True),
        (OVERRIDE.review_by + MICROSECOND, False),
    ):
        entry = review_entry(OVERRIDE, reviewer="third", at=at, **facts)  # type: ignore[arg-type]
        assert (entry["outcome"], entry["in_time"]) == ("JUSTIFIED", in_time)
    for reviewer, outcome in (
        ("decider", "JUSTIFIED"),
        ("approver", "JUSTIFIED"),
        ("third", "FINE"),
    ):
        given = {**facts, "reviewer": reviewer, "outcome": outcome}
        with pytest.raises(Rejection):
            review_entry(OVERRIDE, at=NOW, **given)  # type: ignore[arg-type]


def test_a_payload_says_who_decided_and_on_what_power() -> None:
    payload = etree.fromstring(sample_payload("DisclosureDecision", 1))

    claim = claim_of(payload)

    assert decision_id_of(payload).startswith("0190c0de-0000-7000-8000-")
    assert (claim.reason, claim.gateway, claim.detriment) == (
        "SIGNIFICANT_HARM",
        "CA04-10",
        "NOT_DETRIMENTAL",
    )
    assert (claim.decided_by, claim.approved_by) == ("P-4711", "P-0815")
    assert claim.recipients == {"sunderland-csc"}
