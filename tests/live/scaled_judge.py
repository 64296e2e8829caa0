"""One sender with a list of messages, and what the store and the dropped files say of them.

For tests that stage one fault and look at one agency; `play` and `checks` judge whole histories.
"""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from sqlalchemy import Engine, text

from broker.edge.ledger import verify_ledger
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


def drain(engine: Engine, *, timeout_s: float = 30.0) -> None:
    """Wait until no delivery is pending."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if not rows(engine, "SELECT id FROM delivery WHERE state = 'pending'"):
            return
        time.sleep(0.05)


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    """Return what a query finds at this moment."""
    with engine.connect() as conn:
        return [tuple(row) for row in conn.execute(text(query))]


def judge(engine: Engine, sender: Sender, drops: Path) -> Verdict:
    """Read the store and the files that were dropped, and say what is wrong."""
    stored = dict(
        rows(engine, f"SELECT message_id, ledger_seq FROM message WHERE sender = '{sender.agency}'")  # noqa: S608 - an id of ours
    )
    stuck = [row[0] for row in rows(engine, "SELECT id FROM delivery WHERE state = 'pending'")]
    ids = dict(rows(engine, "SELECT id, message FROM delivery"))
    effects_of: dict[tuple[str, str], set[str]] = {}
    for recipient, delivery_id in _effects(drops):
        key = (ids.get(delivery_id, "?"), recipient)
        effects_of.setdefault(key, set()).add(delivery_id)
    return Verdict(
        lost=tuple(m for m in sender.acknowledged if m not in stored),
        phantom=tuple(m for m in stored if m not in sender.messages),
        doubled=tuple(f"{m}/{r}" for (m, r), marks in effects_of.items() if len(marks) > 1),
        stuck=tuple(stuck),
        unaudited=tuple(_ledger_faults(engine, stored)),
        receipts_differ=tuple(sender.receipts_differ),
    )


def _ledger_faults(engine: Engine, stored: Mapping[str, int]) -> list[str]:
    with engine.connect() as conn:
        check = verify_ledger(conn)
    faults = [check.fault] if check.fault else []
    entries = rows(engine, "SELECT entry FROM ledger")
    recorded = {json.loads(bytes(entry)).get("message_id") for (entry,) in entries}
    recorded |= {
        json.loads(bytes(entry)).get("header", {}).get("message_id") for (entry,) in entries
    }
    return faults + [m for m in stored if m not in recorded]


def _effects(drops: Path) -> list[tuple[str, str]]:
    """Return (recipient, delivery id) of every file that was dropped for an agency."""
    return [(path.parent.name, path.stem) for path in sorted(drops.glob("*/*.xml"))]
