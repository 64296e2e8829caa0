"""Decisions on record, read in the order in which they came, a page at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, func, or_, select

from broker.core.forecast import FlowKey
from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.recorded import Records
from broker.core.whatif import Outcome, PastDecision
from broker.edge.reports import AUTHORITY, OWN_TYPES
from broker.edge.tables import decision, message

PAGE = 5000
_NOT_OWN = or_(
    decision.c.protocol.is_(None),
    decision.c.protocol != AUTHORITY.protocol,
    message.c.message_type.not_in(sorted(OWN_TYPES)),
)


@dataclass(frozen=True, slots=True)
class Counted:
    """How many decisions there are, and how many notices of the broker's own."""

    decisions: int
    own_notices: int


def count_decisions(conn: Connection, since: datetime | None, until: datetime | None) -> Counted:
    """Return how much there is on what came from ``since`` to before ``until``."""
    joined = decision.join(message, decision.c.message == message.c.id)
    counted = select(func.count()).select_from(joined).where(*_period(since, until))
    everything = int(conn.execute(counted).scalar_one())
    others = int(conn.execute(counted.where(_NOT_OWN)).scalar_one())
    return Counted(others, everything - others)


def past_decisions(
    conn: Connection, records: Records, since: datetime | None, until: datetime | None
) -> Iterator[PastDecision | None]:
    """Yield every decision of the period; None for one whose record is not there or not readable.

    There is none of what came before records were kept, or was erased since. The broker's own
    notices are left out: no agreement covers them, so none is asked about them.
    """
    columns = (
        decision.c.recipient,
        decision.c.reason,
        decision.c.protocol,
        decision.c.protocol_version,
        decision.c.clause,
        decision.c.facts,
        message.c.sender,
        message.c.message_type,
        message.c.schema_version,
        message.c.purpose,
    )
    query = (
        select(*columns)
        .join(message, decision.c.message == message.c.id)
        .where(_NOT_OWN, *_period(since, until))
        .order_by(message.c.id)  # they grow with time
    )
    for row in conn.execution_options(yield_per=PAGE).execute(query):
        to, reason, protocol, number, clause, facts, sender, message_type, version, purpose = row
        past = facts and records.past(
            facts,
            sender=AgencyId(sender),
            recipient=AgencyId(to),
            message_type=message_type,
            version=version,
            purpose=purpose,
        )
        if not past:
            yield None
            continue
        reference = f"{protocol}@{number}" if number is not None else protocol or ""
        yield PastDecision(past, AgencyId(to), Outcome(reason or "", reference, clause or ""))


def carried(conn: Connection, since: datetime, until: datetime) -> dict[FlowKey, int]:
    """Return how many messages each flow let pass in the period."""
    flow = (
        message.c.sender,
        decision.c.recipient,
        message.c.message_type,
        message.c.purpose,
    )
    query = (
        select(*flow, func.count())
        .join(message, decision.c.message == message.c.id)
        .where(decision.c.permitted, *_period(since, until))
        .group_by(*flow)
    )
    return {
        (AgencyId(sender), AgencyId(to), kind, purpose): count
        for sender, to, kind, purpose, count in conn.execute(query)
    }


def _period(since: datetime | None, until: datetime | None) -> list[ColumnElement[bool]]:
    at = message.c.received_at
    bounds = []
    if since is not None:
        bounds.append(at >= millis(since))
    if until is not None:
        bounds.append(at < millis(until))
    return bounds
