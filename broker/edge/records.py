"""Signed documents as they were kept: receipts for senders, evidence for both parties."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, or_, select

from broker.core.identity import AgencyId
from broker.edge.tables import decision, evidence, message

Agencies = frozenset[AgencyId]


@dataclass(frozen=True, slots=True)
class EvidenceRow:
    """One piece of evidence that is on record."""

    recipient: AgencyId
    level: str
    at: int  # milliseconds since 1970 UTC
    ledger_seq: int


def receipt(conn: Connection, submission_id: str, agencies: Agencies) -> bytes | None:
    """Return the receipt of a message that one of ``agencies`` sent, or None."""
    found: bytes | None = conn.execute(
        select(message.c.receipt).where(
            message.c.id == submission_id, message.c.sender.in_(agencies)
        )
    ).scalar_one_or_none()
    return found


def evidence_of(
    conn: Connection, submission_id: str, agencies: Agencies
) -> Sequence[EvidenceRow] | None:
    """Return the evidence that ``agencies`` may see, or None when they are no party.

    A sender sees that of every recipient, a recipient its own.
    """
    sender = conn.execute(
        select(message.c.sender)
        .outerjoin(decision, decision.c.message == message.c.id)
        .where(
            message.c.id == submission_id,
            or_(
                message.c.sender.in_(agencies),
                decision.c.permitted & decision.c.recipient.in_(agencies),
            ),
        )
        .limit(1)
    ).scalar_one_or_none()
    if sender is None:
        return None
    listed = select(
        evidence.c.recipient, evidence.c.level, evidence.c.at, evidence.c.ledger_seq
    ).where(evidence.c.message == submission_id)
    if sender not in agencies:
        listed = listed.where(evidence.c.recipient.in_(agencies))
    rows = conn.execute(listed.order_by(evidence.c.ledger_seq))
    return [EvidenceRow(row.recipient, row.level, row.at, row.ledger_seq) for row in rows]


def evidence_document(
    conn: Connection, submission_id: str, agencies: Agencies, recipient: str, level: str
) -> bytes | None:
    """Return one signed piece of evidence, if ``agencies`` may see it, or None."""
    found: bytes | None = conn.execute(
        select(evidence.c.document)
        .join(message, message.c.id == evidence.c.message)
        .where(
            evidence.c.message == submission_id,
            evidence.c.recipient == recipient,
            evidence.c.level == level,
            or_(message.c.sender.in_(agencies), evidence.c.recipient.in_(agencies)),
        )
    ).scalar_one_or_none()
    return found
