"""Who may be worked for now: bounds, quotas and turns, by agency.

A submission takes a *place* before its body is read, and waits for its *turn* before it is
parsed. Places bound memory; turns bound the work that runs at once, and with it the latency
of what is accepted. Three rules keep one agency's flood from being everybody's:

- turns go round the agencies, not round the submissions;
- when the broker is full, a place is taken back from the agency that holds most;
- an agency over its own quota is told so (429), whoever else is there.

Within an agency the oldest goes first, and a burst that fits its quota is worked off in order.
One that sends more than its quota holds is *flooding*, until nothing of it waits: then the newest
goes first and whoever has waited for a moment is told to come again. Otherwise everything that is
accepted from it would be late by the whole length of its queue, for as long as the flood lasts.
"""

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from broker.core.errors import Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason

WAIT_S_MAX: Final = 30.0  # most senders give up about then
FLOOD_WAIT_S_MAX: Final = 0.1  # about what a message takes that does not wait
AGAIN_S_MAX: Final = 5  # until those who were turned away are to have come again

Whom = frozenset[AgencyId]


@dataclass(frozen=True, slots=True)
class Quotas:
    """Bounds of one broker process; ``agency`` ones hold for each agency.

    ``rate_per_s`` 0: no bound on how often. ``burst`` is what may come at once after a rest.
    """

    in_flight_max: int = 1024
    bytes_max: int = 256 * 1024 * 1024
    working_max: int = 24
    agency_in_flight_max: int = 512
    agency_bytes_max: int = 128 * 1024 * 1024
    agency_rate_per_s: float = 0.0
    agency_burst: int = 200


@dataclass(slots=True, eq=False)
class Place:
    """Room for one submission, from its first header to its answer."""

    share: "_Share"
    size: int
    waits: asyncio.Future[None] | None = None
    since: float = 0.0
    working: bool = False
    held: bool = True


@dataclass(slots=True, eq=False)
class _Share:
    """What one agency (or those that one system speaks for) holds and has left."""

    in_flight: int = 0
    bytes: int = 0
    tokens: float = 0.0
    counted_at: float = 0.0
    waiting: deque[Place] = field(default_factory=deque)
    flooding: Reason | None = None  # and what it is told


class Admission:
    """Gives out places and turns on one event loop. ``monotonic`` tells seconds."""

    def __init__(self, quotas: Quotas, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.submissions = 0
        self.bytes = 0
        self.working = 0
        self._quotas = quotas
        self._now = monotonic
        self._shares: dict[Whom, _Share] = {}
        self._turns: deque[_Share] = deque()  # those with somebody waiting, next first

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return sum(len(share.waiting) for share in self._turns)

    def enter(self, whom: Whom, size: int) -> Place:
        """Take a place for a body of ``size`` bytes from a system that speaks for ``whom``.

        Raises:
            Transient: the agency is over its quota, or the broker is full.
        """
        quotas, share = self._quotas, self._share(whom)
        self._spend(share)
        if share.bytes + size > quotas.agency_bytes_max:
            raise _later(Reason.QUOTA_IN_FLIGHT)
        if self.bytes + size > quotas.bytes_max:
            raise _later(Reason.OVERLOADED)
        if share.in_flight >= quotas.agency_in_flight_max:
            self._make_room(share, Reason.QUOTA_IN_FLIGHT)
        elif self.submissions >= quotas.in_flight_max:
            largest = max(self._turns, key=lambda other: other.in_flight, default=share)
            if largest.in_flight < share.in_flight:
                raise _later(Reason.OVERLOADED)
            self._make_room(largest, Reason.OVERLOADED)
        share.in_flight += 1
        share.bytes += size
        self.submissions += 1
        self.bytes += size
        return Place(share, size)

    async def turn(self, place: Place) -> None:
        """Wait until ``place`` may be worked on.

        Raises:
            Transient: others had to go first.
        """
        if self.working < self._quotas.working_max:
            # Nobody can be waiting: whoever leaves hands the turn on.
            self._begin(place)
            return
        place.waits = asyncio.get_running_loop().create_future()
        place.since = self._now()
        if not place.share.waiting:
            self._turns.append(place.share)
        place.share.waiting.append(place)
        await place.waits

    def leave(self, place: Place) -> None:
        """Give a place back, and the turn to the next one."""
        if place.working:
            place.working = False
            self.working -= 1
        elif place.held and place.waits is not None:
            place.share.waiting.remove(place)
            self._forget(place.share)
        self._give_back(place)
        self._next()

    def _next(self) -> None:
        while self._turns and self.working < self._quotas.working_max:
            share = self._turns.popleft()
            self._tell_the_late(share)
            if share.waiting:
                place = share.waiting.pop() if share.flooding else share.waiting.popleft()
                self._begin(place)
                # One whose request was cancelled this moment gives the turn back by itself.
                if place.waits is not None and not place.waits.done():
                    place.waits.set_result(None)
            if share.waiting:
                self._turns.append(share)
            else:
                share.flooding = None

    def _begin(self, place: Place) -> None:
        place.working = True
        self.working += 1

    def _tell_the_late(self, share: _Share) -> None:
        late = self._now() - (FLOOD_WAIT_S_MAX if share.flooding else WAIT_S_MAX)
        while share.waiting and share.waiting[0].since < late:
            self._turn_away(share, share.flooding or Reason.OVERLOADED)

    def _make_room(self, share: _Share, reason: Reason) -> None:
        """Take a place back from whoever of ``share`` has waited longest; there may be nobody."""
        if not share.waiting:
            raise _later(reason)
        share.flooding = reason
        self._turn_away(share, reason)
        self._forget(share)

    def _forget(self, share: _Share) -> None:
        if not share.waiting:
            self._turns.remove(share)
            share.flooding = None

    def _turn_away(self, share: _Share, reason: Reason) -> None:
        place = share.waiting.popleft()
        self._give_back(place)
        if place.waits is not None and not place.waits.done():
            place.waits.set_exception(_later(reason))

    def _give_back(self, place: Place) -> None:
        if not place.held:
            return
        place.held = False
        place.share.in_flight -= 1
        place.share.bytes -= place.size
        self.submissions -= 1
        self.bytes -= place.size

    def _share(self, whom: Whom) -> _Share:
        """Return what ``whom`` has. Only the register makes new ones: there are few."""
        share = self._shares.get(whom)
        if share is None:
            share = _Share(tokens=self._quotas.agency_burst, counted_at=self._now())
            self._shares[whom] = share
        return share

    def _spend(self, share: _Share) -> None:
        """Count one submission against the agency's rate (a token bucket)."""
        rate, now = self._quotas.agency_rate_per_s, self._now()
        if not rate:
            return
        earned = share.tokens + (now - share.counted_at) * rate
        share.tokens, share.counted_at = min(earned, float(self._quotas.agency_burst)), now
        if share.tokens < 1:
            missing_s = (1 - share.tokens) / rate
            raise Transient(Reason.QUOTA_RATE, retry_after_s=max(1, math.ceil(missing_s)))
        share.tokens -= 1


def _later(reason: Reason) -> Transient:
    """Return what tells a sender to come again: at another time each, or it were a flood anew."""
    return Transient(reason, retry_after_s=random.randint(1, AGAIN_S_MAX))  # noqa: S311 - no secret
