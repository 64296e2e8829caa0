"""Working days and terms in England: pure arithmetic in London's days, whatever the clocks do.

Instants are UTC; a day is London's. Beyond the years whose bank holidays are known only
weekends are left out, so that a term is then due too early and never too late.
"""

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum

from broker.core.table import Table, london_midnight

FRIDAY = 4
DAY = timedelta(days=1)
_TERM = re.compile(r"([1-9][0-9]{0,3}) (hour|day|working day)s?")


class Unit(StrEnum):
    """What a term counts."""

    HOURS = "hour"
    DAYS = "day"
    WORKING_DAYS = "working day"


@dataclass(frozen=True, slots=True)
class Term:
    """A length of time as a statute states it: 24 hours, 14 days, 1 working day."""

    amount: int
    unit: Unit

    def __str__(self) -> str:
        return f"{self.amount} {self.unit}{'' if self.amount == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Calendar:
    """Bank holidays, and the years of which all are known."""

    holidays: frozenset[date] = frozenset()
    years: frozenset[int] = frozenset()

    def is_working(self, day: date) -> bool:
        """Return whether offices are open on ``day``."""
        return day.weekday() <= FRIDAY and day not in self.holidays

    def working_day_after(self, day: date, count: int) -> date:
        """Return the ``count``-th working day after ``day``."""
        while count:
            day += DAY
            count -= self.is_working(day)
        return day


UNKNOWN = Calendar()


def london_day(instant: datetime) -> date:
    """Return the day it is in London at ``instant``."""
    later = (instant + timedelta(hours=1)).date()  # at most one hour ahead of UTC
    return later if london_midnight(later) <= instant else later - DAY


def last_day(start: datetime, term: Term, calendar: Calendar) -> date:
    """Return the last day of a term of days that starts at ``start``."""
    day = london_day(start)
    if term.unit is Unit.WORKING_DAYS:
        return calendar.working_day_after(day, term.amount)
    return day + term.amount * DAY


def end_of(start: datetime, term: Term, calendar: Calendar) -> datetime:
    """Return the first instant after ``term``: hours run by the clock, days to London midnight."""
    if term.unit is Unit.HOURS:
        return start + timedelta(hours=term.amount)
    return london_midnight(last_day(start, term, calendar) + DAY)


def term_of(table: Table, key: str) -> Term:
    """Return the term that a file gives under ``key``.

    Raises:
        Mistake: it is not like ``1 working day``.
    """
    match = _TERM.fullmatch(table.text(key))
    if match is None:
        raise table.mistake(key, 'write a term such as "24 hours", "14 days" or "1 working day"')
    return Term(int(match[1]), Unit(match[2]))


def parse_calendar(table: Table) -> Calendar:
    """Return the calendar of the bank holidays' file.

    Raises:
        Mistake: a year stands there twice, or holds a day of another.
    """
    holidays: set[date] = set()
    years: set[int] = set()
    for item in table.tables("year"):
        year = item.number("year", 1971)
        if year in years:
            raise item.mistake("year", "this year stands here twice")
        years.add(year)
        for day in item.days("days"):
            if day.year != year:
                raise item.mistake("days", f"{day} is not of {year}")
            holidays.add(day)
        item.close()
    table.close()
    return Calendar(frozenset(holidays), frozenset(years))
