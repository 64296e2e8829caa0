"""Bodies lie by month on PostgreSQL, and a month goes when nothing is in it any more."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import Connection, create_engine, select, text, update

from broker.core.instant import millis
from broker.edge import tables
from broker.edge.erasing import Eraser
from broker.edge.ids import Uuid7
from broker.edge.partitions import REST, Month, month_of
from broker.edge.store import Store, verify_ledger
from tests.contract import stores
from tests.contract.stores import submission

DAYS = 30


@pytest.fixture
async def shared(shared_database: str) -> AsyncIterator[Store]:
    stores.empty(shared_database, schema=True)
    opened = stores.open_store(shared_database)
    yield opened
    await opened.close()
    stores.empty(shared_database, schema=True)


async def where(store: Store) -> list[str]:
    """Return the partitions that hold a body, one for each body."""
    found = text("SELECT tableoid::regclass::text FROM sealed_body ORDER BY message")
    return await store.read(lambda conn: list(conn.execute(found).scalars()))


async def months(store: Store) -> list[str]:
    found = text(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid"
        " WHERE inhparent = 'sealed_body'::regclass ORDER BY relname"
    )
    return await store.read(lambda conn: list(conn.execute(found).scalars()))


def following(at: datetime, count: int) -> list[str]:
    month, names = month_of(at), []
    for _ in range(count):
        names.append(month.table)
        month = month.next
    return [*names, REST]


async def over(store: Store) -> None:
    closed = update(tables.delivery).values(state="delivered", closed_at=1)
    await store.write(lambda conn, _: conn.execute(closed).close())


class At:
    """A clock that stands."""

    def __init__(self, instant: datetime) -> None:
        self._instant = instant

    def now(self) -> datetime:
        return self._instant


def test_months_follow_each_other_over_the_year() -> None:
    december = month_of(datetime(2026, 12, 31, 23, 59, tzinfo=UTC))

    assert december == Month(2026, 12)
    assert (december.next, december.next.table) == (Month(2027, 1), "sealed_body_2027_01")
    assert month_of(datetime(2027, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == december


def test_the_first_of_a_month_lies_between_the_ids_before_it_and_its_own() -> None:
    month = Month(2027, 1)
    begins = millis(datetime(2027, 1, 1, tzinfo=UTC))

    assert Uuid7()(begins - 1) < month.first <= Uuid7()(begins)


async def test_this_month_and_the_next_two_are_there_from_the_start(shared: Store) -> None:
    await shared.submit(submission("m-1"))

    now = shared.clock.now()
    assert await months(shared) == following(now, 3)
    assert await where(shared) == [month_of(now).table]


async def test_a_month_goes_once_nothing_of_it_can_be_read(shared: Store) -> None:
    await shared.submit(submission("m-1"))
    began = shared.clock.now()
    later = began + timedelta(days=65)  # after the end of the next month

    assert await shared.partition(later)
    held = await months(shared)
    await over(shared)
    await Eraser(shared, At(later), DAYS).once()

    this, then = month_of(began).table, following(later, 3)
    assert this in held
    assert month_of(began).next.table not in held  # over and empty
    assert await months(shared) == then
    assert await where(shared) == []
    assert (await shared.read(verify_ledger)).fault == ""


async def test_what_has_no_month_lies_in_the_rest_and_stays_there_to_its_end(
    shared: Store,
) -> None:
    now = shared.clock.now()
    this = month_of(now).table
    await shared.write(lambda conn, _: conn.execute(text(f"DROP TABLE {this}")).close())
    await shared.submit(submission("m-1"))

    assert await shared.partition(now)
    assert await where(shared) == [REST]
    assert this not in await months(shared)

    await over(shared)
    await Eraser(shared, At(now + timedelta(days=DAYS + 1)), DAYS).once()
    assert await where(shared) == []
    assert await shared.partition(now)
    assert this in await months(shared)


async def test_nobody_waits_for_a_backup_that_holds_the_table(
    shared: Store, shared_database: str
) -> None:
    later = shared.clock.now() + timedelta(days=65)
    backup = create_engine(shared_database.replace("postgresql://", "postgresql+psycopg://"))
    with backup.begin() as conn:
        conn.execute(select(tables.sealed_body)).all()
        before = await months(shared)
        made = await shared.partition(later)
        accepted = await shared.submit(submission("m-1"))

    assert (made, accepted.duplicate) == (False, False)
    assert await months(shared) == before
    assert await shared.partition(later)
    backup.dispose()


async def test_what_follows_in_the_transaction_waits_for_locks_as_before(shared: Store) -> None:
    shown = text("SHOW lock_timeout")
    usual = await shared.write(lambda conn, _: conn.execute(shown).scalar_one())

    def act(conn: Connection) -> object:
        shared._database.partition(conn, shared.clock.now() + timedelta(days=65))
        return conn.execute(shown).scalar_one()

    assert await shared.write(lambda conn, _: act(conn)) == usual == "2s"


async def test_a_file_has_no_months(tmp_path: object) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))  # type: ignore[arg-type]

    assert await store.partition(store.clock.now())
    await store.close()
