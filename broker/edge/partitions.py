"""Where bodies lie on PostgreSQL: a partition for each month, let go of once it is empty.

What is dropped leaves no holes to be swept, however much it was. Bodies of a month that has no
partition lie in the rest, `sealed_body_rest`: nothing is refused for want of one.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection

from broker.core.instant import millis

PARENT: Final = "sealed_body"
REST: Final = "sealed_body_rest"
AHEAD: Final = 2  # months made before they come
_PATTERN: Final = re.compile(rf"{PARENT}_(\d{{4}})_(\d{{2}})")
# A backup may hold the table for hours, and who waits for it makes all others wait behind.
_LOCK_MS: Final = 200
_CHILDREN: Final = (
    "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
    " WHERE inhparent = 'sealed_body'::regclass"
)


@dataclass(frozen=True, slots=True, order=True)
class Month:
    """A month of the calendar, in UTC."""

    year: int
    month: int

    @property
    def table(self) -> str:
        """The name of its partition."""
        return f"{PARENT}_{self.year:04}_{self.month:02}"

    @property
    def next(self) -> "Month":
        """The month after."""
        return Month(self.year + self.month // 12, self.month % 12 + 1)

    @property
    def first(self) -> str:
        """What no id of this month comes before, and every id of an earlier one does."""
        digits = f"{millis(datetime(self.year, self.month, 1, tzinfo=UTC)):012x}"
        return f"{digits[:8]}-{digits[8:]}"  # as a UUID of version 7 begins


def month_of(at: datetime) -> Month:
    """Return the month in which ``at``, aware, lies."""
    at = at.astimezone(UTC)
    return Month(at.year, at.month)


def tend(conn: Connection, at: datetime) -> None:
    """Make the partitions of this month and the next ones; drop past ones that are empty.

    Raises:
        DBAPIError: somebody else holds the table; whatever was begun is to be rolled back.
    """
    this = month_of(at)
    found = {month for name in conn.exec_driver_sql(_CHILDREN).scalars() for month in _read(name)}
    wanted = [this]
    for _ in range(AHEAD):
        wanted.append(wanted[-1].next)
    missing = [month for month in wanted if month not in found and not _has_rows(conn, month)]
    over = [month for month in sorted(found) if month < this and _empty(conn, month)]
    if not missing and not over:
        return
    conn.exec_driver_sql(f"SET LOCAL lock_timeout = {_LOCK_MS}")
    for month in missing:
        conn.exec_driver_sql(
            f"CREATE TABLE {month.table} PARTITION OF {PARENT}"
            f" FOR VALUES FROM ('{month.first}') TO ('{month.next.first}')"
        )
    for month in over:
        conn.exec_driver_sql(f"DROP TABLE {month.table}")
    conn.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")


def _read(name: str) -> list[Month]:
    found = _PATTERN.fullmatch(name)
    return [] if found is None else [Month(int(found[1]), int(found[2]))]


def _has_rows(conn: Connection, month: Month) -> bool:
    """Return whether bodies of ``month`` lie in the rest: then they stay there to their end."""
    return bool(
        conn.exec_driver_sql(
            f"SELECT EXISTS (SELECT FROM {REST} WHERE message >= '{month.first}'"  # noqa: S608
            f" AND message < '{month.next.first}')"
        ).scalar_one()
    )


def _empty(conn: Connection, month: Month) -> bool:
    held = f"SELECT EXISTS (SELECT FROM {month.table})"  # noqa: S608 - of our making
    return not conn.exec_driver_sql(held).scalar_one()
