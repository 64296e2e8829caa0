"""What stands beside a gateway, and what a row of the register demands in the message."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from broker.core.outcome import Permitted, Refused
from broker.core.reasons import Reason
from tests.unit.policy_world import (
    SHARING,
    Change,
    Tables,
    decided,
    gateway,
    more_gateways,
    new_gateway,
)

MICROSECOND = timedelta(microseconds=1)


def refused(*changes: Change, **facts: Any) -> tuple[Reason, int]:
    decision = decided(*changes, **facts)
    assert isinstance(decision, Refused)
    assert decision.change
    return decision.reason, decision.step


def basis(**values: Any) -> Change:
    """Return a change that gives the flow a lawful basis of its own."""
    row = new_gateway("BASIS", **{"kind": "BASIS", "bears_flow": False, **values})
    if "route" not in values:
        del row["route"]

    def change(tables: Tables) -> None:
        more_gateways(row)(tables)
        tables[SHARING]["flow"][0]["conditions"] = ["BASIS"]

    return change


def test_a_lawful_basis_of_the_flow_must_be_in_force_as_well() -> None:
    began = basis(in_force_from=date(2026, 6, 2))
    first = datetime(2026, 6, 1, 23, tzinfo=UTC)  # the second of June begins in London

    assert refused(began, now=first - MICROSECOND) == (Reason.GATEWAY_NOT_EFFECTIVE, 4)
    assert isinstance(decided(began, now=first), Permitted)
    assert refused(basis(last_day=date(2026, 5, 31))) == (Reason.GATEWAY_NOT_EFFECTIVE, 4)


def test_a_lawful_basis_that_is_not_meant_for_the_two_agencies_is_not_asked_for() -> None:
    others = [{"from": ["VCS"], "to": ["any"]}]

    assert isinstance(decided(basis(last_day=date(2026, 5, 31), route=others)), Permitted)


def test_an_aim_or_a_duty_named_as_a_condition_is_not_asked_to_be_in_force() -> None:
    assert isinstance(decided(basis(kind="DUTY", last_day=date(2026, 5, 31))), Permitted)


def test_who_answers_because_a_public_task_asks_is_told_of_the_task() -> None:
    asks = basis(asks_public_task=True)

    assert refused(asks) == (Reason.PUBLIC_TASK_NOT_STATED, 4)
    assert isinstance(decided(asks, public_task=True), Permitted)
    assert isinstance(decided(asks, settled=True), Permitted)


def test_the_duty_to_share_reaches_only_what_was_considered_relevant() -> None:
    asks = gateway(relevance_test=True)

    assert refused(asks) == (Reason.GATEWAY_CARVEOUT, 4)
    assert isinstance(decided(asks, relevant=True), Permitted)
    assert isinstance(decided(asks, settled=True), Permitted)


def test_once_the_identifier_rule_is_in_force_that_it_is_not_is_no_reason() -> None:
    early: dict[str, Any] = {"has_identifier": False, "omission_reason": "NOT_YET_COMMENCED"}
    later = gateway(1, in_force_from=date(2026, 6, 2))

    assert refused(**early) == (Reason.IDENTIFIER_MISSING, 7)
    assert isinstance(decided(later, **early), Permitted)
    assert isinstance(decided(**early, settled=True), Permitted)
    assert isinstance(decided(**early, has_subject=False), Permitted)
    assert isinstance(decided(has_identifier=True, omission_reason="NOT_YET_COMMENCED"), Permitted)
