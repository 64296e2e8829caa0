"""Drive a real broker process and judge its history: the oracle of the crash tests.

A sender submits signed messages and keeps what it was told: ``acknowledged`` (a receipt
came), ``refused`` (a final no) or ``unknown`` (the connection broke: it sends the same bytes
again). Afterwards the store is read directly. Judged, after Jepsen's queue checker:

    lost          acknowledged, but not in the store
    phantom       in the store, but never sent
    doubled       one (message, recipient) with more than one effect under different marks
    stuck         permitted, but in no final state after the drain
    unaudited     in the store without its ledger entry, or a ledger that does not verify
"""

import json
import os
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from broker.core.ledger import leaf_hash

READY_S = 20.0
OPEN_STATES = ("pending",)


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class BrokerProcess:
    """A `fame serve` of its own session, so that one signal ends whatever it started."""

    state: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, state: Path, *, crash: str = "") -> "BrokerProcess":
        """Start a broker on the state directory; do not wait for it."""
        port = free_port()
        inherited = os.environ.items()  # noqa: TID251 - what a child process starts with
        environment = {k: v for k, v in inherited if not k.startswith("FAME_")}
        environment |= {"FAME_HTTP__PORT": str(port)} | ({"FAME_CRASH": crash} if crash else {})
        log = (state / "broker.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", "broker", "serve", "--config", str(state / "fame.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        return cls(state, port, process)

    def wait_ready(self) -> bool:
        """Wait until the broker answers /readyz; False when it died before."""
        context = client_context(self.state, "gateshead-hr")
        until = time.monotonic() + READY_S
        with httpx2.Client(verify=context, timeout=2) as client:
            while time.monotonic() < until and self.process.poll() is None:
                try:
                    if client.get(f"https://localhost:{self.port}/readyz").is_success:
                        return True
                except httpx2.TransportError:
                    time.sleep(0.02)
        if self.process.poll() is None:
            self.kill()
            raise TimeoutError(f"the broker was not ready within {READY_S} s")
        return False

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it politely; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=15)


@contextmanager
def running(state: Path, *, crash: str = "") -> Iterator[BrokerProcess]:
    """Run a broker on ``state`` for the time of a block; it never outlives it."""
    broker = BrokerProcess.start(state, crash=crash)
    try:
        broker.wait_ready()
        yield broker
    finally:
        broker.kill()


def client_context(state: Path, agency: str) -> ssl.SSLContext:
    """Return the TLS side of ``agency``'s system: its certificate, and the sandbox's authority."""
    context = ssl.create_default_context(cafile=str(state / "ca" / "ca.cert.pem"))
    folder = state / "agencies" / agency
    context.load_cert_chain(folder / "tls.cert.pem", folder / "tls.key.pem")
    return context


@dataclass(slots=True)
class Sender:
    """An agency's system that keeps its word: it retries what it is not sure about."""

    state: Path
    agency: str
    messages: Mapping[str, bytes]  # message id -> signed envelope
    acknowledged: dict[str, bytes] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    receipts_differ: set[str] = field(default_factory=set)

    def pending(self) -> list[str]:
        """Return the ids of messages whose fate the sender does not know yet."""
        return [m for m in self.messages if m not in self.acknowledged and m not in self.refused]

    def send_pending(self, port: int, *, again: bool = False) -> bool:
        """Send what is not settled, or, ``again``, everything; False when the broker went away."""
        context = client_context(self.state, self.agency)
        ids = list(self.messages) if again else self.pending()
        with httpx2.Client(verify=context, timeout=10) as client:
            for message_id in ids:
                try:
                    answer = client.post(
                        f"https://localhost:{port}/messages",
                        content=self.messages[message_id],
                        headers={"content-type": "application/xml"},
                    )
                except httpx2.TransportError:
                    return False
                self._settle(message_id, answer.status_code, answer.content)
        return True

    def _settle(self, message_id: str, status: int, body: bytes) -> None:
        if status in {200, 202}:
            if self.acknowledged.setdefault(message_id, body) != body:
                self.receipts_differ.add(message_id)
        elif status not in {503, 507}:
            self.refused[message_id] = status


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the oracle found; all of it must be empty."""

    lost: tuple[str, ...]
    phantom: tuple[str, ...]
    doubled: tuple[str, ...]
    stuck: tuple[str, ...]
    unaudited: tuple[str, ...]
    receipts_differ: tuple[str, ...]

    @property
    def clean(self) -> bool:
        """Whether nothing was found."""
        return not any(getattr(self, name) for name in self.__slots__)


def drain(state: Path, *, timeout_s: float = 30.0) -> None:
    """Wait until no delivery is pending."""
    until = time.monotonic() + timeout_s
    with closing(_open(state)) as db:
        while time.monotonic() < until:
            (left,) = db.execute("SELECT count(*) FROM delivery WHERE state = 'pending'").fetchone()
            if not left:
                return
            time.sleep(0.05)


def judge(state: Path, sender: Sender, drops: Path) -> Verdict:
    """Read the store and the files that were dropped, and say what is wrong."""
    with closing(_open(state)) as db:
        stored = {
            row[0]: row[1]
            for row in db.execute(
                "SELECT message_id, ledger_seq FROM message WHERE sender = ?", (sender.agency,)
            )
        }
        stuck = [row[0] for row in db.execute("SELECT id FROM delivery WHERE state IN ('pending')")]
        unaudited = _ledger_faults(db, stored)
        delivered = _effects(drops)
        ids = {row[0]: row[1] for row in db.execute("SELECT id, message FROM delivery")}
    effects_of: dict[tuple[str, str], set[str]] = {}
    for recipient, delivery_id in delivered:
        key = (ids.get(delivery_id, "?"), recipient)
        effects_of.setdefault(key, set()).add(delivery_id)
    return Verdict(
        lost=tuple(m for m in sender.acknowledged if m not in stored),
        phantom=tuple(m for m in stored if m not in sender.messages),
        doubled=tuple(f"{m}/{r}" for (m, r), marks in effects_of.items() if len(marks) > 1),
        stuck=tuple(stuck),
        unaudited=tuple(unaudited),
        receipts_differ=tuple(sender.receipts_differ),
    )


def _open(state: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{state / 'data' / 'fame.db'}?mode=ro", uri=True)


def _ledger_faults(db: sqlite3.Connection, stored: Mapping[str, int]) -> list[str]:
    faults: list[str] = []
    recorded: set[str] = set()
    for expected, (seq, leaf, entry) in enumerate(
        db.execute("SELECT seq, leaf, entry FROM ledger ORDER BY seq")
    ):
        if seq != expected:
            faults.append(f"ledger has {seq} where {expected} belongs")
            break
        if leaf_hash(entry) != leaf:
            faults.append(f"entry {seq} does not have its leaf hash")
        recorded.add(json.loads(entry).get("message_id", ""))
    faults += [m for m in stored if m not in recorded]
    (integrity,) = db.execute("PRAGMA integrity_check").fetchone()
    if integrity != "ok":
        faults.append("the database fails its integrity check")
    return faults


def _effects(drops: Path) -> list[tuple[str, str]]:
    """Return (recipient, delivery id) of every file that was dropped for an agency."""
    return [(path.parent.name, path.stem) for path in sorted(drops.glob("*/*.xml"))]
