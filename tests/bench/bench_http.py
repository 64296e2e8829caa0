"""Accepted messages a second over HTTP, their latency, and the broker's CPU time and memory.

    python -m tests.bench.bench_http [--count 4000] [--kb 5] [--connections 32] [--rate 500]

A sandbox broker runs as its own process on loopback with its real TLS, store and fsync. The
messages are distinct, signed beforehand, and each is sent once, with the sender's
certificate, over kept-alive connections. CPU seconds are the broker's, read from the
kernel, because wall time on a shared machine says little.
"""

import argparse
import asyncio
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broker.cli.init import make
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header
from broker.core.samples import sample_payload
from broker.core.signing import SigningKey, build_envelope, load_signing_key, sign_envelope
from broker.edge.ids import new_id
from tests.bench.load import Load, cpu_s, requests_of, resident_mb, run
from tests.live.harness import BrokerProcess, client_context, running

ENVELOPE_BYTES = 2300  # header, signature and certificate around a payload


@dataclass(frozen=True, slots=True)
class Flow:
    """Whose messages are sent: one sender signs with RSA, the other with ECDSA."""

    sender: str
    system: str
    recipient: str
    message_type: str
    purpose: str


FLOWS = (
    Flow("hylton-school", "sims", "sunderland-csc", "Referral", "CP"),
    Flow("northumbria-police", "niche", "sunderland-csc", "Referral", "CP"),
    Flow("northern-lights", "lamplight", "sunderland-csc", "Referral", "CP"),
)


def flow_of(state: Path, algorithm: str) -> tuple[Flow, SigningKey]:
    """Return a flow whose sender signs with ``algorithm``, and the sender's key."""
    for flow in FLOWS:
        folder = state / "agencies" / flow.sender
        key = load_signing_key(
            (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
        )
        if key.algorithm.startswith(algorithm):
            return flow, key
    raise LookupError(algorithm)


def messages(flow: Flow, key: SigningKey, count: int, size_bytes: int) -> list[bytes]:
    """Return ``count`` distinct signed messages of about ``size_bytes``."""
    payload = sample_payload(flow.message_type, 1, size_bytes=size_bytes - ENVELOPE_BYTES)
    return [
        sign_envelope(
            build_envelope(
                Header(
                    message_id=MessageId(new_id()),
                    message_type=flow.message_type,
                    schema_version="1.0",
                    sender=AgencyId(flow.sender),
                    system=flow.system,
                    recipients=(Address(agency_id=AgencyId(flow.recipient)),),
                    purpose=flow.purpose,
                    created_at=datetime.now(UTC),  # noqa: TID251 - a sender stamps its messages
                ),
                payload,
            ),
            key,
        )
        for _ in range(count)
    ]


def measure(
    broker: BrokerProcess,
    flow: Flow,
    bodies: list[bytes],
    *,
    connections: int,
    rate_per_s: float | None,
) -> tuple[Load, float]:
    """Send ``bodies``; return what came back and the broker's CPU seconds for it."""
    tls = client_context(broker.state, flow.sender)
    before = cpu_s(broker.process.pid)
    load = asyncio.run(
        run(
            broker.port,
            requests_of(bodies, f"localhost:{broker.port}"),
            connections=connections,
            tls=tls,
            rate_per_s=rate_per_s,
        )
    )
    return load, cpu_s(broker.process.pid) - before


def main() -> None:
    """Measure and print one line for each algorithm."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--count", type=int, default=4000)
    options.add_argument("--kb", type=float, default=5)
    options.add_argument("--connections", type=int, default=32)
    options.add_argument("--rate", type=float)
    options.add_argument("--algorithms", nargs="*", default=["rsa", "ecdsa"])
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="fame-bench-") as folder:
        state = Path(folder) / "broker"
        make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
        for algorithm in chosen.algorithms:
            flow, key = flow_of(state, algorithm)
            bodies = messages(flow, key, chosen.count, int(chosen.kb * 1000))
            with running(state) as broker:
                measure(broker, flow, bodies[:50], connections=4, rate_per_s=None)
                load, cpu = measure(
                    broker,
                    flow,
                    bodies[50:],
                    connections=chosen.connections,
                    rate_per_s=chosen.rate,
                )
                _resident, peak = resident_mb(broker.process.pid)
            done = len(load.latencies_s)
            print(
                f"{algorithm:6} {len(bodies[0]) / 1000:6.1f} KB  {done / load.wall_s:7.0f}/s"
                f"  p50 {load.percentile_ms(0.5):6.1f} ms  p99 {load.percentile_ms(0.99):6.1f} ms"
                f"  CPU {1000 * cpu / done:6.3f} ms a message  peak {peak:5.0f} MB"
                f"  {dict(load.statuses)}"
            )


if __name__ == "__main__":
    main()
