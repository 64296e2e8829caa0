"""The store under a disk that fills, fails and vanishes, and under processes that are killed.

What must hold in every case: acknowledged is a part of stored, nothing is half there, and
the ledger has no gap. What no store can rule out, stored but not acknowledged, is allowed,
and sending again must then give the receipt of the first time.
"""

import asyncio
import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from broker.core.errors import BrokerError, Transient
from broker.core.reasons import Reason
from broker.edge.database_sqlite import reading_engine
from broker.edge.store import verify_ledger
from tests.contract import stores
from tests.contract.stores import submission
from tests.live.tools import mounted, require

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
SEED = 20261120
TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class History:
    """What one child said before its end."""

    acknowledged: dict[str, int]  # message id to ledger sequence
    faults: dict[str, str]
    lines: list[str]
    status: int


def command(database: Path, prefix: str, count: int, together: int = 8) -> list[str]:
    module = [sys.executable, "-m", "tests.live.store_child"]
    return [*module, str(database), prefix, str(count), str(together)]


def run(arguments: Sequence[str], *, crash: str = "", kill_after: int | None = None) -> History:
    """Run a child to its end, or kill it as soon as it has said ``kill_after`` lines."""
    environment = {**os.environ, "FAME_CRASH": crash}  # noqa: TID251 - a child inherits it
    with subprocess.Popen(
        arguments, stdout=subprocess.PIPE, cwd=ROOT, env=environment, text=True
    ) as child:
        assert child.stdout is not None
        lines: list[str] = []
        for line in child.stdout:
            lines.append(line.strip())
            if len(lines) == kill_after:
                child.kill()
        status = child.wait(TIMEOUT_S)
    answers = [line.split() for line in lines]
    return History(
        acknowledged={words[1]: int(words[2]) for words in answers if words[0] == "ack"},
        faults={words[1]: words[2] for words in answers if words[0] == "fault"},
        lines=lines,
        status=status,
    )


