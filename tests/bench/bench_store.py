"""What the writer costs a message: sealing, ledger, receipt, inserts, its share of the commit.

    python -m tests.bench.bench_store [--rounds 7] [--batches 1,32,256]

"writer" is the CPU time of the writing thread with its checkpoints, "CPU" that of the whole
process, so with the event loop's part of each submission. The signature is ECDSA P-256.
The first line is the floor: signing one receipt and nothing else. The best of several rounds
is what the code costs; the median tells how busy the machine was.
"""

import argparse
import asyncio
import gc
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from broker.core.submission import Submission
from broker.edge.store import Store, StoreSettings
from tests.contract import stores

BODY_BYTES = 5 * 1024


@dataclass(frozen=True, slots=True)
class Figures:
    """One round, per message: microseconds of CPU and of time, bytes that went to the disk."""

    writer: float
    cpu: float
    wall: float
    disk_bytes: float


def prepared(count: int) -> list[Submission]:
    """Return submissions as they come from the pipeline, made before the clock starts."""
    content = b"<Envelope>" + os.urandom(BODY_BYTES // 2).hex().encode() + b"</Envelope>"
    return [stores.submission(content=content) for _ in range(count)]


async def measure(folder: Path, batch: int, rounds: int) -> list[Figures]:
    """Submit ``batch`` messages at a time, so that each commit takes that many."""
    store = stores.open_store(stores.sqlite_url(folder), StoreSettings(batch_max=batch))
    figures = [await _round(store, batch) for _ in range(rounds)]
    await store.close()
    return figures


async def _round(store: Store, batch: int) -> Figures:
    count = max(512, 8 * batch)
    given = prepared(count)
    gc.collect()
    gc.freeze()  # the prepared ones are no garbage, and a broker has few of them at a time
    written, writer = _written(), store.stats().counts.cpu_seconds
    cpu, wall = time.process_time(), time.perf_counter()
    for start in range(0, count, batch):
        await asyncio.gather(*map(store.submit, given[start : start + batch]))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await store.write(lambda _conn, _ledger: None)  # the checkpoint after the last batch is done
    writer = store.stats().counts.cpu_seconds - writer
    gc.unfreeze()
    micro = 1e6 / count
    return Figures(writer * micro, cpu * micro, wall * micro, (_written() - written) / count)


def _written() -> int:
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])


def signature_floor(count: int = 5000) -> float:
    """Return the CPU time of signing one receipt, in microseconds."""
    receipt = b"<Receipt>" + b"x" * 1200 + b"</Receipt>"
    stores.sign(receipt)
    started = time.process_time()
    for _ in range(count):
        stores.sign(receipt)
    return (time.process_time() - started) / count * 1e6


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batches", default="1,32,256")
    options = parser.parse_args()
    print(f"signature alone: {signature_floor():.1f} us CPU")
    print("batch  writer us: best  median   CPU us: best  median   best rate/s   bytes written")
    for batch in map(int, options.batches.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            rounds = asyncio.run(measure(Path(folder), batch, options.rounds))
        writer = sorted(one.writer for one in rounds)
        cpu = sorted(one.cpu for one in rounds)
        rate = 1e6 / min(one.wall for one in rounds)
        disk = statistics.median(one.disk_bytes for one in rounds)
        print(
            f"{batch:5d} {writer[0]:16.1f} {statistics.median(writer):7.1f}"
            f" {cpu[0]:14.1f} {statistics.median(cpu):7.1f} {rate:13.0f} {disk:15.0f}"
        )


if __name__ == "__main__":
    main()
