"""Entries of the ledger: their canonical form, their content, and what they do not hold."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum

import orjson
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from broker.core.identity import AgencyId, MessageId, SubjectRef, SubmissionId
from broker.core.instant import from_millis, millis, rfc3339
from broker.core.ledger import (
    canonical,
    evidence_entry,
    first_fault,
    leaf_hash,
    operator_entry,
    submission_entry,
)
from broker.core.message import (
    Address,
    Header,
    Practitioner,
    Subject,
    ValidMessage,
    VerifiedMessage,
)
from broker.core.outcome import Permitted, RecipientVerdict, Refused
from broker.core.reasons import Reason
from broker.core.submission import Acknowledgement, Submission

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
SUNDERLAND = AgencyId("sunderland-csc")
POLICE = AgencyId("northumbria-police")
CANARY = "Quatermass"

SAFE = 2**53 - 1
names = st.text(st.characters(max_codepoint=127), max_size=6)
scalars = st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(max_size=12)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4)
)


class Colour(StrEnum):
    RED = "red"


def submission() -> Submission:
    header = Header(
        message_id=MessageId("0190-m"),
        message_type="YOTCheckRequest",
        schema_version="1.0",
        sender=AgencyId("sunderland-yot"),
        system="careworks",
        recipients=(Address(SUNDERLAND), Address(agency_type="POLICE", area="E08000024")),
        purpose="youth-justice",
        created_at=NOW - timedelta(seconds=5),
        practitioner=Practitioner(CANARY, "YOT_OFFICER", "SC", "AAL2"),
        consent_refs=("consent-1",),
        expires_at=NOW + timedelta(days=1),
    )
    raw = f"<Envelope>{CANARY}</Envelope>".encode()
    verified = VerifiedMessage(
        raw, raw, etree.Element("E"), header, bytes(32), "5" * 64, "rsa-sha256"
    )
    subject = Subject(key=f"nhs:{CANARY}", nhs_number=CANARY)
    payload = etree.Element("{urn:x}YOTCheckRequest")
    etree.SubElement(payload, "{urn:x}Name").text = CANARY
    permitted = Permitted("p", 3, "2", "CDA98_115", (), warnings=("old",))
    refused = Refused(Reason.NO_ISP, 3, CANARY, None, None)
    return Submission(
        submission_id=SubmissionId("0190-s"),
        message=ValidMessage(verified, header, payload, subject, "c" * 64),
        verdicts=(
            RecipientVerdict(SUNDERLAND, permitted, CANARY.encode(), ("Child/Name",)),
            RecipientVerdict(POLICE, refused),
        ),
        subject_ref=SubjectRef("a" * 32),
        received_at=NOW,
        decided_at=NOW + timedelta(milliseconds=7),
        expires_at=NOW + timedelta(days=1),
        register_digest="d" * 64,
        trace_id="t" * 32,
        peer="mtls:" + "e" * 64,
    )


@given(values)
def test_the_canonical_form_is_that_of_an_independent_implementation(value: object) -> None:
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(values)
def test_the_canonical_form_reads_back_as_what_was_written(value: object) -> None:
    assert orjson.loads(canonical(value)) == value


def test_the_example_of_the_standard_is_reproduced() -> None:
    # RFC 8785 §3.2.2, without its numbers that have a fraction.
    text = '€$\x0f\nA\'B"\\\\"/'

    assert canonical({"string": text, "literals": [None, True, False]}) == (
        b'{"literals":[null,true,false],"string":"\xe2\x82\xac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )


@pytest.mark.parametrize(
    "value",
    [
        1.5,
        2**53,
        -(2**53),
        ("a", "tuple"),
        b"bytes",
        NOW,
        Colour.RED,
        {1: "a"},
        {"é": 1},
        [[1.0]],
        {"a": [{"b": 1.0}]},
        {"a": Colour.RED},
        "\ud800",
    ],
    ids=repr,
)
def test_what_has_no_certain_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(TypeError):
        canonical(value)


def test_a_leaf_is_hashed_as_rfc_6962_says() -> None:
    # RFC 6962 §2.1: the leaf hash of the empty string, as in Certificate Transparency's tests.
    assert leaf_hash(b"").hex() == (
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    )
    assert leaf_hash(b"entry") == hashlib.sha256(b"\x00entry").digest()


def test_an_entry_says_what_came_and_what_was_decided_for_each_recipient() -> None:
    entry = submission_entry(submission())

    decisions = entry["decisions"]
    assert isinstance(decisions, list)
    assert decisions == [
        {
            "recipient": SUNDERLAND,
            "permitted": True,
            "protocol": "p",
            "version": 3,
            "clause": "2",
            "gateway": "CDA98_115",
            "consents": [],
            "override": None,
            "withheld": ["Child/Name"],
            "reduced": hashlib.sha256(CANARY.encode()).hexdigest(),
        },
        {
            "recipient": POLICE,
            "permitted": False,
            "reason": "policy.no_isp",
            "step": 3,
            "protocol": None,
            "clause": None,
        },
    ]
    assert (entry["digest"], entry["register"], entry["catalogue"]) == (
        "00" * 32,
        "d" * 64,
        "c" * 64,
    )
    assert entry["decided_at"] == millis(NOW) + 7
    assert entry["received_at"] == millis(NOW)
    assert entry["subject"] == "a" * 32
    assert (entry["signer"], entry["peer"]) == ("5" * 64, "mtls:" + "e" * 64)


def test_an_entry_says_when_clocks_started_only_if_the_payload_said_so() -> None:
    stated = replace(submission(), stated={"EventAt": NOW})

    assert submission_entry(stated)["stated"] == {"EventAt": millis(NOW)}
    assert "stated" not in submission_entry(submission())


def test_an_entry_holds_the_header_that_the_decision_rested_on() -> None:
    header = submission_entry(submission())["header"]

    assert isinstance(header, Mapping)
    assert header["practitioner"] == {
        "role": "YOT_OFFICER",
        "clearance": "SC",
        "authentication": "AAL2",
    }
    assert header["recipients"] == [
        {"agency": SUNDERLAND, "type": None, "area": None},
        {"agency": None, "type": "POLICE", "area": "E08000024"},
    ]
    assert (header["purpose"], header["consents"]) == ("youth-justice", ["consent-1"])
    assert header["expires_at"] == millis(NOW + timedelta(days=1))
    assert header["respond_by"] is None


def test_no_value_of_a_person_is_in_an_entry() -> None:
    assert CANARY.encode() not in canonical(submission_entry(submission()))


def test_a_message_about_nobody_by_nobody_in_particular_has_an_entry() -> None:
    given = submission()
    header = replace(given.message.header, practitioner=None)
    whole = RecipientVerdict(SUNDERLAND, given.verdicts[0].decision)
    message = replace(given.message, header=header, subject=None)

    entry = submission_entry(replace(given, message=message, subject_ref=None, verdicts=(whole,)))

    assert b'"practitioner":null' in canonical(entry)
    assert b'"reduced":null' in canonical(entry)
    assert entry["subject"] is None


def test_evidence_and_operators_acts_have_entries() -> None:
    acknowledgement = Acknowledgement(
        submission_id=SubmissionId("s"),
        message_id=MessageId("m"),
        sender=AgencyId("sunderland-yot"),
        recipient=SUNDERLAND,
        message_digest=b"\x01" * 32,
        level="undeliverable",
        at=NOW,
        reason=Reason.ATTEMPTS_EXHAUSTED,
    )

    ended = evidence_entry(acknowledgement, attempts=8)
    read = evidence_entry(replace(acknowledgement, level="L3", reason=None))
    act = operator_entry("discard", operator="op-1", target="delivery-1", at=NOW, code="asked")

    assert (ended["level"], ended["reason"], ended["facts"]) == (
        "undeliverable",
        "recipient.attempts_exhausted",
        {"attempts": 8},
    )
    assert (read["level"], read["reason"], read["digest"]) == ("L3", None, "01" * 32)
    assert (act["act"], act["operator"], act["facts"]) == ("discard", "op-1", {"code": "asked"})
    assert all(canonical(entry) for entry in (ended, read, act))


def rows(count: int) -> list[tuple[int, object, object]]:
    entries = [canonical({"seq": number, "kind": "test"}) for number in range(count)]
    return [(number, leaf_hash(entry), entry) for number, entry in enumerate(entries)]


def test_a_whole_ledger_has_no_fault() -> None:
    assert first_fault([]) is None
    assert first_fault(rows(5)) is None


def test_a_missing_entry_is_named() -> None:
    assert first_fault(rows(5)[1:]) == (0, "the entry of this number is missing")
    assert first_fault([row for row in rows(5) if row[0] != 3]) == (
        3,
        "the entry of this number is missing",
    )


@pytest.mark.parametrize(
    "entry",
    [
        b'{"kind":"test","seq":9}',  # another number
        b'{"seq":1,"kind":"test"}',  # not canonical
        b'{"kind":"test"}',
        b"[1]",
        b"not json",
        b'{"seq":1.5}',
    ],
)
def test_an_entry_with_the_right_hash_and_the_wrong_content_is_named(entry: bytes) -> None:
    given = rows(3)
    given[1] = (1, leaf_hash(entry), entry)

    assert first_fault(given) == (1, "the entry is not canonical or names another number")


def test_an_entry_that_does_not_have_its_hash_is_named() -> None:
    given = rows(3)
    given[2] = (2, bytes(32), given[2][2])

    assert first_fault(given) == (2, "the leaf is not the hash of its entry")


def test_an_entry_that_is_not_bytes_is_named() -> None:
    given = rows(3)
    given[2] = (2, given[2][1], "text")

    assert first_fault(given) == (2, "the entry is not bytes")


def test_instants_are_kept_to_the_millisecond_in_any_zone() -> None:
    instant = datetime(2026, 3, 29, 1, 30, 0, 123999, tzinfo=timezone(timedelta(hours=1)))

    assert millis(instant) == 1774744200123
    assert from_millis(1774744200123) == instant.replace(microsecond=123000)
    assert rfc3339(instant) == "2026-03-29T00:30:00.123Z"
