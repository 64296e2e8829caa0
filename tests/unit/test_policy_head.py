"""The ledger remembers the last line of the policy log: a log does nothing but grow."""

from typing import Any

import pytest

from broker.core.ledger import canonical
from broker.core.policy_head import Head, continued, head_entry, head_of, read_head
from broker.core.policy_log import START as NO_LINE
from broker.core.reasons import Reason
from broker.core.table import Mistake
from tests.unit.policy_world import NOW
from tests.unit.signatories import Desk, other
from tests.unit.test_two_keys import reason


def head(desk: Desk) -> Head:
    return head_of(desk.in_force().policy)


def check(desk: Desk, recorded: Head) -> None:
    assert continued(desk.in_force().policy, recorded) is None


def stopped() -> Desk:
    desk = Desk().found()
    desk.act("suspend", "csc", "checks@1", cause="incident")
    return desk


def test_a_log_may_grow() -> None:
    desk = Desk().found()
    recorded = head(desk)
    check(desk, recorded)

    desk.act("suspend", "csc", "checks@1", cause="incident")

    check(desk, recorded)
    assert head(desk).lines == recorded.lines + 1


def test_an_empty_log_goes_on_as_any() -> None:
    empty = head(Desk())

    assert empty == Head(0, NO_LINE, {})
    check(Desk().found(), empty)


def test_a_log_whose_last_line_is_gone_is_refused_and_its_cure_named() -> None:
    desk = stopped()
    recorded = desk.cut(1)

    with pytest.raises(Mistake, match=r"policy-log.jsonl: line 21.*operator puts back.*restore"):
        check(desk, recorded)


def test_a_log_whose_last_line_is_another_is_refused() -> None:
    desk = stopped()
    recorded = desk.cut(1)
    desk.act("sign", "csc", "checks@1")
    desk.act("sign", "yot", "checks@1")

    with pytest.raises(Mistake, match="gone or changed"):
        check(desk, recorded)


def test_what_the_ledger_remembers_is_read_back() -> None:
    desk = stopped()
    recorded = desk.cut(1)
    desk.restore(recorded)
    restored = continued(desk.in_force().policy, recorded)

    entry = head_entry(head(desk), restored, NOW)

    assert read_head(canonical(entry)) == head(desk)
    assert entry["lost"] == {"lines": recorded.lines, "digest": recorded.digest}
    assert head_entry(recorded, None, NOW)["lost"] is None


# -- the way out of a loss -------------------------------------------------------------------


def test_where_lines_are_lost_everything_is_suspended_until_all_say_otherwise() -> None:
    desk = stopped()
    recorded = desk.cut(1)
    assert reason(desk) is None  # the suspension is lost: what is left would let it pass

    desk.restore(recorded)

    restored = continued(desk.in_force().policy, recorded)
    assert restored is not None
    assert restored.line == recorded.lines
    assert {one.status for one in desk.in_force().policy.rulings.values()} == {"SUSPENDED"}
    assert reason(desk) is Reason.ISP_SUSPENDED
    for protocol, *parties in (
        ("memorandum@1", "yot", "csc", "camhs", "charity", "police"),
        ("community@1", "yot", "csc", "camhs", "charity", "police"),
        ("checks@1", "yot", "csc"),
    ):
        for party in parties:
            assert reason(desk) is Reason.ISP_SUSPENDED
            desk.act("resume", party, protocol)
    assert reason(desk) is None
    check(desk, head(desk))


def test_what_was_ended_stays_ended() -> None:
    desk = Desk().found()
    desk.act("terminate", "csc", "checks@1", cause="notice")
    desk.act("sign", "csc", "checks@1")
    recorded = desk.cut(1)
    desk.restore(recorded)

    assert desk.in_force().policy.rulings["checks@1"].status == "TERMINATED"


def test_a_version_that_was_ended_in_lost_lines_is_not_begun_by_one_hand() -> None:
    desk = Desk().found()
    desk.amend(2)
    desk.begin("checks@2", "yot", "csc")
    desk.act("terminate", "csc", "checks@2", cause="breach")
    recorded = desk.cut(2)  # its beginning and its end: both signatures are left
    desk.restore(recorded)

    desk.act("activate", "yot", "checks@2")
    desk.act("activate", "yot", "checks@2")
    assert "checks@2" not in desk.in_force().policy.rulings
    assert reason(desk) is not None

    desk.act("activate", "csc", "checks@2")
    assert desk.in_force().policy.rulings["checks@2"].status == "ACTIVE"


