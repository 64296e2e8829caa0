"""Who may be worked for now: places, quotas and turns, on a clock that the test moves."""

import asyncio
from collections.abc import Iterator

import pytest

from broker.core.errors import Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.admission import (
    AGAIN_S_MAX,
    FLOOD_WAIT_S_MAX,
    WAIT_S_MAX,
    Admission,
    Place,
    Quotas,
    Whom,
)

A, B, C = (frozenset({AgencyId(name)}) for name in ("agency-a", "agency-b", "agency-c"))


class Hand:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class Desk:
    """An admission, and those who stand before it."""

    def __init__(self, **quotas: float) -> None:
        self.hand = Hand()
        self.admission = Admission(Quotas(**quotas), self.hand)  # type: ignore[arg-type]
        self.served: list[str] = []
        self.told: dict[str, Reason] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.places: dict[str, Place] = {}

    async def come(self, *names: str, whom: Whom = A) -> None:
        for name in names:
            try:
                self.places[name] = self.admission.enter(whom, 1)
            except Transient as error:
                self.told[name] = error.reason
                continue
            self.tasks[name] = asyncio.create_task(self._wait(name))
            await settled()

    async def _wait(self, name: str) -> None:
        try:
            await self.admission.turn(self.places[name])
        except Transient as error:
            self.told[name] = error.reason
            self.admission.leave(self.places[name])
        else:
            self.served.append(name)

    async def go(self, *names: str) -> None:
        for name in names:
            self.admission.leave(self.places[name])
            await settled()

    async def go_all(self) -> list[str]:
        """Let everybody be served one after the other; return their order."""
        for name in self.served:  # grows meanwhile
            await self.go(name)
        return self.served


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def refused(admission: Admission, whom: Whom, size: int = 1) -> Transient:
    with pytest.raises(Transient) as caught:
        admission.enter(whom, size)
    return caught.value


@pytest.fixture
def empty() -> Iterator[list[Admission]]:
    """Admissions that have to be empty at the end."""
    seen: list[Admission] = []
    yield seen
    for admission in seen:
        assert (admission.submissions, admission.bytes) == (0, 0)
        assert (admission.working, admission.waiting) == (0, 0)


async def test_turns_are_bounded_and_handed_on_oldest_first(empty: list[Admission]) -> None:
    desk = Desk(working_max=2)
    empty.append(desk.admission)

    await desk.come("1", "2", "3", "4")

    assert desk.served == ["1", "2"]
    assert (desk.admission.working, desk.admission.waiting) == (2, 2)
    assert await desk.go_all() == ["1", "2", "3", "4"]


async def test_turns_go_round_the_agencies_whatever_one_has_waiting(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1)
    empty.append(desk.admission)

    await desk.come(*(f"a{number}" for number in range(6)))
    await desk.come("b0", "b1", whom=B)
    await desk.come("c0", whom=C)

    assert await desk.go_all() == ["a0", "a1", "b0", "c0", "a2", "b1", "a3", "a4", "a5"]


async def test_a_burst_within_the_quota_is_worked_off_in_order_however_long_it_takes(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1)
    empty.append(desk.admission)
    await desk.come("first", "old")
    desk.hand.at += WAIT_S_MAX - 0.01
    await desk.come("new")

    assert await desk.go_all() == ["first", "old", "new"]
    assert desk.told == {}


async def test_of_an_agency_that_floods_the_newest_goes_first_and_the_late_come_again(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1, agency_in_flight_max=4)
    empty.append(desk.admission)
    await desk.come("first", "a", "b", "c")
    desk.hand.at += FLOOD_WAIT_S_MAX / 2
    await desk.come("d")  # one too many, so a makes room
    desk.hand.at += FLOOD_WAIT_S_MAX / 2 + 0.01  # now b and c have waited too long as well
    await desk.come("e")

    assert await desk.go_all() == ["first", "e", "d"]
    assert desk.told == dict.fromkeys(["a", "b", "c"], Reason.QUOTA_IN_FLIGHT)


async def test_beside_a_flood_another_agency_keeps_its_order_and_its_patience(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1, agency_in_flight_max=3)
    empty.append(desk.admission)
    await desk.come("a0", "a1", "a2", "a3")
    await desk.come("b0", "b1", whom=B)
    desk.hand.at += FLOOD_WAIT_S_MAX + 0.01

    assert await desk.go_all() == ["a0", "b0", "b1"]
    assert desk.told == dict.fromkeys(["a1", "a2", "a3"], Reason.QUOTA_IN_FLIGHT)


async def test_a_broker_full_of_one_agencys_flood_tells_it_that_the_broker_is_full(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1, in_flight_max=3)
    empty.append(desk.admission)
    await desk.come("a0", "a1", "a2")
    await desk.come("b0", whom=B)
    desk.hand.at += FLOOD_WAIT_S_MAX + 0.01

    assert await desk.go_all() == ["a0", "b0"]
    assert desk.told == dict.fromkeys(["a1", "a2"], Reason.OVERLOADED)


