"""What the messages about consent ask to be recorded."""

from datetime import UTC, datetime

from lxml import etree

from broker.core.capacity import FACTORS, Assessment
from broker.core.consent_messages import consent_id_of, statement_of, withdrawal_of
from broker.core.samples import sample_payload


def payload(kind: str = "ConsentRecorded") -> etree._Element:
    return etree.fromstring(sample_payload(kind, 1))


def test_a_payload_says_what_the_person_said() -> None:
    said = statement_of(payload())

    assert (said.kind, said.status, said.form) == ("GDPR_BASIS", "ACTIVE", "EXPLICIT_WRITTEN")
    assert (said.given_by, said.capacity) == ("SUBJECT", "GILLICK_COMPETENT")
    assert said.assessment == Assessment(
        "designated-safeguarding-lead", datetime(2026, 6, 1, 8, tzinfo=UTC), frozenset(FACTORS)
    )
    assert said.purposes == {"EH"}
    assert said.message_types == {"Referral"}
    assert said.recipients == {"sunderland-csc"}
    assert said.given_at == datetime(2026, 6, 1, 8, 10, tzinfo=UTC)
    assert (said.expires_at, said.document, said.supersedes) == (None, None, None)


def test_what_may_be_left_out_is_read_where_it_is_said() -> None:
    root = payload()
    namespace = etree.QName(root).namespace
    for name, text in (
        ("Document", "f" * 64),
        ("ExpiresAt", "2026-12-01T00:00:00Z"),
        ("Supersedes", "0190c0de-0000-7000-8000-000000000001"),
    ):
        etree.SubElement(root, f"{{{namespace}}}{name}").text = text
    assessment = root.find("{*}Assessment")
    assert assessment is not None
    root.remove(assessment)

    said = statement_of(root)

    assert (said.document, said.assessment) == ("f" * 64, None)
    assert said.expires_at == datetime(2026, 12, 1, tzinfo=UTC)
    assert said.supersedes == "0190c0de-0000-7000-8000-000000000001"


def test_both_messages_name_the_record() -> None:
    for kind in ("ConsentRecorded", "ConsentWithdrawn"):
        assert consent_id_of(payload(kind)).startswith("0190c0de-0000-7000-8000-")


def test_a_withdrawal_says_who_conveyed_it_and_when_it_was_said() -> None:
    by, at = withdrawal_of(payload("ConsentWithdrawn"))

    assert by == "SUBJECT"
    assert at.tzinfo is not None
