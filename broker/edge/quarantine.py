"""Records that cannot be used: where they stand and why, and nothing of what they hold.

Whoever may look into the topic finds the record by its place. The delivery that it may
have stood for is not lost: its lease ends, and the outbox sends it again.
"""

from dataclasses import dataclass

import structlog
from sqlalchemy import Connection, insert, select

from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.reasons import Reason
from broker.edge.kafka_consumer import Poison
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from broker.edge.tables import quarantine
from broker.ports import Clock

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Keeps the places of unusable records of one agency's topic."""

    store: Store
    recipient: AgencyId
    clock: Clock

    async def keep(self, poison: Poison) -> None:
        """Write down where ``poison`` stands, once.

        Raises:
            Fault: the store failed; the record comes again.
        """
        reason = Reason.RECORD_UNREADABLE
        place = poison.place

        def write(conn: Connection, _ledger: Ledger) -> None:
            columns = quarantine.c
            known = select(columns.position).where(
                columns.topic == place.topic,
                columns.partition == place.partition,
                columns.position == place.offset,
            )
            if conn.execute(known).first() is None:
                conn.execute(
                    insert(quarantine).values(
                        topic=place.topic,
                        partition=place.partition,
                        position=place.offset,
                        recipient=self.recipient,
                        code=reason.value,
                        found_at=millis(self.clock.now()),
                    )
                )

        await self.store.write(write)
        at = f"{place.topic}/{place.partition}/{place.offset}"
        log.error(
            "record_quarantined",
            code=reason.value,
            recipient=self.recipient,
            route=at,
            kind=poison.why,
        )
