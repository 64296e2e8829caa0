"""What is recorded of a message is enough to decide again, and says nothing else of it."""

import json

import pytest

from broker.core.assembly import build_register
from broker.core.consent import GROUNDS
from broker.core.decision import decide, decide_facts
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.message import Subject
from broker.core.outcome import Decision
from broker.core.reasons import Reason
from broker.core.recorded import _CODES, _FLAGS, VERSION, Past, Records
from broker.core.whatif import outcome_of
from tests.unit.oracle_cases import ELEMENTS, as_message, cases
from tests.unit.policy_world import CONSENT, CSC, NOW, YOT, message

SCHEMA = {"Child": "identity", "Child/Name": "identity", "Question": "safeguarding"}
PAYLOAD = '<Check xmlns="urn:x"><Child><Name>Zebedee</Name><Odd/></Child></Check>'


class Schemas:
    def __init__(self, known: dict[str, str] | None = None) -> None:
        self.known = SCHEMA if known is None else known

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        if message_type == "Gone" or not version:
            raise Rejection(Reason.TYPE_UNKNOWN)
        return self.known


def past(records: Records, record: str, message_type: str = "Check") -> Past | None:
    return records.past(record, sender=YOT, message_type=message_type, version="1.0", purpose="YJ")


@pytest.mark.parametrize("part", range(2))
def test_a_decision_made_again_from_its_record_is_the_same(part: int) -> None:
    permitted = 0
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
                taken=case.said.taken,
            )
            record = Records(schemas).of(asked, case.now, taken)(recipient, case.consents)

            again = Records(schemas).past(
                record,
                sender=asked.header.sender,
                message_type=asked.header.message_type,
                version=asked.header.schema_version,
                purpose=asked.header.purpose,
            )
            assert again is not None
            remade = decide_facts(again.facts, recipient, register, (), again.at)

            assert plain(remade) == plain(made), (seed, case.number)
            permitted += outcome_of(made).permitted
    assert permitted > 10


def plain(decision: Decision) -> tuple[object, ...]:
    """Everything of a decision but which consents it rests on: their ids are not recorded."""
    return tuple(getattr(decision, name) for name in type(decision).__slots__ if name != "consents")


def test_a_record_holds_codes_and_nothing_of_the_person() -> None:
    asked = message(PAYLOAD, Subject("key-of-a-child", nhs_number="9990000018"))
    record = Records(Schemas()).of(asked, NOW)(CSC, [CONSENT])

    for secret in ("Zebedee", "key-of-a-child", "9990000018", "worker-1", "c-1"):
        assert secret not in record
    assert json.loads(record) == {
        "v": 3,
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

    assert (VERSION, {*_CODES, *_FLAGS}) == (3, asked)
    record = Records(Schemas()).of(message(PAYLOAD), NOW)(CSC, ()).replace('"v":3', '"v":2')
    assert past(Records(Schemas()), record) is None
