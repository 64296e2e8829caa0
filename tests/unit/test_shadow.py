"""A draft beside what is in force: what differs, down to the single element."""

from dataclasses import replace
from typing import Any

from broker.core.decision import decide
from broker.core.message import Subject
from broker.core.outcome import FieldRule, Permitted
from broker.core.protocol import Register
from broker.core.shadow import Comparison, Found, compare, touched, unanswered
from broker.core.whatif import Outcome
from tests.unit.policy_world import CSC, FACTS, NOW, YOT, flow, message, plain, register

SALT = bytes(32)
KNOWN = {
    "Question": "safeguarding", "Subject": "identity", "Subject/Name": "identity",
    "Subject/Home": "address", "Sensitive": "sensitive-involvement",
}  # fmt: skip
PAYLOAD = (
    '<Check xmlns="urn:x"><Subject><Name>A</Name><Name>B</Name><Home>NE1 1AA</Home></Subject>'
    "<SharingBasis><ConsentNotObtained>CANNOT_GIVE</ConsentNotObtained></SharingBasis>"
    "<Sensitive>yes</Sensitive><Question>?</Question></Check>"
)


class Schemas:
    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert message_type
        assert version
        return KNOWN


def compared(draft: Register, live: Register | None = None, **header: Any) -> Comparison:
    given = {
        "practitioner": FACTS.practitioner, "reason_for_access": "ASSESSMENT", **header
    }  # fmt: skip
    asked = message(PAYLOAD, Subject("key", nhs_number="9990000018"), **given)
    sides = [
        decide(asked, CSC, one, (), NOW, schemas=Schemas()) for one in (live or plain(), draft)
    ]
    return compare(asked, CSC, *sides, schemas=Schemas(), salt=SALT)


def items(*rules: tuple[str, str]) -> Register:
    named = [
        {"targets": [target], "include": "ALLOWED", "transform": transform, "necessity": "Why"}
        for target, transform in rules
    ]
    return register(flow(item=named, gateways=["CDA-115"]))


def test_the_same_rules_agree() -> None:
    found = compared(plain())

    assert (found.found, found.more, found.less) == (Found.AGREES, (), ())
    assert found.live == found.draft
    assert (found.sender, found.recipient, found.message_type) == (YOT, CSC, "Check")


def test_what_newly_stops_passes_or_is_refused_for_another_reason() -> None:
    stricter = register(flow(shielded="REFUSE"))

    assert compared(stricter, shielded=True).found is Found.STOPS
    assert compared(plain(), live=stricter, shielded=True).found is Found.PASSES
    other = compared(register(flow(purposes=["YJ"], id="other")), purpose="CP")
    assert (other.found, other.live.reason) == (Found.AGREES, "policy.purpose_not_covered")
    later = register(flow(message_types=["Check/2.0"]))
    assert compared(later, practitioner=None).found is Found.OTHER_REASON


def test_fields_are_told_by_their_place_in_the_schema() -> None:
    live, draft = items(("Question", "NONE"), ("Subject/Name", "NONE")), items(("Question", "MASK"))
    narrower, wider = compared(draft, live), compared(live, draft)

    assert narrower.found is Found.REDUCED
    assert (narrower.more, narrower.less) == ((), ("Question", "Subject"))
    assert (wider.more, wider.less) == (("Question", "Subject"), ())
    assert not narrower.unsaid


def test_other_rules_that_come_to_the_same_for_this_message_agree() -> None:
    live, draft = items(("Question", "NONE")), items(("Question", "NONE"), ("Subject/Age", "NONE"))

    assert compared(draft, live).found is Found.AGREES


def test_what_must_not_be_known_to_be_there_is_not_named() -> None:
    live, draft = items(("Question", "NONE")), items(("Question", "NONE"), ("Sensitive", "NONE"))

    found = compared(draft, live)

    assert (found.found, found.more, found.less, found.unsaid) == (Found.REDUCED, (), (), True)


def test_a_location_taken_from_a_shielded_person_is_a_difference() -> None:
    asked = message(PAYLOAD, Subject("key", nhs_number="9990000018"))
    whole = (FieldRule("Subject", "ALLOWED"), FieldRule("Question", "ALLOWED"))
    live = Permitted("p", 1, "c", "g", whole)

    found = compare(
        asked, CSC, live, replace(live, strip_location=True), schemas=Schemas(), salt=SALT
    )

    assert found.less == ("Subject/Home",)


def test_a_draft_touches_what_it_or_its_older_version_speaks_of() -> None:
    draft = register(flow(message_types=["Other/1.0"]))

    assert touched(plain(), draft, "checks") == {(YOT, CSC, "Check"), (YOT, CSC, "Other")}
    assert touched(plain(), plain(), "community") == {(YOT, CSC, "Check")}
    assert not touched(plain(), draft, "another")


def test_what_was_not_asked_has_no_outcomes() -> None:
    found = unanswered(Found.SKIPPED, message(PAYLOAD), CSC)

    assert (found.found, found.live, found.draft) == (Found.SKIPPED, *[Outcome("", "", "")] * 2)
