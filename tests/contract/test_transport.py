import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from broker.core.identity import AgencyId
from broker.edge.transport import InProcessTransport
from broker.ports import Arrival, Dispatch, Transport

SCHOOL, POLICE = AgencyId("hylton-school"), AgencyId("northumbria-police")
UNTIL = datetime(2026, 11, 20, 9, 1, tzinfo=UTC)

Make = Callable[[int], Transport]


def dispatch(number: int, recipient: AgencyId = SCHOOL) -> Dispatch:
    return Dispatch(f"01938af0-1111-7000-8000-{number:012}", recipient, "key", 1, UNTIL)


def in_process(lane_max: int) -> Transport:
    return InProcessTransport(lane_max=lane_max)


every_transport = pytest.mark.parametrize("make", [in_process])


@every_transport
async def test_what_is_sent_is_received_by_its_recipient_in_order(make: Make) -> None:
    transport = make(8)
    for number in range(3):
        await transport.send(dispatch(number))

    received = [(await transport.receive(SCHOOL)).dispatch for _ in range(3)]

    assert received == [dispatch(number) for number in range(3)]


@every_transport
async def test_nobody_receives_what_is_for_another(make: Make) -> None:
    transport = make(8)
    await transport.send(dispatch(1, POLICE))

    waiting = asyncio.create_task(transport.receive(SCHOOL))
    assert await transport.receive(POLICE) == Arrival(dispatch(1, POLICE))

    assert not waiting.done()
    await transport.send(dispatch(2))
    assert await waiting == Arrival(dispatch(2))


@every_transport
async def test_a_full_lane_holds_up_its_own_recipient_and_nobody_else(make: Make) -> None:
    transport = make(2)
    for number in range(2):
        await transport.send(dispatch(number))
    held_up = asyncio.create_task(transport.send(dispatch(3)))

    await transport.send(dispatch(4, POLICE))

    assert await transport.receive(POLICE) == Arrival(dispatch(4, POLICE))
    assert not held_up.done()
    await transport.receive(SCHOOL)
    await held_up


@every_transport
async def test_room_says_how_many_more_are_taken(make: Make) -> None:
    transport = make(2)
    assert transport.room(SCHOOL) == 2

    await transport.send(dispatch(1))
    assert transport.room(SCHOOL) == 1
    assert transport.room(POLICE) == 2

    await transport.send(dispatch(2))
    assert transport.room(SCHOOL) == 0


@every_transport
async def test_what_nobody_received_can_be_taken_back(make: Make) -> None:
    transport = make(8)
    for number in range(3):
        await transport.send(dispatch(number))
    taken = await transport.receive(SCHOOL)

    left = transport.take_back()

    assert taken == Arrival(dispatch(0))
    assert left == [dispatch(1), dispatch(2)]
    assert transport.take_back() == []


async def test_settled_waits_until_every_dispatch_is_recorded() -> None:
    transport = InProcessTransport(lane_max=8)
    await transport.send(dispatch(1))
    settled = asyncio.create_task(transport.settled())

    received = await transport.receive(SCHOOL)
    assert not settled.done()
    await transport.done(received)

    await settled
