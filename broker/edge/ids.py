"""Ids of our own making: UUIDs of version 7, in the order in which they were made."""

import secrets
import threading
import time

_TAIL_BITS = 74  # rand_a and rand_b of RFC 9562 §5.7, taken together
_STEP_BITS = 32  # so that one id says nothing about the next


class Uuid7:
    """Makes UUIDs of version 7 (RFC 9562 §6.2, method 2): each greater than the one before.

    Within a millisecond the random part counts on by a random step. When the clock goes
    back, or the random part runs over, ids go on from the last millisecond used.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._millis = 0
        self._tail = 0

    def __call__(self, now_ms: int) -> str:
        """Return the next id, for ``now_ms`` milliseconds since 1970 UTC."""
        with self._lock:
            if now_ms > self._millis:
                self._millis = now_ms
                self._tail = secrets.randbits(_TAIL_BITS - 1)  # room to count on
            else:
                self._tail += secrets.randbits(_STEP_BITS) + 1
                if self._tail >> _TAIL_BITS:
                    self._millis += 1
                    self._tail = secrets.randbits(_TAIL_BITS - 1)
            return _text(self._millis, self._tail)


def _text(millis: int, tail: int) -> str:
    rand_a, rand_b = tail >> 62, tail & (1 << 62) - 1
    digits = f"{millis << 80 | 7 << 76 | rand_a << 64 | 2 << 62 | rand_b:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


_make = Uuid7()


def new_id() -> str:
    """Return a new UUIDv7, greater than every one that this process made before."""
    return _make(time.time_ns() // 1_000_000)
