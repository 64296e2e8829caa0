"""A record is offered, taken, and only then sent."""

import pytest

from broker.core import remedy
from broker.core.decision import decide
from broker.core.handover import Answer, Awaited, answer_of, awaited_by, follows_answer
from broker.core.message import Subject, ValidMessage
from broker.core.outcome import Permitted, Refused
from broker.core.reasons import Reason
from tests.unit.policy_world import CSC, NOW, PRACTITIONER, flow, message, register

MOVES = register(flow(message_types=["RecordTransfer/1.0"], conditions=None))
SUBJECT = Subject("key", nhs_number="9990000018")


def said(message_type: str, **children: str) -> ValidMessage:
    inner = "".join(f"<{name}>{text}</{name}>" for name, text in children.items())
    return message(
        f'<{message_type} xmlns="urn:x">{inner}</{message_type}>',
        SUBJECT,
        message_type=message_type,
        practitioner=PRACTITIONER,
        reason_for_access="ASSESSMENT",
    )


RECORD = said("RecordTransfer", TransferId="T-1", Question="?")


def test_a_record_is_sent_only_to_whoever_has_taken_it() -> None:
    before = decide(RECORD, CSC, MOVES, (), NOW)
    after = decide(RECORD, CSC, MOVES, (), NOW, taken=True)

    assert isinstance(before, Refused)
    assert (before.reason, before.step, before.change) == (Reason.NOT_TAKEN, 3, remedy.NOT_TAKEN)
    assert isinstance(after, Permitted)


def test_what_follows_no_answer_need_not_be_taken() -> None:
    checks = register(flow(conditions=None))

    assert isinstance(decide(said("Check", Question="?"), CSC, checks, (), NOW), Permitted)
    assert not follows_answer("Check")
    assert answer_of(RECORD) is None


@pytest.mark.parametrize(
    ("decision", "shield", "taken", "set_"),
    [
        ("ACCEPTED", "true", True, True),
        ("ACCEPTED", "false", True, False),
        ("ACCEPTED", "", True, False),
        ("DECLINED", "true", False, True),
        ("accepted", "", False, False),
        ("", "", False, False),
    ],
)
def test_an_answer_is_a_yes_only_where_it_says_so(
    decision: str, shield: str, *, taken: bool, set_: bool
) -> None:
    texts = {"TransferId": "T-1", "Decision": decision, "ShieldSet": shield}
    answer = answer_of(said("RecordTransferResponse", **texts))

    assert answer == Answer("RecordTransfer", awaited_by(RECORD).number, taken, set_)
    assert "T-1" not in str(answer)


def test_an_answer_is_about_one_number() -> None:
    other = answer_of(said("RecordTransferResponse", TransferId="T-2", Decision="ACCEPTED"))

    assert other is not None
    assert other.number != awaited_by(RECORD).number


@pytest.mark.parametrize("marked", ["true", "false"])
@pytest.mark.parametrize("header", [True, False])
def test_a_record_is_shielded_if_its_header_or_itself_says_so(marked: str, *, header: bool) -> None:
    payload = f'<RecordTransfer xmlns="urn:x"><Shielded>{marked}</Shielded></RecordTransfer>'
    made = message(payload, SUBJECT, message_type="RecordTransfer", shielded=header)

    assert awaited_by(made).shielded is (header or marked == "true")


@pytest.mark.parametrize("shielded", [True, False])
@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("shield", [True, False])
def test_the_shield_comes_before_the_record(*, shielded: bool, taken: bool, shield: bool) -> None:
    met = Awaited("n", shielded).met_by(taken, shield)

    assert met is (taken and (shield or not shielded))
