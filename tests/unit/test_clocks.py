"""Where a clock stands: at each instant, just before and just after."""

import copy
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from broker.core.clocks import (
    ClockState,
    deadlines,
    next_change,
    parse_clocks,
    state_of,
)
from broker.core.table import Mistake, Table
from broker.core.workdays import UNKNOWN
from broker.edge.registers import load_register
from tests.unit.policy_world import ROOT, SHARING, Tables, plain, register

MILLISECOND = timedelta(milliseconds=1)
CLOCK: dict[str, Any] = {
    "id": "ACK",
    "title": "Acknowledged",
    "starts": "ACCEPTED",
    "within": "1 working day",
    "stops": ["Reply", "L4"],
    "escalate_after": "1 working day",
    "source": "the statute book",
}
MONDAY = datetime(2026, 6, 1, 9, tzinfo=UTC)


def rule(**values: Any) -> Any:
    table = {**CLOCK, **values}
    return parse_clocks(Table({"clock": [table]}, "clocks.toml"))[table["id"]]


@pytest.mark.parametrize(
    ("at", "state"),
    [
        (MONDAY, ClockState.RUNNING),
        (datetime(2026, 6, 1, 23, tzinfo=UTC) - MILLISECOND, ClockState.RUNNING),
        (datetime(2026, 6, 1, 23, tzinfo=UTC), ClockState.DUE),  # Tuesday begins in London
        (datetime(2026, 6, 2, 23, tzinfo=UTC) - MILLISECOND, ClockState.DUE),
        (datetime(2026, 6, 2, 23, tzinfo=UTC), ClockState.OVERDUE),
        (datetime(2026, 6, 3, 23, tzinfo=UTC) - MILLISECOND, ClockState.OVERDUE),
        (datetime(2026, 6, 3, 23, tzinfo=UTC), ClockState.ESCALATED),
    ],
)
def test_a_clock_goes_from_running_to_escalated(at: datetime, state: ClockState) -> None:
    times = deadlines(rule(), MONDAY, UNKNOWN)

    assert state_of(times, None, at) is state
    following = next_change(times, at)
    assert following is None if state is ClockState.ESCALATED else following is not None
    if following is not None:
        assert state_of(times, None, following - MILLISECOND) is state
        assert state_of(times, None, following) is not state


def test_a_clock_in_hours_is_due_in_its_last_quarter_and_escalates_by_the_clock() -> None:
    times = deadlines(rule(within="4 hours", escalate_after="2 hours"), MONDAY, UNKNOWN)

    assert times.due_from == MONDAY + timedelta(hours=3)
    assert times.overdue_from == MONDAY + timedelta(hours=4)
    assert times.escalated_from == MONDAY + timedelta(hours=6)


def test_a_clock_that_nobody_escalates_stays_overdue() -> None:
    times = deadlines(_silent(), MONDAY, UNKNOWN)

    assert times.escalated_from is None
    assert state_of(times, None, MONDAY + timedelta(days=400)) is ClockState.OVERDUE
    assert next_change(times, MONDAY + timedelta(days=400)) is None


def _silent() -> Any:
    table = copy.deepcopy(CLOCK)
    del table["escalate_after"]
    return parse_clocks(Table({"clock": [table]}, "clocks.toml"))["ACK"]


def test_what_stops_a_clock_is_in_time_up_to_the_last_instant() -> None:
    times = deadlines(rule(), MONDAY, UNKNOWN)
    late = datetime(2026, 6, 2, 23, tzinfo=UTC)

    assert state_of(times, late - MILLISECOND, late) is ClockState.MET
    assert state_of(times, late, late) is ClockState.MET_LATE


def test_a_clock_stands_in_the_file_once_and_knows_what_stops_it() -> None:
    with pytest.raises(Mistake, match="stands here twice"):
        parse_clocks(Table({"clock": [CLOCK, CLOCK]}, "clocks.toml"))
    with pytest.raises(Mistake, match="neither L2, L3, L4 nor a message type"):
        rule(stops=["L5"])


def test_a_clock_that_starts_as_stated_names_one_element() -> None:
    assert rule(starts="STATED", element="EventAt").element == "EventAt"
    with pytest.raises(Mistake, match="without a path"):
        rule(starts="STATED", element="Child/BirthDate")
    with pytest.raises(Mistake, match="element"):
        rule(starts="STATED")
    with pytest.raises(Mistake, match="element"):
        rule(element="EventAt")


def test_a_flow_names_clocks_of_the_register() -> None:
    def clocked(tables: Tables) -> None:
        tables["clocks.toml"] = {"clock": [CLOCK]}
        tables[SHARING]["flow"][0]["clocks"] = ["ACK"]

    held = register(clocked)

    assert [one.clock_id for one in held.clocks("checks@1", "check")] == ["ACK"]
    assert held.clocks("checks@1", "other") == ()
    assert held.clocks("gone@1", "check") == ()
    assert plain().clocks("checks@1", "check") == ()
    with pytest.raises(Mistake, match="clocks"):
        register(lambda tables: tables[SHARING]["flow"][0].update(clocks=["ACK"]))


def test_the_shipped_clocks_are_those_of_law_and_practice() -> None:
    held = load_register(ROOT / "protocols")
    clocks = held.clocks("ne-referrals@1", "child-protection")

    assert [one.clock_id for one in clocks] == [
        "SAFEGUARDING-READ",
        "MASH-ACK",
        "REFERRAL-DECISION",
    ]
    assert held.calendar.years >= {2026, 2027, 2028}
    assert date(2026, 12, 28) in held.calendar.holidays
