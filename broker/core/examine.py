"""Examine a submission: from bytes to a valid message, or a rejection. Nothing is looked up.

The order limits what a sender learns: until the signature has verified, nobody is told
whether an agency's system, message type or payload is known here.
"""

from collections.abc import Callable
from datetime import datetime
from enum import Enum, auto

from lxml import etree

from broker.core.agency import Agency, AgencyLookup
from broker.core.envelope import PAYLOAD, parse, read_header, receive
from broker.core.errors import Rejection
from broker.core.freshness import check_fresh
from broker.core.identity import AgencyId
from broker.core.limits import Limits
from broker.core.message import Header, ReceivedMessage, ValidMessage, VerifiedMessage
from broker.core.reasons import Reason
from broker.core.schema import SchemaSet
from broker.core.shortage import examining
from broker.core.signature import Verifier


class Step(Enum):
    """What has been done with a submission, in this order."""

    PARSED = auto()
    VERIFIED = auto()
    FRESH = auto()
    VALIDATED = auto()


def _unobserved(_step: Step) -> None:
    pass


def examine(  # noqa: PLR0913 - each is one fact that the answer depends on
    raw: bytes,
    *,
    peer_agencies: frozenset[AgencyId] | None,
    agencies: AgencyLookup,
    schemas: SchemaSet,
    verifier: Verifier,
    limits: Limits,
    now: datetime,
    done: Callable[[Step], None] = _unobserved,
) -> ValidMessage:
    """Return ``raw`` as a valid message.

    ``peer_agencies`` are the agencies that whoever sent the bytes may speak for; ``None``
    means a caller inside the broker, which is trusted. ``done`` is told each step.

    Raises:
        Rejection: it is not one; the reason and the place say why.
        Transient: there was too little memory to tell.
    """
    with examining():
        received = receive(raw, limits, schemas)
        done(Step.PARSED)
        sender = _sender(received, agencies)
        verified = _verify(received, sender, verifier, now)
        done(Step.VERIFIED)
        _check_peer(verified.header, sender, peer_agencies)
        check_fresh(verified.header, limits, now)
        done(Step.FRESH)
        valid = _validate(verified, schemas)
        done(Step.VALIDATED)
        return valid


def _sender(received: ReceivedMessage, agencies: AgencyLookup) -> Agency:
    # step 1, ISP-1.3: without a registered sender there is no key to verify with.
    sender = agencies.get(received.claimed_sender)
    if sender is None:
        pointer = "/Envelope/Header/Sender/AgencyId"
        raise Rejection(Reason.SENDER_UNKNOWN, pointer=pointer)
    return sender


def _verify(
    received: ReceivedMessage, sender: Agency, verifier: Verifier, now: datetime
) -> VerifiedMessage:
    verified = verifier.verify(received, sender.keys, now)
    # From here on only what was digested is read, parsed again from those very bytes.
    root = parse(verified.signed)
    header = read_header(root)
    if header.sender != sender.agency_id:
        raise Rejection(Reason.SIGNATURE_INVALID, "the signed sender is another")
    return VerifiedMessage(
        raw=received.raw,
        signed=verified.signed,
        root=root,
        header=header,
        digest=verified.digest,
        signer=verified.signer,
        algorithm=verified.algorithm,
    )


def _check_peer(header: Header, sender: Agency, peer_agencies: frozenset[AgencyId] | None) -> None:
    # step 1, ISP-1.4: who is connected, and from which system, is what the header says.
    if peer_agencies is not None and header.sender not in peer_agencies:
        raise Rejection(Reason.PEER_NOT_SENDER, pointer="/Envelope/Header/Sender/AgencyId")
    if all(system.system_id != header.system for system in sender.systems):
        raise Rejection(Reason.SYSTEM_UNKNOWN, pointer="/Envelope/Header/Sender/SystemId")


def _validate(verified: VerifiedMessage, schemas: SchemaSet) -> ValidMessage:
    header = verified.header
    payload = _payload(verified.root)
    schemas.validate(header.message_type, header.schema_version, payload)
    return ValidMessage(
        verified=verified,
        header=header,
        payload=payload,
        subject=schemas.subject(header.message_type, header.schema_version, payload),
        catalogue_digest=schemas.digest,
    )


def _payload(root: etree._Element) -> etree._Element:
    payload = root.find(PAYLOAD)
    if payload is None or len(payload) != 1:
        raise Rejection(Reason.ENVELOPE, "one element in the payload", pointer="/Envelope/Payload")
    return payload[0]
