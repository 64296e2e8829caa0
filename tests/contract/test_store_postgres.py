"""What holds for PostgreSQL alone: its settings, its errors, several nodes, and their clock."""

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psycopg
import pytest
from sqlalchemy import Connection, func, select, text

from broker.core.errors import Fault, Permanent, Transient
from broker.core.identity import SubjectRef
from broker.core.instant import millis
from broker.core.reasons import Reason
from broker.core.receipt import receipt_json
from broker.core.submission import Accepted, Committed
from broker.edge import clock as clock_module
from broker.edge import deliveries, tables
from broker.edge.answers import Answers
from broker.edge.clock import SharedClock
from broker.edge.database import Interrupted, as_fault
from broker.edge.database_news import read_note
from broker.edge.database_postgres import PostgresDatabase, _notes, examine
from broker.edge.ledger import Ledger
from broker.edge.store import Store, StoreSettings, verify_ledger
from tests.contract import stores
from tests.contract.stores import OTHER, RECIPIENT, submission
from tests.live.services.postgres import Postgres

HASTY = StoreSettings(busy_timeout_s=0.3, statement_timeout_s=0.5)


@asynccontextmanager
async def nodes(
    url: str, count: int = 2, settings: StoreSettings | None = None
) -> "AsyncIterator[list[Store]]":
    opened = [stores.open_store(url, settings) for _ in range(count)]
    yield opened
    await asyncio.gather(*(store.close() for store in opened))


NOTE = next(_notes("another", Committed(frozenset({OTHER}), frozenset())))


async def until(holds: Callable[[], object], within_s: float = 10.0) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - what is waited for says nothing
            await asyncio.sleep(0.01)


def setting(conn: Connection, name: str) -> str:
    return str(conn.execute(text(f"SHOW {name}")).scalar())


async def test_every_connection_states_what_it_rests_on(emptied_database: str) -> None:
    names = (
        "synchronous_commit",
        "transaction_isolation",
        "transaction_read_only",
        "statement_timeout",
        "lock_timeout",
        "idle_in_transaction_session_timeout",
    )
    async with nodes(emptied_database, 1) as (store,):
        writing = await store.write(lambda conn, _: [setting(conn, name) for name in names])
        reading = await store.read(lambda conn: [setting(conn, name) for name in names])

    assert writing == ["on", "read committed", "off", "10s", "2s", "10s"]
    assert reading == ["on", "repeatable read", "on", "10s", "2s", "10s"]


async def test_nodes_share_one_ledger_without_a_gap(emptied_database: str) -> None:
    async with nodes(emptied_database, 3) as opened:
        answers = await asyncio.gather(*(store.submit(submission()) for store in opened * 40))
        checked = await opened[0].read(verify_ledger)

    places = [receipt_json(answer.receipt)["ledger"]["sequence"] for answer in answers]  # type: ignore[index]
    assert sorted(places) == list(range(120))
    assert (checked.entries, checked.fault) == (120, "")


async def test_of_one_message_sent_to_many_nodes_at_once_one_is_kept(emptied_database: str) -> None:
    async with nodes(emptied_database, 3, StoreSettings(batch_max=4)) as opened:
        same = await asyncio.gather(*(store.submit(submission("m-1")) for store in opened * 30))
        other = await asyncio.gather(
            *(store.submit(submission("m-1", b"<other/>")) for store in opened),
            return_exceptions=True,
        )
        kept = await opened[0].read(
            lambda c: c.execute(select(func.count()).select_from(tables.message)).scalar()
        )

    assert kept == 1
    assert len({answer.receipt for answer in same}) == 1
    assert sum(not answer.duplicate for answer in same) == 1
    assert [getattr(answer, "reason", None) for answer in other] == [Reason.REPLAY] * 3


