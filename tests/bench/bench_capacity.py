"""What a message costs each part of the scaled-out size: CPU, write-ahead log, Kafka bytes.

    python -m tests.bench.bench_capacity [--count 1500]

One `fame serve` and one `fame deliver` with a real PostgreSQL (fsync on) and three real Kafka
nodes, all on this machine. Signed referrals of one recipient are sent over 32 connections; the
worker hands each over as a file. Counted are those after a warm-up, until the last file is
there. CPU seconds are the kernel's, of each process with its children, so they hold on a busy
machine as well. deploy/CAPACITY.md does the sums.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.bench.load import Load, cpu_s, requests_of, run
from tests.live.harness import BrokerProcess, client_context, running
from tests.live.kafka_world import make_world
from tests.live.scaled_world import (
    FLOW,
    Scaled,
    WorkerProcess,
    make_scaled,
    new_sandbox,
    wait_for,
    working,
)
from tests.live.services.kafka import KafkaCluster, start_cluster
from tests.live.services.postgres import Postgres, start_server

WARM = 100
CONNECTIONS = 32
DELIVERED_S = 300.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What was used up to a moment."""

    serve_s: float
    deliver_s: float
    database_s: float
    kafka_s: float
    log_bytes: int  # of PostgreSQL's write-ahead log
    database_bytes: int
    topic_bytes: int  # of all copies


def together_s(pid: int) -> float:
    """Return the CPU seconds of ``pid`` and all that it started; some end meanwhile."""
    total = 0.0
    for each in tree(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            total += cpu_s(each)
    return total


def tree(pid: int) -> Iterable[int]:
    """Yield ``pid`` and the processes that it started."""
    yield pid
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError):
            for child in task.read_text().split():
                yield from tree(int(child))


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that runs."""

    scaled: Scaled
    cluster: KafkaCluster
    postgres: Postgres
    folder: Path
    broker: BrokerProcess
    worker: WorkerProcess

    def read(self) -> Reading:
        """Look at every part."""
        assert self.postgres.server is not None
        url = str(self.scaled.engine.url.render_as_string(hide_password=False))
        with closing(psycopg.connect(url.replace("+psycopg", ""), autocommit=True)) as conn:
            row = conn.execute(
                "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint,"
                " pg_database_size(current_database())"
            ).fetchone()
        assert row is not None
        prefix = self.scaled.kafka.topics.prefix
        return Reading(
            serve_s=cpu_s(self.broker.process.pid),
            deliver_s=cpu_s(self.worker.process.pid),
            database_s=together_s(self.postgres.server.process.pid),
            kafka_s=sum(together_s(node.process.pid) for node in self.cluster.nodes.values()),
            log_bytes=int(row[0]),
            database_bytes=int(row[1]),
            topic_bytes=sum(
                segment.stat().st_size for segment in self.folder.glob(f"data*/{prefix}*/*.log")
            ),
        )

    def send(self, count: int) -> Load:
        """Send ``count`` messages and wait until each was handed over."""
        sender = self.scaled.sender(count)
        bodies = list(sender.messages.values())
        there = len(self.scaled.dropped)
        load = asyncio.run(
            run(
                self.broker.port,
                requests_of(bodies, f"localhost:{self.broker.port}"),
                connections=CONNECTIONS,
                tls=client_context(self.scaled.state, FLOW.sender),
            )
        )
        assert set(load.statuses) == {202}, load.statuses
        wait_for(lambda: len(self.scaled.dropped) >= there + count, DELIVERED_S)
        return load


def measure(site: Site, count: int) -> None:
    """Print what one of ``count`` messages cost."""
    size = len(next(iter(site.scaled.sender(1).messages.values())))
    site.send(WARM)
    before = site.read()
    load = site.send(count)
    after = site.read()

    def each(name: str) -> float:
        return float(getattr(after, name) - getattr(before, name)) / count

    print(f"{count} messages of {size / 1000:.1f} KB, one recipient each, all delivered")
    for name, words in (
        ("serve_s", "fame serve"),
        ("deliver_s", "fame deliver"),
        ("database_s", "PostgreSQL"),
        ("kafka_s", "Kafka, three nodes together"),
    ):
        print(f"CPU {words:32} {1000 * each(name):7.2f} ms a message")
    print(f"PostgreSQL write-ahead log           {each('log_bytes') / 1000:7.1f} KB a message")
    print(f"PostgreSQL growth of the database    {each('database_bytes') / 1000:7.1f} KB a message")
    print(f"Kafka, three copies                  {each('topic_bytes') / 1000:7.1f} KB a message")
    print(f"accepted {count / load.wall_s:.0f}/s here, with everything on one machine")


def main() -> None:
    """Start everything, measure, and end it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=1500)
    count = options.parse_args().count
    with tempfile.TemporaryDirectory(prefix="fame-capacity-") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o711)  # the database's user has to get through
        kafka, database = folder / "kafka", folder / "postgres"
        kafka.mkdir()
        database.mkdir(mode=0o711)
        try:
            cluster = start_cluster(kafka)
            stack.callback(cluster.stop)
            postgres = start_server(database)
            stack.callback(postgres.stop)
        except pytest.skip.Exception as absent:
            print(f"not measured: {absent}")
            return
        place = folder / "scaled"
        place.mkdir()
        scaled = make_scaled(
            new_sandbox(folder),
            place,
            make_world(cluster),
            lease_s=60.0,
            session_s=10.0,
            lane_max=256,
            url=postgres.database("capacity"),
        )
        broker = stack.enter_context(running(scaled.state))
        worker = stack.enter_context(working(scaled.state))
        measure(Site(scaled, cluster, postgres, kafka, broker, worker), count)


if __name__ == "__main__":
    main()
