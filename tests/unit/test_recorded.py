"""What is recorded of a message is enough to decide again, and says nothing else of it."""

import json
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.assembly import build_register
from broker.core.consent import GROUNDS, Consent
from broker.core.decision import decide, decide_facts
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, SubjectRef
from broker.core.message import Subject
from broker.core.outcome import Decision, Permitted
from broker.core.override import Override
from broker.core.reasons import Reason
from broker.core.recorded import _CODES, _FLAGS, VERSION, Past, Records
from broker.core.whatif import outcome_of
from tests.unit.oracle_cases import ELEMENTS, as_message, cases
from tests.unit.policy_world import CONSENT, CSC, NOW, YOT, message

SCHEMA = {"Child": "identity", "Child/Name": "identity", "Question": "safeguarding"}
PAYLOAD = '<Check xmlns="urn:x"><Child><Name>Zebedee</Name><Odd/></Child></Check>'
OVERRIDE = Override(
    override_id="o-1",
    subject=SubjectRef("ab12"),
    agency=YOT,
    reason="SIGNIFICANT_HARM",
    gateway="CDA-115",
    purposes=frozenset({"YJ"}),
    message_types=frozenset({"Check"}),
    recipients=frozenset({CSC}),
    decided_by="d1",
    approved_by="a1",
    made_at=NOW,
    recorded_at=NOW,
    until=NOW + timedelta(days=1),
    review_by=NOW + timedelta(days=2),
)


class Schemas:
    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known = SCHEMA if known is None else known

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        if message_type == "Gone" or not version:
            raise Rejection(Reason.TYPE_UNKNOWN)
        return self.known


def past(records: Records, record: str, message_type: str = "Check") -> Past | None:
    return records.past(
        record, sender=YOT, recipient=CSC, message_type=message_type, version="1.0", purpose="YJ"
    )


@pytest.mark.parametrize("part", range(2))
def test_a_decision_made_again_from_its_record_is_the_same(part: int) -> None:
    permitted = overridden = 0
    for seed in range(part * 20, part * 20 + 15):
        register = None
        for case in cases(seed, 20):
            register = register or build_register(case.tables, {}, {})
            asked, recipient = as_message(case.said), AgencyId(case.said.recipient)
            schemas = Schemas(ELEMENTS)
            taken = {recipient} if case.said.taken else set()
            made = decide(
                asked,
                recipient,
                register,
                case.consents,
                case.now,
                schemas=schemas,
                override=case.override,
                taken=case.said.taken,
            )
            make = Records(schemas).of(asked, case.now, taken, case.override)
            record = make(recipient, case.consents)

            again = Records(schemas).past(
                record,
                sender=asked.header.sender,
                recipient=recipient,
                message_type=asked.header.message_type,
                version=asked.header.schema_version,
                purpose=asked.header.purpose,
            )
            assert again is not None
            remade = decide_facts(
                again.facts, recipient, register, (), again.at, override=again.override
            )

            assert plain(remade) == plain(made), (seed, case.number)
            permitted += outcome_of(made).permitted
            overridden += isinstance(made, Permitted) and made.override is not None
    assert permitted > 10
    assert overridden


def plain(decision: Decision) -> tuple[object, ...]:
    """Everything of a decision but the ids of what it rests on, which are not recorded."""
    ids = ("consents", "override")
    rest = (getattr(decision, name) for name in type(decision).__slots__ if name not in ids)
    return (*rest, bool(getattr(decision, "override", None)))


def test_a_record_holds_codes_and_nothing_of_the_person() -> None:
    asked = message(PAYLOAD, Subject("key-of-a-child", nhs_number="9990000018"))
    record = Records(Schemas()).of(asked, NOW)(CSC, [CONSENT])

    for secret in ("Zebedee", "key-of-a-child", "9990000018", "worker-1", "c-1"):
        assert secret not in record
    assert json.loads(record) == {
        "v": 4,
        "at": 1780315200000,
        "is": ["has_subject", "has_identifier"],
        "has": ["reason_for_access"],
        "holds": json.loads(record)["holds"],
        "by": ["YOT_OFFICER", "DBS_ENHANCED", "AAL2"],
        "consent": {"GDPR_BASIS": "GIVEN", "CONFIDENTIALITY": "policy.no_consent"},
    }
    assert len(record) < 300


