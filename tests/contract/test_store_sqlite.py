"""What holds for the embedded database alone: its settings, its locks and its files."""

import contextlib
import fcntl
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from broker.core.errors import Permanent, Transient
from broker.core.reasons import Reason
from broker.edge import tables
from broker.edge.database import StoreLost, as_fault, store_faults
from broker.edge.database_sqlite import reading_engine, writing_engine
from broker.edge.ledger import Ledger
from broker.edge.store import StoreSettings, verify_ledger
from tests.contract import stores
from tests.contract.stores import submission, together

IMPATIENT = StoreSettings(busy_timeout_s=0.05)

HOLD_DATABASE = """
import sqlite3, sys
conn = sqlite3.connect(sys.argv[1], isolation_level=None)
conn.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.read()
"""

HOLD_LOCK = """
import fcntl, sys
file = open(sys.argv[1] + ".lock", "a")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def held(program: str, database: Path) -> Iterator[None]:
    """Have another process hold the database for as long as this block runs."""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(database)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        yield
        other.communicate(timeout=10)


@pytest.mark.parametrize("program", [HOLD_DATABASE, HOLD_LOCK], ids=["database", "lock"])
async def test_a_database_held_by_another_process_is_a_fault_that_passes(
    tmp_path: Path, program: str
) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path), IMPATIENT)

    with held(program, tmp_path / "fame.db"), pytest.raises(Transient) as caught:
        await store.submit(submission("m-1"))
    accepted = await store.submit(submission("m-1"))

    assert caught.value.reason is Reason.STORE_UNAVAILABLE
    assert store.lost is None
    assert not accepted.duplicate
    await store.close()


def test_opening_a_database_that_another_process_holds_is_a_fault_that_passes(
    tmp_path: Path,
) -> None:
    (tmp_path / "fame.db").touch()

    with held(HOLD_LOCK, tmp_path / "fame.db"), pytest.raises(Transient):
        stores.open_store(stores.sqlite_url(tmp_path), IMPATIENT)


def test_every_commit_is_synced_and_nothing_is_mapped(tmp_path: Path) -> None:
    engine = writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1)

    with engine.connect() as conn:
        found = {
            name: conn.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in (
                "journal_mode",
                "synchronous",
                "foreign_keys",
                "mmap_size",
                "wal_autocheckpoint",
            )
        }
    engine.dispose()

    full = 2
    assert found == {
        "journal_mode": "wal",
        "synchronous": full,
        "foreign_keys": 1,
        "mmap_size": 0,
        "wal_autocheckpoint": 0,
    }


def test_readers_never_move_the_log(tmp_path: Path) -> None:
    writing_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1).connect().close()
    engine = reading_engine(stores.sqlite_url(tmp_path), busy_timeout_s=1, connections=1)

    with engine.connect() as conn:
        assert conn.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar() == 0
        assert conn.exec_driver_sql("PRAGMA query_only").scalar() == 1
    engine.dispose()


async def test_the_files_are_the_owners_alone(tmp_path: Path) -> None:
    store = stores.open_store(f"sqlite:///{tmp_path}/data/fame.db")
    await store.submit(submission())

    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "data").iterdir()}
    await store.close()

    assert {"fame.db", "fame.db-wal", "fame.db.lock"} <= set(modes)
    assert {mode & 0o077 for mode in modes.values()} == {0}


async def test_a_closed_store_leaves_no_log_and_no_lock(tmp_path: Path) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))
    await store.submit(submission())

    await store.close()

    assert {file.name for file in tmp_path.iterdir()} == {"fame.db", "fame.db.lock"}
    with (tmp_path / "fame.db.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_the_log_is_moved_into_the_file_while_running(tmp_path: Path) -> None:
    settings = StoreSettings(log_bytes_max=64 * 1024)
    store = stores.open_store(stores.sqlite_url(tmp_path), settings)
    database = tmp_path / "fame.db"
    before = database.stat().st_size

    for _ in range(40):
        await store.submit(submission(content=b"x" * 50_000))
    grown = database.stat().st_size
    await store.close()

    assert grown > before + 1_000_000


async def test_a_database_that_is_full_refuses_a_whole_batch_and_recovers(
    tmp_path: Path,
) -> None:
    store = stores.open_store(stores.sqlite_url(tmp_path))

    def bound(conn: Connection, pages: int) -> None:
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    def fill(conn: Connection, _ledger: Ledger) -> None:
        row = {"seq": 10**6, "leaf": b"", "entry": bytes(1024 * 1024)}
        conn.execute(tables.ledger.insert().values(**row))

    pages = await store.read(lambda conn: conn.exec_driver_sql("PRAGMA page_count").scalar_one())
    await store.write(lambda conn, _: bound(conn, pages + 20))

    answers = await together(store, submission("m-1"), fill, submission("m-2"))
    await store.write(lambda conn, _: bound(conn, 2**30))
    again = await store.submit(submission("m-1"))

    assert [type(answer) for answer in answers] == [Transient] * 3
    assert {getattr(answer, "reason", None) for answer in answers} == {Reason.STORE_FULL}
    assert not again.duplicate
    assert (await store.read(verify_ledger)).fault == ""
    await store.close()


def test_a_folder_that_cannot_be_made_is_a_permanent_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(Permanent):
        stores.open_store(f"sqlite:///{tmp_path}/file/fame.db")


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "fame.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(StoreLost):
        stores.open_store(stores.sqlite_url(tmp_path))


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("SQLITE_FULL", Transient, Reason.STORE_FULL),
        ("SQLITE_IOERR_SHMSIZE", Transient, Reason.STORE_FULL),
        ("SQLITE_BUSY", Transient, Reason.STORE_UNAVAILABLE),
        ("SQLITE_BUSY_SNAPSHOT", Transient, Reason.STORE_UNAVAILABLE),
        ("SQLITE_LOCKED", Transient, Reason.STORE_UNAVAILABLE),
        ("SQLITE_CANTOPEN", Transient, Reason.STORE_UNAVAILABLE),
        ("SQLITE_IOERR_FSYNC", StoreLost, Reason.STORE_UNAVAILABLE),
        ("SQLITE_CORRUPT", StoreLost, Reason.STORE_UNAVAILABLE),
        ("SQLITE_ERROR", Permanent, Reason.INTERNAL),
        ("SQLITE_CONSTRAINT_UNIQUE", Permanent, Reason.INTERNAL),
    ],
)
def test_each_error_of_the_database_has_its_meaning(
    name: str, kind: type[Exception], reason: Reason
) -> None:
    error = sqlite3.OperationalError("text of the library")
    error.sqlite_errorname = name

    fault = as_fault(OperationalError("SELECT 1", {}, error))

    assert (type(fault), fault.reason) == (kind, reason)
    assert "text of the library" not in str(fault)
    assert type(as_fault(error)) is kind


def test_a_fault_of_ours_passes_through_and_a_strange_one_is_permanent() -> None:
    ours = Transient(Reason.OVERLOADED)

    with pytest.raises(Transient) as caught, store_faults():
        raise ours

    assert caught.value is ours
    assert as_fault(LookupError("value")).reason is Reason.INTERNAL
    assert "value" not in str(as_fault(LookupError("value")))
