"""One type per stage of examining a message, so that skipping a stage does not type-check.

``ReceivedMessage`` (parsed within limits) → ``VerifiedMessage`` (signature holds; only
signed bytes from here on) → ``ValidMessage`` (payload follows its schema and rules).
The first is made by `envelope.receive` and nobody else, the others by `examine.examine`.
"""

from dataclasses import dataclass, field
from datetime import datetime

from lxml import etree

from broker.core.identity import AgencyId, MessageId


@dataclass(frozen=True, slots=True)
class Practitioner:
    """The person who asks or tells, as the sending system vouches."""

    ref: str
    role: str
    clearance: str | None = None
    authentication: str | None = None  # AAL1 | AAL2 | AAL3


@dataclass(frozen=True, slots=True)
class Address:
    """Whom a message is for: one agency, or every agency of a type that serves an area."""

    agency_id: AgencyId | None = None
    agency_type: str | None = None
    area: str | None = None  # GSS code


@dataclass(frozen=True, slots=True)
class Header:
    """The routing facts of a message, all of them signed. Instants are aware, in UTC."""

    message_id: MessageId
    message_type: str
    schema_version: str
    sender: AgencyId
    system: str
    recipients: tuple[Address, ...]
    purpose: str
    created_at: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    conversation_id: str | None = None
    practitioner: Practitioner | None = None
    protocol: str | None = None  # sharing protocol relied on, "id" or "id@version"
    gateway: str | None = None
    reason_for_access: str | None = None
    consent_refs: tuple[str, ...] = ()
    decision_ref: str | None = None
    classification: str = "OFFICIAL-SENSITIVE"
    shielded: bool = False
    priority: str = "ROUTINE"  # ROUTINE | URGENT | IMMEDIATE
    expires_at: datetime | None = None
    respond_by: datetime | None = None
    acknowledge: str = "L2"  # the level the sender asks for, L1 to L4


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """Bytes that parsed within the limits and have the envelope's form. Nothing is believed yet."""

    raw: bytes = field(repr=False)
    root: etree._Element = field(repr=False)
    claimed_sender: AgencyId


@dataclass(frozen=True, slots=True)
class VerifiedMessage:
    """A message whose signature verified with a certificate registered for its sender.

    ``root`` was parsed from ``signed``, the canonical bytes that were digested: the
    envelope without its signature. ``digest`` is the SHA-256 of ``signed``, 32 bytes.
    """

    raw: bytes = field(repr=False)
    signed: bytes = field(repr=False)
    root: etree._Element = field(repr=False)
    header: Header
    digest: bytes
    signer: str  # SHA-256 fingerprint of the certificate, lower-case hex
    algorithm: str  # short name: rsa-sha256, ecdsa-sha256, ...


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a message is about, as found in the payload; never leaves the process.

    ``key`` is the canonical text that is hashed into a `SubjectRef`.
    """

    key: str = field(repr=False)
    nhs_number: str | None = field(repr=False, default=None)
    omission_reason: str | None = None


@dataclass(frozen=True, slots=True)
class ValidMessage:
    """A verified message whose payload follows its schema and the rules of its type."""

    verified: VerifiedMessage = field(repr=False)
    header: Header
    payload: etree._Element = field(repr=False)
    subject: Subject | None
    catalogue_digest: str

    @property
    def digest(self) -> bytes:
        """SHA-256 of the signed canonical bytes."""
        return self.verified.digest
