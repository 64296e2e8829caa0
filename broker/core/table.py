"""Read one table of a register file, strictly, and name the place of every mistake.

The people who keep these files are governance officers and registrars: a mistake names the
file, the table, the key and the cure, and a misspelt key is an error, never ignored.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from difflib import get_close_matches

from broker.core.errors import Permanent
from broker.core.reasons import Reason

MARCH, OCTOBER = 3, 10
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class Mistake(Permanent):
    """A register file says something that cannot be used. ``table`` is like ``flow 2``."""

    def __init__(self, file: str, table: str, key: str, cure: str) -> None:
        place = ", ".join(part for part in (file, table and f"[{table}]", key) if part)
        super().__init__(Reason.REGISTER_UNAVAILABLE, f"{place}: {cure}")
        self.file = file
        self.table = table
        self.key = key
        self.cure = cure


def london_midnight(day: date) -> datetime:
    """Return the instant ``day`` begins in the United Kingdom, in UTC.

    Summer time runs from the last Sunday of March to the last Sunday of October, changing at
    01:00 UTC (Summer Time Act 1972 s.1, SI 2002/262): either Sunday still begins on the old clock.
    """
    summer = _last_sunday(day.year, MARCH) < day <= _last_sunday(day.year, OCTOBER)
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return midnight - timedelta(hours=1) if summer else midnight


def london_day(instant: datetime) -> date:
    """Return the day that it is in the United Kingdom at ``instant``, which is aware."""
    day = instant.astimezone(UTC).date()
    tomorrow = day + timedelta(days=1)
    return tomorrow if london_midnight(tomorrow) <= instant else day


def _last_sunday(year: int, month: int) -> date:
    last = date(year, month, 31)  # March and October both have 31 days
    return last - timedelta(days=(last.weekday() + 1) % 7)


class Table:
    """One table of a file being read; `close` refuses the keys that nobody asked for."""

    def __init__(self, content: Mapping[str, object], file: str, name: str = "") -> None:
        self.content = content
        self.file = file
        self.name = name
        self._asked: set[str] = set()

    def has(self, key: str) -> bool:
        """Return whether ``key`` is given; asking makes it known."""
        self._asked.add(key)
        return key in self.content

    def mistake(self, key: str, cure: str) -> Mistake:
        """Return the error to raise about ``key``."""
        return Mistake(self.file, self.name, key, cure)

    def text(self, key: str, default: str | None = None) -> str:
        """Return a text that is not blank."""
        value = self._value(key, default)
        if not isinstance(value, str) or (not value.strip() and value != default):
            raise self.mistake(key, "write a text in quotation marks")
        return value

    def identifier(self, key: str) -> str:
        """Return a text that can name something in a message, a file and a command."""
        value = self.text(key)
        if not NAME.fullmatch(value):
            raise self.mistake(key, "write 1 to 64 of a-z, A-Z, 0-9, full stop and hyphen")
        return value

    def texts(self, key: str, default: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return a list of texts without repeats; an empty one only if it is the default."""
        value = self._value(key, default)
        good = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        if not good or (not value and value != default):
            raise self.mistake(key, 'write a list of texts, such as ["YJ"]')
        items = tuple(str(item) for item in value)  # type: ignore[attr-defined]  # a list: checked
        if len(set(items)) != len(items):
            raise self.mistake(key, "remove the repeated item")
        return items

    def choice(self, key: str, allowed: Collection[str], default: str | None = None) -> str:
        """Return a text that is one of ``allowed``."""
        value = self.text(key, default)
        if value not in allowed and value != default:
            raise self.mistake(key, _one_of(value, allowed))
        return value

    def choices(
        self, key: str, allowed: Collection[str], default: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """Return a list of texts that are all among ``allowed``."""
        values = self.texts(key, default)
        for value in values:
            if value not in allowed:
                raise self.mistake(key, _one_of(value, allowed))
        return values

    def flag(self, key: str, *, default: bool | None = None) -> bool:
        """Return true or false."""
        value = self._value(key, default)
        if not isinstance(value, bool):
            raise self.mistake(key, "write true or false")
        return value

    def number(self, key: str, least: int, default: int | None = None) -> int:
        """Return a whole number not below ``least``."""
        value = self._value(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self.mistake(key, f"write a whole number, {least} or more")
        return value

    def day(self, key: str) -> date:
        """Return a calendar day."""
        value = self._value(key, None)
        if not isinstance(value, date) or isinstance(value, datetime):
            raise self.mistake(key, "write a date such as 2027-03-31, without quotation marks")
        return value

    def days(self, key: str) -> tuple[date, ...]:
        """Return a list of calendar days."""
        value = self._value(key, None)
        good = isinstance(value, list) and all(type(item) is date for item in value)
        if not good:
            raise self.mistake(key, "write a list of dates such as [2027-12-27, 2027-12-28]")
        return tuple(value)  # type: ignore[arg-type]  # a list: checked

    def day_begins(self, key: str) -> datetime | None:
        """Return the first instant of an optional day, None when it is not given."""
        return london_midnight(self.day(key)) if self.has(key) else None

    def day_ends(self, key: str) -> datetime | None:
        """Return the first instant after an optional day, None when it is not given."""
        return london_midnight(self.day(key) + timedelta(days=1)) if self.has(key) else None

    def instant(self, key: str) -> datetime:
        """Return an instant with its offset, in UTC."""
        value = self._value(key, None)
        if not isinstance(value, datetime) or value.tzinfo is None:
            raise self.mistake(key, "write an instant such as 2027-03-31T00:00:00Z")
        return value.astimezone(UTC)

    def table(self, key: str, *, optional: bool = False) -> "Table":
        """Return the table ``key``; an empty one when it is optional and absent."""
        value = self._value(key, {} if optional else None)
        if not isinstance(value, Mapping):
            raise self.mistake(key, f"write a table headed [{self._below(key)}]")
        return Table(value, self.file, self._below(key))

    def tables(self, key: str, *, optional: bool = False) -> tuple["Table", ...]:
        """Return the tables ``[[key]]``, numbered from 1 in their names."""
        value = self._value(key, [] if optional else None)
        items = value if isinstance(value, list) else [value]
        good = all(isinstance(item, Mapping) for item in items)
        if not good or items is not value or not (items or optional):
            raise self.mistake(key, f"write one table or more headed [[{self._below(key)}]]")
        return tuple(
            Table(item, self.file, f"{self._below(key)} {number}")
            for number, item in enumerate(items, 1)
        )

    def close(self) -> None:
        """Refuse any key that was not asked for.

        Raises:
            Mistake: a key is not known; the nearest known one is offered.
        """
        for key in self.content:
            if key not in self._asked:
                near = get_close_matches(key, self._asked, n=1)
                known = ", ".join(sorted(self._asked))
                cure = f"did you mean {near[0]}?" if near else f"the keys here are {known}"
                raise self.mistake(key, f"this key is not known: {cure}")

    def _below(self, key: str) -> str:
        return f"{self.name}.{key}" if self.name else key

    def _value(self, key: str, default: object) -> object:
        self._asked.add(key)
        value = self.content.get(key, default)
        if value is None:
            raise self.mistake(key, "this key is missing")
        return value


def _one_of(value: str, allowed: Collection[str]) -> str:
    near = get_close_matches(value, allowed, n=1)
    if near:
        return f"{value!r} is not known: did you mean {near[0]}?"
    return f"{value!r} is not known: write one of {', '.join(sorted(allowed))}"
