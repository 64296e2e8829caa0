"""Accepted messages a second over HTTP, their latency, and the broker's CPU time and memory.

    python -m tests.bench.bench_http [CASE ...]

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
from broker.core.message import Address, Header, Practitioner
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
    Flow("gateshead-hr", "itrent", "ne-jobs-portal", "VacancyPublished", "JOBS"),
    Flow("sunderland-csc", "liquidlogic", "regional-index", "ChildIndexUpdate", "INDEX"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """One row: a load, and the bar it is held to, if the architecture sets one."""

    title: str
    algorithm: str
    kb: float
    count: int
    connections: int
    rate_per_s: float | None = None


CASES = (
    Case("as fast as it goes", "rsa", 5, 6000, 32),
    Case("as fast as it goes", "ecdsa", 5, 6000, 32),
    Case("500 a second", "rsa", 5, 5000, 32, 500),
    Case("500 a second", "ecdsa", 5, 5000, 32, 500),
    Case("as fast as it goes", "rsa", 100, 1000, 16),
    Case("as fast as it goes", "ecdsa", 100, 1000, 16),
    Case("500 connections", "rsa", 100, 1000, 500),
)
RATE_BAR = 2000  # accepted messages a second, 5 KB
LATENCY_BAR_MS = 25  # p99 at 500 a second
MEMORY_BAR = 1.5  # times the bytes in flight
CONNECTIONS_MANY = 500
# What others spend on verify, validate, look up and hand to a topic, without a database, a
# receipt, protection from replay, minimising or evidence, in ms.
CPU_TO_BEAT_MS = {"rsa": 0.23, "ecdsa": 1.0}
# The allocator's settings of the unit and the image in deploy/.
AS_DEPLOYED = {
    "MALLOC_ARENA_MAX": "2",
    "MALLOC_TRIM_THRESHOLD_": "131072",
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


def flow_of(state: Path, algorithm: str) -> tuple[Flow, SigningKey]:
    """Return a flow whose sender signs with ``algorithm``, and the sender's key."""
    for flow in FLOWS:
        key = key_of(state, flow)
        if key.algorithm.startswith(algorithm):
            return flow, key
    raise LookupError(algorithm)


def key_of(state: Path, flow: Flow) -> SigningKey:
    """Return the key with which the sender of ``flow`` signs."""
    folder = state / "agencies" / flow.sender
    return load_signing_key(
        (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
    )


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
                    practitioner=Practitioner(
                        "practitioner-1", "CASE_WORKER", "DBS enhanced", "AAL2"
                    ),
                    reason_for_access="ASSESSMENT",
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


def row(case: Case) -> str:
    """Measure one case against a broker of its own and return its line."""
    with tempfile.TemporaryDirectory(prefix="fame-bench-") as folder:
        state = Path(folder) / "broker"
        make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
        flow, key = flow_of(state, case.algorithm)
        bodies = messages(flow, key, case.count + 50, int(case.kb * 1000))
        with running(state, environment=AS_DEPLOYED) as broker:
            measure(broker, flow, bodies[:50], connections=4, rate_per_s=None)
            base, _peak = resident_mb(broker.process.pid)
            load, cpu = measure(
                broker,
                flow,
                bodies[50:],
                connections=case.connections,
                rate_per_s=case.rate_per_s,
            )
            _resident, peak = resident_mb(broker.process.pid)
    done = len(load.latencies_s)
    rate = done / load.wall_s
    return (
        f"{case.title:20} {case.algorithm:6} {flow.message_type:16} {len(bodies[0]) / 1000:6.1f} KB"
        f" {case.connections:4d} conns {rate:6.0f}/s"
        f"  p50 {load.percentile_ms(0.5):6.1f} ms  p99 {load.percentile_ms(0.99):6.1f} ms"
        f"  CPU {1000 * cpu / done:6.3f} ms  memory {base:4.0f} -> {peak:4.0f} MB"
        f"  {dict(load.statuses)}"
        + "".join(f"\n    {line}" for line in _bars(case, rate, load, cpu / done, peak - base))
    )


def _bars(case: Case, rate: float, load: Load, cpu_s_each: float, grown_mb: float) -> list[str]:
    """Return what the case is held to, and whether it holds."""

    def said(bar: str, *, met: bool) -> str:
        return f"bar: {bar}, {'met' if met else 'not met'}"

    if case.connections == CONNECTIONS_MANY:
        in_flight_mb = case.connections * case.kb / 1000
        bar = f"memory < base + {MEMORY_BAR} x {in_flight_mb:.0f} MB in flight"
        return [said(bar, met=grown_mb < MEMORY_BAR * in_flight_mb)]
    if case.kb > 5:
        return []
    if case.rate_per_s is not None:
        late = load.percentile_ms(0.99)
        return [said(f"p99 < {LATENCY_BAR_MS} ms", met=late < LATENCY_BAR_MS)]
    beat = CPU_TO_BEAT_MS[case.algorithm]
    return [
        said(f"{RATE_BAR}/s", met=rate >= RATE_BAR),
        said(f"CPU < {beat} ms, a gateway that keeps nothing", met=1000 * cpu_s_each < beat),
    ]


def main() -> None:
    """Measure every case, or those whose number is given."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("cases", type=int, nargs="*", default=range(len(CASES)))
    for number in options.parse_args().cases:
        print(row(CASES[number]), flush=True)


if __name__ == "__main__":
    main()
