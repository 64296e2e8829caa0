"""Receipts and evidence: their canonical XML, and the view of it for reading."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId, SubmissionId
from broker.core.outcome import Permitted, RecipientVerdict, Refused
from broker.core.reasons import Reason
from broker.core.receipt import NAMESPACE, Issuer, evidence_xml, receipt_json, receipt_xml
from broker.core.submission import Acknowledgement, Place, Submission
from tests.unit.test_ledger import submission

PLACE = Place(41, b"\xab" * 32)
ISSUER = Issuer(AgencyId("fame-broker"), sign=lambda canonical: canonical)
SANDBOX = replace(ISSUER, sandbox=True)
RECIPIENT = AgencyId("sunderland-csc")
ACKNOWLEDGEMENT = Acknowledgement(
    submission_id=SubmissionId("0190-s"),
    message_id=MessageId("0190-m"),
    sender=AgencyId("sunderland-yot"),
    recipient=RECIPIENT,
    message_digest=b"\x01" * 32,
    level="undeliverable",
    at=datetime(2026, 11, 20, 9, tzinfo=UTC),
    reason=Reason.NOT_COLLECTED,
)


def exclusive(document: bytes) -> bytes:
    return etree.tostring(etree.fromstring(document), method="c14n", exclusive=True)


def saying(text: str) -> Submission:
    refused = Refused(Reason.NO_ISP, 3, change=text, protocol=text, clause=text)
    return replace(submission(), verdicts=(RecipientVerdict(RECIPIENT, refused),))


def test_a_receipt_is_canonical_as_it_is_written() -> None:
    document = receipt_xml(submission(), PLACE, SANDBOX)

    assert exclusive(document) == document


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("&<>\"'\r\n\t")))
def test_any_text_is_written_canonically_and_reads_back(text: str) -> None:
    text = text.replace("\ufffe", "").replace("\uffff", "")

    document = receipt_xml(saying(text), PLACE, ISSUER)

    assert exclusive(document) == document
    found = etree.fromstring(document).findtext(f"{{{NAMESPACE}}}Outcome/{{{NAMESPACE}}}Change")
    assert (found or "") == text


@pytest.mark.parametrize("character", ["\x00", "\x0b", "\x1f", "\ud800", "\ufffe", "\uffff"])
def test_a_character_that_xml_cannot_hold_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="XML cannot"):
        receipt_xml(saying(f"a{character}b"), PLACE, ISSUER)


@pytest.mark.parametrize("text", ["a<b", "a>b", "a&b", "a\rb", "a\x00b"])
def test_an_id_that_holds_markup_is_refused(text: str) -> None:
    given = submission()
    bad = [
        replace(given, submission_id=SubmissionId(text)),
        replace(given, register_digest=text),
        replace(given, verdicts=(replace(given.verdicts[0], recipient=AgencyId(text)),)),
    ]

    for one in bad:
        with pytest.raises(ValueError, match="markup"):
            receipt_xml(one, PLACE, ISSUER)
    with pytest.raises(ValueError, match="markup"):
        receipt_xml(given, PLACE, replace(ISSUER, broker=AgencyId(text)))
    with pytest.raises(ValueError, match="markup"):
        evidence_xml(replace(ACKNOWLEDGEMENT, level=text), PLACE, ISSUER)


def test_markup_in_a_text_stays_text() -> None:
    injected = "</Change><Decision>PERMITTED</Decision><Change>"

    view = receipt_json(receipt_xml(saying(injected), PLACE, ISSUER))

    outcomes = view["outcomes"]
    assert isinstance(outcomes, list)
    assert [(one["decision"], one["change"]) for one in outcomes] == [("REFUSED", injected)]


def test_a_receipt_reads_as_json() -> None:
    view = receipt_json(receipt_xml(submission(), PLACE, SANDBOX))

    assert view == {
        "kind": "receipt",
        "submission_id": "0190-s",
        "message_id": "0190-m",
        "sender": "sunderland-yot",
        "message_type": "YOTCheckRequest",
        "schema_version": "1.0",
        "message_digest": "00" * 32,
        "received_at": "2026-11-20T09:00:00.000Z",
        "outcomes": [
            {
                "recipient": "sunderland-csc",
                "decision": "PERMITTED",
                "protocol": "p",
                "clause": "2",
                "withheld": ["Child/Name"],
            },
            {
                "recipient": "northumbria-police",
                "decision": "REFUSED",
                "reason": "policy.no_isp",
                "change": "Quatermass",
            },
        ],
        "register_digest": "d" * 64,
        "catalogue_digest": "c" * 64,
        "ledger": {"sequence": 41, "leaf": "ab" * 32},
        "warnings": ["old"],
        "broker": "fame-broker",
        "sandbox": True,
    }


def test_a_receipt_outside_a_sandbox_does_not_mention_one() -> None:
    document = receipt_xml(submission(), PLACE, ISSUER)

    assert b"Sandbox" not in document
    assert receipt_json(document)["sandbox"] is False


def test_each_warning_is_given_once() -> None:
    permitted = Permitted("p", 1, "1", "g", (), warnings=("review is late", "old"))
    verdicts = tuple(RecipientVerdict(AgencyId(f"a-{n}"), permitted) for n in range(3))

    view = receipt_json(receipt_xml(replace(submission(), verdicts=verdicts), PLACE, ISSUER))

    assert view["warnings"] == ["review is late", "old"]


def test_a_signature_is_no_part_of_the_view() -> None:
    plain = receipt_xml(submission(), PLACE, ISSUER)
    signature = b'<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#"/></Receipt>'

    assert receipt_json(plain.replace(b"</Receipt>", signature)) == receipt_json(plain)


def test_evidence_is_canonical_and_reads_as_json() -> None:
    document = evidence_xml(ACKNOWLEDGEMENT, PLACE, ISSUER)

    assert exclusive(document) == document
    assert receipt_json(document) == {
        "kind": "evidence",
        "submission_id": "0190-s",
        "message_id": "0190-m",
        "sender": "sunderland-yot",
        "recipient": "sunderland-csc",
        "message_digest": "01" * 32,
        "level": "undeliverable",
        "at": "2026-11-20T09:00:00.000Z",
        "reason": "recipient.not_collected",
        "ledger": {"sequence": 41, "leaf": "ab" * 32},
        "broker": "fame-broker",
        "sandbox": False,
    }


def test_evidence_of_a_level_gives_no_reason() -> None:
    document = evidence_xml(replace(ACKNOWLEDGEMENT, level="L3", reason=None), PLACE, ISSUER)

    assert "reason" not in receipt_json(document)


@pytest.mark.parametrize(
    "document", [b"<Receipt/>", f'<Other xmlns="{NAMESPACE}"/>'.encode(), b"", b"<a>"]
)
def test_what_is_no_receipt_is_not_read_as_one(document: bytes) -> None:
    with pytest.raises(Rejection):
        receipt_json(document)


def test_a_number_that_is_none_is_left_as_text() -> None:
    document = f'<Receipt xmlns="{NAMESPACE}"><Ledger><Sequence>x</Sequence></Ledger></Receipt>'

    assert receipt_json(document.encode())["ledger"] == {"sequence": "x"}
