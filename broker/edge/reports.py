"""The broker's own messages: what did not arrive, and notices about what did.

A report is an ordinary signed message from the broker, kept in the transaction that ends
the delivery, so that neither can be there without the other. Its id follows from the
delivery's, so that a delivery is reported once however often it ends. It names ids and
codes and nobody.
"""

import uuid
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from xml.sax.saxutils import escape

from broker.core.identity import AgencyId, MessageId, SubmissionId
from broker.core.instant import rfc3339
from broker.core.message import Address, Header
from broker.core.outcome import DeliveryState, Permitted, RecipientVerdict
from broker.core.reasons import Reason
from broker.core.reopening import reopen
from broker.core.schema import SchemaSet
from broker.core.signing import SigningKey, build_envelope, sign_canonical
from broker.core.submission import Submission
from broker.edge.deliveries import Held
from broker.edge.ids import new_id

MESSAGE_TYPE = "NonDeliveryReport"
CONSENT_NOTICE = "ConsentNotice"
OVERRIDE_NOTICE = "OverrideNotice"
CLOCK_NOTICE = "ClockNotice"
ACCESS_NOTICE = "AccessNotice"
OWN_TYPES = frozenset({MESSAGE_TYPE, CONSENT_NOTICE, OVERRIDE_NOTICE, CLOCK_NOTICE, ACCESS_NOTICE})
SCHEMA_VERSION = "1.0"
NAMESPACE = "urn:fame:report:1.0"
PURPOSE = "AUDIT"
SYSTEM = "broker"
LIFETIME = timedelta(days=30)  # as long as NHS MESH keeps what it reports
# Nobody agreed to reports: they are part of the contract with the broker, and name nobody.
AUTHORITY = Permitted(
    protocol="broker-contract", version=1, clause="non-delivery", gateway="NONE", fields=()
)
NOTICE_AUTHORITY = replace(AUTHORITY, clause="notice")
_IDS = uuid.UUID("6ff1f6c6-5b4b-5a52-8f5c-0c3f4a3b9d10")  # ours, for names that are delivery ids


def is_report(held: Held, broker: AgencyId) -> bool:
    """Return whether a delivery is of the broker's own report or notice."""
    return held.sender == broker and held.message_type in OWN_TYPES


def report_id(delivery_id: str) -> MessageId:
    """Return the message id of the one report about a delivery."""
    return MessageId(str(uuid.uuid5(_IDS, delivery_id)))


@dataclass(frozen=True, slots=True)
class Reporter:
    """Writes reports in the broker's name."""

    broker: AgencyId
    key: SigningKey = field(repr=False)
    schemas: SchemaSet = field(repr=False)

    def report(self, held: Held, state: DeliveryState, reason: Reason, at: datetime) -> Submission:
        """Return the report, ready to be kept, that ``held`` ended in ``state``."""
        header = self._header(
            MESSAGE_TYPE, held.sender, report_id(held.delivery_id), held.message_id, at
        )
        payload = _payload(held, state, reason, at)
        return self._signed(header, payload, AUTHORITY, held.register_digest, held.trace_id)

    def notice(  # noqa: PLR0913 - the parts of one notice
        self,
        message_type: str,
        *,
        recipient: AgencyId,
        name: str,
        about: MessageId,
        payload: bytes,
        at: datetime,
        trace_id: str,
    ) -> Submission:
        """Return a notice about the message ``about``, ready to be kept; one of each ``name``."""
        message_id = MessageId(str(uuid.uuid5(_IDS, f"{message_type}:{name}")))
        header = self._header(message_type, recipient, message_id, about, at)
        return self._signed(header, payload, NOTICE_AUTHORITY, "", trace_id)

    def _signed(
        self,
        header: Header,
        payload: bytes,
        authority: Permitted,
        register_digest: str,
        trace_id: str,
    ) -> Submission:
        at, (to,) = header.created_at, header.recipients
        assert to.agency_id is not None
        canonical = build_envelope(header, payload)
        message = reopen(
            sign_canonical(canonical, self.key),
            sha256(canonical).digest(),
            self.schemas,
            signer=self.key.fingerprint,
            algorithm=self.key.algorithm,
        )
        return Submission(
            submission_id=SubmissionId(new_id()),
            message=message,
            verdicts=(RecipientVerdict(to.agency_id, authority),),
            subject_ref=None,
            received_at=at,
            decided_at=at,
            expires_at=at + LIFETIME,
            register_digest=register_digest,
            trace_id=trace_id,
            peer=self.broker,
        )

    def _header(
        self,
        message_type: str,
        recipient: AgencyId,
        message_id: MessageId,
        about: MessageId,
        at: datetime,
    ) -> Header:
        return Header(
            message_id=message_id,
            message_type=message_type,
            schema_version=SCHEMA_VERSION,
            sender=self.broker,
            system=SYSTEM,
            recipients=(Address(agency_id=recipient),),
            purpose=PURPOSE,
            created_at=at,
            correlation_id=about,
            causation_id=about,
            classification="OFFICIAL",
            expires_at=at + LIFETIME,
            acknowledge="L1",
        )


def _payload(held: Held, state: DeliveryState, reason: Reason, at: datetime) -> bytes:
    parts = (
        ("MessageId", held.message_id),
        ("MessageType", held.message_type),
        ("Recipient", held.recipient),
        ("Outcome", state.value.upper()),
        ("Reason", reason.value),
        ("At", rfc3339(at)),
        ("Attempts", str(held.attempts)),
    )
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
    return f'<{MESSAGE_TYPE} xmlns="{NAMESPACE}">{inner}</{MESSAGE_TYPE}>'.encode()
