"""The check of the ledger names what was changed behind the broker's back."""

import asyncio
import contextlib
import sqlite3
from pathlib import Path

import pytest

from broker.edge.store import LedgerCheck, verify_ledger
from tests.contract import stores
from tests.contract.stores import submission

KEPT = 5
SWAP = """
UPDATE ledger SET seq = -1 WHERE seq = 0;
UPDATE ledger SET seq = 0 WHERE seq = 1;
UPDATE ledger SET seq = 1 WHERE seq = -1;
"""


async def checked_after(folder: Path, harm: str) -> LedgerCheck:
    """Return what the check says of a ledger of five entries to which ``harm`` was done."""
    url = stores.sqlite_url(folder)
    store = stores.open_store(url)
    await asyncio.gather(*(store.submit(submission()) for _ in range(KEPT)))
    await store.close()
    with contextlib.closing(sqlite3.connect(folder / "fame.db")) as conn:
        conn.executescript(harm)
    reopened = stores.open_store(url)
    checked = await reopened.read(verify_ledger)
    await reopened.close()
    return checked


async def test_an_untouched_ledger_has_no_fault(tmp_path: Path) -> None:
    assert await checked_after(tmp_path, "") == LedgerCheck(entries=KEPT)


@pytest.mark.parametrize(
    ("harm", "where"),
    [
        ("UPDATE ledger SET entry = replace(entry, 'works', 'worms') WHERE seq = 2", 2),
        ("UPDATE ledger SET entry = CAST(replace(entry, 'w', 'v') AS BLOB) WHERE seq = 2", 2),
        ("UPDATE ledger SET leaf = zeroblob(32) WHERE seq = 1", 1),
        ("DELETE FROM ledger WHERE seq = 3", 3),
        ("DELETE FROM ledger WHERE seq = 0", 0),
        ("DELETE FROM ledger WHERE seq = 4", 4),
        ("UPDATE message SET ledger_seq = 0 WHERE ledger_seq = 1", 0),
        (SWAP, 0),
    ],
)
async def test_the_check_names_the_first_bad_entry(tmp_path: Path, harm: str, where: int) -> None:
    checked = await checked_after(tmp_path, harm)

    assert checked.first_bad == where
    assert checked.fault
