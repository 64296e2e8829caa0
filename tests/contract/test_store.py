"""What the store promises, on every database that it runs on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from sqlalchemy import Connection, func, select, update

from broker.core.errors import Permanent, Rejection, Transient
from broker.core.ledger import leaf_hash
from broker.core.outcome import RecipientVerdict
from broker.core.reasons import Reason
from broker.core.receipt import receipt_json
from broker.core.submission import Accepted, Committed, Submission
from broker.edge import tables
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.sealing import KeyRing
from broker.edge.store import Store, StoreSettings, verify_ledger
from tests.contract import stores
from tests.contract.stores import OTHER, PERMITTED, RECIPIENT, REFUSED, submission, together


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = stores.open_store(url)
    yield opened
    await opened.close()


async def submit_all(store: Store, given: Sequence[Submission]) -> list[Accepted | BaseException]:
    return await asyncio.gather(*(store.submit(one) for one in given), return_exceptions=True)


async def count(store: Store, table: str) -> int:
    found = select(func.count()).select_from(tables.metadata.tables[table])
    return await store.read(lambda conn: conn.execute(found).scalar_one())


async def check_ledger(store: Store, entries: int) -> None:
    checked = await store.read(verify_ledger)
    assert (checked.entries, checked.first_bad, checked.fault) == (entries, None, "")


async def test_what_was_accepted_is_kept_with_its_decisions_deliveries_and_entry(
    store: Store,
) -> None:
    verdicts = (RecipientVerdict(RECIPIENT, PERMITTED), RecipientVerdict(OTHER, REFUSED))
    given = submission(content=b"<Envelope>whole</Envelope>", verdicts=verdicts)

    accepted = await store.submit(given)

    message = await store.read(lambda c: c.execute(select(tables.message)).mappings().one())
    decisions = await store.read(
        lambda c: c.execute(select(tables.decision).order_by("recipient")).mappings().all()
    )
    delivery = await store.read(lambda c: c.execute(select(tables.delivery)).mappings().one())
    assert (accepted.duplicate, accepted.refused_all) == (False, False)
    assert message["id"] == given.submission_id == accepted.submission_id
    assert (message["sender"], message["message_id"]) == (
        given.message.header.sender,
        given.message.header.message_id,
    )
    assert (message["digest"], message["size"]) == (given.message.digest, 26)
    assert message["receipt"] == accepted.receipt
    assert [(d["recipient"], d["permitted"], d["reason"]) for d in decisions] == [
        (OTHER, False, "policy.no_isp"),
        (RECIPIENT, True, None),
    ]
    assert (decisions[1]["protocol_version"], decisions[1]["clause"]) == (3, "2")
    assert decisions[0]["change"] == "agree a sharing protocol"
    assert (delivery["recipient"], delivery["state"], delivery["attempts"]) == (
        RECIPIENT,
        "pending",
        0,
    )
    assert (delivery["position"], delivery["order_key"]) == (0, given.subject_ref)
    await check_ledger(store, 1)


async def test_a_receipt_names_the_ledger_entry_it_rests_on(store: Store) -> None:
    await store.submit(submission())

    accepted = await store.submit(submission())

    view = receipt_json(accepted.receipt)
    entry = await store.read(
        lambda c: c.execute(select(tables.ledger.c.entry).where(tables.ledger.c.seq == 1)).scalar()
    )
    assert entry is not None
    assert view["ledger"] == {"sequence": 1, "leaf": leaf_hash(entry).hex()}
    assert orjson.loads(entry)["submission"] == accepted.submission_id


def everything(conn: Connection) -> bytes:
    """Return every value of every table, one after another."""
    values = (
        value
        for table in tables.metadata.sorted_tables
        for row in conn.execute(select(table))
        for value in row
    )
    return b"".join(v if isinstance(v, bytes) else str(v).encode() for v in values)


async def test_no_body_and_no_name_lies_in_the_database_in_clear(
    store: Store, tmp_path: Path
) -> None:
    canary = b"Zebedee-Quatermass-7f3a"
    reduced = RecipientVerdict(RECIPIENT, PERMITTED, reduced=b"<R>" + canary + b"</R>")

    await store.submit(submission(content=b"<E>" + canary + b"</E>", verdicts=(reduced,)))

    written = await store.read(everything)
    written += b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"sunderland-yot" in written
    assert canary not in written


async def test_bodies_open_with_the_key_of_their_message_and_for_nothing_else(
    store: Store,
) -> None:
    verdict = RecipientVerdict(RECIPIENT, PERMITTED, reduced=b"<less/>", withheld=("Child/Name",))
    given = submission(content=b"<all/>", verdicts=(verdict,))
    await store.submit(given)
    message = await store.read(lambda c: c.execute(select(tables.message)).mappings().one())
    delivery = await store.read(lambda c: c.execute(select(tables.delivery)).mappings().one())

    key = KeyRing([stores.KEK]).unwrap(message["kek_id"], message["wrapped_key"])

    held = await store.read(lambda c: c.execute(select(tables.sealed_body)).all())
    bodies = {recipient: sealed for _message, recipient, sealed in held}

    assert {row.message for row in held} == {given.submission_id}
    assert set(bodies) == {tables.AS_SENT, RECIPIENT}
    assert key.open(bodies[tables.AS_SENT], given.submission_id) == b"<all/>"
    assert key.open(bodies[RECIPIENT], given.submission_id, delivery["id"]) == b"<less/>"
    with pytest.raises(Permanent):
        key.open(bodies[tables.AS_SENT], new_id())
    with pytest.raises(Permanent):
        key.open(bodies[RECIPIENT], given.submission_id)


async def test_a_message_whose_key_was_destroyed_can_be_read_by_nobody(store: Store) -> None:
    await store.submit(submission())
    erase = update(tables.message).values(wrapped_key=None)

    await store.write(lambda conn, _: conn.execute(erase).close())

    row = await store.read(lambda c: c.execute(select(tables.message)).mappings().one())
    with pytest.raises(Permanent) as caught:
        KeyRing([stores.KEK]).unwrap(row["kek_id"], row["wrapped_key"])
    assert caught.value.reason is Reason.ERASED


async def test_a_message_refused_by_all_is_kept_and_delivered_to_nobody(store: Store) -> None:
    verdicts = (RecipientVerdict(RECIPIENT, REFUSED), RecipientVerdict(OTHER, REFUSED))

    accepted = await store.submit(submission(verdicts=verdicts))

    assert accepted.refused_all
    assert (await count(store, "decision"), await count(store, "delivery")) == (2, 0)
    await check_ledger(store, 1)


async def test_the_same_message_again_gets_its_first_receipt(store: Store) -> None:
    first = await store.submit(submission("m-1"))

    again = await store.submit(submission("m-1"))

    assert again == replace(first, duplicate=True)
    assert await count(store, "message") == 1
    await check_ledger(store, 1)


async def test_a_duplicate_of_a_refused_message_is_still_refused(store: Store) -> None:
    refused = (RecipientVerdict(RECIPIENT, REFUSED),)
    await store.submit(submission("m-1", verdicts=refused))

    again = await store.submit(submission("m-1", verdicts=refused))

    assert (again.duplicate, again.refused_all) == (True, True)


async def test_the_same_id_for_other_content_is_a_replay(store: Store) -> None:
    await store.submit(submission("m-1", b"<one/>"))

    with pytest.raises(Rejection) as caught:
        await store.submit(submission("m-1", b"<two/>"))

    assert caught.value.reason is Reason.REPLAY
    assert await count(store, "message") == 1
    await check_ledger(store, 1)


async def test_two_senders_may_use_the_same_id(store: Store) -> None:
    theirs = stores.with_header(submission("m-1", b"<two/>"), sender=OTHER)

    answers = await submit_all(store, [submission("m-1", b"<one/>"), theirs])

    assert [type(answer) for answer in answers] == [Accepted, Accepted]
    again = await store.submit(theirs)
    assert again.submission_id == theirs.submission_id


async def test_of_200_parallel_sends_one_is_kept_and_all_get_equal_receipts(url: str) -> None:
    store = stores.open_store(url, StoreSettings(batch_max=64))  # so that batches race as well

    answers = await submit_all(store, [submission("m-1") for _ in range(200)])

    accepted = [answer for answer in answers if isinstance(answer, Accepted)]
    assert len(accepted) == 200
    assert len({answer.receipt for answer in accepted}) == 1
    assert len({answer.submission_id for answer in accepted}) == 1
    assert sum(not answer.duplicate for answer in accepted) == 1
    assert [await count(store, name) for name in ("message", "decision", "delivery")] == [1, 1, 1]
    await check_ledger(store, 1)
    await store.close()


async def test_of_two_messages_with_one_id_in_one_batch_the_first_is_kept(store: Store) -> None:
    answers = await submit_all(store, [submission("m-1", b"<one/>"), submission("m-1", b"<two/>")])

    assert isinstance(answers[0], Accepted)
    assert isinstance(answers[1], Rejection)
    assert answers[1].reason is Reason.REPLAY


async def test_the_unique_constraint_has_the_last_word(store: Store) -> None:
    """As when another node wrote between the question and the answer."""
    await store.submit(submission("m-1"))

    def blind(conn: Connection, _: Ledger) -> None:
        row = dict(conn.execute(select(tables.message)).mappings().one())
        conn.execute(tables.message.insert().values({**row, "id": new_id()}))

    with pytest.raises(Permanent):
        await store.write(blind)

    assert await count(store, "message") == 1


async def test_one_that_cannot_be_written_does_not_spoil_its_batch(store: Store) -> None:
    good = [submission() for _ in range(5)]
    reused = replace(submission(), submission_id=good[0].submission_id)
    unprintable = replace(submission(), register_digest="\x00")
    unbounded = stores.with_header(submission(), acknowledge=object())

    answers = await submit_all(store, [*good, reused, unprintable, unbounded])

    assert [type(answer) for answer in answers] == [Accepted] * 5 + [Permanent] * 3
    assert await count(store, "message") == 5
    await check_ledger(store, 5)


async def test_a_write_is_committed_with_its_entries(store: Store) -> None:
    def act(_conn: Connection, ledger: Ledger) -> int:
        return ledger.append({"kind": "operator", "act": "test"}).sequence

    first, second = await asyncio.gather(store.write(act), store.write(act))

    assert (first, second) == (0, 1)
    await check_ledger(store, 2)


async def test_a_write_that_fails_leaves_nothing_and_spoils_nothing(store: Store) -> None:
    await store.submit(submission())

    def fail(conn: Connection, ledger: Ledger) -> None:
        conn.execute(update(tables.message).values(purpose="spoiled"))
        ledger.append({"kind": "operator"})
        raise LookupError("mine")

    results = await asyncio.gather(
        store.write(fail), store.submit(submission()), return_exceptions=True
    )

    assert isinstance(results[0], LookupError)
    assert isinstance(results[1], Accepted)
    purposes = await store.read(
        lambda c: set(c.execute(select(tables.message.c.purpose)).scalars())
    )
    assert purposes == {"youth-justice"}
    await check_ledger(store, 2)


async def test_a_write_that_the_database_refuses_is_a_permanent_fault_without_values(
    store: Store,
) -> None:
    def orphan(conn: Connection, _: Ledger) -> None:
        row = {"id": "x", "message": "Zebedee", "recipient": "r", "level": "L2", "at": 1}
        conn.execute(tables.evidence.insert().values(**row, document=b"", ledger_seq=0))

    with pytest.raises(Permanent) as caught:
        await store.write(orphan)

    assert caught.value.reason is Reason.INTERNAL
    assert "Zebedee" not in str(caught.value)
    assert "Zebedee" not in str(caught.value.__cause__)


async def test_a_statement_that_ends_the_transaction_fails_all_that_were_in_it(
    store: Store,
) -> None:
    def end(conn: Connection, _ledger: Ledger) -> None:
        conn.exec_driver_sql("ROLLBACK")
        raise LookupError("and then this")

    def insert(conn: Connection, _ledger: Ledger) -> None:
        conn.execute(tables.used_token.insert().values(issuer="i", jti="j", expires_at=0))

    answers = await together(store, submission(), end, insert)

    assert [type(answer) for answer in answers] == [Permanent] * 3
    assert [await count(store, name) for name in ("message", "used_token", "ledger")] == [0, 0, 0]
    assert isinstance((await together(store, submission()))[0], Accepted)


async def test_a_reader_cannot_write(store: Store) -> None:
    with pytest.raises(Permanent):
        await store.read(lambda conn: conn.execute(update(tables.message).values(purpose="x")))


async def test_a_reader_sees_one_instant_throughout(store: Store) -> None:
    counted = select(func.count()).select_from(tables.message)
    loop = asyncio.get_running_loop()
    committed = threading.Event()

    def twice(conn: Connection) -> tuple[int, int]:
        before = conn.execute(counted).scalar_one()
        asyncio.run_coroutine_threadsafe(store.submit(submission()), loop).result(10)
        committed.set()
        return before, conn.execute(counted).scalar_one()

    assert await store.read(twice) == (0, 0)
    assert committed.is_set()
    assert await count(store, "message") == 1


async def test_listeners_hear_of_recipients_and_conversations_after_the_commit(
    store: Store,
) -> None:
    heard: list[Committed] = []
    store.on_commit(lambda news: None if news.missed else heard.append(news))
    verdicts = (RecipientVerdict(RECIPIENT, PERMITTED), RecipientVerdict(OTHER, REFUSED))
    given = stores.with_header(submission(verdicts=verdicts), correlation_id="q-1")

    await store.submit(given)
    await store.submit(given)
    await store.write(lambda _, ledger: ledger.wake(OTHER))

    assert heard == [
        Committed(frozenset({RECIPIENT}), frozenset({"q-1"})),
        Committed(frozenset({OTHER}), frozenset()),
    ]


async def test_a_full_queue_refuses_at_once_and_keeps_nothing(url: str) -> None:
    store = stores.open_store(url, StoreSettings(queue_max=3))
    gate, entered = threading.Event(), threading.Event()

    def hold(_conn: Connection, _ledger: Ledger) -> None:
        entered.set()
        gate.wait(10)

    blocked = asyncio.ensure_future(store.write(hold))
    await asyncio.to_thread(entered.wait, 10)

    waiting = [asyncio.ensure_future(store.submit(submission())) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(Transient) as caught:
        await store.submit(submission())
    evidence = asyncio.ensure_future(store.write(lambda _conn, _ledger: None))
    gate.set()
    await asyncio.gather(blocked, evidence, *waiting)

    assert caught.value.reason is Reason.OVERLOADED
    assert await count(store, "message") == 3
    await store.close()


async def test_what_was_queued_before_closing_is_kept_and_later_ones_are_refused(
    url: str,
) -> None:
    store = stores.open_store(url)
    waiting = [asyncio.ensure_future(store.submit(submission())) for _ in range(20)]
    await asyncio.sleep(0)

    await store.close()

    assert all(answer.done() and answer.exception() is None for answer in waiting)
    with pytest.raises(Transient):
        await store.submit(submission())
    reopened = stores.open_store(url)
    assert await count(reopened, "message") == 20
    await check_ledger(reopened, 20)
    await reopened.close()


async def test_a_caller_who_gave_up_disturbs_nobody(store: Store) -> None:
    leaving = asyncio.ensure_future(store.submit(submission("m-1")))
    await asyncio.sleep(0)
    leaving.cancel()

    other = await store.submit(submission("m-2"))
    again = await store.submit(submission("m-1"))

    assert not other.duplicate
    assert again.duplicate  # it was kept: to send again is safe, and needed to learn of it


async def test_the_ledger_goes_on_where_it_stopped(url: str) -> None:
    first = stores.open_store(url)
    await submit_all(first, [submission() for _ in range(3)])
    await first.close()

    second = stores.open_store(url)
    accepted = await second.submit(submission())

    view = receipt_json(accepted.receipt)
    assert isinstance(view["ledger"], dict)
    assert view["ledger"]["sequence"] == 3
    await check_ledger(second, 4)
    await second.close()


async def test_two_processes_may_write_to_one_database_in_turn(url: str) -> None:
    """As an operator's command does beside a running broker."""
    one, two = stores.open_store(url), stores.open_store(url)

    answers = await asyncio.gather(
        *(store.submit(submission(f"m-{n % 40}")) for n in range(80) for store in (one, two))
    )

    assert sum(not answer.duplicate for answer in answers) == 40
    await check_ledger(one, 40)
    await asyncio.gather(one.close(), two.close())


async def test_the_store_counts_what_it_does(store: Store) -> None:
    await submit_all(store, [submission() for _ in range(10)])
    await store.write(lambda _conn, _ledger: None)

    stats = store.stats()

    assert (stats.queued, stats.lost) == (0, False)
    assert (stats.counts.submissions, stats.counts.acts) == (10, 1)
    assert sum(stats.counts.sizes) == stats.counts.batches >= 2


def test_a_database_in_memory_or_of_another_kind_is_refused() -> None:
    for url in ("sqlite://", "sqlite:///:memory:", "mysql://nobody@localhost/none", "fame.db"):
        with pytest.raises(Permanent):
            stores.open_store(url)
