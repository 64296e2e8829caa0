"""The end of payloads: when their time is over, nobody can read them any more.

The wrapped key of the message is destroyed, and with it every copy of its bytes: here, in
backups and in topics. What was decided, delivered and proved about it stays. What shadows found
in that time goes as well.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import structlog
from sqlalchemy import Connection, delete, exists, select, update

from broker.core.errors import Fault
from broker.core.instant import millis
from broker.core.ledger import operator_entry
from broker.edge import shadow_rows
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from broker.edge.tables import decision, delivery, message, sealed_body
from broker.ports import Clock

BATCH = 500  # a transaction is short: submissions wait for it
EVERY_S = 600.0
RETENTION = "retention"  # who did it, in the ledger
_PAYLOADS = "payloads"

log = structlog.get_logger(__name__)


def erasable(conn: Connection, before: int, limit: int) -> list[str]:
    """Return the oldest messages from before ``before`` that can be read and are over.

    One that is still to be delivered, or that a recipient has not acknowledged, is not over;
    it is at its expiry at the latest.
    """
    open_ = exists().where(delivery.c.message == message.c.id, delivery.c.closed_at.is_(None))
    found = conn.execute(
        select(message.c.id)
        .where(message.c.wrapped_key.is_not(None), message.c.received_at < before, ~open_)
        .order_by(message.c.received_at)
        .limit(limit)
    )
    return list(found.scalars())


def erase(conn: Connection, ledger: Ledger, before: int, at: datetime) -> int:
    """Erase one batch, say so in the ledger, and return the number of messages in it."""
    over = erasable(conn, before, BATCH)
    if over:
        conn.execute(update(message).where(message.c.id.in_(over)).values(wrapped_key=None))
        conn.execute(delete(sealed_body).where(sealed_body.c.message.in_(over)))
        # What the decisions were made from tells of the subject: it goes with the payload.
        conn.execute(update(decision).where(decision.c.message.in_(over)).values(facts=None))
        ledger.append(
            operator_entry(
                "erase",
                operator=RETENTION,
                target=_PAYLOADS,
                at=at,
                messages=len(over),
                received_before=before,
            )
        )
    return len(over)


@dataclass(frozen=True, slots=True)
class Eraser:
    """Erases what is over ``days`` after it was received. On any node, or on all of them."""

    store: Store
    clock: Clock
    days: float

    async def run(self) -> None:
        """Erase every few minutes, for ever."""
        while True:
            try:
                count = await self.once()
            except Fault as fault:
                log.warning("erasing_delayed", reason=fault.reason.value)
            else:
                if count:
                    log.info("payloads_erased", found=count)
            await asyncio.sleep(EVERY_S)

    async def once(self) -> int:
        """Erase everything whose time is over, batch by batch, and return how many it were."""
        now = self.clock.now()
        before = millis(now - timedelta(days=self.days))
        erased = 0
        while count := await self.store.write(
            lambda conn, ledger: erase(conn, ledger, before, now)
        ):
            erased += count
        await self.store.partition(now)
        if await self.store.read(lambda conn: shadow_rows.over(conn, before)):
            await self.store.write(partial(shadow_rows.prune, before=before))
        return erased

    async def due(self, limit: int) -> int:
        """Return how many messages would be erased now, up to ``limit``."""
        before = millis(self.clock.now() - timedelta(days=self.days))
        return len(await self.store.read(lambda conn: erasable(conn, before, limit)))
