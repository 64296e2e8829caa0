"""Which facts are taken from a message."""

from typing import Any

import pytest

from broker.core.facts import DecisionFacts, facts_of, with_categories, with_paths
from broker.core.message import Subject
from tests.unit.policy_world import message


def facts(inside: str = "", subject: Subject | None = None, **header: Any) -> DecisionFacts:
    return facts_of(message(f'<Check xmlns="urn:x">{inside}</Check>', subject, **header))


def basis(inside: str) -> str:
    return f"<SharingBasis>{inside}</SharingBasis>"


def sensitive(ground: str) -> str:
    return f"<SensitiveInvolvement><Ground>{ground}</Ground></SensitiveInvolvement>"


def test_the_header_is_taken_over() -> None:
    found = facts(purpose="CP", protocol="checks@1", gateway="CA89-47", shielded=True)

    assert (found.sender, found.message_type, found.schema_version) == ("yot", "Check", "1.0")
    assert (found.purpose, found.protocol, found.gateway) == ("CP", "checks@1", "CA89-47")
    assert found.shielded
    assert found.practitioner is not None
    assert found.reason_for_access == "ASSESSMENT"
    assert not found.settled


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (None, (False, False, None)),
        (Subject("k"), (True, False, None)),
        (Subject("k", nhs_number="9990000018"), (True, True, None)),
        (Subject("k", omission_reason="DETRIMENTAL"), (True, False, "DETRIMENTAL")),
    ],
)
def test_the_identifier_is_known_to_be_there_and_not_what_it_is(
    subject: Subject | None, expected: tuple[bool, bool, str | None]
) -> None:
    found = facts(subject=subject)

    assert (found.has_subject, found.has_identifier, found.omission_reason) == expected
    assert "9990000018" not in repr(found)


def test_the_stated_basis_is_read() -> None:
    found = facts(basis("<DetrimentTest>DETRIMENTAL</DetrimentTest>"))

    assert found.detriment == "DETRIMENTAL"
    assert found.consent_reason is None
    nothing = facts()
    assert (nothing.detriment, nothing.consent_reason, nothing.harm) == (None, None, False)


@pytest.mark.parametrize("who", ["ParentConsent", "ChildConsent"])
def test_consent_said_in_the_payload_is_noted(who: str) -> None:
    assert facts(f"<Consent><{who}>true</{who}></Consent>").consent_said
    assert not facts(f"<Consent><{who}>false</{who}></Consent>").consent_said
    assert not facts().consent_said


SAFEGUARDING = "<Condition>DPA-S1-18</Condition>"
REASON = "<ConsentNotObtained>WOULD_PREJUDICE</ConsentNotObtained>"


@pytest.mark.parametrize(
    ("inside", "harm"),
    [
        (basis(SAFEGUARDING + REASON), True),
        (basis(f"<Condition>GDPR-9-2-h</Condition>{SAFEGUARDING}{REASON}"), True),
        (basis(SAFEGUARDING), False),
        (basis(REASON), False),
        (basis(f"<Condition>GDPR-9-2-h</Condition>{REASON}"), False),
        (sensitive("SIGNIFICANT_HARM"), True),
        (sensitive("CONSENT"), False),
        (sensitive("SIGNIFICANT_HARM") + sensitive("CONSENT"), False),
        ("<SensitiveInvolvement/>", False),
    ],
)
def test_a_ground_of_harm_must_be_stated_for_all_that_is_sensitive(
    inside: str,
    harm: bool,  # noqa: FBT001 - the expectation
) -> None:
    assert facts(inside).harm is harm


def test_a_sensitive_service_in_the_payload_is_noted() -> None:
    assert facts(sensitive("CONSENT")).sensitive
    assert not facts().sensitive


def test_elements_of_another_namespace_state_nothing() -> None:
    foreign = (
        '<SharingBasis xmlns="urn:y"><DetrimentTest>DETRIMENTAL</DetrimentTest></SharingBasis>'
    )

    assert facts(foreign).detriment is None


class Health:
    """Categories of a payload."""

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert (message_type, version) == ("Check", "1.0")
        return {"A": "identity", "A/B": "health", "C": "offending"}


def test_the_data_categories_of_a_payload_are_found_without_its_values() -> None:
    asked = message('<Check xmlns="urn:x"><A><B>1</B><B>2</B></A><Unknown/></Check>')

    found = with_categories(facts_of(asked), asked, Health())

    assert found.categories == frozenset({"identity", "health"})
    assert facts_of(asked).categories is None


def test_which_of_the_wanted_paths_a_payload_holds_is_found() -> None:
    asked = message('<Check xmlns="urn:x"><A><B>1</B></A><C xmlns="urn:y"/></Check>')

    found = with_paths(facts_of(asked), asked, ["A", "A/B", "B", "A/C", "C"])

    assert found.paths == frozenset({"A", "A/B"})
    assert facts_of(asked).paths is None


def test_the_relevance_and_the_public_task_are_read() -> None:
    found = facts(
        basis("<RelevanceConsidered>true</RelevanceConsidered>")
        + "<PublicTaskStatement>task</PublicTaskStatement>"
    )

    assert found.relevant
    assert found.public_task
    assert not facts(basis("<RelevanceConsidered>false</RelevanceConsidered>")).relevant
    assert not facts().relevant
    assert not facts().public_task


@pytest.mark.parametrize(
    ("message_type", "inside", "expected"),
    [
        ("HouseholdPlacementNotice", "<RiskMarker>DOMESTIC_ABUSE</RiskMarker>", True),
        (
            "HouseholdPlacementNotice",
            "<RiskMarker>OTHER</RiskMarker><RiskMarker>DOMESTIC_ABUSE</RiskMarker>",
            True,
        ),
        ("HouseholdPlacementNotice", "<RiskMarker>CHILD_PROTECTION</RiskMarker>", False),
        (
            "HouseholdPlacementNotice",
            "<Child><RiskMarker>DOMESTIC_ABUSE</RiskMarker></Child>",
            False,
        ),
        ("HouseholdPlacementNotice", "", False),
        ("PoliceNotification", "<RiskMarker>DOMESTIC_ABUSE</RiskMarker>", False),
    ],
)
def test_a_household_that_fled_domestic_abuse_is_shielded_marked_or_not(
    message_type: str, inside: str, *, expected: bool
) -> None:
    assert facts(inside, message_type=message_type).shielded is expected
