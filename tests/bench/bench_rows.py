"""Accepted messages a second with ten million stored, over the same with ten thousand.

python -m tests.bench.bench_rows [--rows 10000000] [--rounds 7] [DATABASE ...]

Bar: at least 0.9. Both stores are open at the same time and take their rounds in turn. What
is stored is written by SQL, finished, with small bodies: it is the tables' rows and indexes
that grow with the number of messages. Message ids are random, as senders may make them, so
that their index is touched everywhere. The messages submitted have 5 KB. The store alone is
measured, without HTTP and examination. PostgreSQL has 64 MB of its own memory, so that most of
what it touches is not in it, and writes its log as `deploy/compose.yaml` has it.
"""

import argparse
import asyncio
import contextlib
import gc
import os
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import yaml  # type: ignore[import-untyped]
from sqlalchemy import Engine, func, select
from sqlalchemy import create_engine as connect

from broker.core.submission import Submission
from broker.edge import tables
from broker.edge.store import Store
from tests.contract import stores
from tests.live.services.postgres import start_server

FEW = 10_000
CHUNK = 250_000
COUNT = 2048  # messages of a round
COMPOSE = Path(__file__).parents[2] / "deploy" / "compose.yaml"
BODY = b"<Envelope>" + os.urandom(2560).hex().encode() + b"</Envelope>"

# One row of each table for the message of number n; ids are made to fit a place in time.
_ID = "'0193{kind}0000-7000-8000-' || {pad}"
_PAD = {"sqlite": "printf('%012d', n)", "postgresql": "lpad(n::text, 12, '0')"}
_RANDOM = {"sqlite": "lower(hex(randomblob(16)))", "postgresql": "gen_random_uuid()::text"}
_BYTES = {"sqlite": "zeroblob(200)", "postgresql": "decode(repeat('00', 200), 'hex')"}
_SERIES = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s"
    " WHERE n + 1 < {last})",
    "postgresql": "WITH s(n) AS (SELECT generate_series({first}::bigint, {last} - 1))",
}
_FILLS = {
    "ledger": ("seq, leaf, entry", "n, {bytes}, {bytes}"),
    "message": (
        (
            "id, sender, message_id, digest, message_type, schema_version, purpose, system,"
            " priority, subject_ref, created_at, received_at, expires_at, trace_id, size, kek_id,"
            " wrapped_key, receipt, ledger_seq"
        ),
        (
            "{message}, 'sunderland-yot', {random}, {bytes}, 'YOTCheckRequest', '1.0', 'YJ',"
            " 'careworks', 'routine', 'subject-' || (n - n / 100000 * 100000), 1, 1, 2, 'trace',"
            " 5120, 'kek', {bytes}, {bytes}, n"
        ),
    ),
    "sealed_body": ("message, recipient, sealed", "{message}, '', {bytes}"),
    "decision": (
        "message, recipient, permitted, withheld, register_digest",
        "{message}, 'sunderland-csc', {true}, '[]', 'digest'",
    ),
    "delivery": (
        (
            "id, message, recipient, order_key, position, state, attempts, next_at, expires_at,"
            " level, reduced, delivered_at, closed_at"
        ),
        (
            "{delivery}, {message}, 'sunderland-csc', 'subject-' || (n - n / 100000 * 100000), n,"
            " 'delivered', 1, 1, 2, 'L2', {false}, 1, 1"
        ),
    ),
}


def fill(url: str, rows: int) -> float:
    """Write ``rows`` finished messages into the store at ``url``; return the seconds taken."""
    started = time.perf_counter()
    asyncio.run(_made(url))
    engine = connect(url)
    kind = engine.dialect.name
    rebuild = _without_indexes(engine) if kind == "postgresql" else []
    for first in range(0, rows, CHUNK):
        _fill(engine, kind, first, min(rows, first + CHUNK))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as conn:
        if kind == "postgresql":
            conn.exec_driver_sql("SET maintenance_work_mem = '1GB'")
        for statement in rebuild:
            conn.exec_driver_sql(statement)
        if kind == "postgresql":
            conn.exec_driver_sql("VACUUM ANALYZE")
    engine.dispose()
    return time.perf_counter() - started


async def _made(url: str) -> None:
    await stores.open_store(url).close()


