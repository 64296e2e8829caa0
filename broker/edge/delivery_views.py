"""What may be seen of deliveries: by their recipient, by both parties, by operators.

Only ids, codes and instants: no view opens a message.
"""

from collections.abc import Mapping, Sequence

import orjson
from sqlalchemy import Connection, RowMapping, Select, and_, select

from broker.core.identity import AgencyId
from broker.core.instant import from_millis, rfc3339
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge.tables import decision, delivery, evidence, message

View = dict[str, object]


def mailbox(conn: Connection, agency: AgencyId, limit: int, after: str | None) -> list[View]:
    """Return what lies in the mailbox of ``agency``, oldest first, after the delivery ``after``.

    Read but unacknowledged messages stay listed: reading is repeatable, because a reply
    can be lost on its way.
    """
    listed = (
        select(
            delivery.c.id.label("delivery_id"),
            delivery.c.message.label("submission_id"),
            delivery.c.state,
            delivery.c.level.label("acknowledge"),
            message.c.sender,
            message.c.message_id,
            message.c.message_type,
            message.c.schema_version,
            message.c.priority,
            message.c.correlation_id,
            message.c.received_at,
            message.c.respond_by,
            delivery.c.expires_at,
            message.c.size,
            delivery.c.reduced,
        )
        .join(message, message.c.id == delivery.c.message)
        .where(
            delivery.c.recipient == agency,
            delivery.c.closed_at.is_(None),
            delivery.c.state.in_((DeliveryState.AVAILABLE.value, DeliveryState.DELIVERED.value)),
        )
        .order_by(delivery.c.position)
        .limit(limit)
    )
    if after is not None:
        seen = delivery.alias("seen")
        last = select(seen.c.position).where(seen.c.id == after, seen.c.recipient == agency)
        listed = listed.where(delivery.c.position > last.scalar_subquery())
    return [
        {**_instants(row), "reduced": bool(row["reduced"]), "level": _level(row)}
        for row in conn.execute(listed).mappings()
    ]


def _level(row: RowMapping) -> str:
    return "L2" if row["state"] == DeliveryState.DELIVERED.value else "L1"


def dead_letters(conn: Connection, limit: int, after: str | None) -> list[View]:
    """Return the deliveries that were given up and that no operator has dealt with."""
    listed = (
        select(
            delivery.c.id.label("delivery_id"),
            delivery.c.message.label("submission_id"),
            delivery.c.recipient,
            message.c.sender,
            message.c.message_id,
            message.c.message_type,
            delivery.c.attempts,
            delivery.c.in_doubt,
            delivery.c.reason,
            message.c.received_at,
            delivery.c.expires_at,
            delivery.c.closed_at,
        )
        .join(message, message.c.id == delivery.c.message)
        .where(
            delivery.c.state == DeliveryState.UNDELIVERABLE.value,
            delivery.c.reason != Reason.DISCARDED.value,
        )
        .order_by(delivery.c.id)
        .limit(limit)
    )
    if after is not None:
        listed = listed.where(delivery.c.id > after)
    return [_instants(row) for row in conn.execute(listed).mappings()]


def message_view(
    conn: Connection, submission_id: str, agencies: frozenset[AgencyId]
) -> View | None:
    """Return how a message stands, as far as ``agencies`` may know; None: they are no party.

    A sender sees every recipient. A recipient sees itself, and nothing of a decision that
    kept the message from it: not even that there was a message.
    """
    found = conn.execute(_MESSAGE.where(message.c.id == submission_id)).mappings().one_or_none()
    if found is None:
        return None
    is_sender = found["sender"] in agencies
    rows = [
        row
        for row in conn.execute(_recipients(submission_id)).mappings()
        if is_sender or (row["permitted"] and row["recipient"] in agencies)
    ]
    if not rows and not is_sender:
        return None
    levels = _levels(conn, submission_id)
    recipients = [_recipient(row, levels.get(row["recipient"], ())) for row in rows]
    return {**_instants(found), "recipients": recipients}


_MESSAGE = select(
    message.c.id.label("submission_id"),
    message.c.sender,
    message.c.message_id,
    message.c.message_type,
    message.c.schema_version,
    message.c.purpose,
    message.c.priority,
    message.c.correlation_id,
    message.c.conversation_id,
    message.c.created_at,
    message.c.received_at,
    message.c.respond_by,
    message.c.expires_at,
    message.c.size,
    message.c.ledger_seq,
)


def _recipients(submission_id: str) -> Select[tuple[object, ...]]:
    return (
        select(
            decision.c.recipient,
            decision.c.permitted,
            decision.c.reason.label("refused_because"),
            decision.c.step,
            decision.c.change,
            decision.c.protocol,
            decision.c.protocol_version,
            decision.c.clause,
            decision.c.gateway,
            decision.c.withheld,
            delivery.c.id.label("delivery_id"),
            delivery.c.state,
            delivery.c.attempts,
            delivery.c.in_doubt,
            delivery.c.reason,
            delivery.c.next_at,
            delivery.c.delivered_at,
            delivery.c.read_at,
            delivery.c.closed_at,
        )
        .outerjoin(
            delivery,
            and_(
                delivery.c.message == decision.c.message,
                delivery.c.recipient == decision.c.recipient,
            ),
        )
        .where(decision.c.message == submission_id)
        .order_by(decision.c.recipient)
    )


def _recipient(row: RowMapping, levels: Sequence[str]) -> View:
    decided: View = {
        "recipient": row["recipient"],
        "decision": "PERMITTED" if row["permitted"] else "REFUSED",
        "protocol": row["protocol"],
        "clause": row["clause"],
    }
    if not row["permitted"]:
        return {
            **decided,
            "state": DeliveryState.REFUSED.value,
            "reason": row["refused_because"],
            "step": row["step"],
            "change": row["change"],
        }
    # Before the first attempt it is due already: its place in the queue is no instant to tell.
    waiting = row["state"] == DeliveryState.PENDING.value and row["attempts"]
    return {
        **decided,
        "protocol_version": row["protocol_version"],
        "gateway": row["gateway"],
        "withheld": orjson.loads(row["withheld"]),
        "delivery_id": row["delivery_id"],
        "state": row["state"],
        "level": max(levels, default="L1"),
        "attempts": row["attempts"],
        "in_doubt": row["in_doubt"],
        "reason": row["reason"],
        "next_at": _instant(row["next_at"]) if waiting else None,
        "delivered_at": _instant(row["delivered_at"]),
        "read_at": _instant(row["read_at"]),
        "closed_at": _instant(row["closed_at"]),
    }


def _levels(conn: Connection, submission_id: str) -> Mapping[str, list[str]]:
    """Return the acknowledgement levels that there is evidence of, by recipient."""
    levels: dict[str, list[str]] = {}
    rows = select(evidence.c.recipient, evidence.c.level).where(
        evidence.c.message == submission_id, evidence.c.level.like("L_")
    )
    for recipient, level in conn.execute(rows):
        levels.setdefault(recipient, []).append(level)
    return levels


_INSTANTS = ("created_at", "received_at", "respond_by", "expires_at", "closed_at")


def _instants(row: RowMapping) -> View:
    return {key: _instant(value) if key in _INSTANTS else value for key, value in row.items()}


def _instant(value: int | None) -> str | None:
    return None if value is None else rfc3339(from_millis(value))
