"""What was decided for one recipient, and the states of a delivery: closed unions."""

from dataclasses import dataclass, field
from enum import StrEnum

from broker.core.consent import WHOLE, Reach
from broker.core.identity import AgencyId
from broker.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What a clause says of one part of the payload.

    ``target`` is a slash path of local names below the payload element, such as
    ``Child/Address``, or ``category:NAME`` for every element of a data category.
    """

    target: str
    include: str  # MANDATORY | ALLOWED | FORBIDDEN
    transform: str = "NONE"  # NONE | MASK | GENERALISE | HASH


@dataclass(frozen=True, slots=True)
class Permitted:
    """The message may pass to this recipient, on the authority of the clause named.

    ``consents`` are the ids of those on record that it rests on; ``override`` is that of the
    decision by which it passes without.
    """

    protocol: str
    version: int
    clause: str
    gateway: str
    fields: tuple[FieldRule, ...]
    strip_location: bool = False  # a shielded subject: address and location are removed
    warnings: tuple[str, ...] = ()
    consents: tuple[str, ...] = ()
    override: str | None = None
    reach: Reach = WHOLE  # how much of it the person's consent lets be told


@dataclass(frozen=True, slots=True)
class Refused:
    """The message may not pass to this recipient.

    ``step`` is the number in the decision procedure (domain §5.5). ``change`` is the
    smallest lawful change that would let it pass, in words without personal data.
    """

    reason: Reason
    step: int
    change: str = ""
    protocol: str | None = None
    clause: str | None = None


Decision = Permitted | Refused


@dataclass(frozen=True, slots=True)
class RecipientVerdict:
    """One recipient's decision and, when something is withheld, the reduced envelope for it.

    ``collected``: the recipient collects from its mailbox, so nothing has to be pushed.
    ``kept``: the recipient is the broker itself, which has the message once it is kept.
    """

    recipient: AgencyId
    decision: Decision
    reduced: bytes | None = None
    withheld: tuple[str, ...] = ()  # paths only
    collected: bool = False
    kept: bool = False
    record: str | None = field(default=None, repr=False)  # for deciding again: `core.recorded`


class DeliveryState(StrEnum):
    """Where a delivery stands. The last five are the ways a message ends."""

    PENDING = "pending"  # committed, waiting for its next attempt
    AVAILABLE = "available"  # lies in the recipient's mailbox, not yet disclosed
    DELIVERED = "delivered"
    REFUSED = "refused"
    UNDELIVERABLE = "undeliverable"
    EXPIRED = "expired"
    RECALLED = "recalled"


class DiscardCause(StrEnum):
    """Why an operator lets a delivery go: a closed list, because the ledger is never erased."""

    DUPLICATE = "duplicate"
    SENT_ANOTHER_WAY = "sent-another-way"
    WRONG_RECIPIENT = "wrong-recipient"
    RECIPIENT_CLOSED = "recipient-closed"
    NOT_WANTED = "not-wanted"


class Level(StrEnum):
    """Acknowledgement levels (domain §8.2)."""

    ACCEPTED = "L1"
    DELIVERED = "L2"
    READ = "L3"
    BUSINESS = "L4"
