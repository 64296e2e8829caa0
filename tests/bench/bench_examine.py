"""CPU time of examining one message, over the calls into C libraries that it cannot do without.

    python -m tests.bench.bench_examine

Both sides are measured in the same run, round by round in turn, and the best round counts:
this machine is shared. "C calls" are lxml's parse, validation and canonicalisation,
OpenSSL's digest and signature check, and the second parse, of what was signed.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from lxml import etree

from broker.core.envelope import hardened_parser, receive
from broker.core.limits import LIMITS
from broker.core.message import ReceivedMessage
from broker.core.signature import ALGORITHMS, SIGNATURE, Verifier, base64_bytes
from broker.core.signing import build_envelope, sign_envelope
from tests.unit.signing_world import (
    NOW,
    SENDER_KEYS,
    VERIFIERS,
    examined,
    key,
    schemas,
    signing_key,
)
from tests.unit.test_signing import HEADER as PLAIN
from tests.vectors.signer import ECDSA_SHA256, RSA_SHA256

HEADER = replace(PLAIN, message_type="VacancyFeedbackReport")
CERTIFICATES = {"rsa": ("sender-rsa", RSA_SHA256), "ecdsa": ("sender-p256", ECDSA_SHA256)}
ROUNDS = 7


@dataclass(frozen=True)
class Figures:
    """Microseconds of CPU a message, by what was measured."""

    title: str
    size: int
    floor_verify: float
    floor_examine: float
    verify: dict[str, float]
    examine: dict[str, float]


def vacancy(size: int) -> bytes:
    """Return a payload that makes a signed message of about ``size`` bytes."""
    item = (
        b"<Item><Employer>10</Employer><VacancyRef>SCC-%d</VacancyRef><Version>1</Version>"
        b"<Result>REJECTED</Result><Reason>The closing date is past</Reason></Item>"
    )
    count = max(1, (size - 3600) // len(item))
    items = b"".join(item % number for number in range(count))
    return (
        b'<VacancyFeedbackReport xmlns="urn:fame:vacancy:1.0"><ReportId>R1</ReportId>'
        b"<Channel>Portal</Channel><ReportedAt>2026-11-20T10:00:00Z</ReportedAt>"
        + items
        + b"</VacancyFeedbackReport>"
    )


@dataclass(frozen=True)
class Action:
    """What is measured: ``run`` on what ``prepare`` made, which is not counted."""

    run: Callable[[ReceivedMessage], object]
    prepare: Callable[[], ReceivedMessage]


def cpu_of(actions: dict[str, Action], times: int) -> dict[str, float]:
    """Return microseconds of CPU a call for each action: the best of several rounds."""
    best = dict.fromkeys(actions, float("inf"))
    for _ in range(ROUNDS):
        for name, action in actions.items():
            prepared = [action.prepare() for _ in range(times)]
            began = time.process_time()
            for received in prepared:
                action.run(received)
            best[name] = min(best[name], (time.process_time() - began) / times * 1e6)
    return best


class Floor:
    """The calls into C, with everything prepared that is not one of them."""

    def __init__(self, raw: bytes, certificate: str, method: str) -> None:
        root = etree.fromstring(raw, hardened_parser())
        signature = root[-1]
        self.raw, self.algorithm = raw, ALGORITHMS[method]
        self.public_key = key(certificate).public_key
        self.value = base64_bytes(signature[1].text or "")
        self.signed_info = etree.tostring(signature[0], method="c14n", exclusive=True)
        root.remove(signature)
        self.signed = etree.tostring(root, method="c14n", exclusive=True)
        self.tree = etree.fromstring(raw, hardened_parser())
        self.bare = etree.fromstring(self.signed, hardened_parser())

    def verify(self) -> None:
        """Canonicalise, check and digest."""
        etree.tostring(self.tree[-1][0], method="c14n", exclusive=True)
        self.algorithm.check(self.public_key, self.value, self.signed_info)
        etree.tostring(self.bare, method="c14n", exclusive=True)
        hashlib.sha256(self.signed).digest()

    def examine(self) -> None:
        """Parse and validate in addition, and parse and validate what was signed."""
        root = etree.fromstring(self.raw, hardened_parser())
        schemas().envelope.validate(root)
        self.verify()
        signed = etree.fromstring(self.signed, hardened_parser())
        entry = schemas().entry(HEADER.message_type, HEADER.schema_version)
        schemas().validate(entry.message_type, entry.version, signed[1][0])


def measure(title: str, size: int, times: int) -> Figures:
    """Measure messages of about ``size`` bytes, signed with the key ``title`` begins with."""
    certificate, method = CERTIFICATES[title.split(maxsplit=1)[0]]
    raw = sign_envelope(build_envelope(HEADER, vacancy(size)), signing_key(certificate))
    floor = Floor(raw, certificate, method)
    assert etree.fromstring(raw)[-1].tag == SIGNATURE
    received = receive(raw, LIMITS, schemas())
    actions = {
        "floor verify": Action(lambda _: floor.verify(), lambda: received),
        "floor examine": Action(lambda _: floor.examine(), lambda: received),
    }
    for name, verifier in VERIFIERS.items():
        actions[f"verify {name}"] = Action(
            _verifying(verifier), lambda: receive(raw, LIMITS, schemas())
        )
        actions[f"examine {name}"] = Action(_examining(raw, verifier), lambda: received)
    cpu = cpu_of(actions, times)
    return Figures(
        title,
        len(raw),
        cpu["floor verify"],
        cpu["floor examine"],
        {name: cpu[f"verify {name}"] for name in VERIFIERS},
        {name: cpu[f"examine {name}"] for name in VERIFIERS},
    )


def _verifying(verifier: Verifier) -> Callable[[ReceivedMessage], object]:
    return lambda received: verifier.verify(received, SENDER_KEYS, NOW)


def _examining(raw: bytes, verifier: Verifier) -> Callable[[ReceivedMessage], object]:
    return lambda _: examined(raw, verifier)


def report(rows: Sequence[Figures]) -> str:
    """Return the figures as a table."""
    heads = f"{'C calls':>9} {'profile':>17} {'signxml':>17}"
    lines = [
        "CPU microseconds a message; in brackets, times the C calls in it",
        f"{'':16}{'bytes':>9} | {heads} | {heads}",
        f"{'':16}{'':>9} | {'verify':-^45} | {'examine':-^45}",
    ]
    for row in rows:
        verify = _columns(row.floor_verify, row.verify)
        lines.append(
            f"{row.title:16}{row.size:>9} | {verify} | {_columns(row.floor_examine, row.examine)}"
        )
    return "\n".join(lines)


def _columns(floor: float, measured: dict[str, float]) -> str:
    cells = (f"{cpu:>9.0f} ({cpu / floor:>4.2f}x)" for cpu in measured.values())
    return f"{floor:>9.0f} " + " ".join(cells)


def main() -> None:
    """Measure and print."""
    rows = [
        measure("rsa 5 KB", 5 * 1024, 300),
        measure("ecdsa 5 KB", 5 * 1024, 300),
        measure("rsa 1 MB", 1024 * 1024, 1),
    ]
    print(report(rows))


if __name__ == "__main__":
    main()
