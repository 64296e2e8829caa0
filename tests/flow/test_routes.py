"""Routes that an operator pauses, and records that a worker compares with what may be shown."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from adapters.contract import Delivered
from broker.core.agency import SUSPENDED
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.outcome import DeliveryState
from broker.edge import deliveries
from broker.edge.attempts import Attempts
from broker.edge.disclosure import Ready
from broker.edge.intake import Submitted
from broker.edge.ledger import verify_ledger
from broker.edge.route_service import RouteService
from broker.ports import Arrival, Dispatch
from tests.flow.delivery_world import HR, PORTAL, World, world


def routes(w: World) -> RouteService:
    return RouteService(w.store, w.registers, w.transport, None, w.clock)


async def test_while_a_route_is_paused_nothing_is_handed_over_and_then_everything(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        first = await routes(w).pause(PORTAL, "operator")
        again = await routes(w).pause(PORTAL, "operator")
        sent = await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()
        await w.runtime.relay.pump([PORTAL])
        waiting = await w.row(sent)
        paused = {one["recipient"]: one for one in await routes(w).routes()}[PORTAL]

        await routes(w).resume(PORTAL, "operator")
        await w.settle()

        assert (first["done"], again["done"]) == (True, False)
        assert (waiting["attempts"], waiting["state"]) == (0, "pending")
        assert (paused["waiting"], paused["paused_by"]) == (1, "operator")
        assert len(portal.given) == 1
        assert (await w.row(sent))["attempts"] == 1
        assert (await w.store.read(verify_ledger)).fault == ""


async def test_what_lies_in_a_lane_when_its_route_is_paused_is_not_attempted(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        w.park()
        await w.runtime.relay.pump()
        arrival = await w.transport.receive(PORTAL)

        await routes(w).pause(PORTAL, "operator")
        await w.attempts.make(arrival)

        row = await w.row(sent)
        assert (portal.given, row["attempts"], row["lease_owner"]) == ([], 0, None)


async def test_a_pause_outlives_the_process(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        await routes(w).pause(PORTAL, "operator")
        await w.close()
        w.open()
        await w.send("VacancyPublished", HR, PORTAL)
        await w.settle()

        assert portal.given == []


async def test_only_a_registered_agencys_route_can_be_paused(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        with pytest.raises(Rejection):
            await routes(w).pause(AgencyId("nobody-here"), "operator")
        with pytest.raises(Rejection):
            await routes(w).resume(AgencyId("nobody-here"), "operator")


def worker_of(w: World) -> Attempts:
    return replace(w.attempts, owner="worker", lease=timedelta(seconds=60))


async def claimed_for_a_worker(w: World, sent: Submitted) -> Dispatch:
    """Claim the one delivery of ``sent`` as a relay does whose worker is another process."""
    row = await w.row(sent)
    until = w.clock.now() + timedelta(seconds=60)
    (claimed,) = await w.store.write(
        lambda conn, _ledger: deliveries.claim(
            conn,
            AgencyId(str(row["recipient"])),
            owner="relay",
            now=millis(w.clock.now()),
            until=millis(until),
            limit=1,
            counted=False,
        )
    )
    return Dispatch(
        claimed.delivery_id, claimed.recipient, claimed.order_key, claimed.attempt, until
    )


async def body_of(w: World, dispatch: Dispatch) -> bytes:
    held = await w.store.read(lambda conn: deliveries.load(conn, dispatch.delivery_id))
    assert held is not None
    ready = await w.attempts.discloser.prepare(held)
    assert isinstance(ready, Ready)
    return ready.body


async def test_a_worker_takes_over_hands_over_and_records_once(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        dispatch = await claimed_for_a_worker(w, sent)
        arrival = Arrival(dispatch, await body_of(w, dispatch))

        await worker_of(w).make(arrival)
        await worker_of(w).make(arrival)  # a duplicate in the topic

        assert [one.attempt for one in portal.given] == [1]
        assert (await w.row(sent))["state"] == DeliveryState.DELIVERED.value


async def test_a_record_that_was_not_made_from_the_delivery_is_not_handed_over(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        other = await w.send("VacancyPublished", HR, PORTAL, seed=9)
        dispatch = await claimed_for_a_worker(w, sent)
        strange = await body_of(w, await claimed_for_a_worker(w, other))

        for body in (strange, b"<Envelope/>", b"nothing"):
            await worker_of(w).make(Arrival(dispatch, body))
            w.clock.pass_(seconds=120)
            row = await w.row(sent)
            assert (row["attempts"], row["reason"]) == (0, "broker.record_unreadable")
            dispatch = await claimed_for_a_worker(w, sent)

        assert portal.given == []


async def test_the_rules_are_asked_again_when_the_worker_has_the_record(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        dispatch = await claimed_for_a_worker(w, sent)
        arrival = Arrival(dispatch, await body_of(w, dispatch))

        w.registers.change_agency(PORTAL, status=SUSPENDED)
        await worker_of(w).make(arrival)

        assert portal.given == []
        assert (await w.row(sent))["state"] == DeliveryState.REFUSED.value


async def test_a_worker_that_was_stopped_before_handing_over_does_not_begin(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        dispatch = await claimed_for_a_worker(w, sent)
        arrival = Arrival(dispatch, await body_of(w, dispatch))
        asked = w.consents.held

        async def stopped_meanwhile(subject: object) -> object:
            w.clock.pass_(seconds=50)
            return await asked(subject)  # type: ignore[arg-type]

        w.consents.held = stopped_meanwhile  # type: ignore[method-assign, assignment]
        await worker_of(w).make(arrival)

        row = await w.row(sent)
        assert (portal.given, row["attempts"], row["state"]) == ([], 0, "pending")


async def test_a_zombie_records_nothing_although_the_far_side_took_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        portal = w.push_to(PORTAL)
        sent = await w.send("VacancyPublished", HR, PORTAL)
        dispatch = await claimed_for_a_worker(w, sent)
        arrival = Arrival(dispatch, await body_of(w, dispatch))

        async def while_it_hangs(_delivery: object) -> Delivered:
            if len(portal.given) == 1:
                w.clock.pass_(seconds=120)
                again = await claimed_for_a_worker(w, sent)
                successor = replace(worker_of(w), owner="successor")
                await successor.make(Arrival(again, arrival.body))
            return Delivered("scripted")

        portal.behave = while_it_hangs
        await worker_of(w).make(arrival)

        assert [one.attempt for one in portal.given] == [1, 2]
        assert (await w.row(sent))["attempts"] == 2
        assert (await w.levels(sent)).count("L2") == 1
