"""What is on record of a message that a recipient may have, though nobody says that it does.

A process can die with the recipient's answer in its hand, and the rules can stop the next
attempt: then the ledger says after how many attempts the message may have arrived.
"""

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select

from adapters.contract import Delivered, Delivery, Refused, Result, RetryLater
from broker.cli.views import show_message, timeline
from broker.core.agency import SUSPENDED
from broker.core.identity import SubmissionId
from broker.core.instant import from_millis, millis
from broker.core.reasons import Reason
from broker.edge import deliveries, records, tables
from broker.edge.attempts import Patience
from broker.edge.parcels import Packing
from broker.ports import Arrival, Dispatch
from tests.flow.delivery_world import CSC, SCHOOL, World, world

LEASE = timedelta(seconds=60)
UNSEEN = RetryLater(Reason.RECIPIENT_UNREACHABLE, in_doubt=True)
NOT_TAKEN = RetryLater(Reason.RECIPIENT_UNREACHABLE)
Far = Callable[[Delivery], Awaitable[Result]]


def dies_with_the_answer() -> tuple[Far, asyncio.Event]:
    """Return a far side that takes a message, and whose answer is never heard."""
    taken = asyncio.Event()

    async def take(_delivery: Delivery) -> Result:
        taken.set()
        await asyncio.Event().wait()
        return Delivered()

    return take, taken


async def crash(w: World) -> None:
    """End everything at once, recording nothing, and start again."""
    await w.runtime.lanes.stop(grace_s=0)
    await w.store.close()
    w.open()
    await w.runtime.relay.adopt()


def suspend(w: World) -> None:
    w.registers.change_agency(SCHOOL, status=SUSPENDED)


async def facts(w: World, level: str) -> dict[str, object]:
    """Return the facts of the one ledger entry about a delivery's end or level."""
    rows = await w.store.read(
        lambda conn: list(conn.execute(select(tables.ledger.c.entry)).scalars())
    )
    (found,) = [entry for entry in map(json.loads, rows) if entry.get("level") == level]
    return dict(found["facts"])


async def said(w: World, of: SubmissionId, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what the sender's commands print of a message."""
    view = await w.service.message_view(of, frozenset({SCHOOL}))
    rows = await w.store.read(lambda conn: records.evidence_of(conn, of, frozenset({SCHOOL})))
    assert rows is not None
    evidence = [
        {
            "recipient": row.recipient,
            "level": row.level,
            "at": str(row.at),
            "ledger_sequence": row.ledger_seq,
        }
        for row in rows
    ]
    capsys.readouterr()
    show_message(view)
    return "\n".join([capsys.readouterr().out, *(s.words for s in timeline(view, evidence))])


async def test_a_crash_with_the_answer_in_hand_and_a_refusal_afterwards_leave_a_doubt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        council.behave, taken = dies_with_the_answer()
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.runtime.relay.pump()
        await taken.wait()
        await crash(w)
        suspend(w)
        await w.settle()

        assert len(council.given) == 1
        assert (await w.row(sent))["state"] == "refused"
        assert (await facts(w, "refused"))["in_doubt"] == 1
        words = await said(w, sent.accepted.submission_id, capsys)
        assert words.count("may have arrived all the same (in doubt: 1)") == 2


@pytest.mark.parametrize(
    ("answer", "doubt"), [(UNSEEN, 1), (NOT_TAKEN, None)], ids=["unseen", "not taken"]
)
async def test_whether_it_is_in_doubt_is_what_the_adapter_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answer: Result, doubt: int | None
) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC).answer(answer)
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.settle()
        suspend(w)
        w.clock.pass_(seconds=2)
        await w.settle()

        assert (await w.row(sent))["state"] == "refused"
        assert (await facts(w, "refused")).get("in_doubt") == doubt
        words = await said(w, sent.accepted.submission_id, capsys)
        assert ("may have arrived" in words) == bool(doubt)


async def fails(_delivery: Delivery) -> Result:
    raise RuntimeError("a fault of the adapter")


async def hangs(_delivery: Delivery) -> Result:
    await asyncio.Event().wait()
    return Delivered()


@pytest.mark.parametrize("behave", [fails, hangs])
async def test_an_adapter_that_fails_or_takes_too_long_leaves_a_doubt(
    tmp_path: Path, behave: Far
) -> None:
    async with world(tmp_path, Patience(timeout_s=0.5)) as w:
        w.push_to(CSC).behave = behave
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.settle()

        assert (await w.row(sent))["in_doubt"] == 1


