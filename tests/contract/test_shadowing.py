"""Drafts beside what is in force, on every database: counted, bounded, and nobody's delay."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
import pytest
import tomlkit
from sqlalchemy import select

from broker.core.consent import Consent
from broker.core.decision import decide
from broker.core.errors import Transient
from broker.core.identity import AgencyId, SubjectRef, SubmissionId
from broker.core.message import Subject
from broker.core.override import Override
from broker.core.policy_log import digest_of_agreement
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.shadow import Comparison, Found
from broker.core.whatif import outcome_of
from broker.edge import shadow_rows, shadowing, tables
from broker.edge.erasing import Eraser
from broker.edge.ids import new_id
from broker.edge.intake import Decided
from broker.edge.shadow_rows import DROPPED, Finding, ShadowRow, Tally, findings_of
from broker.edge.shadowing import Shadows
from broker.edge.store import Store, verify_ledger
from tests.contract import stores
from tests.contract.stores import NOW
from tests.contract.test_erasing import At
from tests.unit.policy_world import (
    CONSENT,
    CSC,
    amendment,
    files,
    flow,
    message,
    plain,
    register,
)
from tests.unit.policy_world import NOW as DECIDED_AT

PATIENCE_S = 60
SUBJECT = SubjectRef("ab12")
PAYLOAD = (
    '<Check xmlns="urn:x"><SharingBasis><ConsentNotObtained>CANNOT_GIVE</ConsentNotObtained>'
    "</SharingBasis><Question>canary-7731</Question></Check>"
)


class Schemas:
    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert message_type
        assert version
        basis = dict.fromkeys(("SharingBasis", "SharingBasis/ConsentNotObtained"), "legal")
        return {"Question": "safeguarding", **basis}


@dataclass
class InForce:
    current: Register


@dataclass
class OnRecord:
    """A register of consents. ``delay_s``: how long it takes; ``lost``: it cannot be reached."""

    consents: tuple[Consent, ...] = ()
    delay_s: float = 0.0
    lost: bool = False
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def held(self, subject: SubjectRef | None) -> Collection[Consent]:
        assert subject == SUBJECT
        self.entered.set()
        await asyncio.sleep(self.delay_s)
        if self.lost:
            raise Transient(Reason.REGISTER_UNAVAILABLE)
        return self.consents

    async def override(self, decision_ref: str) -> Override | None:
        assert decision_ref
        return None


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = stores.open_store(url)
    yield opened
    await opened.close()


def draft(**values: object) -> ShadowRow:
    """The next version of the checks, with a flow that differs so."""
    flows = files(flow(**values))["sharing/checks.v1.toml"]["flow"]
    table = files(amendment(2, flow=flows, status="DRAFT"))["sharing/checks.v2.toml"]
    digest = digest_of_agreement(table)
    return ShadowRow("", "checks@2", tomlkit.dumps(table), digest, DECIDED_AT)


async def begun(store: Store, row: ShadowRow) -> ShadowRow:
    started = await store.write(
        lambda conn, ledger: shadow_rows.start(conn, ledger, row, operator="test")
    )
    assert started is not None
    return started


def shadows(
    store: Store, live: Register | None = None, consents: OnRecord | None = None
) -> Shadows:
    at = At(DECIDED_AT)
    held = InForce(live or plain())
    return Shadows(store, held, consents or OnRecord(), Schemas(), at, bytes(32))  # type: ignore[arg-type]


def decided(live: Register | None = None, **header: Any) -> Decided:
    in_force = live or plain()
    given = {
        "practitioner": stores_practitioner(), "reason_for_access": "ASSESSMENT", **header
    }  # fmt: skip
    asked = message(PAYLOAD, Subject("key", nhs_number="9990000018"), **given)
    return Decided(
        message=asked,
        submission_id=SubmissionId(new_id()),
        register=in_force,
        subject=SUBJECT,
        consents=None,
        override=None,
        decisions={CSC: decide(asked, CSC, in_force, (), DECIDED_AT, schemas=Schemas())},
        at=DECIDED_AT,
    )


def stores_practitioner() -> Any:
    from tests.unit.policy_world import PRACTITIONER

    return PRACTITIONER


async def found(store: Store, row: ShadowRow) -> dict[tuple[str, str], int]:
    """How often each thing was found, by what it is and the path."""
    held = await store.read(lambda conn: shadow_rows.findings(conn, row.shadow_id))
    counts: Counter[tuple[str, str]] = Counter()
    for finding, tally in held:
        counts[finding.found, finding.path] += tally.count
    return dict(counts)


async def until(store: Store, row: ShadowRow, wanted: dict[tuple[str, str], int]) -> None:
    for _ in range(PATIENCE_S * 50):
        held = await found(store, row)
        if held == wanted:
            return
        await asyncio.sleep(0.02)
    assert held == wanted


async def test_every_decision_of_a_flow_is_compared_and_counted(store: Store) -> None:
    row = await begun(store, draft(shielded="REFUSE"))
    beside = shadows(store)
    some = [decided(), decided(shielded=True), decided(shielded=True), decided(purpose="CP")]

    async with beside.running(every_s=0):
        await beside.look()
        for one in some:
            beside.offer(one)
        await until(store, row, {("agrees", ""): 2, ("stops", ""): 2})

    held = await store.read(lambda conn: shadow_rows.findings(conn, row.shadow_id))
    stopped = next((one, tally) for one, tally in held if one.found == "stops")
    assert (stopped[0].live_protocol, stopped[0].draft_reason) == ("checks@1", "policy.shielded")
    assert {stopped[1].first, stopped[1].last} == {one.submission_id for one in some[1:3]}


async def test_what_is_shown_less_is_counted_by_path_and_no_value_is_kept(store: Store) -> None:
    item = [{"targets": ["Question"], "include": "ALLOWED", "transform": "MASK", "necessity": "n"}]
    row = await begun(store, draft(item=item))
    beside = shadows(store)

    async with beside.running(every_s=0):
        await beside.look()
        beside.offer(decided())
        await until(store, row, {("reduced differently", ""): 1, ("shows less", "Question"): 1})

    rows = await store.read(lambda c: c.execute(select(tables.shadow_finding)).mappings().all())
    assert "canary-7731" not in str(rows)
    assert "9990000018" not in str(rows)


async def test_two_nodes_count_together_and_a_restart_goes_on(store: Store, url: str) -> None:
    row = await begun(store, draft(shielded="REFUSE"))
    other = stores.open_store(url)
    try:
        nodes = [shadows(store), shadows(other)]
        for node in nodes:
            async with node.running(every_s=0):
                await node.look()
                node.offer(decided())
        again = shadows(other)
        async with again.running(every_s=0):
            await again.look()
            again.offer(decided())
    finally:
        await other.close()

    assert await found(store, row) == {("agrees", ""): 3}


async def test_without_a_draft_nothing_is_noted_nor_of_what_no_draft_speaks(store: Store) -> None:
    idle = shadows(store)
    idle.offer(decided())
    assert not idle._waiting

    row = await begun(store, draft())
    other = replace(decided(), decisions={})
    busy = shadows(store)
    await busy.look()
    busy.offer(other)
    assert not busy._waiting
    assert await found(store, row) == {}


async def test_a_draft_that_asks_for_consent_has_it_looked_up(store: Store) -> None:
    row = await begun(store, draft(consent="EXPLICIT_REQUIRED"))
    given = replace(CONSENT, subject=SUBJECT)
    on_record = OnRecord((given,))
    beside = shadows(store, consents=on_record)

    async with beside.running(every_s=0):
        await beside.look()
        beside.offer(decided())
        await until(store, row, {("agrees", ""): 1})
        on_record.consents = ()
        beside.offer(decided(decision_ref=new_id()))
        await until(store, row, {("agrees", ""): 1, ("stops", ""): 1})


async def test_what_cannot_be_asked_is_counted_and_reaches_nobody(store: Store) -> None:
    row = await begun(store, draft(consent="EXPLICIT_REQUIRED"))
    beside = shadows(store, consents=OnRecord(lost=True))

    async with beside.running(every_s=0):
        await beside.look()
        beside.offer(decided())
        await until(store, row, {("failed", ""): 1})


async def test_more_than_can_wait_is_let_be_and_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "WAITING_MAX", 2)
    monkeypatch.setattr(shadowing, "WRITE_S", 0.01)
    row = await begun(store, draft())
    beside = shadows(store)
    await beside.look()
    for _ in range(5):
        beside.offer(decided())

    async with beside.running(every_s=0):
        await until(store, row, {("agrees", ""): 2, ("skipped", ""): 3})


async def test_large_messages_are_bounded_too(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "WAITING_BYTES_MAX", 0)
    row = await begun(store, draft())
    beside = shadows(store)
    await beside.look()
    one = decided()
    verified = replace(one.message.verified, raw=b"<Envelope/>")
    beside.offer(replace(one, message=replace(one.message, verified=verified)))

    assert not beside._waiting
    async with beside.running(every_s=0):
        pass
    assert await found(store, row) == {("skipped", ""): 1}


async def test_a_slow_draft_holds_nobody_up_and_is_left_at_the_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadowing, "STOP_S", 0.05)
    row = await begun(store, draft(consent="EXPLICIT_REQUIRED"))
    on_record = OnRecord(delay_s=10 * PATIENCE_S)
    beside = shadows(store, consents=on_record)

    started = time.monotonic()
    async with beside.running(every_s=0):
        await beside.look()
        for _ in range(100):
            beside.offer(decided())
        await on_record.entered.wait()
        assert len(beside._waiting) == 99
    assert time.monotonic() - started < PATIENCE_S
    assert await found(store, row) == {}


async def test_a_fault_while_taking_note_is_not_the_messages(store: Store) -> None:
    await begun(store, draft())
    beside = shadows(store)
    await beside.look()

    beside.offer(None)  # type: ignore[arg-type]

    assert not beside._waiting


async def test_a_draft_that_cannot_be_used_stops_no_other(store: Store) -> None:
    broken = replace(draft(), protocol="broken@1", draft="no = ")
    unknown = replace(draft(), protocol="unknown@1", draft='id = "unknown"\n')
    for row in (broken, unknown):
        await begun(store, row)
    good = await begun(store, draft())
    beside = shadows(store)

    async with beside.running(every_s=0):
        await beside.look()
        beside.offer(decided())
        await until(store, good, {("agrees", ""): 1})


async def test_beside_a_new_register_the_draft_is_made_ready_again(store: Store) -> None:
    row = await begun(store, draft(shielded="REFUSE"))
    beside = shadows(store)
    stricter = register(flow(shielded="REFUSE"))

    async with beside.running(every_s=0):
        await beside.look()
        beside.offer(decided(shielded=True))
        await until(store, row, {("stops", ""): 1})
        beside.offer(decided(stricter, shielded=True))  # by a register that is not this node's
        await until(store, row, {("stops", ""): 1, ("skipped", ""): 1})
        beside.registers.current = stricter  # type: ignore[misc]
        beside.offer(decided(stricter, shielded=True))
        await until(store, row, {("stops", ""): 1, ("skipped", ""): 1, ("agrees", ""): 1})


async def test_a_shadow_is_begun_once_and_only_a_few_go_on(store: Store) -> None:
    def start(row: ShadowRow) -> Any:
        return store.write(
            lambda conn, ledger: shadow_rows.start(conn, ledger, row, operator="test")
        )

    assert await start(draft()) is not None
    assert await start(draft()) is None
    for number in range(shadow_rows.ACTIVE_MAX - 1):
        assert await start(replace(draft(), protocol=f"more-{number}@1")) is not None
    assert await start(replace(draft(), protocol="too-many@1")) is None

    entries = await store.read(lambda c: c.execute(select(tables.ledger.c.entry)).scalars().all())
    said = orjson.loads(entries[0])
    assert (said["act"], said["target"], said["facts"]["digest"]) == (
        "shadow-start", "checks@2", draft().digest,
    )  # fmt: skip
    assert (await store.read(verify_ledger)).fault == ""


async def test_what_is_dropped_is_compared_no_more_and_forgotten_in_its_time(store: Store) -> None:
    row = await begun(store, draft())
    known = Finding("agrees", "yot", "csc", "Check", "YJ")
    count = {(row.shadow_id, known): Tally(1, None, None)}

    async def add() -> None:
        await store.write(lambda conn, ledger: shadow_rows.add(conn, ledger, count, DECIDED_AT))

    async def end() -> bool:
        return await store.write(
            lambda conn, ledger: shadow_rows.end(
                conn, ledger, row, DROPPED, operator="test", at=DECIDED_AT
            )
        )

    await add()
    ended = await end(), await end()
    await add()

    assert ended == (True, False)
    assert await found(store, row) == {("agrees", ""): 1}
    early = Eraser(store, At(DECIDED_AT + timedelta(days=29)), 30)
    late = Eraser(store, At(DECIDED_AT + timedelta(days=32)), 30)
    await early.once()
    assert await found(store, row) == {("agrees", ""): 1}
    await late.once()
    assert await found(store, row) == {}
    assert await store.read(shadow_rows.shadows) == []


@pytest.mark.parametrize("unsaid", [False, True])
def test_no_message_is_named_for_what_must_not_be_said_to_be_there(
    unsaid: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    outcome = outcome_of(decide(message(PAYLOAD), CSC, plain(), (), DECIDED_AT))
    made = Comparison(
        Found.REDUCED, AgencyId("yot"), CSC, "Check", "YJ", outcome, outcome, ("Question",),
        unsaid=unsaid,
    )  # fmt: skip

    tallies = [tally for _, tally in findings_of(made, "s-1")]

    example = None if unsaid else "s-1"
    assert tallies == [Tally(1, example, example)] * 2


async def test_old_findings_of_a_shadow_that_goes_on_end_by_the_day(store: Store) -> None:
    row = await begun(store, draft())
    known = Finding("agrees", "yot", "csc", "Check", "YJ")
    for days in (0, 10):
        at = DECIDED_AT + timedelta(days=days)
        count = {(row.shadow_id, known): Tally(1, new_id(), None)}
        await store.write(
            lambda conn, ledger, count=count, at=at: shadow_rows.add(conn, ledger, count, at)  # type: ignore[misc]
        )

    await Eraser(store, At(DECIDED_AT + timedelta(days=35)), 30).once()

    assert await found(store, row) == {("agrees", ""): 1}
    assert len(await store.read(lambda conn: shadow_rows.shadows(conn, active=True))) == 1


async def test_forgetting_takes_what_was_found_at_once(store: Store) -> None:
    row = await begun(store, draft())
    count = {(row.shadow_id, Finding("agrees", "a", "b", "c", "d")): Tally(2, None, None)}
    await store.write(lambda conn, ledger: shadow_rows.add(conn, ledger, count, NOW))
    await store.write(
        lambda conn, ledger: shadow_rows.end(
            conn, ledger, row, DROPPED, operator="test", at=NOW, forget=True
        )
    )

    assert await found(store, row) == {}


async def test_what_the_store_does_not_take_is_written_later(tmp_path: Any) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))
    row = await begun(store, draft())
    beside = shadows(store)
    await beside.look()
    beside.offer(decided())
    await beside._ask_all()
    lost, beside.store = beside.store, _Closed()  # type: ignore[assignment]
    await beside._write()
    await beside._write()
    beside.store = lost
    beside.offer(decided())
    await beside._ask_all()
    await beside._write()

    assert await found(store, row) == {("agrees", ""): 2}
    await store.close()


class _Closed:
    async def write(self, _act: object) -> None:
        raise Transient(Reason.STORE_UNAVAILABLE)
