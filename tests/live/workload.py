"""Clients of a history: several agencies with several subjects, and secrets in every message.

Each stream is one sender, recipient and subject, and is served in order by one client that
keeps its word: what it is not sure about it sends again, the same bytes, until it knows. Now
and then it sends what is settled again, or another body under an id that was used.
"""

import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

import httpx2
from lxml import etree

from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, Practitioner
from broker.core.samples import sample_payload
from broker.core.signing import SigningKey, build_envelope, load_signing_key, sign_envelope
from broker.edge.ids import new_id
from tests.live.harness import client_context
from tests.live.history import Event, Kind, Sent, Taken

OPEN_MAX = 60  # acknowledged and not taken: beyond it, clients slow down
SLOW_S = 0.5
RETRY_S = 0.02  # between two tries of what could not be sent
AGAIN = 0.15  # of settled messages: sent again, the same bytes
RIVAL = 0.1  # of settled messages: another body under the same id


@dataclass(frozen=True, slots=True)
class Line:
    """Who sends what to whom under which agreement, where it is marked, and what is withheld."""

    sender: str
    system: str
    recipient: str
    message_type: str
    purpose: str
    protocol: str
    marked: str
    withheld: frozenset[str]


# What the clauses forbid, read from protocols/ by a person: a carer's address, offences, needs.
_CHECK = frozenset({"Street", "Town", "Offence", "OffenceCode", "Need"})
LINES = (
    Line(
        "sunderland-csc", "liquidlogic", "sunderland-yot", "YOTCheckResponse", "YJ",
        "ne-yot-checks", "RequestId", _CHECK,
    ),
    Line(
        "hylton-school", "sims", "sunderland-yot", "YOTCheckResponse", "YJ",
        "ne-yot-checks", "RequestId", frozenset({"Street", "Town", "Offence", "OffenceCode"}),
    ),
    Line(
        "hylton-school", "sims", "sunderland-csc", "Referral", "CP",
        "ne-referrals", "ReferralId", frozenset(),
    ),
    Line(
        "wearside-nhs", "systmone", "sunderland-csc", "Referral", "CIN",
        "ne-referrals", "ReferralId", frozenset(),
    ),
)  # fmt: skip
SENDERS = tuple(sorted({line.sender for line in LINES}))
PUSHED = "sunderland-yot"
COLLECTED = "sunderland-csc"


def secret(chance: random.Random, prefix: str) -> str:
    """Return a random text that no other text contains."""
    letters = "".join(chance.choice("abcdefghijkmnopqrstuvwxyz") for _ in range(12))
    return f"{prefix}{letters}x"


@dataclass(slots=True)
class Signed:
    """A message in the hands of its sender."""

    sent: Sent
    envelope: bytes = field(repr=False)


class Mint:
    """Makes signed messages, each with secrets of its own."""

    def __init__(self, state: Path, chance: random.Random) -> None:
        self.state = state
        self._chance = chance
        self._keys: dict[str, SigningKey] = {}

    def make(self, line: Line, subject: int, ordinal: int, *, message_id: str = "") -> Signed:
        """Return the message of ``line`` about ``subject``; ``message_id``: one used before."""
        payload, mark, withheld = self._payload(line, subject)
        key = self.key(line.sender)
        message_id = message_id or new_id()
        header = Header(
            message_id=MessageId(message_id),
            message_type=line.message_type,
            schema_version="1.0",
            sender=AgencyId(line.sender),
            system=line.system,
            recipients=(Address(agency_id=AgencyId(line.recipient)),),
            purpose=line.purpose,
            created_at=datetime.now(UTC),  # noqa: TID251 - a sender stamps its messages
            practitioner=Practitioner("practitioner-1", "CASE_WORKER", "DBS enhanced", "AAL2"),
            reason_for_access="ASSESSMENT",
        )
        under = frozenset({line.sender, line.recipient, line.protocol, key.fingerprint})
        sent = Sent(
            message_id, mark, line.sender, line.recipient, str(subject), ordinal, withheld, under
        )
        return Signed(sent, sign_envelope(build_envelope(header, payload), key))

    def key(self, agency: str) -> SigningKey:
        """Return the signing key of ``agency``."""
        if agency not in self._keys:
            folder = self.state / "agencies" / agency
            self._keys[agency] = load_signing_key(
                (folder / "signing.key.pem").read_bytes(),
                (folder / "signing.cert.pem").read_bytes(),
            )
        return self._keys[agency]

    def use(self, agency: str, key: SigningKey) -> None:
        """Have ``agency`` sign with another key from now on."""
        self._keys[agency] = key

    def _payload(self, line: Line, subject: int) -> tuple[bytes, bytes, tuple[bytes, ...]]:
        root = etree.fromstring(sample_payload(line.message_type, 3, person_seed=subject))
        mark = secret(self._chance, "Zm")
        place = root.find(f"{{*}}{line.marked}")
        assert place is not None
        place.text = mark
        withheld: list[bytes] = []
        for element in root.iter():
            if etree.QName(element).localname in line.withheld:
                element.text = secret(self._chance, "Zw")
                withheld.append(element.text.encode())
        assert bool(withheld) == bool(line.withheld), "the sample holds nothing to withhold"
        return etree.tostring(root), mark.encode(), tuple(withheld)


