"""Whether a message comes in its time. What happened before is asked of the store, not here."""

from datetime import datetime, timedelta

from broker.core.errors import Rejection
from broker.core.limits import Limits
from broker.core.message import Header
from broker.core.reasons import Reason


def check_fresh(header: Header, limits: Limits, now: datetime) -> None:
    """Refuse a message from the future, one older than the replay window, and an expired one.

    Outside the window the broker may have forgotten that it accepted the message before, so
    a replay would pass for new.

    Raises:
        Rejection: with the reason.
    """
    # step 1, ISP-1.5: a message comes in its time.
    if header.created_at > now + timedelta(seconds=limits.clock_skew_s):
        raise Rejection(Reason.FUTURE, pointer="/Envelope/Header/CreatedAt")
    if header.created_at < now - timedelta(seconds=limits.age_s_max):
        raise Rejection(Reason.STALE, pointer="/Envelope/Header/CreatedAt")
    if header.expires_at is not None and header.expires_at <= now:
        raise Rejection(Reason.EXPIRED, pointer="/Envelope/Header/Handling/ExpiresAt")
