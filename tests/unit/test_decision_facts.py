"""A decision on a whole message, and one asked again at the moment of disclosure."""

from dataclasses import replace
from datetime import date

import pytest

from broker.core.decision import asks_consent, decide, decide_facts
from broker.core.facts import DecisionFacts
from broker.core.message import Subject
from broker.core.outcome import Permitted, Refused
from broker.core.reasons import Reason
from tests.unit.policy_world import (
    CAMHS,
    CONSENT,
    CSC,
    NOW,
    SHARING,
    YOT,
    Change,
    Tables,
    decided,
    flow,
    gateway,
    message,
    plain,
    protocol,
    register,
    table,
)

EXPLICIT = flow(consent="EXPLICIT_REQUIRED", conditions=None)
OR_HARM = flow(consent="EXPLICIT_OR_HARM", conditions=None)


def settled(**facts: object) -> DecisionFacts:
    bare = DecisionFacts(
        sender=YOT, message_type="Check", schema_version="1.0", purpose="YJ", settled=True
    )
    return replace(bare, **facts)  # type: ignore[arg-type]  # fields of the facts


def test_at_disclosure_what_cannot_have_changed_is_not_asked_again() -> None:
    carved = gateway(
        carve_out=[{"categories": ["health"], "text": "no patient information"}],
        detriment_test=True,
    )

    decision = decide_facts(settled(has_subject=True), CSC, register(carved), [], NOW)

    assert isinstance(decision, Permitted)
    assert decision.warnings == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (table("agencies/csc.toml", status="suspended"), Reason.AGENCY_SUSPENDED),
        (protocol(status="SUSPENDED"), Reason.ISP_SUSPENDED),
        (gateway(last_day=date(2026, 5, 31)), Reason.GATEWAY_NOT_EFFECTIVE),
        (flow(purposes=["CP"]), Reason.PURPOSE_NOT_COVERED),
        (EXPLICIT, Reason.NO_CONSENT),
    ],
)
def test_at_disclosure_what_may_have_changed_is_asked_again(change: Change, reason: Reason) -> None:
    def with_purpose(tables: Tables) -> None:
        tables[SHARING]["purpose"].append(
            {"code": "CP", "statement": "To protect", "benefits": "Safety"}
        )

    decision = decide_facts(settled(), CSC, register(with_purpose, change), [], NOW)

    assert isinstance(decision, Refused)
    assert decision.reason is reason


def test_at_disclosure_a_withdrawal_stops_what_harm_may_have_opened() -> None:
    held = register(OR_HARM)

    assert isinstance(decide_facts(settled(), CSC, held, [], NOW), Permitted)
    scope = replace(CONSENT, recipients=frozenset({CAMHS}))
    assert isinstance(decide_facts(settled(), CSC, held, [scope], NOW), Permitted)
    withdrawn = decide_facts(settled(), CSC, held, [replace(CONSENT, status="WITHDRAWN")], NOW)
    assert isinstance(withdrawn, Refused)
    refusal = decide_facts(settled(), CSC, held, [replace(CONSENT, status="REFUSED")], NOW)
    assert isinstance(refusal, Refused)


SUBJECT = Subject("key", nhs_number="9990000018")
PAYLOAD = """<Check xmlns="urn:x"><SharingBasis><DetrimentTest>NOT_DETRIMENTAL</DetrimentTest>
<ConsentNotObtained>NOT_REASONABLE</ConsentNotObtained></SharingBasis><Question>?</Question></Check>"""


class OnlyQuestions:
    """Categories of a payload that can hold nothing but a question."""

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert (message_type, version) == ("Check", "1.0")
        return {"Question": "identity"}


def test_a_message_is_decided_by_its_own_facts() -> None:
    decision = decide(message(PAYLOAD, SUBJECT), CSC, plain(), [], NOW)

    assert isinstance(decision, Permitted)


def test_a_message_that_lacks_a_mandatory_item_is_incomplete() -> None:
    without = PAYLOAD.replace("<Question>?</Question>", "")

    decision = decide(message(without, SUBJECT), CSC, plain(), [], NOW)

    assert isinstance(decision, Refused)
    assert decision.reason is Reason.INCOMPLETE


def test_what_a_payload_holds_is_looked_up_only_for_a_clause_that_asks() -> None:
    no_items = flow(item=[{"targets": ["Other"], "include": "ALLOWED", "necessity": "None"}])

    decision = decide(message(PAYLOAD, SUBJECT), CSC, register(no_items), [], NOW)

    assert isinstance(decision, Permitted)


def test_the_schemas_say_whether_a_payload_holds_what_a_gateway_carves_out() -> None:
    carved = register(gateway(carve_out=[{"categories": ["health"], "text": "no such"}]))
    asked = message(PAYLOAD, SUBJECT)

    known = decide(asked, CSC, carved, [], NOW, schemas=OnlyQuestions())
    unknown = decide(asked, CSC, carved, [], NOW)

    assert isinstance(known, Permitted)
    assert isinstance(unknown, Refused)
    assert unknown.reason is Reason.GATEWAY_CARVEOUT


def test_consents_are_asked_for_where_a_clause_rests_on_them() -> None:
    sensitive = flow(consent="NOT_REQUIRED", sensitive_consent="EXPLICIT_OR_HARM")

    assert asks_consent(register(EXPLICIT), YOT, CSC, "Check", "YJ")
    assert asks_consent(register(sensitive), YOT, CSC, "Check", "YJ")
    assert not asks_consent(register(), YOT, CSC, "Check", "YJ")
    assert not asks_consent(register(EXPLICIT), CSC, YOT, "Check", "YJ")
    # The clause is for another purpose: what is on record would change nothing.
    assert not asks_consent(register(EXPLICIT), YOT, CSC, "Check", "CP")


def test_a_decision_names_the_consents_it_rests_on() -> None:
    resting, plain = decided(EXPLICIT, consents=(CONSENT,)), decided(consents=(CONSENT,))

    assert isinstance(resting, Permitted)
    assert isinstance(plain, Permitted)
    assert (resting.consents, plain.consents) == (("c-1",), ())