async def test_a_commit_wakes_the_other_nodes_and_only_its_own_listeners_at_once(
    emptied_database: str,
) -> None:
    heard: dict[str, list[Committed]] = {"here": [], "there": []}
    async with nodes(emptied_database) as (here, there):
        here.on_commit(lambda n: None if n.missed else heard["here"].append(n))
        there.on_commit(lambda n: None if n.missed else heard["there"].append(n))
        await asyncio.sleep(0.2)  # both listen

        await here.submit(stores.with_header(submission(), correlation_id="q-1"))
        await until(lambda: heard["there"], 1.5)

    said = Committed(frozenset({RECIPIENT}), frozenset({"q-1"}))
    assert heard == {"here": [said], "there": [said]}


async def test_who_waits_for_an_answer_is_woken_by_the_node_that_took_it(
    emptied_database: str,
) -> None:
    answers = Answers()
    async with nodes(emptied_database) as (here, there):
        here.on_commit(answers.committed)
        with answers.subscribe("q-1") as subscription:
            waiting = asyncio.ensure_future(subscription.news())
            await there.submit(stores.with_header(submission(), correlation_id="q-1"))
            await asyncio.wait_for(waiting, 10)


async def test_without_notes_everybody_looks_again_within_seconds(
    emptied_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresDatabase, "announce", lambda *_: None)
    answers = Answers()
    async with nodes(emptied_database) as (here, there):
        here.on_commit(answers.committed)
        with answers.subscribe("q-1") as subscription:
            await there.submit(stores.with_header(submission(), correlation_id="q-1"))
            await asyncio.wait_for(subscription.news(), 10)


async def test_the_clock_is_measured_in_time_while_notes_come_without_a_pause(
    emptied_database: str,
) -> None:
    looks: list[Committed] = []
    database = emptied_database.replace("+psycopg", "")
    async with nodes(emptied_database, 1) as (here,), asyncio.timeout(60):
        here.on_commit(lambda news: looks.append(news) if news.missed else None)
        async with await psycopg.AsyncConnection.connect(database, autocommit=True) as other:
            while len(looks) < 3:  # one when it begins to listen, and then each with a measurement
                await other.execute("SELECT pg_notify('fame_committed', %s)", [NOTE])
                await asyncio.sleep(0.05)


async def test_a_node_whose_listener_was_ended_listens_again(emptied_database: str) -> None:
    heard: list[Committed] = []
    async with nodes(emptied_database) as (here, there):
        here.on_commit(lambda n: None if n.missed else heard.append(n))
        await asyncio.sleep(0.2)
        with psycopg.connect(emptied_database.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE pid != pg_backend_pid() AND datname = current_database()"
            )
        async with asyncio.timeout(10):
            while not heard:  # a note from before it listened again is lost, and that is all
                await there.submit(submission())
                await asyncio.sleep(0.1)


def test_a_long_announcement_is_cut_and_a_strange_one_means_look_again() -> None:
    many = frozenset(f"00000000-0000-7000-8000-{n:012d}" for n in range(1000))
    notes = list(_notes("node", Committed(frozenset({OTHER}), many)))

    heard = [read_note(note, "another") for note in notes]

    assert max(map(len, notes)) < 8000
    assert frozenset().union(*(one.correlations for one in heard if one)) == many
    assert frozenset().union(*(one.recipients for one in heard if one)) == {OTHER}
    assert all(read_note(note, "node") is None for note in notes)
    for strange in ("", "[]", "{}", '{"n": 1, "r": 2, "c": 3}'):
        assert read_note(strange, "node") == Committed(frozenset(), frozenset(), missed=True)


async def test_a_claim_leaves_out_what_another_transaction_holds(emptied_database: str) -> None:
    """The turn keeps nodes apart; this is for whoever locks a row outside of it."""
    async with nodes(emptied_database, 1) as (store,):
        for number in range(2):
            given = submission(content=f"<{number}/>".encode())
            await store.submit(replace(given, subject_ref=SubjectRef(f"{number}" * 32)))
        due = millis(stores.NOW) + 1
        with psycopg.connect(emptied_database.replace("+psycopg", "")) as other:
            row = other.execute("SELECT id FROM delivery LIMIT 1 FOR UPDATE").fetchone()
            claimed = await store.write(
                lambda conn, _: deliveries.claim(
                    conn, RECIPIENT, owner="me", now=due, until=due + 1000, limit=10
                )
            )

    assert row is not None
    assert len(claimed) == 1
    assert claimed[0].delivery_id != row[0]