async def test_the_end_says_how_many_attempts_are_in_doubt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC).answer(UNSEEN, NOT_TAKEN, UNSEEN)
        sent = await w.send("Referral", SCHOOL, CSC)
        for _ in range(w.patience.attempts_max):
            await w.settle()
            w.clock.pass_(seconds=900)

        assert (await w.row(sent))["state"] == "undeliverable"
        assert (await facts(w, "undeliverable"))["in_doubt"] == 2


async def test_a_refusal_of_the_far_side_is_an_answer(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC).answer(Refused(Reason.RECIPIENT_REFUSED))
        await w.send("Referral", SCHOOL, CSC)
        await w.settle()

        assert "in_doubt" not in await facts(w, "undeliverable")


async def test_what_expires_after_a_crash_says_that_it_may_have_arrived(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        council = w.push_to(CSC)
        council.behave, taken = dies_with_the_answer()
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.runtime.relay.pump()
        await taken.wait()
        await crash(w)
        w.clock.pass_(days=3650)
        await w.service.expire()

        assert (await w.row(sent))["state"] == "expired"
        assert (await facts(w, "expired"))["in_doubt"] == 1


async def test_a_delivery_in_the_end_leaves_no_doubt_in_the_ledger(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC).answer(UNSEEN, Delivered())
        sent = await w.send("Referral", SCHOOL, CSC)
        await w.settle()
        w.clock.pass_(seconds=2)
        await w.settle()

        assert (await w.row(sent))["state"] == "delivered"
        assert "in_doubt" not in await facts(w, "L2")


async def test_what_was_not_handed_over_is_not_in_doubt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC)
        sent = await w.send("Referral", SCHOOL, CSC)
        w.park()
        await w.runtime.relay.pump()
        under_way = (await w.row(sent))["in_doubt"]
        await w.runtime.stop(grace_s=0)
        w.open()
        given_back = (await w.row(sent))["in_doubt"]
        suspend(w)
        await w.settle()

        assert (under_way, given_back) == (1, 0)
        assert "in_doubt" not in await facts(w, "refused")


# -- a worker in another process -------------------------------------------------------------


class Remote:
    """A relay and a worker that share nothing but the database, without the cluster between."""

    def __init__(self, w: World) -> None:
        self.w = w
        attempts = w.attempts
        self.worker = replace(attempts, owner="worker", lease=LEASE)
        self.packing = Packing(
            attempts.store,
            attempts.discloser,
            attempts.recorder,
            attempts.clock,
            random.Random(1),  # noqa: S311 - jitter
            "relay",
        )

    async def dispatch(self) -> Dispatch:
        now = self.w.clock.now()
        until = millis(now + LEASE)
        (claimed,) = await self.w.store.write(
            lambda conn, _ledger: deliveries.claim(
                conn,
                CSC,
                owner="relay",
                now=millis(now),
                until=until,
                limit=1,
                counted=False,
            )
        )
        return Dispatch(
            claimed.delivery_id, CSC, claimed.order_key, claimed.attempt, from_millis(until)
        )

    async def taken_and_unheard(self) -> None:
        """Have the worker hand the message over, and die before it records the answer."""
        council = self.w.push_to(CSC)
        council.behave, taken = dies_with_the_answer()
        dispatch = await self.dispatch()
        dying = asyncio.create_task(self.worker.make(Arrival(dispatch)))
        await taken.wait()
        dying.cancel()
        with suppress(asyncio.CancelledError):
            await dying
        self.w.clock.pass_(seconds=LEASE.total_seconds() + 1)


async def test_what_the_relay_refuses_after_a_worker_died_is_in_doubt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC)
        remote = Remote(w)
        await w.send("Referral", SCHOOL, CSC)
        await remote.taken_and_unheard()
        suspend(w)

        parcel = await remote.packing.parcel(await remote.dispatch())

        assert parcel is None
        entry = await facts(w, "refused")
        assert (entry["attempt"], entry["in_doubt"]) == (1, 1)


async def test_what_the_next_worker_refuses_is_in_doubt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC)
        remote = Remote(w)
        await w.send("Referral", SCHOOL, CSC)
        await remote.taken_and_unheard()
        dispatch = await remote.dispatch()
        suspend(w)

        await remote.worker.make(Arrival(dispatch))

        entry = await facts(w, "refused")
        assert (entry["attempt"], entry["in_doubt"]) == (2, 1)


async def test_what_never_left_the_relay_is_not_in_doubt(tmp_path: Path) -> None:
    async with world(tmp_path) as w:
        w.push_to(CSC)
        remote = Remote(w)
        await w.send("Referral", SCHOOL, CSC)
        dispatch = await remote.dispatch()
        suspend(w)

        assert await remote.packing.parcel(dispatch) is None

        entry = await facts(w, "refused")
        assert entry["attempt"] == 0
        assert "in_doubt" not in entry