def test_the_elements_are_known_again_and_one_no_schema_names_is_not() -> None:
    records = Records(Schemas())
    record = records.of(message(PAYLOAD), NOW)(CSC, None)

    found = past(records, record)

    assert found is not None
    assert found.at == NOW
    assert found.facts.paths == frozenset({"Child", "Child/Name"})
    assert found.facts.categories == frozenset({"identity"})
    assert found.facts.consent_answers is None
    assert found == past(records, record)


def test_under_another_schema_it_is_unknown_instead_of_wrong() -> None:
    record = Records(Schemas()).of(message(PAYLOAD, practitioner=None), NOW)(CSC, ())

    assert past(Records(Schemas({**SCHEMA, "More": "health"})), record) is None
    assert past(Records(Schemas()), record, "Gone") is None
    same = past(Records(Schemas()), record)
    assert same is not None
    assert same.facts.practitioner is None
    assert same.facts.consent_answers == dict.fromkeys(GROUNDS, "policy.no_consent")


def test_a_decision_that_asks_for_another_fact_makes_another_version_of_the_record() -> None:
    """Whoever adds one raises `VERSION`: in what was recorded before, it would count as a no."""
    asked = {
        "protocol", "gateway", "omission_reason", "detriment", "consent_reason",
        "shielded", "has_subject", "has_identifier", "relevant", "public_task", "consent_said",
        "harm", "sensitive", "settled", "untaken",
    }  # fmt: skip

    assert (VERSION, {*_CODES, *_FLAGS}) == (4, asked)


def older(number: int, consents: Collection[Consent] | None, subject: Subject | None) -> str:
    record = Records(Schemas()).of(message(PAYLOAD, subject), NOW)(CSC, consents)
    return record.replace('"v":4', f'"v":{number}')


@pytest.mark.parametrize("number", [2, 3])
def test_an_older_record_is_read_where_it_tells_all(number: int) -> None:
    """It never told of a decision to share without consent, which may have made the difference."""
    about = Subject("key")
    every = [CONSENT, replace(CONSENT, consent_id="c-2", kind="CONFIDENTIALITY")]
    part = [replace(one, categories=frozenset({"identity"})) for one in every]

    for consents, subject, known in (
        (None, about, True), ((), about, False), ((), None, True),
        (every, about, True), (every[:1], about, False), (part, about, False),
    ):  # fmt: skip
        found = past(Records(Schemas()), older(number, consents, subject))
        assert (found is not None) is known, (consents, subject)


def test_a_record_that_is_too_old_or_too_new_is_unknown() -> None:
    records = Records(Schemas())

    assert past(records, older(1, None, None)) is None
    assert past(records, older(5, None, None)) is None
    assert past(records, older(2, None, None), "RecordTransfer") is None
    assert past(records, older(3, None, None), "RecordTransfer") is not None


def test_of_a_decision_to_share_without_consent_only_the_power_is_kept() -> None:
    record = Records(Schemas()).of(message(PAYLOAD), NOW, override=OVERRIDE)(CSC, ())

    assert json.loads(record)["override"] == "CDA-115"
    assert "o-1" not in record
    assert "d1" not in record
    found = past(Records(Schemas()), record)
    assert found is not None
    assert found.override is not None
    assert found.override.gateway == "CDA-115"


@pytest.mark.parametrize(
    "other",
    [
        {"agency": CSC}, {"recipients": frozenset({YOT})}, {"purposes": frozenset({"CP"})},
        {"message_types": frozenset({"Reply"})}, {"until": NOW},
        {"recorded_at": NOW + timedelta(1)},
    ],
)  # fmt: skip
def test_a_decision_that_is_about_another_disclosure_is_not_recorded(other: dict[str, Any]) -> None:
    not_this = replace(OVERRIDE, **other)

    record = Records(Schemas()).of(message(PAYLOAD), NOW, override=not_this)(CSC, ())

    assert "override" not in json.loads(record)
