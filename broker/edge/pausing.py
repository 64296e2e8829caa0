"""Routes that an operator has paused: nothing is handed over, and what comes waits its turn.

A pause is a row in the database, so that every node honours it and a restart keeps it.
Taking from a mailbox is the recipient's own doing and goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select

from broker.core.identity import AgencyId
from broker.core.instant import from_millis, millis
from broker.core.ledger import operator_entry
from broker.edge.ledger import Ledger
from broker.edge.tables import paused_route


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a route is paused, and who did it."""

    recipient: AgencyId
    since: datetime
    operator: str


def pauses(conn: Connection) -> Sequence[Pause]:
    """Return every pause that is in force."""
    found = conn.execute(select(paused_route).order_by(paused_route.c.recipient))
    return [
        Pause(AgencyId(row.recipient), from_millis(row.paused_at), row.paused_by) for row in found
    ]


_PAUSED = select(paused_route.c.recipient).where(paused_route.c.recipient == bindparam("to"))


def is_paused(conn: Connection, recipient: AgencyId) -> bool:
    """Return whether nothing may be handed over to ``recipient`` now."""
    return conn.execute(_PAUSED, {"to": recipient}).first() is not None


def pause(
    conn: Connection, ledger: Ledger, recipient: AgencyId, *, operator: str, at: datetime
) -> bool:
    """Pause a route; False when it was paused already."""
    if is_paused(conn, recipient):
        return False
    conn.execute(
        insert(paused_route).values(recipient=recipient, paused_at=millis(at), paused_by=operator)
    )
    ledger.append(operator_entry("pause", operator=operator, target=recipient, at=at))
    return True


def resume(
    conn: Connection, ledger: Ledger, recipient: AgencyId, *, operator: str, at: datetime
) -> bool:
    """End a pause; False when there was none. What waits goes on its way at once."""
    if not is_paused(conn, recipient):
        return False
    conn.execute(delete(paused_route).where(paused_route.c.recipient == recipient))
    ledger.append(operator_entry("resume", operator=operator, target=recipient, at=at))
    ledger.wake(recipient)
    return True
