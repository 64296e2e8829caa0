"""Clocks on real messages: started by the ledger, stopped by evidence, run out by time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from lxml import etree
from sqlalchemy import select, update

from broker.core.clocks import ClockState
from broker.core.errors import Rejection
from broker.core.outcome import Level
from broker.core.signature import verify_root
from broker.edge import tables
from broker.edge.clock_keeping import ClockKeeper
from broker.edge.clock_notices import NAMESPACE, ClockNotices
from broker.edge.intake import Submitted
from tests.flow.delivery_world import BROKER, CSC, OTHER_CSC, SCHOOL, World, world

ACK, DECISION, READ = "MASH-ACK", "REFERRAL-DECISION", "SAFEGUARDING-READ"


def keeper(w: World) -> ClockKeeper:
    return ClockKeeper(w.store, w.registers, w.clock, notices(w))


def notices(w: World) -> ClockNotices:
    return ClockNotices(w.attempts.recorder, w.registers)


async def told(w: World) -> list[tuple[str, str, str]]:
    """Return the notices that were made: clock, state, to whom."""
    body = tables.sealed_body
    sealed = tables.message.c.id, tables.message.c.wrapped_key, body.c.sealed
    chosen = select(*sealed, tables.delivery.c.recipient, tables.message.c.kek_id)
    chosen = chosen.join(tables.delivery, tables.delivery.c.message == tables.message.c.id)
    chosen = chosen.join(body, (body.c.message == tables.message.c.id) & (body.c.recipient == ""))
    chosen = chosen.where(tables.message.c.message_type == "ClockNotice")
    rows = await w.store.read(lambda conn: conn.execute(chosen.order_by("ledger_seq")).all())
    return [(*_read(w, row), row.recipient) for row in rows]


def _read(w: World, row: Any) -> tuple[str, str]:
    raw = w.ring.unwrap(row.kek_id, row.wrapped_key).open(row.sealed, row.id)
    notice = etree.fromstring(raw).find(f".//{{{NAMESPACE}}}ClockNotice")
    assert notice is not None
    clock, state = (notice.findtext(f"{{{NAMESPACE}}}{name}") for name in ("Clock", "State"))
    assert clock is not None
    assert state is not None
    return clock, state


async def referred(w: World, **header: Any) -> Submitted:
    """Have the school refer a child to social care; Friday morning."""
    sent = await w.send("Referral", SCHOOL, CSC, **header)
    await w.settle()
    return sent


async def states(w: World, of: Submitted) -> dict[str, str]:
    await keeper(w).step()
    found = await keeper(w).of(of.accepted.submission_id)
    return {one["clock"]: one["state"] for one in found}


async def events(w: World) -> list[tuple[str, str]]:
    chosen = select(tables.ledger.c.entry).order_by(tables.ledger.c.seq)
    entries = await w.store.read(lambda conn: list(conn.execute(chosen).scalars()))
    read = [orjson.loads(entry) for entry in entries]
    return [(one["clock"], one["event"]) for one in read if one["kind"] == "clock"]


async def delivery_of(w: World, sent: Submitted) -> str:
    return str((await w.row(sent))["id"])


async def test_a_referral_starts_the_clocks_of_its_clause(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)

        assert await states(w, sent) == {ACK: "running", DECISION: "running", READ: "running"}
        assert await events(w) == []


async def test_what_a_message_answers_is_stopped_by_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        w.clock.pass_(hours=1)
        number = sent.header.message_id
        await w.send("ReferralAcknowledgement", CSC, SCHOOL, correlation_id=number, purpose="CP")

        assert await states(w, sent) == {ACK: "met", DECISION: "running", READ: "met"}
        w.clock.pass_(days=5)
        await w.send("ReferralOutcome", CSC, SCHOOL, correlation_id=number, purpose="CP")
        assert (await states(w, sent))[DECISION] == "met-late"
        assert {(ACK, "met"), (READ, "met"), (DECISION, "met-late")} <= set(await events(w))


async def test_an_answer_from_somebody_else_stops_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        number = sent.header.message_id
        await w.send("Referral", SCHOOL, CSC, correlation_id=number, seed=2)

        assert await states(w, sent) == {ACK: "running", DECISION: "running", READ: "running"}


async def test_an_acknowledgement_stops_what_waits_for_it(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        number = await delivery_of(w, sent)
        await w.service.disclose(number, CSC)
        assert (await states(w, sent))[READ] == "running"  # it was delivered, not read
        await w.service.acknowledge(number, CSC, Level.READ, None)

        assert await states(w, sent) == {ACK: "running", DECISION: "running", READ: "met"}


async def test_a_clock_that_nobody_stops_is_due_overdue_and_escalated_once_each(
    tmp_path: Path,
) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)  # Friday, 20 November
        for when, state in (
            (timedelta(days=2, hours=13, minutes=59), "running"),  # Sunday night
            (timedelta(minutes=1), "due"),  # Monday begins
            (timedelta(days=1) - timedelta(milliseconds=1), "due"),
            (timedelta(milliseconds=1), "overdue"),
            (timedelta(days=1), "escalated"),
            (timedelta(days=30), "escalated"),
        ):
            w.clock.pass_(seconds=when.total_seconds())
            assert (await states(w, sent))[DECISION] == state

        told = [event for clock, event in await events(w) if clock == DECISION]
        assert told == ["due", "overdue", "escalated"]


async def test_who_has_to_answer_then_who_waits_then_who_leads_is_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await w.send("Referral", SCHOOL, OTHER_CSC)  # under an agreement that another leads
        await keeper(w).step()
        for days in (3, 1, 1, 30):
            w.clock.pass_(days=days)
            await keeper(w).step()
            await keeper(w).step()

        assert [one for one in await told(w) if one[0] == DECISION] == [
            (DECISION, "DUE", OTHER_CSC),
            (DECISION, "OVERDUE", OTHER_CSC),
            (DECISION, "OVERDUE", SCHOOL),
            (DECISION, "ESCALATED", OTHER_CSC),
            (DECISION, "ESCALATED", SCHOOL),
            (DECISION, "ESCALATED", CSC),
        ]


async def test_nobody_is_told_of_what_a_clock_has_passed_since(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await referred(w)
        await keeper(w).step()
        w.clock.pass_(days=10)
        await keeper(w).step()

        assert {state for _, state, _ in await told(w)} == {"ESCALATED"}


async def test_a_clock_that_was_met_tells_nobody(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        number = sent.header.message_id
        await w.send("ReferralOutcome", CSC, SCHOOL, correlation_id=number, purpose="CP")
        delivery = await delivery_of(w, sent)
        await w.service.disclose(delivery, CSC)
        await w.service.acknowledge(delivery, CSC, Level.READ, None)
        await keeper(w).step()
        w.clock.pass_(days=10)
        await keeper(w).step()

        assert await told(w) == []


async def test_who_left_the_register_is_not_told(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await referred(w)
        await keeper(w).step()
        left = {key: one for key, one in w.registers.current.agencies.items() if key != SCHOOL}
        w.registers.current = replace(w.registers.current, agencies=left, protocols={})
        w.clock.pass_(days=10)
        await keeper(w).step()

        assert {to for _, _, to in await told(w)} == {CSC}


async def test_a_notice_is_delivered_in_the_brokers_name(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        far = w.push_to(CSC)
        await referred(w)
        await keeper(w).step()
        w.clock.pass_(hours=3)
        await keeper(w).step()
        await w.settle()

        notice = far.given[-1]
        assert (notice.sender, notice.message_type) == (BROKER, "ClockNotice")
        assert b"<State>DUE</State>" in notice.body
        keys = w.registers.current.agencies[BROKER].keys
        verify_root(etree.fromstring(notice.body), keys, w.clock.now())


async def test_what_was_missed_while_nobody_looked_is_recorded_in_order(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        await keeper(w).step()
        w.clock.pass_(days=10)

        assert (await states(w, sent))[ACK] == "escalated"
        told = [event for clock, event in await events(w) if clock == ACK]
        assert told == ["due", "overdue", "escalated"]


async def test_a_step_made_twice_or_by_two_nodes_changes_nothing(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        await keeper(w).step()
        place = select(tables.clock_reader.c.place)
        first = await w.store.read(lambda conn: conn.execute(place).scalar_one())
        w.clock.pass_(days=10)
        await keeper(w).step()
        before, notices_before = await events(w), await told(w)
        # The other node read the same entries, and comes second.
        behind = _Behind(w.store, first - 1)
        await ClockKeeper(behind, w.registers, w.clock, notices(w)).step()  # type: ignore[arg-type]

        assert await events(w) == before
        assert await told(w) == notices_before
        assert await states(w, sent) == {ACK: "escalated", DECISION: "escalated", READ: "escalated"}


class _Behind:
    """A store whose first reading is of an earlier moment."""

    def __init__(self, store: Any, place: int) -> None:
        self._store, self._places = store, [place]

    async def read(self, query: Callable[..., Any]) -> Any:
        if not self._places:
            return await self._store.read(query)
        place = self._places.pop()
        chosen = select(tables.ledger.c.seq, tables.ledger.c.entry)
        chosen = chosen.where(tables.ledger.c.seq > place)
        rows = await self._store.read(lambda conn: conn.execute(chosen).all())
        return place, [(row.seq, row.entry) for row in rows]

    async def write(self, act: Callable[..., Any]) -> Any:
        return await self._store.write(act)


def forget(conn: Any, _ledger: object) -> None:
    """Leave no clock, so that all are made from the ledger again."""
    conn.execute(tables.clock.delete())
    conn.execute(update(tables.clock_reader).values(place=-1))


async def test_a_clock_stands_on_the_ledger_and_can_be_made_from_it_again(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        sent = await referred(w)
        before = await states(w, sent)

        await w.store.write(forget)
        assert await states(w, sent) == before


async def test_clocks_made_again_tell_nothing_twice(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await referred(w)
        await keeper(w).step()
        w.clock.pass_(days=10)
        await keeper(w).step()
        before = await told(w)

        await w.store.write(forget)
        w.clock.pass_(hours=1)
        await keeper(w).step()
        assert before
        assert await told(w) == before


async def test_clocks_are_listed_by_what_runs_out_first(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await referred(w)
        await keeper(w).step()
        w.clock.pass_(hours=5)
        await keeper(w).step()

        open_ones = await keeper(w).listed(None, 10)
        assert open_ones[0]["clock"] == READ
        overdue = await keeper(w).listed(ClockState.OVERDUE, 10)
        assert [one["clock"] for one in overdue] == [READ]
        assert overdue[0]["overdue_from"] == "2026-11-20T14:00:00.000Z"
        with pytest.raises(Rejection):
            await keeper(w).of("nothing")


async def test_the_figures_tell_nothing_of_a_few(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        await referred(w)
        await keeper(w).step()
        (first, *_) = await keeper(w).performance()
        assert first["count"] == "fewer than 5"
        for seed in range(2, 7):
            await referred(w, seed=seed)
        await keeper(w).step()

        told = await keeper(w).performance()
        assert (told[0]["clock"], told[0]["recipient"], told[0]["count"]) == (ACK, "*", 6)
