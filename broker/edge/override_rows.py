"""Decisions to share without consent as rows: what was decided, what passed by it, the review.

Functions take a connection and run inside `Store.read` or `Store.write`; none commits, and
no row is ever changed or deleted.
"""

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, RowMapping, func, insert, select

from broker.core.identity import AgencyId
from broker.core.instant import from_millis, millis
from broker.core.override import Override, override_entry
from broker.edge.ledger import Ledger
from broker.edge.tables import decision, message, override_review, override_use
from broker.edge.tables import override as table

_INSTANTS = ("made_at", "recorded_at", "until", "review_by")
_LISTS = ("purposes", "message_types", "recipients")


def load(conn: Connection, override_id: str) -> Override | None:
    """Return the decision of that id, or None."""
    row = conn.execute(select(table).where(table.c.id == override_id)).mappings().one_or_none()
    return None if row is None else _override(row)


def add(
    conn: Connection, ledger: Ledger, override: Override, *, peer: str, message_id: str
) -> None:
    """Add a decision, with its entry in the ledger.

    ``message_id`` is of the message that says it, which was kept in this very transaction.
    """
    said = conn.execute(
        select(message.c.id, decision.c.protocol, decision.c.protocol_version)
        .join(decision, decision.c.message == message.c.id)
        .where(
            message.c.sender == override.agency,
            message.c.message_id == message_id,
            decision.c.permitted,
        )
    ).first()
    assert said is not None  # it was permitted to the broker, or there would be no task
    entry = override_entry(
        override,
        peer=peer,
        submission=said.id,
        message_id=message_id,
        protocol=f"{said.protocol}@{said.protocol_version}",
    )
    place = ledger.append(entry)
    conn.execute(
        insert(table).values(
            id=override.override_id,
            subject_ref=override.subject,
            agency=override.agency,
            reason=override.reason,
            gateway=override.gateway,
            decided_by=override.decided_by,
            approved_by=override.approved_by,
            message=said.id,
            ledger_seq=place.sequence,
            **{name: json.dumps(sorted(getattr(override, name))) for name in _LISTS},
            **{name: millis(getattr(override, name)) for name in _INSTANTS},
        )
    )


def use(conn: Connection, override_id: str, submission_id: str, recipient: AgencyId) -> None:
    """Add that a message passed to ``recipient`` by a decision."""
    conn.execute(
        insert(override_use).values(
            override=override_id, message=submission_id, recipient=recipient
        )
    )


def reviewed(conn: Connection, override_id: str) -> bool:
    """Return whether a decision was reviewed."""
    found = select(override_review.c.override).where(override_review.c.override == override_id)
    return conn.execute(found).first() is not None


def review(conn: Connection, override_id: str, **values: object) -> None:
    """Add the review of a decision."""
    conn.execute(insert(override_review).values(override=override_id, **values))


def submission_of(conn: Connection, override_id: str) -> str | None:
    """Return the broker's id of the message that said a decision; None: it was not kept then."""
    found = select(table.c.message).where(table.c.id == override_id)
    said: str | None = conn.execute(found).scalar_one()
    return said


def listed(
    conn: Connection,
    agency: AgencyId | None,
    limit: int,
    after: str | None,
    overdue_at: int | None = None,
) -> list[Mapping[str, Any]]:
    """Return decisions (of ``agency``; None: of all) with how often used and how reviewed.

    ``overdue_at``: only those whose review was overdue at that instant.
    """
    uses = (
        select(func.count())
        .select_from(override_use)
        .where(override_use.c.override == table.c.id)
        .scalar_subquery()
    )
    found = select(table, uses.label("uses"), override_review.c.outcome).outerjoin(
        override_review, override_review.c.override == table.c.id
    )
    if agency is not None:
        found = found.where(table.c.agency == agency)
    if after is not None:
        found = found.where(table.c.id > after)
    if overdue_at is not None:
        found = found.where(override_review.c.outcome.is_(None), table.c.review_by < overdue_at)
    rows = conn.execute(found.order_by(table.c.id).limit(limit)).mappings()
    return [
        {"override": _override(row), "uses": row["uses"], "outcome": row["outcome"]} for row in rows
    ]


def rate(conn: Connection, agency: AgencyId | None, since: int) -> list[Mapping[str, Any]]:
    """Return how many decisions each practitioner made since an instant, the most first."""
    made = func.count(table.c.id)
    found = (
        select(
            table.c.agency,
            table.c.decided_by,
            made.label("made"),
            func.count(override_review.c.override).label("reviewed"),
        )
        .outerjoin(override_review, override_review.c.override == table.c.id)
        .where(table.c.recorded_at >= since)
        .group_by(table.c.agency, table.c.decided_by)
        .order_by(made.desc(), table.c.agency, table.c.decided_by)
    )
    if agency is not None:
        found = found.where(table.c.agency == agency)
    return [dict(row) for row in conn.execute(found).mappings()]


def _override(row: RowMapping) -> Override:
    parsed: dict[str, Any] = {name: frozenset(json.loads(row[name])) for name in _LISTS}
    parsed |= {name: from_millis(row[name]) for name in _INSTANTS}
    return Override(
        override_id=row["id"],
        subject=row["subject_ref"],
        agency=row["agency"],
        reason=row["reason"],
        gateway=row["gateway"],
        decided_by=row["decided_by"],
        approved_by=row["approved_by"],
        **parsed,
    )
