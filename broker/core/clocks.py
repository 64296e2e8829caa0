"""Clocks that law and practice set on a message: when an answer is due, and where it stands.

A clock is data (protocols/clocks.toml) that a flow names. Where it stands is computed from
evidence alone: when it started, what stopped it, and the time.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from broker.core.outcome import Level
from broker.core.table import Table, london_midnight
from broker.core.workdays import Calendar, Term, Unit, end_of, last_day, term_of

STATED = "STATED"
STARTS = ("CREATED", "ACCEPTED", STATED)
LEVELS = frozenset({Level.DELIVERED.value, Level.READ.value, Level.BUSINESS.value})
_TYPE = re.compile(r"[A-Z][A-Za-z]{1,63}")
_ELEMENT = re.compile(r"[A-Za-z0-9]{1,64}")
_TICK = timedelta(microseconds=1)
WARNED = 4  # of a term in hours the last quarter is the time to look


class ClockState(StrEnum):
    """Where a clock stands. The last two are its ends."""

    RUNNING = "running"
    DUE = "due"  # the last day, or the last quarter of the hours
    OVERDUE = "overdue"
    ESCALATED = "escalated"
    MET = "met"
    MET_LATE = "met-late"


@dataclass(frozen=True, slots=True)
class ClockRule:
    """One clock of the register. ``stops``: levels, and types of message that answer.

    One that starts as ``STATED`` runs from the instant or day that the payload says at
    ``element``, a child of its root.
    """

    clock_id: str
    title: str
    starts: str
    within: Term
    stops: frozenset[str]
    escalate_after: Term | None
    source: str
    element: str = ""


@dataclass(frozen=True, slots=True)
class Deadlines:
    """The instants at which a clock that is not stopped goes on to its next state."""

    due_from: datetime
    overdue_from: datetime
    escalated_from: datetime | None


def deadlines(rule: ClockRule, started: datetime, calendar: Calendar) -> Deadlines:
    """Return when a clock that started at ``started`` goes on."""
    overdue = end_of(started, rule.within, calendar)
    if rule.within.unit is Unit.HOURS:
        due = overdue - timedelta(hours=rule.within.amount) / WARNED
    else:
        due = max(started, london_midnight(last_day(started, rule.within, calendar)))
    after = rule.escalate_after
    if after is None:
        return Deadlines(due, overdue, None)
    # Days are counted from the last day in time, which a midnight is no more part of.
    start = overdue if after.unit is Unit.HOURS else overdue - _TICK
    return Deadlines(due, overdue, end_of(start, after, calendar))


def state_of(times: Deadlines, stopped: datetime | None, now: datetime) -> ClockState:
    """Return where a clock stands at ``now``; ``stopped`` is when it was, if it was."""
    if stopped is not None:
        return ClockState.MET if stopped < times.overdue_from else ClockState.MET_LATE
    if now < times.due_from:
        return ClockState.RUNNING
    if now < times.overdue_from:
        return ClockState.DUE
    if times.escalated_from is None or now < times.escalated_from:
        return ClockState.OVERDUE
    return ClockState.ESCALATED


def next_change(times: Deadlines, now: datetime) -> datetime | None:
    """Return when a clock that runs goes on next; None: never."""
    steps = (times.due_from, times.overdue_from, times.escalated_from)
    return next((step for step in steps if step is not None and step > now), None)


def parse_clocks(table: Table) -> Mapping[str, ClockRule]:
    """Return the clocks of the file, by id.

    Raises:
        Mistake: one is not complete, or stands there twice.
    """
    clocks: dict[str, ClockRule] = {}
    for item in table.tables("clock"):
        rule = _rule(item)
        if rule.clock_id in clocks:
            raise item.mistake("id", f"{rule.clock_id} stands here twice")
        clocks[rule.clock_id] = rule
    table.close()
    return clocks


def _rule(table: Table) -> ClockRule:
    starts = table.choice("starts", STARTS)
    rule = ClockRule(
        clock_id=table.identifier("id"),
        title=table.text("title"),
        starts=starts,
        element=table.text("element") if starts == STATED else "",
        within=term_of(table, "within"),
        stops=frozenset(table.texts("stops")),
        escalate_after=term_of(table, "escalate_after") if table.has("escalate_after") else None,
        source=table.text("source"),
    )
    table.close()
    if rule.element and not _ELEMENT.fullmatch(rule.element):
        raise table.mistake("element", "name one element, without a path")
    for stop in rule.stops:
        if stop not in LEVELS and not _TYPE.fullmatch(stop):
            raise table.mistake("stops", f"{stop!r} is neither L2, L3, L4 nor a message type")
    return rule
