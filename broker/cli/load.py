"""A short, bounded load on one's own broker: keep sockets busy, send each message once.

HTTP/1.1 is written by hand: a full client would take as much processor as the broker.
"""

import asyncio
import contextlib
import ssl
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(slots=True)
class Load:
    """What came back: seconds for each answer, answers by status, seconds in all."""

    latencies_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    wall_s: float = 0.0

    def percentile_ms(self, share: float) -> float:
        """Return the latency below which ``share`` (0 to 1) of the answers lie, in ms."""
        ordered = sorted(self.latencies_s)
        return 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]


async def load(port: int, messages: Sequence[bytes], connections: int, tls: ssl.SSLContext) -> Load:
    """Send every message once over ``connections`` sockets and return what came back."""
    seen = Load()
    waiting = iter(messages)
    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(_connection(port, waiting, tls, seen))
    seen.wall_s = time.perf_counter() - began
    return seen


def processor_s(pid: int) -> float:
    """Return the processor seconds that process ``pid`` has used; 0 where nobody tells."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / 100  # in ticks of 10 ms, on Linux


async def _connection(port: int, waiting: Iterator[bytes], tls: ssl.SSLContext, seen: Load) -> None:
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname="localhost"
    )
    try:
        for message in waiting:
            began = time.perf_counter()
            seen.statuses[await _exchange(reader, writer, message)] += 1
            seen.latencies_s.append(time.perf_counter() - began)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, message: bytes
) -> int:
    writer.write(
        b"POST /messages HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/xml\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(message), message)
    )
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length:")[2].partition(b"\r\n")[0]
    await reader.readexactly(int(length))
    return int(head[9:12])
