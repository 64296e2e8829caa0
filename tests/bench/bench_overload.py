"""Overload: what becomes of accepted messages at five times the capacity, and of other agencies.

    python -m tests.bench.bench_overload [--seconds 8]

A sandbox broker runs as its own process on loopback with its real TLS, store and fsync. Its
capacity is measured first, by as many connections as it works on at once. Then messages come
at fixed rates over 800 connections, as long as one of them is free: at 5 x they never are, and
"offered" says what came. Latency counts from the sending of a message that is accepted. What
is refused is kept nowhere, so its bytes are sent again. Bars: the p99 of what is accepted at
5 x, and that of a small agency beside the flood, is at most 3 times that at 0.9 x.
"""

import argparse
import asyncio
import ssl
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from broker.cli.init import make
from tests.bench.bench_http import flow_of, messages
from tests.bench.load import Load, cpu_s, exchange, requests_of, resident_mb, run
from tests.live.harness import BrokerProcess, client_context, running

BAR = 3.0
ACCEPTED = frozenset({200, 202})
CONNECTIONS = 800  # of the flood: more than one agency may have in flight


@dataclass(slots=True)
class Source:
    """One agency's system: its messages, and what it was told about them."""

    tls: ssl.SSLContext
    bodies: deque[bytes]
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)
    offered: int = 0

    def begin_anew(self) -> None:
        self.statuses.clear()
        self.latencies_s.clear()
        self.refused_s.clear()
        self.offered = 0

    def ms(self, share: float) -> float:
        return percentile_ms(self.latencies_s, share)


def percentile_ms(seconds: list[float], share: float) -> float:
    """Return the latency below which ``share`` (0 to 1) of ``seconds`` lie, in ms."""
    ordered = sorted(seconds) or [0.0]
    return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def offer(  # noqa: PLR0913 - one load, named in full
    port: int,
    source: Source,
    together: asyncio.Barrier,
    *,
    rate_per_s: float,
    seconds: float,
    connections: int,
) -> None:
    """Send at ``rate_per_s`` for ``seconds``; a refused message goes to the back of the queue.

    All connections are open before the first message, here and at ``together``.
    """
    streams = [
        await asyncio.open_connection("127.0.0.1", port, ssl=source.tls) for _ in range(connections)
    ]
    await together.wait()
    began = time.perf_counter()
    due: Iterator[float] = iter(
        began + number / rate_per_s for number in range(int(rate_per_s * seconds))
    )

    async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for at in due:
            await asyncio.sleep(max(0.0, at - time.perf_counter()))
            if reader.at_eof():  # it was idle for too long
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=source.tls)
            request = source.bodies.popleft()
            sent = time.perf_counter()
            status = await exchange(reader, writer, request)
            source.offered += 1
            source.statuses[status] += 1
            if status in ACCEPTED:
                source.latencies_s.append(time.perf_counter() - sent)
            else:
                source.bodies.append(request)
                source.refused_s.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(one(*stream) for stream in streams))


def source_of(broker: BrokerProcess, algorithm: str, count: int) -> Source:
    """Return a source with ``count`` distinct signed messages of 5 KB."""
    flow, key = flow_of(broker.state, algorithm)
    bodies = messages(flow, key, count, 5000)
    return Source(
        client_context(broker.state, flow.sender),
        deque(requests_of(bodies, f"localhost:{broker.port}")),
    )


def told(title: str, source: Source, seconds: float) -> str:
    """Return one line of results."""
    accepted = len(source.latencies_s)
    return (
        f"{title:34} offered {source.offered / seconds:6.0f}/s"
        f"  accepted {accepted / seconds:6.0f}/s"
        f"  p50 {source.ms(0.5):6.1f} ms  p99 {source.ms(0.99):6.1f} ms"
        f"  refused p50 {percentile_ms(source.refused_s, 0.5):6.1f} ms  {dict(source.statuses)}"
    )


def held(bar: str, ratio: float) -> str:
    """Return a ratio beside its bar."""
    return f"    {bar}: {ratio:.2f} times; bar {BAR} times, {'met' if ratio <= BAR else 'not met'}"


def main() -> None:
    """Measure the capacity, then 1 x, 5 x, and a flood beside a small agency."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=8.0)
    seconds = options.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="fame-bench-") as folder:
        state = Path(folder) / "broker"
        make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
        with running(state) as broker:
            measure(broker, seconds)


def measure(broker: BrokerProcess, seconds: float) -> None:
    """Print every line."""
    flood = source_of(broker, "rsa", int(4000 + 2600 * seconds))
    small = source_of(broker, "ecdsa", int(200 + 250 * seconds))
    base, _peak = resident_mb(broker.process.pid)
    capacity = _capacity(broker, flood)
    print(f"capacity: {capacity:.0f}/s accepted, 64 connections, 5 KB", flush=True)

    def at(title: str, times: float, *, beside: float = 0.0) -> tuple[float, float]:
        for source in (flood, small):
            source.begin_anew()
        before = cpu_s(broker.process.pid)

        async def both() -> None:
            together = asyncio.Barrier(2 if beside else 1)
            loads = [
                offer(
                    broker.port,
                    flood,
                    together,
                    rate_per_s=times * capacity,
                    seconds=seconds,
                    connections=CONNECTIONS,
                )
            ]
            if beside:
                loads.append(
                    offer(
                        broker.port,
                        small,
                        together,
                        rate_per_s=beside * capacity,
                        seconds=seconds,
                        connections=16,
                    )
                )
            await asyncio.gather(*loads)

        uvloop.run(both())
        cpu = cpu_s(broker.process.pid) - before
        print(told(title, flood, seconds) + f"  CPU {cpu:.1f} s", flush=True)
        if beside:
            print(told("    the small agency beside it", small, seconds), flush=True)
        return flood.ms(0.99), small.ms(0.99)

    at("0.5 x capacity", 0.5)
    once, small_once = at("0.9 x capacity, 5 % another agency", 0.85, beside=0.05)
    five, small_five = at("5 x capacity, 5 % another agency", 5.0, beside=0.05)
    print(held("p99 of accepted messages, 5 x over 0.9 x", five / once))
    print(held("p99 of the small agency, 5 x over 0.9 x", small_five / small_once))
    _resident, peak = resident_mb(broker.process.pid)
    print(f"    memory of the broker: {base:.0f} -> {peak:.0f} MB at most")


def _capacity(broker: BrokerProcess, source: Source) -> float:
    """Return the rate of a closed loop, in messages a second, after a warm-up."""
    requests = [source.bodies.popleft() for _ in range(3500)]

    def load(some: list[bytes]) -> Load:
        return uvloop.run(run(broker.port, some, connections=64, tls=source.tls))

    load(requests[:500])
    done = load(requests[500:])
    return len(done.latencies_s) / done.wall_s


if __name__ == "__main__":
    main()
