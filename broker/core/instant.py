"""Instants in the two forms in which they are kept: milliseconds since 1970, and RFC 3339."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


def millis(instant: datetime) -> int:
    """Return ``instant``, which is aware, as whole milliseconds since 1970 UTC, rounded down."""
    return (instant - EPOCH) // _MILLISECOND


def from_millis(value: int) -> datetime:
    """Return the aware UTC instant that `millis` gave as ``value``."""
    return EPOCH + value * _MILLISECOND


def rfc3339(instant: datetime) -> str:
    """Return ``instant``, which is aware, as ``2026-11-20T09:00:00.000Z``."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
