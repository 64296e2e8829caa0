"""What recording or withdrawing a consent is, inside the transaction that does it.

The same whether it came over HTTP or in a signed message: the record and its ledger entry,
the notices to those who received under it, and which deliveries are to be stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, and_, or_, select

from broker.core.consent import ACTIVE, REFUSED, Consent
from broker.core.consent_record import lineage, superseded, withdrawn
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId, SubjectRef
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge import consent_rows
from broker.edge.ledger import Ledger
from broker.edge.tables import delivery, message, reliance

_OPEN = (DeliveryState.PENDING.value, DeliveryState.AVAILABLE.value)


@dataclass(frozen=True, slots=True)
class Recording:
    """A consent or refusal to be recorded by ``peer``."""

    consent: Consent
    peer: str


@dataclass(frozen=True, slots=True)
class Withdrawing:
    """A consent to be withdrawn. ``subject``: whom the agency says it is about, if it does.

    ``by`` conveyed that, ``said_at`` is when the person said so.
    """

    consent_id: str
    agency: AgencyId
    at: datetime
    peer: str
    subject: SubjectRef | None = None
    by: str | None = None
    said_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """A message that a recipient received, or may have received, under a consent."""

    consent_id: str
    submission_id: str
    message_id: MessageId
    message_type: str
    sender: AgencyId
    recipient: AgencyId
    trace_id: str


@dataclass(frozen=True, slots=True)
class Kept:
    """What was recorded, and the deliveries that rested on what it ends."""

    consent: Consent
    told: int = 0
    waiting: tuple[str, ...] = ()


Tell = Callable[[Connection, Ledger, Sequence[Received], datetime], None]


def keep(conn: Connection, ledger: Ledger, what: Recording | Withdrawing, tell: Tell) -> Kept:
    """Record ``what`` and tell those who received under a consent that ends.

    Raises:
        Rejection: there is no such record for the agency, or it cannot be changed so.
    """
    if isinstance(what, Withdrawing):
        return _withdraw(conn, ledger, what, tell)
    return _record(conn, ledger, what, tell)


def _record(conn: Connection, ledger: Ledger, what: Recording, tell: Tell) -> Kept:
    consent = what.consent
    if consent_rows.load(conn, consent.consent_id) is not None:
        raise Rejection(Reason.CONSENT_UNUSABLE, "a record of this id is there already")
    ended = None
    if consent.supersedes is not None:
        old = consent_rows.load(conn, consent.supersedes)
        if old is None:
            detail = "a record takes the place of one of your own"
            raise Rejection(Reason.CONSENT_UNUSABLE, detail)
        gone = superseded(old, consent, consent.recorded_at)
        consent_rows.add(conn, ledger, gone, peer=what.peer)
        ended = old if (old.status, consent.status) == (ACTIVE, REFUSED) else None
    consent_rows.add(conn, ledger, consent, peer=what.peer)
    if ended is not None:
        return _ended(conn, ledger, ended, consent, tell)
    return Kept(consent)


def _withdraw(conn: Connection, ledger: Ledger, what: Withdrawing, tell: Tell) -> Kept:
    old = consent_rows.load(conn, what.consent_id)
    if old is None or old.recorded_by != what.agency:
        raise Rejection(Reason.NOT_FOUND)
    if what.subject is not None and old.subject != what.subject:
        raise Rejection(Reason.NOT_FOUND)
    gone = withdrawn(old, what.at, what.by, what.said_at)
    consent_rows.add(conn, ledger, gone, peer=what.peer)
    return _ended(conn, ledger, old, gone, tell)


def _ended(conn: Connection, ledger: Ledger, old: Consent, new: Consent, tell: Tell) -> Kept:
    ids = lineage(old.consent_id, consent_rows.held(conn, old.subject))
    received = _received(conn, ids)
    tell(conn, ledger, received, new.recorded_at)
    return Kept(new, len(received), _waiting(conn, ids))


def _received(conn: Connection, ids: frozenset[str]) -> list[Received]:
    """Return what was delivered under these consents, or tried without a word of the outcome."""
    rows = conn.execute(
        select(
            reliance.c.consent.label("consent_id"),
            message.c.id.label("submission_id"),
            message.c.message_id,
            message.c.message_type,
            message.c.sender,
            reliance.c.recipient,
            message.c.trace_id,
        )
        .join(message, message.c.id == reliance.c.message)
        .join(
            delivery,
            and_(
                delivery.c.message == reliance.c.message,
                delivery.c.recipient == reliance.c.recipient,
            ),
        )
        .where(
            reliance.c.consent.in_(ids),
            or_(delivery.c.delivered_at.is_not(None), delivery.c.in_doubt > 0),
        )
    )
    return [Received(**row) for row in rows.mappings()]


def _waiting(conn: Connection, ids: frozenset[str]) -> tuple[str, ...]:
    rows = conn.execute(
        select(delivery.c.id)
        .join(
            reliance,
            and_(
                delivery.c.message == reliance.c.message,
                delivery.c.recipient == reliance.c.recipient,
            ),
        )
        .where(reliance.c.consent.in_(ids), delivery.c.state.in_(_OPEN))
        .distinct()
    )
    return tuple(rows.scalars())
