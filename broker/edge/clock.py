"""The one reading of the clock."""

import threading
import time
from datetime import UTC, datetime
from typing import Any, Protocol

_SPAN_S_MAX = 0.25  # a slower answer says too little about when it was given
_ATTEMPTS = 3
_DRIFT = 0.0005  # seconds a second: how far apart two sound clocks can run


class SystemClock:
    """The machine's clock: instants for people and rules, seconds for durations."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        return datetime.now(UTC)  # noqa: TID251 - this is the one place

    def monotonic(self) -> float:
        """Return seconds that never go back, for measuring how long something took."""
        return time.monotonic()


class Asked(Protocol):
    """A connection to the database whose clock counts."""

    def execute(self, query: str) -> Any:  # noqa: ANN401 - the driver's cursor
        """Run a query."""
        ...


class SharedClock(SystemClock):
    """The clock of the database, which is the same for all nodes on it.

    Between measurements it is carried on by this machine's monotonic clock, so that what
    this machine holds to be the time never matters. Each measurement bounds its own error
    by half the time it took; a reading moves only when the old one lies outside the bounds
    of the new one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_zero: float | None = None  # the instant at which the monotonic clock was 0
        self._error_s = 0.0
        self._measured = 0.0

    def now(self) -> datetime:
        """Return the current instant of the database, aware and in UTC.

        Raises:
            RuntimeError: the clock was never measured.
        """
        if self._at_zero is None:
            raise RuntimeError("the clock of the database was not measured")
        return datetime.fromtimestamp(self._at_zero + time.monotonic(), UTC)

    @property
    def error_s(self) -> float:
        """How far off the last measurement can be by now."""
        return self._error_s + _DRIFT * (time.monotonic() - self._measured)

    def measure(self, database: Asked) -> None:
        """Ask the ``database`` for its time. A measurement that took long is repeated.

        When all took long the best one counts, for a rough hour is better than none.
        """
        spans = []
        for _ in range(_ATTEMPTS):
            before = time.monotonic()
            row = database.execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()
            after = time.monotonic()
            spans.append(((after - before) / 2, float(row[0]) - (before + after) / 2))
            if after - before <= _SPAN_S_MAX:
                break
        error_s, at_zero = min(spans)
        with self._lock:
            self._take(error_s, at_zero)

    def _take(self, error_s: float, at_zero: float) -> None:
        if self._at_zero is not None and abs(self._at_zero - at_zero) <= error_s:
            error_s += abs(self._at_zero - at_zero)
        else:
            self._at_zero = at_zero
        self._error_s, self._measured = error_s, time.monotonic()
