"""The one reading of the clock."""

import time
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock: instants for people and rules, seconds for durations."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def monotonic(self) -> float:
        """Return seconds that never go back, for measuring how long something took."""
        return time.monotonic()
