"""Keeps the clocks: starts and stops them by the ledger, and says when one runs out.

A step may run on any node and any number of times: where it got to in the ledger is kept in
the transaction that does the work, a clock stands in the table once, and it goes on to its next
state only from the one it is in.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog
from sqlalchemy import Connection, RowMapping, Select, insert, select, update

from broker.core.clock_facts import Ran, Started, Stopped, performance, read_entry
from broker.core.clocks import ClockState, Deadlines, next_change, state_of
from broker.core.errors import Fault, Rejection
from broker.core.instant import from_millis, millis, rfc3339
from broker.core.ledger import clock_entry
from broker.core.reasons import Reason
from broker.core.submission import Submission
from broker.edge.clock_notices import ClockNotices
from broker.edge.intake import Registers
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from broker.edge.tables import clock as table
from broker.edge.tables import clock_reader, ledger
from broker.ports import Clock

ENTRIES = 500  # of the ledger at a time
CLOCKS = 50  # that go on in one transaction: each may be told of in three signed notices
EVERY_S = 5.0  # between two looks: the shortest term is hours
FIGURES_MAX = 200_000  # clocks that the figures are made of, the newest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ClockKeeper:
    """One process's keeper of clocks; `step` is one round."""

    store: Store
    registers: Registers
    clock: Clock
    notices: ClockNotices

    async def step(self) -> int:
        """Read on in the ledger, then let run out what has run out; return how much was done."""
        done = 0
        while read := await self._read_on():
            done += read
        while gone := await self._go_on():
            done += gone
        return done

    async def run(self, every_s: float = EVERY_S) -> None:
        """Make a step now and every ``every_s`` seconds; a fault of the store is waited out."""
        while True:
            try:
                await self.step()
            except Fault as fault:
                log.warning("clocks_delayed", reason=fault.reason.value)
            await asyncio.sleep(every_s)

    async def _read_on(self) -> int:
        """Take in the next entries of the ledger; return how many there were."""
        place, rows = await self.store.read(_unread)
        if not rows:
            return 0
        register = self.registers.current
        said = [one for _, entry in rows for one in read_entry(orjson.loads(entry), register)]
        last = rows[-1][0]
        now = self.clock.now()
        await self.store.write(
            lambda conn, kept: _take_in(_Writing(conn, kept, now), place, last, said)
        )
        return len(rows)

    async def _go_on(self) -> int:
        now = self.clock.now()
        return await self.store.write(
            lambda conn, kept: _run_out(_Writing(conn, kept, now), self.notices)
        )

    async def listed(self, state: ClockState | None, limit: int) -> list[dict[str, Any]]:
        """Return clocks, those that run out first first; without ``state`` the open ones."""
        chosen = select(table).order_by(table.c.overdue_from).limit(limit)
        if state is None:
            chosen = chosen.where(table.c.stopped_at.is_(None))
        else:
            chosen = chosen.where(table.c.state == state.value)
        return await self._views(chosen)

    async def of(self, submission_id: str) -> list[dict[str, Any]]:
        """Return the clocks of one message.

        Raises:
            Rejection: it has none, or there is no such message.
        """
        found = await self._views(select(table).where(table.c.message == submission_id))
        if not found:
            raise Rejection(Reason.NOT_FOUND)
        return found

    async def performance(self) -> list[dict[str, object]]:
        """Return the figures of the partnership: no message, no person, no small number."""
        columns = (table.c.clock, table.c.recipient, table.c.state)
        chosen = select(*columns, table.c.started_at, table.c.stopped_at)
        chosen = chosen.order_by(table.c.message.desc()).limit(FIGURES_MAX)
        rows = await self.store.read(lambda conn: conn.execute(chosen).all())
        return performance(
            [
                Ran(clock, recipient, ClockState(state), _seconds(started, stopped))
                for clock, recipient, state, started, stopped in rows
            ]
        )

    async def _views(self, chosen: Select[Any]) -> list[dict[str, Any]]:
        rows = await self.store.read(lambda conn: conn.execute(chosen).mappings().all())
        return [_view(row) for row in rows]


def _unread(conn: Connection) -> tuple[int, list[tuple[int, bytes]]]:
    place = conn.execute(select(clock_reader.c.place)).scalar_one()
    chosen = select(ledger.c.seq, ledger.c.entry).where(ledger.c.seq > place)
    rows = conn.execute(chosen.order_by(ledger.c.seq).limit(ENTRIES)).all()
    return place, [(row.seq, row.entry) for row in rows]


@dataclass(frozen=True, slots=True)
class _Writing:
    """One transaction of a step."""

    conn: Connection
    ledger: Ledger
    now: datetime


