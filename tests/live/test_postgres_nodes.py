"""Nodes on a PostgreSQL that crashes, cuts the line, fills up; and one whose clock is wrong.

What must hold in every case: acknowledged is a part of stored, nothing is there twice, and
the ledger has no gap.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url, select

from broker.core.errors import Transient
from broker.core.instant import millis
from broker.core.reasons import Reason
from broker.core.submission import Accepted, Submission
from broker.edge import deliveries, tables
from broker.edge.store import Store, StoreSettings, verify_ledger
from tests.contract import stores
from tests.contract.stores import RECIPIENT, submission
from tests.live.services.lossy import lossy
from tests.live.services.postgres import Postgres
from tests.live.tools import require

pytestmark = pytest.mark.live

ROOT = Path(__file__).parents[2]
HOUR_MS = 3_600_000


async def kept(store: Store) -> dict[str, bytes]:
    """Return the receipt of every message that is stored, having checked the ledger."""
    assert (await store.read(verify_ledger)).fault == ""
    columns = tables.message.c.message_id, tables.message.c.receipt
    rows = await store.read(lambda conn: conn.execute(select(*columns)).all())
    found = {row.message_id: row.receipt for row in rows}
    assert len(found) == len(rows)
    return found


async def persist(store: Store, given: Submission) -> Accepted:
    """Send until it is accepted, as a sender does."""
    for _ in range(100):
        try:
            return await store.submit(given)
        except Transient:
            await asyncio.sleep(0.1)
    raise AssertionError("never accepted")


async def test_a_server_that_crashes_under_load_loses_and_doubles_nothing(
    postgres: Postgres, postgres_url: str
) -> None:
    postgres.breakable()
    nodes = [stores.open_store(postgres_url, StoreSettings(batch_max=4)) for _ in range(2)]
    given = [submission(f"m-{number}") for number in range(240)]

    sending = [
        asyncio.ensure_future(persist(nodes[number % 2], one)) for number, one in enumerate(given)
    ]
    for _ in range(2):
        await asyncio.sleep(0.15)
        postgres.restart_immediate()  # the loop stands still meanwhile, the writers do not
    answers = await asyncio.gather(*sending)
    found = await kept(nodes[0])
    interrupted = sum(node.stats().counts.interrupted for node in nodes)
    failed = sum(node.stats().counts.failed_batches for node in nodes)
    await asyncio.gather(*(node.close() for node in nodes))

    assert interrupted + failed > 0
    assert found == {
        one.message.header.message_id: answer.receipt
        for one, answer in zip(given, answers, strict=True)
    }


async def test_a_commit_whose_answer_is_lost_is_not_acknowledged_and_found_on_sending_again(
    postgres_url: str,
) -> None:
    url = make_url(postgres_url)
    assert url.host is not None
    assert url.port is not None
    with lossy((url.host, url.port)) as proxy:
        through = url.set(port=proxy.port).render_as_string(hide_password=False)
        store = stores.open_store(through)
        await store.submit(submission("before"))
        proxy.armed.set()

        with pytest.raises(Transient, match="not known"):
            await store.submit(submission("m-1"))
        first = await kept(store)
        again = await store.submit(submission("m-1"))
        await store.close()

    assert proxy.cut.is_set()
    assert set(first) == {"before", "m-1"}
    assert again.duplicate
    assert again.receipt == first["m-1"]


WRONG = """
import asyncio, json, sys, time
from broker.core.instant import millis
from broker.edge import deliveries
from tests.contract import stores

async def main():
    store = stores.open_store(sys.argv[1])
    now = millis(store.clock.now())
    claimed = await store.write(lambda conn, _: deliveries.claim(
        conn, stores.RECIPIENT, owner=store.node, now=now, until=now + 60_000, limit=10))
    await store.close()
    print(json.dumps({"own": time.time() * 1000, "shared": now, "claimed": len(claimed)}))

asyncio.run(main())
"""


@pytest.mark.parametrize("wrong", ["+1h", "-1h"])
async def test_a_node_whose_clock_is_an_hour_wrong_goes_by_the_databases(
    postgres_url: str, wrong: str
) -> None:
    store = stores.open_store(postgres_url)
    await store.submit(submission())
    now = millis(store.clock.now())
    held = await store.write(
        lambda conn, _: deliveries.claim(
            conn, RECIPIENT, owner=store.node, now=now, until=now + 60_000, limit=10
        )
    )

    done = await asyncio.to_thread(
        subprocess.run,
        [require("faketime"), "-f", wrong, sys.executable, "-c", WRONG, postgres_url],
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=60,
    )
    said = json.loads(done.stdout)
    later = millis(store.clock.now())
    await store.close()

    assert len(held) == 1
    assert abs(abs(said["own"] - time.time() * 1000) - HOUR_MS) < HOUR_MS / 10
    assert now <= said["shared"] <= later
    assert said["claimed"] == 0


@pytest.fixture
def small_disk(postgres: Postgres) -> Iterator[Path]:
    """A disk of its own with a few megabytes, which the server may write to."""
    postgres.breakable()
    if os.geteuid() != 0:
        pytest.skip("mounting takes root")
    folder = Path(postgres.command[2]).parent / "small"
    folder.mkdir()
    owner = folder.parent.joinpath("data").stat()
    size = f"size=40m,uid={owner.st_uid},gid={owner.st_gid},mode=700"
    mount = [require("mount"), "-t", "tmpfs", "-o", size, "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run([require("umount"), "--lazy", str(folder)], check=True)
    folder.rmdir()


async def test_a_full_disk_of_the_server_refuses_and_recovers_alone(
    postgres: Postgres, small_disk: Path
) -> None:
    admin = psycopg.connect(postgres.url.replace("+psycopg", ""), autocommit=True)
    admin.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'".encode())
    admin.execute("CREATE DATABASE small TABLESPACE small")
    url = f"{postgres.url.rpartition('/')[0]}/small"
    store = stores.open_store(url)
    filler = small_disk / "filler"
    filler.write_bytes(bytes(max(0, shutil.disk_usage(small_disk).free - 256 * 1024)))
    acknowledged: set[str] = set()
    full: Transient | None = None

    while full is None:
        name = f"m-{len(acknowledged)}"
        try:
            await store.submit(submission(name, os.urandom(20_000)))
            acknowledged.add(name)
        except Transient as fault:
            full = fault
    readable = set(await kept(store))
    filler.unlink()
    again = await store.submit(submission("after"))
    await store.close()
    postgres.drop(url)
    admin.execute("DROP TABLESPACE small")
    admin.close()

    assert full.reason is Reason.STORE_FULL
    assert readable == acknowledged
    assert not again.duplicate
