"""Delivered messages a second, from the sender's bytes to the recipient's folder: both sizes.

    python -m tests.bench.bench_deliver [--count 400] [--connections 16]

Embedded: one `fame serve` on SQLite. Scaled out: two on PostgreSQL, a Kafka of three nodes,
and two `fame deliver`, all on this one machine, so what is compared is the cost of the
longer way and not what more machines bring. Each referral is about another child, and
lies as a file in the agency's folder when it is delivered. Times are the database's: from the
receipt to the record of the delivery.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from broker.core.signing import load_signing_key
from tests.bench.load import cpu_s, requests_of, run
from tests.live.harness import BrokerProcess, client_context, running
from tests.live.kafka_world import make_world
from tests.live.scaled_judge import drain, rows
from tests.live.scaled_world import (
    FLOW,
    Scaled,
    make_scaled,
    new_sandbox,
    referral,
    working,
)
from tests.live.services.kafka import external_cluster, start_cluster
from tests.live.services.postgres import external_server, start_server

WARM_S = 5.0
DRAIN_S = 600.0
QUERY = "SELECT m.received_at, d.delivered_at FROM delivery d JOIN message m ON m.id = d.message"


def send(brokers: Sequence[BrokerProcess], bodies: Sequence[bytes], connections: int) -> float:
    """Send ``bodies`` to the brokers in equal parts; return the seconds until all had receipts."""

    async def to(broker: BrokerProcess, part: Sequence[bytes]) -> None:
        tls = client_context(broker.state, FLOW.sender)
        requests = requests_of(list(part), f"localhost:{broker.port}")
        each = max(1, connections // len(brokers))
        load = await run(broker.port, requests, connections=each, tls=tls)
        assert set(load.statuses) == {202}, load.statuses

    async def everything() -> None:
        parts = [bodies[n :: len(brokers)] for n in range(len(brokers))]
        await asyncio.gather(*(to(*pair) for pair in zip(brokers, parts, strict=True)))

    started = time.perf_counter()
    asyncio.run(everything())
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Size:
    """How many processes there are; without workers the broker delivers by itself."""

    title: str
    nodes: int
    workers: int


SIZES = (Size("embedded", 1, 0), Size("scaled out", 2, 2))


def row(size: Size, scaled: Scaled, count: int, connections: int) -> str:
    """Measure one size and return its line."""
    folder = scaled.state / "agencies" / FLOW.sender
    key = load_signing_key(
        (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
    )
    bodies = [referral(key, person)[1] for person in range(1, count + 1)]
    with ExitStack() as stack:
        brokers = [stack.enter_context(running(scaled.state)) for _ in range(size.nodes)]
        others = [stack.enter_context(working(scaled.state)) for _ in range(size.workers)]
        for worker in others:
            worker.wait_logged("partitions_assigned")
        time.sleep(WARM_S)
        pids = [one.process.pid for one in brokers] + [one.process.pid for one in others]
        before = sum(cpu_s(pid) for pid in pids)
        accepted_s = send(brokers, bodies, connections)
        drain(scaled.engine, timeout_s=DRAIN_S)
        spent = sum(cpu_s(pid) for pid in pids) - before
    times = rows(scaled.engine, QUERY)
    assert len(times) == len(scaled.dropped) == count
    took = sorted(delivered - received for received, delivered in times)
    wall_s = (max(t[1] for t in times) - min(t[0] for t in times)) / 1000
    return (
        f"{size.title:11} accepted {count / accepted_s:6.0f}/s  delivered {count / wall_s:6.0f}/s"
        f"  p50 {took[count // 2]:6.0f} ms  p99 {took[int(count * 0.99)]:6.0f} ms"
        f"  CPU of ours {1000 * spent / count:6.2f} ms a message"
    )


def main() -> None:
    """Measure both sizes in one run."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=400)
    options.add_argument("--connections", type=int, default=16)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fame-bench-") as folder, ExitStack() as stack:
        place = Path(folder)
        place.chmod(0o755)  # PostgreSQL runs as another user
        sandbox = new_sandbox(place)
        (place / "kafka").mkdir()
        cluster = external_cluster() or start_cluster(place / "kafka")
        stack.callback(cluster.stop)
        (place / "postgres").mkdir()
        server = external_server() or start_server(place / "postgres")
        stack.callback(server.stop)
        for size in SIZES:
            world = make_world(cluster)
            url = server.database(f"bench_{uuid4().hex}") if size.workers else ""
            home = place / f"size{size.nodes}"
            scaled = make_scaled(sandbox, home, world, url=url, lease_s=60.0, lane_max=256)
            if not size.workers:
                settings = scaled.state / "fame.toml"
                text = settings.read_text(encoding="utf-8")
                settings.write_text(text.replace('"kafka"', '"in-process"'), encoding="utf-8")
            print(row(size, scaled, given.count, given.connections), flush=True)


if __name__ == "__main__":
    main()
