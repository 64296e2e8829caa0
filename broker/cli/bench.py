"""`fame bench`: what this machine does, with a broker of its own on the loopback, briefly."""

import asyncio
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import init
from broker.cli.client import tls_context
from broker.cli.envelopes import signing_key, system_of
from broker.cli.failure import EXIT_UNAVAILABLE, Failure
from broker.cli.home import Json, load_config, now, print_json, print_rows
from broker.cli.load import load, processor_s
from broker.cli.processes import Program, free_port, wait_for_port
from broker.cli.sample import new_header
from broker.core.identity import MessageId
from broker.core.samples import sample_payload
from broker.core.signing import build_envelope, sign_envelope
from broker.edge.ids import new_id

COUNT_MAX = 20_000
ACCEPTED = 202


def command(
    count: Annotated[int, typer.Option(min=10, max=COUNT_MAX, help="Messages in all.")] = 2000,
    connections: Annotated[int, typer.Option(min=1, max=500, help="Sockets.")] = 32,
    size: Annotated[int, typer.Option(min=0, max=1_000_000, help="Bytes of payload.")] = 4000,
    as_json: Json = False,
) -> None:
    """Measure accepted messages a second, latency and processor time; a few seconds."""
    with tempfile.TemporaryDirectory(prefix="fame-bench-") as folder:
        found = _measure(Path(folder) / "broker", count, connections, size)
    if as_json:
        print_json(found)
    else:
        print_rows(("measure", "value"), [(name, f"{value:,}") for name, value in found.items()])


def _measure(home: Path, count: int, connections: int, size: int) -> dict[str, float]:
    port = free_port()
    init.make(home, sandbox=True, port=port, at=now())
    sender = "gateshead-hr"
    messages = _messages(home, sender, count, size)
    config = load_config(home).config
    tls = tls_context(config, home / "agencies" / sender)
    arguments = ["broker", "serve", "--config", str(home / "fame.toml")]
    with Program("The broker", arguments, home / "broker.log") as broker:
        wait_for_port(port, broker)
        warm, rest = messages[: count // 10], messages[count // 10 :]
        asyncio.run(load(port, warm, connections, tls))
        before = processor_s(broker.pid)
        seen = asyncio.run(load(port, rest, connections, tls))
        used = processor_s(broker.pid) - before
    if set(seen.statuses) != {ACCEPTED}:
        answers = ", ".join(f"{status}: {number}" for status, number in seen.statuses.items())
        raise Failure("Not every message was accepted", EXIT_UNAVAILABLE, {"answers": answers})
    return {
        "messages": len(rest),
        "bytes each": len(messages[0]),
        "accepted a second": round(len(rest) / seen.wall_s),
        "p50 ms": round(seen.percentile_ms(0.50), 1),
        "p99 ms": round(seen.percentile_ms(0.99), 1),
        "broker's processor ms a message": round(1000 * used / len(rest), 3),
    }


def _messages(home: Path, sender: str, count: int, size: int) -> list[bytes]:
    header = new_header(
        "VacancyPublished", sender, ["ne-jobs-portal"], "JOBS", system=system_of(home, sender)
    )
    key = signing_key(home, sender)
    payload = sample_payload("VacancyPublished", 1, size_bytes=size)
    headers = (replace(header, message_id=MessageId(new_id())) for _ in range(count))
    return [sign_envelope(build_envelope(one, payload), key) for one in headers]
