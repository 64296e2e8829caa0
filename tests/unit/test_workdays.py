"""Working days and terms: London's days over the change of the clocks, weekends, bank holidays."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.table import Mistake, Table
from broker.core.workdays import (
    UNKNOWN,
    Calendar,
    Term,
    Unit,
    end_of,
    london_day,
    parse_calendar,
    term_of,
)
from broker.edge.registers import load_register
from tests.unit.policy_world import ROOT

LONDON = ZoneInfo("Europe/London")
ENGLAND = load_register(ROOT / "protocols").calendar
MILLISECOND = timedelta(milliseconds=1)
ONE = Term(1, Unit.WORKING_DAYS)


def london(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=LONDON).astimezone(UTC)  # type: ignore[arg-type,misc]


@pytest.mark.parametrize(
    ("start", "first_late"),
    [
        (london(2026, 6, 1, 9), london(2026, 6, 3)),  # Monday to the end of Tuesday
        (london(2026, 6, 5, 23, 59), london(2026, 6, 9)),  # Friday night to the end of Monday
        (london(2026, 6, 6, 0, 0), london(2026, 6, 9)),  # Saturday: the same Monday
        (london(2026, 12, 24, 9), london(2026, 12, 30)),  # Christmas, a weekend, a substitute day
        (london(2026, 4, 2, 9), london(2026, 4, 8)),  # Maundy Thursday to the Tuesday after
        (london(2026, 3, 27, 9), london(2026, 3, 31)),  # over the night the clocks go forward
        (london(2026, 10, 23, 9), london(2026, 10, 27)),  # and back
        (london(2027, 12, 24, 9), london(2027, 12, 30)),  # both days in lieu
    ],
)
def test_one_working_day_ends_with_the_next_day_that_offices_are_open(
    start: datetime, first_late: datetime
) -> None:
    assert end_of(start, ONE, ENGLAND) == first_late


def test_days_end_at_london_midnight_and_hours_run_by_the_clock() -> None:
    before = datetime(2026, 3, 28, 12, tzinfo=UTC)  # the clocks go forward that night

    assert end_of(before, Term(24, Unit.HOURS), ENGLAND) == datetime(2026, 3, 29, 12, tzinfo=UTC)
    assert end_of(before, Term(1, Unit.DAYS), ENGLAND) == datetime(2026, 3, 29, 23, tzinfo=UTC)
    assert end_of(before, Term(14, Unit.DAYS), ENGLAND) == london(2026, 4, 12)
    autumn = datetime(2026, 10, 24, 12, tzinfo=UTC)  # the clocks go back that night
    assert end_of(autumn, Term(24, Unit.HOURS), ENGLAND) == datetime(2026, 10, 25, 12, tzinfo=UTC)
    assert end_of(autumn, Term(1, Unit.DAYS), ENGLAND) == datetime(2026, 10, 26, tzinfo=UTC)


def test_beyond_the_years_known_a_term_is_due_too_early_and_never_too_late() -> None:
    start = london(2026, 12, 24, 9)

    assert end_of(start, ONE, UNKNOWN) == london(2026, 12, 26)
    assert end_of(start, ONE, UNKNOWN) < end_of(start, ONE, ENGLAND)


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)))  # noqa: DTZ001 - given its zone next
def test_the_day_in_london_is_that_of_the_time_zone_database(moment: datetime) -> None:
    instant = moment.replace(tzinfo=UTC)

    assert london_day(instant) == instant.astimezone(LONDON).date()


@given(
    st.datetimes(datetime(2025, 1, 1), datetime(2028, 12, 1)),  # noqa: DTZ001 - the same
    st.integers(1, 10),
)
def test_working_days_agree_with_counting_them_one_by_one(moment: datetime, count: int) -> None:
    start = moment.replace(tzinfo=UTC)
    day, left = start.astimezone(LONDON).date(), count
    while left:
        day = day + timedelta(days=1)
        if day.isoweekday() not in (6, 7) and day not in ENGLAND.holidays:
            left -= 1
    expected = datetime(day.year, day.month, day.day, tzinfo=LONDON) + timedelta(days=1)

    assert end_of(start, Term(count, Unit.WORKING_DAYS), ENGLAND) == expected


def easter(year: int) -> date:
    """Return Easter Sunday by the anonymous Gregorian computus."""
    a, b, c = year % 19, year // 100, year % 100
    d = (19 * a + b - b // 4 - (b - (b + 8) // 25 + 1) // 3 + 15) % 30
    e = (32 + 2 * (b % 4) + 2 * (c // 4) - d - c % 4) % 7
    month, day = divmod(d + e - 7 * ((a + 11 * d + 22 * e) // 451) + 114, 31)
    return date(year, month, day + 1)


@pytest.mark.parametrize("year", sorted(ENGLAND.years))
def test_the_bank_holidays_are_those_of_the_usual_rule(year: int) -> None:
    def weekday_from(day: date) -> date:
        while day.weekday() or day in days:
            day += timedelta(days=1)
        return day

    days: set[date] = set()
    for month, day in ((1, 1), (12, 25), (12, 26)):
        fixed = date(year, month, day)
        while fixed.isoweekday() > 5 or fixed in days:
            fixed += timedelta(days=1)
        days.add(fixed)
    days |= {easter(year) - timedelta(days=2), easter(year) + timedelta(days=1)}
    days |= {weekday_from(date(year, 5, 1)), weekday_from(date(year, 5, 25))}
    days.add(weekday_from(date(year, 8, 25)))

    assert {day for day in ENGLAND.holidays if day.year == year} == days


def test_a_term_is_read_and_written_as_people_say_it() -> None:
    for text in ("1 working day", "24 hours", "14 days", "2 working days"):
        assert str(term_of(Table({"within": text}, "f"), "within")) == text
    for text in ("0 days", "1 week", "days", "1.5 hours"):
        with pytest.raises(Mistake, match="write a term"):
            term_of(Table({"within": text}, "f"), "within")


def test_a_year_stands_once_and_holds_its_own_days() -> None:
    good = {"year": 2030, "days": [date(2030, 1, 1)]}

    assert parse_calendar(Table({"year": [good]}, "f")) == Calendar(
        frozenset({date(2030, 1, 1)}), frozenset({2030})
    )
    with pytest.raises(Mistake, match="stands here twice"):
        parse_calendar(Table({"year": [good, good]}, "f"))
    with pytest.raises(Mistake, match="is not of 2031"):
        parse_calendar(Table({"year": [{**good, "year": 2031}]}, "f"))
    for days in (["2030-01-01"], date(2030, 1, 1)):
        with pytest.raises(Mistake, match="a list of dates"):
            parse_calendar(Table({"year": [{"year": 2030, "days": days}]}, "f"))