@pytest.mark.parametrize("emptied_by", ["served", "turned away", "cancelled"])
async def test_a_flood_is_over_once_nothing_of_it_waits(
    empty: list[Admission], emptied_by: str
) -> None:
    desk = Desk(working_max=1, agency_in_flight_max=3)
    empty.append(desk.admission)
    await desk.come("first", "a", "b", "c")
    if emptied_by == "turned away":
        desk.hand.at += FLOOD_WAIT_S_MAX + 0.01
    if emptied_by == "cancelled":
        for name in ("b", "c"):
            desk.tasks[name].cancel()
            await settled()
            desk.admission.leave(desk.places[name])
    await desk.go_all()

    await desk.come("1", "2")
    desk.hand.at += FLOOD_WAIT_S_MAX + 0.01
    await desk.go_all()

    assert desk.served[-2:] == ["1", "2"]


async def test_whoever_waited_too_long_is_told_to_come_again(empty: list[Admission]) -> None:
    desk = Desk(working_max=1)
    empty.append(desk.admission)
    await desk.come("first", "old")
    desk.hand.at += WAIT_S_MAX + 0.01
    await desk.come("new")

    await desk.go("first")

    assert desk.told == {"old": Reason.OVERLOADED}
    assert desk.served == ["first", "new"]
    await desk.go("new")


async def test_a_full_broker_takes_a_place_back_from_whoever_holds_most(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1, in_flight_max=4)
    empty.append(desk.admission)
    await desk.come("a0", "a1", "a2")
    await desk.come("b0", whom=B)

    await desk.come("c0", whom=C)

    assert desk.told == {"a1": Reason.OVERLOADED}
    assert desk.admission.submissions == 4
    await desk.go_all()


async def test_a_small_agency_does_not_make_room_for_a_large_one() -> None:
    desk = Desk(working_max=1, in_flight_max=4)
    for _ in range(3):
        desk.admission.enter(A, 1)  # they are still being read
    await desk.admission.turn(desk.admission.enter(B, 1))

    assert refused(desk.admission, A).reason is Reason.OVERLOADED


async def test_an_agency_over_its_share_is_told_that_it_is_its_quota(
    empty: list[Admission],
) -> None:
    desk = Desk(working_max=1, agency_in_flight_max=2)
    empty.append(desk.admission)

    await desk.come("a0", "a1", "a2")
    await desk.come("b0", whom=B)

    assert desk.told == {"a1": Reason.QUOTA_IN_FLIGHT}
    assert await desk.go_all() == ["a0", "a2", "b0"]


def test_those_whose_bodies_are_still_being_read_cannot_be_turned_away() -> None:
    admission = Admission(Quotas(agency_in_flight_max=1))
    admission.enter(A, 1)

    assert refused(admission, A).reason is Reason.QUOTA_IN_FLIGHT
    admission.enter(B, 1)


def test_those_who_are_turned_away_come_again_at_different_times() -> None:
    admission = Admission(Quotas(agency_in_flight_max=1))
    admission.enter(A, 1)

    told = {refused(admission, A).retry_after_s for _ in range(300)}

    assert told == set(range(1, AGAIN_S_MAX + 1))


def test_bytes_are_bounded_for_each_agency_and_for_all() -> None:
    admission = Admission(Quotas(bytes_max=100, agency_bytes_max=60))
    place = admission.enter(A, 60)

    assert refused(admission, A, 1).reason is Reason.QUOTA_IN_FLIGHT
    assert refused(admission, B, 41).reason is Reason.OVERLOADED
    admission.enter(B, 40)
    admission.leave(place)
    admission.enter(A, 60)
    assert (admission.submissions, admission.bytes) == (2, 100)


def test_an_agency_that_sends_too_often_is_told_when_to_come_again() -> None:
    hand = Hand()
    admission = Admission(Quotas(agency_rate_per_s=0.5, agency_burst=2), hand)
    for _ in range(2):
        admission.enter(A, 1)

    told = refused(admission, A)

    assert (told.reason, told.retry_after_s) == (Reason.QUOTA_RATE, 2)
    admission.enter(B, 1)
    hand.at += 2
    admission.enter(A, 1)
    hand.at += 1000  # a rest earns no more than the burst
    for _ in range(2):
        admission.enter(A, 1)
    assert refused(admission, A).reason is Reason.QUOTA_RATE


@pytest.mark.parametrize("granted", [False, True])
async def test_a_request_that_is_cancelled_takes_no_turn_with_it(
    empty: list[Admission], *, granted: bool
) -> None:
    desk = Desk(working_max=1)
    empty.append(desk.admission)
    await desk.come("1", "2", "3")

    if granted:
        desk.admission.leave(desk.places["1"])  # the turn is on its way to 2
    desk.tasks["2"].cancel()
    await settled()
    desk.admission.leave(desk.places["2"])
    if not granted:
        desk.admission.leave(desk.places["1"])
    await settled()

    assert desk.served == ["1", "3"]
    await desk.go("3")


def test_a_place_is_given_back_once(empty: list[Admission]) -> None:
    admission = Admission(Quotas())
    empty.append(admission)
    place = admission.enter(A, 5)

    admission.leave(place)
    admission.leave(place)
