"""One sender with a list of messages, and what the store and the dropped files say of them.

For tests that stage one fault and look at one agency; `play` and `checks` judge whole histories.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from broker.core.ledger import leaf_hash
from tests.live.harness import client_context


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
