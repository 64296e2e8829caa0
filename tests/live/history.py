"""What happened in one run: what was sent and answered, taken, forbidden, kept and seen.

Pure data, filled by clients, sinks and the nemesis while it happens, and by a reading of the
store afterwards. `checks` judges it and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

BROKER = "fame-broker"  # reports to senders are its own messages; no client sent them


class Kind(StrEnum):
    """Jepsen's four: a client asked, was told yes, was told no for good, or cannot know."""

    INVOKE = "invoke"
    OK = "ok"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True, slots=True)
class Sent:
    """One signed body that a client may submit, once or again.

    ``mark`` is a random text inside it that the recipient may see: what comes out anywhere is
    recognised by it. ``withheld`` are random texts that the recipient may not see.
    ``under`` is what it rests on: agencies, the agreement, the signer's certificate.
    ``ordinal`` is its place among those of one sender, recipient and subject.
    """

    message_id: str
    mark: bytes
    sender: str
    recipient: str
    subject: str
    ordinal: int
    withheld: tuple[bytes, ...]
    under: frozenset[str]

    @property
    def stream(self) -> tuple[str, str, str]:
        """Within it, order counts."""
        return self.sender, self.recipient, self.subject


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a client's history; ``receipt`` and ``at`` (seconds) as the client saw them."""

    kind: Kind
    message_id: str
    mark: bytes
    at: float
    receipt: bytes = field(default=b"", repr=False)
    status: int = 0


@dataclass(frozen=True, slots=True)
class Taken:
    """One effect of a message at a recipient; by its ``delivery_id`` it knows a repetition."""

    recipient: str
    delivery_id: str
    body: bytes = field(repr=False)
    at: float


@dataclass(frozen=True, slots=True)
class Ban:
    """From ``since`` to ``until``, nothing that rests on ``what`` may be handed over."""

    what: str
    since: float
    until: float = float("inf")
    how: str = "stopped"


@dataclass(frozen=True, slots=True)
class Kept:
    """One row of the store's messages."""

    submission: str
    message_id: str
    sender: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row of the store's deliveries, with the id that its sender gave the message."""

    delivery_id: str
    message_id: str
    recipient: str
    state: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the ledger, as it is stored."""

    sequence: int
    leaf: bytes
    written: bytes


@dataclass(frozen=True, slots=True)
class History:
    """All of one run. ``places``: every byte that nobody but the recipient should find, by name."""

    sent: Sequence[Sent] = ()
    events: Sequence[Event] = ()
    taken: Sequence[Taken] = ()
    bans: Sequence[Ban] = ()
    kept: Sequence[Kept] = ()
    outcomes: Sequence[Outcome] = ()
    ledger: Sequence[Entry] = ()
    places: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def of_kind(self, kind: Kind) -> list[Event]:
        """Return the events of one kind."""
        return [event for event in self.events if event.kind is kind]

    def known(self) -> dict[bytes, Sent]:
        """Return what was sent, by its mark."""
        return {sent.mark: sent for sent in self.sent}
