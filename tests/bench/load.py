"""A closed-loop load generator for loopback, cheap enough to share two cores with the broker.

It keeps ``connections`` sockets busy, sends each body once, and keeps the time of each
answer. Bounded by the number of bodies; it stops by itself. HTTP/1.1 is spoken by hand
because a full client would cost as much as the broker under test.
"""

import asyncio
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Load:
    """What came back: seconds per answer, answers by status, wall seconds of the whole run."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall_s: float = 0.0

    def percentile_ms(self, share: float) -> float:
        """Return the latency below which ``share`` (0 to 1) of the answers lie, in ms."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes
) -> int:
    writer.write(request)
    await writer.drain()
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head[9:12])
    lowered = head.lower()
    at = lowered.find(b"content-length:")
    if at < 0:
        msg = "the broker answered without Content-Length"
        raise ValueError(msg)
    length = int(lowered[at + 15 : lowered.index(b"\r\n", at)])
    await reader.readexactly(length)
    return status


def requests_of(bodies: Sequence[bytes], host: str, *, headers: str = "") -> list[bytes]:
    """Return whole HTTP/1.1 requests for ``POST /messages``, one a body."""
    return [
        (
            f"POST /messages HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/xml\r\n"
            f"{headers}Content-Length: {len(body)}\r\n\r\n"
        ).encode()
        + body
        for body in bodies
    ]


async def run(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    tls: ssl.SSLContext | None = None,
    rate_per_s: float | None = None,
) -> Load:
    """Send every request once over ``connections`` sockets; return what came back.

    With ``rate_per_s`` the loop is open: request *n* is due at ``n / rate`` and its latency
    counts from then, so that waiting for a free socket is not forgotten.
    """
    load = Load()
    queue = iter(enumerate(requests))
    began = time.perf_counter()

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
        for number, request in queue:
            due = time.perf_counter()
            if rate_per_s is not None:
                due = began + number / rate_per_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
            load.statuses[await exchange(reader, writer, request)] += 1
            load.latencies_s.append(time.perf_counter() - due)
        writer.close()

    await asyncio.gather(*(one() for _ in range(connections)))
    load.wall_s = time.perf_counter() - began
    return load


def cpu_s(pid: int) -> float:
    """Return the user and system seconds that process ``pid`` has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100


def resident_mb(pid: int) -> tuple[float, float]:
    """Return the resident and peak resident memory of process ``pid``, in MB."""
    found = {
        line.split(":")[0]: float(line.split()[1]) / 1024
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith(("VmRSS", "VmHWM"))
    }
    return found["VmRSS"], found["VmHWM"]