async def test_a_statement_that_takes_too_long_fails_and_the_next_goes_on(
    emptied_database: str,
) -> None:
    async with nodes(emptied_database, 1, HASTY) as (store,):
        with pytest.raises(Transient) as caught:
            await store.write(lambda conn, _: conn.exec_driver_sql("SELECT pg_sleep(5)").close())
        with pytest.raises(Transient):
            await store.read(lambda conn: conn.exec_driver_sql("SELECT pg_sleep(5)").close())

        assert isinstance(await store.submit(submission()), Accepted)

    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_node_that_sleeps_in_its_turn_loses_it(emptied_database: str) -> None:
    patient = StoreSettings(busy_timeout_s=5, statement_timeout_s=0.5)
    async with nodes(emptied_database, 2, patient) as (sleeper, other):

        def sleep(conn: Connection, ledger: Ledger) -> None:
            ledger.append({"kind": "operator"})
            if not slept:
                slept.append(conn)
                time.sleep(1.5)

        slept: list[Connection] = []
        sleeping = asyncio.ensure_future(sleeper.write(sleep))
        await until(lambda: slept)
        accepted = await other.submit(submission())
        await sleeping  # on its second try
        checked = await other.read(verify_ledger)

    assert not accepted.duplicate
    assert (checked.entries, checked.fault) == (2, "")
    assert sleeper.stats().counts.interrupted == 1


async def test_a_held_turn_is_waited_for_no_longer_than_the_lock_timeout(
    emptied_database: str,
) -> None:
    async with nodes(emptied_database, 1, HASTY) as (store,):
        with psycopg.connect(emptied_database.replace("+psycopg", "")) as other:
            other.execute(f"SELECT pg_advisory_xact_lock({0x46414D45_0001})")
            with pytest.raises(Transient) as caught:
                await store.submit(submission("m-1"))
        again = await store.submit(submission("m-1"))

    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert not again.duplicate


async def test_no_free_connection_is_a_fault_that_passes(
    emptied_database: str, postgres: Postgres
) -> None:
    name = emptied_database.rpartition("/")[2]
    with psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("DROP ROLE IF EXISTS narrow")
        admin.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1")
        admin.execute(f'GRANT ALL ON DATABASE "{name}" TO narrow'.encode())
    narrow = emptied_database.replace("//fame@", "//narrow@")

    with psycopg.connect(narrow.replace("+psycopg", "")), pytest.raises(Transient) as caught:
        stores.open_store(narrow)

    assert caught.value.reason is Reason.STORE_UNAVAILABLE


async def test_a_transaction_that_was_in_a_deadlock_is_tried_again(emptied_database: str) -> None:
    tries: list[int] = []

    def deadlock(conn: Connection, ledger: Ledger) -> None:
        ledger.append({"kind": "operator"})
        tries.append(len(tries))
        if len(tries) < 3:
            conn.exec_driver_sql("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")

    async with nodes(emptied_database, 1) as (store,):
        alongside, _ = await asyncio.gather(store.submit(submission()), store.write(deadlock))
        checked = await store.read(verify_ledger)

    assert tries == [0, 1, 2]
    assert not alongside.duplicate
    assert (checked.entries, checked.fault) == (2, "")