def _without_indexes(engine: Engine) -> list[str]:
    """Drop every key and index, and return what makes them again: sorting once is faster."""
    with engine.begin() as conn:
        keys = conn.exec_driver_sql(
            "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
            " WHERE connamespace = 'public'::regnamespace AND contype IN ('p', 'u', 'f')"
            " AND conparentid = 0"  # those of a partition go with the table's
            " ORDER BY array_position('{f,u,p}'::\"char\"[], contype)"
        ).all()
        for table, name, _ in keys:
            conn.exec_driver_sql(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
        indexes = conn.exec_driver_sql(
            "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
        ).all()
        for name, _ in indexes:
            conn.exec_driver_sql(f'DROP INDEX "{name}"')
    made = [f'ALTER TABLE {table} ADD CONSTRAINT "{name}" {how}' for table, name, how in keys]
    return [*reversed(made), *(how for _, how in indexes)]


def _fill(engine: Engine, kind: str, first: int, last: int) -> None:
    pad = _PAD[kind]
    words = {
        "bytes": _BYTES[kind],
        "random": _RANDOM[kind],
        "true": "1" if kind == "sqlite" else "true",
        "false": "0" if kind == "sqlite" else "false",
        "message": _ID.format(kind="0000-", pad=pad),
        "delivery": _ID.format(kind="0001-", pad=pad),
    }
    with engine.begin() as conn:
        raw = conn.connection.driver_connection
        if isinstance(raw, sqlite3.Connection):
            for pragma in ("cache_size = -1000000", "synchronous = OFF"):
                conn.exec_driver_sql(f"PRAGMA {pragma}")
        else:
            for name, value in (("synchronous_commit", "off"), ("work_mem", "'256MB'")):
                conn.exec_driver_sql(f"SET LOCAL {name} = {value}")
        series = _SERIES[kind].format(first=first, last=last)
        for table, (columns, values) in _FILLS.items():
            select_ = f"SELECT {values.format(**words)} FROM s"  # noqa: S608 - ours
            before = f"{series} " if kind == "sqlite" else ""
            within = "" if kind == "sqlite" else f"{series} "
            conn.exec_driver_sql(f"{before}INSERT INTO {table} ({columns}) {within}{select_}")


@dataclass(frozen=True, slots=True)
class Round:
    """Messages a second, and microseconds of this process's CPU for each."""

    rate: float
    cpu: float


async def measure(urls: list[str], rounds: int) -> list[list[Round]]:
    """Return the rounds of each store, taken in turn; the first of each only warms it up."""
    opened = [stores.open_store(url) for url in urls]
    found: list[list[Round]] = [[] for _ in urls]
    for number in range(rounds + 1):
        for store, mine in zip(opened, found, strict=True):
            one = await _round(store)
            if number:
                mine.append(one)
    for store in opened:
        await store.close()
    return found


async def _round(store: Store) -> Round:
    given: list[Submission] = [stores.submission(str(uuid4()), BODY) for _ in range(COUNT)]
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, COUNT, 256):
        await asyncio.gather(*map(store.submit, given[start : start + 256]))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    return Round(COUNT / wall, cpu / COUNT * 1e6)


def stored(url: str) -> int:
    """Return how many messages are in the store at ``url``."""
    engine = connect(url)
    with engine.connect() as conn:
        found = conn.execute(select(func.count()).select_from(tables.message)).scalar_one()
    engine.dispose()
    return found


def deployed() -> dict[str, str]:
    """Return what the deployed server is told of its log and checkpoints."""
    command = yaml.safe_load(COMPOSE.read_text())["services"]["postgres"]["command"]
    settings = dict(one.split("=", 1) for one in command if "=" in one)
    return {k: v for k, v in settings.items() if k.startswith(("wal_", "max_wal_", "checkpoint_"))}


@contextlib.contextmanager
def databases(kind: str) -> Iterator[list[str]]:
    """Yield the urls of two empty databases of a ``kind``."""
    with tempfile.TemporaryDirectory(prefix="fame-rows-") as name:
        folder = Path(name)
        if kind == "sqlite":
            for part in ("few", "many"):
                (folder / part).mkdir()
            yield [stores.sqlite_url(folder / part) for part in ("few", "many")]
            return
        server = start_server(folder, deployed())
        try:
            yield [server.database(part) for part in ("few", "many")]
        finally:
            server.stop()


def report(kind: str, rows: int, rounds: int) -> None:
    """Print the comparison for one kind of database."""
    with databases(kind) as (few, many):
        fill(few, FEW)
        took = fill(many, rows)
        before = stored(many)
        measured = asyncio.run(measure([few, many], rounds))
    rates = [statistics.median(one.rate for one in mine) for mine in measured]
    cpus = [min(one.cpu for one in mine) for mine in measured]
    best = [max(one.rate for one in mine) for mine in measured]
    ratio = statistics.median(b.rate / a.rate for a, b in zip(*measured, strict=True))
    print(f"{kind}: {before:,} stored (made in {took:.0f} s) against {FEW:,}, {rounds} rounds each")
    print(f"    median rate/s  {rates[0]:8.0f} {rates[1]:8.0f}   in pairs {ratio:.2f} times")
    print(f"    best rate/s    {best[0]:8.0f} {best[1]:8.0f}   {best[1] / best[0]:.2f} times")
    print(f"    CPU us (least) {cpus[0]:8.0f} {cpus[1]:8.0f}")
    print(f"    bar: 0.9 of the rate, {'met' if ratio >= 0.9 else 'not met'}", flush=True)


def main() -> None:
    """Measure each kind of database."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("databases", nargs="*", default=["sqlite", "postgresql"])
    options = parser.parse_args()
    for kind in options.databases:
        report(kind, options.rows, options.rounds)


if __name__ == "__main__":
    main()
