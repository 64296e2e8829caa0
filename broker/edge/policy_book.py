"""The store's memory of the policy log: written before a log is in force, asked ever after.

All nodes of a database share it. So a node whose files are older than what another has in
force finds out, and decides nothing until they have come.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial

from sqlalchemy import Connection, insert, select

from broker.core.designation import require_registered
from broker.core.in_force import InForce
from broker.core.policy_head import Head, continued, head_entry, head_of, read_head
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from broker.edge.tables import ledger as ledger_table
from broker.edge.tables import policy_head
from broker.ports import Clock


def last_head(conn: Connection) -> Head | None:
    """Return how far the log had come that was last in force; None: nobody has recorded any."""
    chosen = (
        select(ledger_table.c.entry)
        .join(policy_head, policy_head.c.ledger_seq == ledger_table.c.seq)
        .order_by(policy_head.c.ledger_seq.desc())
        .limit(1)
    )
    entry = conn.execute(chosen).scalar()
    return None if entry is None else read_head(entry)


class PolicyBook:
    """Records in the ledger how far the policy log has come, and refuses one that lost lines."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def begin(self, held: InForce) -> None:
        """Record ``held`` before this process takes up its work, or close the store.

        Raises:
            Mistake: its log lost lines, or is older than that of another node.
            Fault: the store cannot be asked.
        """
        with ThreadPoolExecutor(1) as apart:  # there may be an event loop here or not
            apart.submit(asyncio.run, self._begin(held)).result()

    async def _begin(self, held: InForce) -> None:
        try:
            await self.enter(held)
        except BaseException:
            await self._store.close()
            raise

    async def enter(self, held: InForce) -> None:
        """Record ``held``, which is in force only after that.

        Raises:
            Mistake: its log lost lines, or is older than that of another node.
            Fault: the store cannot be asked.
        """
        await self._store.write(partial(_entered, held, self._clock.now()))

    async def is_last(self, held: InForce) -> bool:
        """Return whether ``held`` is what was recorded last.

        Raises:
            Fault: the store cannot be asked.
        """
        recorded = await self._store.read(last_head)
        return recorded is None or recorded == head_of(held.policy)


def _entered(held: InForce, at: datetime, conn: Connection, ledger: Ledger) -> None:
    recorded, new = last_head(conn), head_of(held.policy)
    if new == recorded or (recorded is None and not new.lines):
        return
    restored = None if recorded is None else continued(held.policy, recorded)
    seen = recorded.lines if recorded is not None and restored is None else 0
    require_registered(held.policy.firsts, held.register.agencies, seen)
    place = ledger.append(head_entry(new, restored, at))
    conn.execute(insert(policy_head).values(ledger_seq=place.sequence))