def test_a_second_loss_asks_everybody_again() -> None:
    desk = Desk().found()
    desk.amend(2)
    desk.act("sign", "yot", "checks@2")
    desk.act("sign", "csc", "checks@2")
    desk.act("suspend", "csc", "checks@1", cause="incident")
    desk.restore(desk.cut(1))
    desk.act("activate", "yot", "checks@2")
    desk.act("sign", "yot", "checks@2")
    desk.restore(desk.cut(1))
    desk.act("activate", "csc", "checks@2")

    assert "checks@2" not in desk.in_force().policy.rulings


def test_nobody_suspends_everything_while_nothing_is_lost() -> None:
    desk = Desk().found()
    recorded = head(desk)
    desk.restore(recorded)

    with pytest.raises(Mistake, match=r"\[line 21\]: nothing was lost"):
        check(desk, recorded)


def test_a_loss_that_was_taken_note_of_is_not_lost_again() -> None:
    desk = stopped()
    first = desk.cut(1)
    desk.restore(first)
    recorded = head(desk)
    desk.act("sign", "csc", "checks@1")
    check(desk, recorded)

    del desk.acts[-2:]
    desk.act("sign", "csc", "checks@1")
    with pytest.raises(Mistake, match="gone or changed"):
        check(desk, recorded)


@pytest.mark.parametrize("changed", [{"lines": "7"}, {"digest": "ab"}], ids=["lines", "digest"])
def test_the_line_names_what_was_lost(changed: dict[str, str]) -> None:
    desk = stopped()
    recorded = desk.cut(1)
    desk.restore(recorded, **changed)

    with pytest.raises(Mistake, match="gone or changed"):
        check(desk, recorded)


BAD: list[dict[str, Any]] = [
    {"lines": "many"},
    {"lines": ""},
    {"lines": "9" * 10},
    {"forge": other(signature="")},
    {"forge": other(party="other")},
    {"by": "operator"},
]


@pytest.mark.parametrize("changed", BAD, ids=str)
def test_a_line_that_does_not_say_who_says_so_stops_the_log(changed: dict[str, Any]) -> None:
    desk = stopped()
    desk.restore(desk.cut(1), **changed)

    with pytest.raises(Mistake, match="signed by who says so"):
        desk.in_force()


def test_who_was_withdrawn_in_lost_lines_has_no_say_again() -> None:
    desk = Desk().found()
    desk.designate("csc", "deputy", by="csc")
    desk.act("withdraw", "csc", by="deputy", person=desk.acts[1].person)
    recorded = desk.cut(1)
    kept = list(desk.acts)
    desk.restore(recorded)
    with pytest.raises(Mistake, match="a person of csc is back who was withdrawn"):
        continued(desk.in_force().policy, recorded)

    desk.acts = kept
    desk.act("withdraw", "csc", by="deputy", person=desk.acts[1].person)
    desk.restore(recorded)
    assert continued(desk.in_force().policy, recorded) is not None


def test_the_operator_names_nobody_by_losing_the_whole_log() -> None:
    desk = Desk().found()
    recorded = desk.cut(len(desk.acts))
    for party in recorded.people:
        desk.designate(party, f"operator for {party}")
    desk.restore(recorded)
    with pytest.raises(Mistake, match=r"a person of \w+ is back"):
        continued(desk.in_force().policy, recorded)

    desk.acts.clear()
    desk.restore(recorded)
    desk.designate("csc", "operator")
    with pytest.raises(Mistake, match=r"a designated person of \w+ is missing"):
        continued(desk.in_force().policy, recorded)


def test_the_same_people_may_begin_a_log_that_is_wholly_lost() -> None:
    desk = Desk().found()
    recorded = desk.cut(len(desk.acts))
    for party in recorded.people:
        desk.designate(party)
    desk.restore(recorded)

    assert continued(desk.in_force().policy, recorded) is not None
