"""After the database was set back to an older copy: what is not known any more is in doubt.

A copy cannot tell what was handed over since it was made. So every delivery that is open in
it counts an attempt in doubt, as after a process that died with the answer in its hand: the
recipient sees that it may have the message. And nothing leaves until an operator lets it: what
was withdrawn since is not in the copy either.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, select, update

from broker.core.identity import AgencyId
from broker.core.ledger import operator_entry
from broker.core.outcome import DeliveryState
from broker.edge.ledger import Ledger
from broker.edge.pausing import pause
from broker.edge.tables import delivery

RESTORE = "restore"  # who did it, in the ledger
_STORE = "store"
_OPEN = delivery.c.state.in_((DeliveryState.PENDING.value, DeliveryState.AVAILABLE.value))
# Given up for all that is known; whoever tries again has to ask first, too.
_UNKNOWN = _OPEN | (delivery.c.state == DeliveryState.UNDELIVERABLE.value)


@dataclass(frozen=True, slots=True)
class Restored:
    """How many deliveries are in doubt from now on, and whose routes are paused."""

    deliveries: int
    paused: tuple[AgencyId, ...]


def doubtful(conn: Connection) -> Restored:
    """Return what `mark_restored` would do."""
    found = conn.execute(select(delivery.c.id).where(_UNKNOWN)).all()
    return Restored(len(found), _waiting(conn))


def mark_restored(conn: Connection, ledger: Ledger, at: datetime) -> Restored:
    """Put every delivery in doubt that may have been handed over, and pause their routes."""
    in_doubt = conn.execute(
        update(delivery)
        .where(_UNKNOWN)
        .values(attempts=delivery.c.attempts + 1, in_doubt=delivery.c.in_doubt + 1)
    )
    paused = tuple(
        recipient
        for recipient in _waiting(conn)
        if pause(conn, ledger, recipient, operator=RESTORE, at=at)
    )
    ledger.append(
        operator_entry(
            "restore", operator=RESTORE, target=_STORE, at=at, deliveries=in_doubt.rowcount
        )
    )
    return Restored(in_doubt.rowcount, paused)


def _waiting(conn: Connection) -> tuple[AgencyId, ...]:
    recipients = select(delivery.c.recipient).where(_OPEN).distinct()
    return tuple(map(AgencyId, sorted(conn.execute(recipients).scalars())))