class Recorder:
    """Collects what clients, readers and sinks say, from whichever thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent: list[Sent] = []
        self.events: list[Event] = []
        self.taken: list[Taken] = []
        self.acknowledged: set[bytes] = set()
        self._delivered: set[str] = set()

    @property
    def open(self) -> int:
        """How many were acknowledged and not taken; those stopped on their way stay among them."""
        return len(self.acknowledged) - len(self._delivered)

    def said(self, event: Event) -> None:
        with self._lock:
            self.events.append(event)
            if event.kind is Kind.OK:
                self.acknowledged.add(event.mark)

    def invented(self, sent: Sent) -> None:
        with self._lock:
            self.sent.append(sent)

    def took(self, recipient: str, delivery_id: str, body: bytes) -> None:
        with self._lock:
            self.taken.append(Taken(recipient, delivery_id, body, time.time()))
            self._delivered.add(delivery_id)


@dataclass(slots=True)
class Calls:
    """How a run is ended: ``enough``, no new messages; ``off``, nothing any more."""

    enough: threading.Event = field(default_factory=threading.Event)
    off: threading.Event = field(default_factory=threading.Event)


@dataclass(slots=True)
class Stream:
    """One client: the messages of one sender about one subject, in their order."""

    line: Line
    subject: int
    mint: Mint
    recorder: Recorder
    chance: random.Random
    ports: Callable[[], Sequence[int]]
    calls: Calls
    pause_s: float = 0.0
    client: httpx2.Client | None = None

    def run(self) -> None:
        """Send until it is enough, and return when the fate of all is known."""
        try:
            for ordinal in count():
                if self.calls.enough.is_set():
                    return
                self._message(ordinal)
                busy = self.recorder.open > OPEN_MAX
                time.sleep(SLOW_S if busy else self.pause_s)
        finally:
            self._hang_up()

    def _message(self, ordinal: int) -> None:
        message = self._signed(ordinal)
        self._settle(message)
        if self.chance.random() < AGAIN:
            self._settle(message)
        if self.chance.random() < RIVAL:
            self._settle(self._signed(ordinal, message.sent.message_id))

    def _signed(self, ordinal: int, message_id: str = "") -> Signed:
        message = self.mint.make(self.line, self.subject, ordinal, message_id=message_id)
        self.recorder.invented(message.sent)
        return message

    def _settle(self, message: Signed) -> None:
        """Send ``message`` until its fate is known, or everything is called off."""
        while not self.calls.off.is_set() and self._try(message) is Kind.INFO:
            time.sleep(RETRY_S)

    def _try(self, message: Signed) -> Kind:
        ports = self.ports()
        if not ports:  # nobody is there at the moment
            return Kind.INFO
        self._say(Kind.INVOKE, message)
        try:
            answer = self._line().post(
                f"https://localhost:{self.chance.choice(ports)}/messages",
                content=message.envelope,
                headers={"content-type": "application/xml"},
            )
        except httpx2.TransportError:
            self._hang_up()
            self._say(Kind.INFO, message)
            return Kind.INFO
        kind = kind_of(answer.status_code)
        self._say(kind, message, answer.content if kind is Kind.OK else b"", answer.status_code)
        return kind

    def _say(self, kind: Kind, message: Signed, receipt: bytes = b"", status: int = 0) -> None:
        sent = message.sent
        now = time.time()
        self.recorder.said(Event(kind, sent.message_id, sent.mark, now, receipt, status))

    def _line(self) -> httpx2.Client:
        if self.client is None:
            context = client_context(self.mint.state, self.line.sender)
            self.client = httpx2.Client(verify=context, timeout=10)
        return self.client

    def _hang_up(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None


def kind_of(status: int) -> Kind:
    """Return what an answer means: 503 and 507 ask the sender to try again."""
    if status in {200, 202}:
        return Kind.OK
    return Kind.INFO if status in {429, 500, 502, 503, 504, 507} else Kind.FAIL