def stored(database: Path) -> dict[str, int]:
    """Return what is stored, having checked that all of it is whole."""

    engine = reading_engine(f"sqlite:///{database}", busy_timeout_s=1, connections=1)
    with engine.connect() as reader:
        assert verify_ledger(reader).fault == ""
    engine.dispose()
    with contextlib.closing(sqlite3.connect(database)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        counts = {
            table: conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608
            for table in ("message", "decision", "delivery", "ledger")
        }
        assert len(set(counts.values())) == 1, counts
        return dict(conn.execute("SELECT message_id, ledger_seq FROM message").fetchall())


def resend_gets_first_receipts(database: Path, kept: dict[str, int]) -> None:
    async def resend() -> None:
        store = stores.open_store(f"sqlite:///{database}")
        answers = await asyncio.gather(
            *(store.submit(submission(name, name.encode())) for name in kept)
        )
        await store.close()
        assert all(answer.duplicate for answer in answers)

    asyncio.run(resend())
    assert stored(database) == kept


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_process_killed_before_its_commit_keeps_nothing_of_it(tmp_path: Path, nth: int) -> None:
    database = tmp_path / "fame.db"

    history = run(command(database, "m", 80), crash=f"K9:{nth}")

    assert history.status == -9
    kept = stored(database)
    assert history.acknowledged == kept
    assert len(history.lines) == len(kept)


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_a_process_killed_after_its_commit_keeps_all_of_it(tmp_path: Path, nth: int) -> None:
    database = tmp_path / "fame.db"

    history = run(command(database, "m", 80), crash=f"K10:{nth}")

    assert history.status == -9
    kept = stored(database)
    assert history.acknowledged.items() < kept.items()  # K10: kept, and nobody was told
    resend_gets_first_receipts(database, kept)


def test_nothing_acknowledged_is_lost_when_killed_again_and_again_under_load(
    tmp_path: Path,
) -> None:
    database = tmp_path / "fame.db"
    chance = random.Random(SEED)  # noqa: S311 - the same at every run
    acknowledged: dict[str, int] = {}

    for life in range(6):
        kill_after = chance.randint(1, 150)
        history = run(command(database, f"life{life}", 400, 32), kill_after=kill_after)
        assert history.status == -9, "it came to its end before it was killed"
        acknowledged |= history.acknowledged

        kept = stored(database)

        assert acknowledged.items() <= kept.items(), f"seed {SEED}, life {life}"
    resend_gets_first_receipts(database, kept)


def trace(database: Path, *inject: str, wal: bool = True) -> list[str]:
    """Return the strace command that injects faults into calls on the log, or on the file."""
    path = f"{database}-wal" if wal else str(database)
    rules = [option for rule in inject for option in ("-e", f"inject={rule}")]
    return [require("strace"), "-f", "-qq", "-o", "/dev/null", "-P", path, *rules]


@pytest.mark.parametrize("wal", [True, False], ids=["commit", "checkpoint"])
def test_after_a_sync_that_failed_nothing_is_acknowledged_any_more(
    tmp_path: Path,
    wal: bool,  # noqa: FBT001
) -> None:
    """The second sync may report success for what the first one lost."""
    database = tmp_path / "fame.db"
    run(command(database, "before", 8))
    rule = "fsync,fdatasync:error=EIO:when=" + ("3" if wal else "1")

    history = run([*trace(database, rule, wal=wal), *command(database, "m", 400)])

    first = next(number for number, line in enumerate(history.lines) if "fault" in line)
    assert history.acknowledged, "the fault came too early to show anything"
    assert not [line for line in history.lines[first:] if line.startswith("ack")]
    assert set(history.faults.values()) == {Reason.STORE_UNAVAILABLE.value}
    assert "lost" in history.lines
    kept = stored(database)
    assert history.acknowledged.items() <= kept.items()
    resend_gets_first_receipts(database, kept)


@pytest.mark.parametrize("nth", [2, 9, 30])
def test_a_process_killed_with_its_log_half_moved_into_the_file_loses_nothing(
    tmp_path: Path, nth: int
) -> None:
    database = tmp_path / "fame.db"
    run(command(database, "before", 8))

    rule = f"pwrite64:signal=KILL:when={nth}"
    history = run([*trace(database, rule, wal=False), *command(database, "m", 400)])

    assert history.status != 0
    assert history.acknowledged
    kept = stored(database)
    assert history.acknowledged.items() <= kept.items()
    resend_gets_first_receipts(database, kept)


# Which call fails is drawn with a fixed seed; `make soak` may draw others and more.
_CHANCE = random.Random(SEED)  # noqa: S311 - the same at every run
FAULTS = [
    f"{call}:{effect}:when={_CHANCE.randint(1, last)}"
    for call, last in (("pwrite64", 400), ("fdatasync", 40), ("pread64", 40))
    for effect in ("error=EIO", "error=ENOSPC", "signal=KILL")
]


@pytest.mark.parametrize("rule", FAULTS)
def test_a_call_that_fails_once_loses_nothing_acknowledged(tmp_path: Path, rule: str) -> None:
    database = tmp_path / "fame.db"
    run(command(database, "before", 4))

    history = run([*trace(database, rule), *command(database, "m", 160, 4)])

    kept = stored(database)
    assert history.acknowledged.items() <= kept.items()
    assert len(history.acknowledged) + len(history.faults) == 160 or history.status != 0
    resend_gets_first_receipts(database, kept)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own with a few megabytes."""
    with mounted(tmp_path / "disk", "6m") as made:
        yield made


async def test_a_full_disk_refuses_keeps_nothing_half_and_recovers_alone(small_disk: Path) -> None:
    database = small_disk / "fame.db"
    store = stores.open_store(f"sqlite:///{database}")
    filler = small_disk / "filler"
    await asyncio.to_thread(fill, filler, shutil.disk_usage(small_disk).free - 1024 * 1024)
    body = b"x" * 5000

    acknowledged: set[str] = set()
    fault: BrokerError | None = None
    while fault is None:
        name = f"m-{len(acknowledged)}"
        try:
            await store.submit(submission(name, body))
            acknowledged.add(name)
        except BrokerError as error:
            fault = error
    with pytest.raises(Transient):  # full it is, and full it stays
        await store.submit(submission("full", body))
    readable = await store.read(verify_ledger)
    filler.unlink()
    recovered = await store.submit(submission("recovered", body))
    await store.close()

    assert acknowledged
    assert fault.reason is Reason.STORE_FULL
    assert (readable.entries, readable.fault) == (len(acknowledged), "")
    assert not recovered.duplicate
    assert set(stored(database)) == acknowledged | {"recovered"}


def fill(file: Path, size: int) -> None:
    with file.open("wb") as opened:
        os.posix_fallocate(opened.fileno(), 0, size)