def _take_in(writing: _Writing, place: int, last: int, said: Sequence[Started | Stopped]) -> None:
    """Start and stop clocks, unless another process has read these entries meanwhile."""
    moved = update(clock_reader).where(clock_reader.c.place == place).values(place=last)
    if writing.conn.execute(moved).rowcount != 1:
        return
    starts: list[dict[str, object]] = []
    for one in said:
        if isinstance(one, Started):
            starts.append(_row(one))
        else:
            _start(writing.conn, starts)  # it may be among them
            starts.clear()
            _stop(writing, one)
    _start(writing.conn, starts)


def _start(conn: Connection, rows: Sequence[Mapping[str, object]]) -> None:
    """Start clocks, all in one go: no other node writes meanwhile."""
    if rows:
        conn.execute(insert(table), rows)


def _row(one: Started) -> dict[str, object]:
    times = one.times
    escalated = times.escalated_from
    return {
        "message": one.submission_id,
        "recipient": one.recipient,
        "clock": one.rule.clock_id,
        "sender": one.sender,
        "message_id": one.message_id,
        "protocol": one.protocol,
        "clause": one.clause,
        "stops": orjson.dumps(sorted(one.rule.stops)).decode(),
        "state": ClockState.RUNNING.value,
        "started_at": millis(one.at),
        "due_from": millis(times.due_from),
        "overdue_from": millis(times.overdue_from),
        "escalated_from": None if escalated is None else millis(escalated),
        "next_at": millis(times.due_from),
    }


def _stop(writing: _Writing, one: Stopped) -> None:
    chosen = select(table).where(table.c.recipient == one.recipient, table.c.stopped_at.is_(None))
    if one.submission_id is not None:
        chosen = chosen.where(table.c.message == one.submission_id)
    else:
        chosen = chosen.where(table.c.message_id == one.message_id, table.c.sender == one.sender)
    for row in writing.conn.execute(chosen).mappings().all():
        if one.by in orjson.loads(row["stops"]):
            state = state_of(_times(row), one.at, writing.now)
            changed = {"stopped_at": millis(one.at), "stopped_by": one.by, "next_at": None}
            _change(writing, row, state, one.at, **changed)


def _run_out(writing: _Writing, notices: ClockNotices) -> int:
    """Let clocks whose time has come go on, one state at a time; return how many did.

    Where a clock stands now is told to those concerned; what it passed meanwhile is not.
    """
    chosen = select(table).where(table.c.next_at <= millis(writing.now)).limit(CLOCKS)
    rows = writing.conn.execute(chosen.order_by(table.c.next_at)).mappings().all()
    told: list[Submission] = []
    for row in rows:
        at = from_millis(row["next_at"])
        times = _times(row)
        following = next_change(times, at)
        state = state_of(times, None, at)
        then = None if following is None else millis(following)
        changed = _change(writing, row, state, at, next_at=then)
        if changed and state is state_of(times, None, writing.now):
            told += notices.about(writing.conn, row, state, at, writing.now)
    notices.keep(writing.conn, writing.ledger, told)
    return len(rows)


def _change(
    writing: _Writing, row: RowMapping, state: ClockState, at: datetime, **values: object
) -> bool:
    """Put a clock into its next state, once, and record that as an event; return whether it was."""
    where = (
        table.c.message == row["message"],
        table.c.recipient == row["recipient"],
        table.c.clock == row["clock"],
        table.c.state == row["state"],
    )
    changed = writing.conn.execute(update(table).where(*where).values(state=state.value, **values))
    if changed.rowcount != 1:
        return False
    facts = {name: row[name] for name in ("message", "message_id", "sender", "recipient")}
    event = clock_entry(row["clock"], state.value, at=at, recorded_at=writing.now, **facts)
    writing.ledger.append(event)
    return True


def _times(row: RowMapping) -> Deadlines:
    escalated = row["escalated_from"]
    return Deadlines(
        from_millis(row["due_from"]),
        from_millis(row["overdue_from"]),
        None if escalated is None else from_millis(escalated),
    )


def _seconds(started: int, stopped: int | None) -> float | None:
    return None if stopped is None else (stopped - started) / 1000


def _view(row: RowMapping) -> dict[str, Any]:
    def told(name: str) -> str | None:
        return None if row[name] is None else rfc3339(from_millis(row[name]))

    plain = ("message", "message_id", "sender", "recipient", "clock", "protocol", "clause", "state")
    instants = ("started_at", "due_from", "overdue_from", "escalated_from", "stopped_at")
    view: Mapping[str, Any] = {name: row[name] for name in plain}
    return {**view, **{name: told(name) for name in instants}, "stopped_by": row["stopped_by"]}