async def test_what_the_database_says_of_a_value_is_not_passed_on(emptied_database: str) -> None:
    value = "Zebedee"
    async with nodes(emptied_database, 1) as (store,):
        with pytest.raises(Permanent) as caught:
            await store.read(lambda conn: conn.execute(text(f"SELECT '{value}'::integer")).close())

    assert value not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("state", "kind", "reason"),
    [
        ("53100", Transient, Reason.STORE_FULL),
        ("53300", Transient, Reason.STORE_UNAVAILABLE),
        ("53200", Transient, Reason.STORE_UNAVAILABLE),
        ("58030", Transient, Reason.STORE_UNAVAILABLE),
        ("55P03", Transient, Reason.STORE_UNAVAILABLE),
        ("57014", Transient, Reason.STORE_UNAVAILABLE),
        ("40001", Interrupted, Reason.STORE_UNAVAILABLE),
        ("40P01", Interrupted, Reason.STORE_UNAVAILABLE),
        ("57P01", Interrupted, Reason.STORE_UNAVAILABLE),
        ("08006", Interrupted, Reason.STORE_UNAVAILABLE),
        ("23505", Permanent, Reason.INTERNAL),
        ("42501", Permanent, Reason.INTERNAL),
    ],
)
def test_each_state_of_the_database_has_its_meaning(
    state: str, kind: type[Fault], reason: Reason
) -> None:
    error = psycopg.OperationalError("text with a value")
    error.sqlstate = state

    fault = as_fault(error)

    assert (type(fault), fault.reason) == (kind, reason)
    assert "value" not in str(fault)


@pytest.mark.parametrize("kind", [psycopg.OperationalError, psycopg.errors.ConnectionTimeout])
def test_a_server_that_did_not_answer_is_not_reachable(
    kind: type[psycopg.OperationalError],
) -> None:
    fault = as_fault(kind("text with a value"))

    assert (type(fault), fault.reason) == (Interrupted, Reason.STORE_UNAVAILABLE)
    assert "value" not in str(fault)


# -- the clock -------------------------------------------------------------------------------


class Server:
    """A database whose clock and speed a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here = 1000.0  # this machine's monotonic clock
        self.there = 1_800_000_000.0
        self.takes_s: list[float] = []
        monkeypatch.setattr(clock_module, "time", SimpleNamespace(monotonic=lambda: self.here))

    def passes(self, seconds: float) -> None:
        self.here += seconds
        self.there += seconds

    def execute(self, _query: str) -> "Server":
        self.passes((self.takes_s or [0.002])[0] / 2)
        return self

    def fetchone(self) -> tuple[float]:
        answer = self.there
        self.passes((self.takes_s.pop(0) if self.takes_s else 0.002) / 2)
        return (answer,)


def test_the_clock_is_the_databases_whatever_this_machine_holds_to_be_the_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, shared = Server(monkeypatch), SharedClock()
    shared.measure(server)
    server.passes(3600)

    off = shared.now() - datetime.fromtimestamp(server.there, UTC)

    assert abs(off) <= timedelta(seconds=0.001)
    assert shared.error_s == pytest.approx(0.001 + 3600 * 0.0005)


def test_a_measurement_moves_the_clock_only_beyond_its_own_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, shared = Server(monkeypatch), SharedClock()
    shared.measure(server)
    was = shared.now() - timedelta(seconds=server.here)

    server.there += 0.0005  # less than half of the 2 ms that asking takes
    shared.measure(server)
    same = shared.now() - timedelta(seconds=server.here)
    server.there -= 30  # another server took over
    shared.measure(server)
    moved = shared.now() - timedelta(seconds=server.here)

    assert same == was
    assert moved - was == pytest.approx(timedelta(seconds=-29.9995), abs=timedelta(seconds=0.002))


def test_a_slow_answer_is_asked_for_again_and_the_best_one_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server, shared = Server(monkeypatch), SharedClock()
    server.takes_s = [5.0, 0.4, 3.0]

    shared.measure(server)

    assert not server.takes_s
    assert shared.error_s == pytest.approx(0.2 + 3.0 * 0, abs=0.01)


def test_doctor_looks_at_the_server(emptied_database: str) -> None:
    found = examine(emptied_database, StoreSettings())

    assert found.unsafe == ()
    assert found.local
    assert abs(found.behind_s) < 5
