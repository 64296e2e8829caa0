"""What leaves the broker for a recipient's topic: the rules are asked before it does, too.

A record can lie in a topic for days, so the worker asks again before it hands over. Asking
here as well keeps out of the topic what may not pass any more.
"""

import random
from dataclasses import dataclass
from datetime import timedelta

import structlog
from sqlalchemy import Connection

from broker.core.errors import Fault, Permanent, Transient
from broker.core.identity import AgencyId, MessageId
from broker.core.instant import from_millis, millis
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge import deliveries
from broker.edge.attempts import traceparent_of
from broker.edge.cloudevents import Card
from broker.edge.deliveries import Held
from broker.edge.disclosure import Discloser, Ready, Withdrawn
from broker.edge.jwe import RecipientKey, recipient_key
from broker.edge.kafka import Parcel
from broker.edge.outcomes import Recorder
from broker.edge.store import Store
from broker.ports import Clock, Dispatch

AGAIN_S = 1.0  # after a fault that may pass
AGAIN_S_PERMANENT = 30.0  # after one that an operator has to mend

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Packing:
    """Makes parcels of what one relay has claimed, and gives back what could not be sent."""

    store: Store
    discloser: Discloser
    recorder: Recorder
    clock: Clock
    rng: random.Random
    owner: str

    async def parcel(self, dispatch: Dispatch) -> Parcel | None:
        """Return what may leave now for ``dispatch``, or None when nothing may any more.

        Raises:
            Fault: the rules or the message cannot be consulted: nothing leaves.
        """
        held = await self.store.read(lambda conn: deliveries.load(conn, dispatch.delivery_id))
        if held is None or not self._is_ours(held, dispatch):
            return None
        ready = await self.discloser.prepare_stable(held)
        if isinstance(ready, Withdrawn):
            await self.store.write(
                lambda conn, ledger: self.recorder.ended(
                    conn, ledger, held, state=ready.state, reason=ready.reason
                )
            )
            return None
        return Parcel(self._card(dispatch, held, ready), ready.body)

    def key(self, recipient: AgencyId) -> RecipientKey:
        """Return the key to which ``recipient`` wants its deliveries encrypted.

        Raises:
            Permanent: none that is good is registered.
        """
        agency = self.discloser.registers.current.agencies.get(recipient)
        found = None if agency is None else agency.encryption_key(self.clock.now())
        if found is None:
            raise Permanent(Reason.NO_ENCRYPTION_KEY)
        return recipient_key(found.pem)

    async def lost(self, dispatch: Dispatch, fault: Fault) -> None:
        """Give back what did not get into the topic. It was not attempted and does not count.

        The cluster may have the record all the same: then whoever finds it sees that it is
        not the one that the outbox stands by.
        """
        wait_s = AGAIN_S if isinstance(fault, Transient) else AGAIN_S_PERMANENT
        next_at = self.clock.now() + timedelta(seconds=wait_s * self.rng.uniform(1, 2))

        def give_back(conn: Connection, _ledger: object) -> None:
            deliveries.give_back(conn, dispatch, self.owner, millis(next_at), fault.reason)

        try:
            await self.store.write(give_back)
        except Fault as error:
            log.warning(
                "claim_not_returned", code=error.reason.value, delivery_id=dispatch.delivery_id
            )

    def _is_ours(self, held: Held, dispatch: Dispatch) -> bool:
        return (
            held.state is DeliveryState.PENDING
            and held.lease_owner == self.owner
            and held.attempts == dispatch.attempt - 1
        )

    def _card(self, dispatch: Dispatch, held: Held, ready: Ready) -> Card:
        return Card(
            dispatch=dispatch,
            broker=self.discloser.broker,
            sender=held.sender,
            message_id=MessageId(held.message_id),
            message_type=held.message_type,
            schema_version=held.schema_version,
            accepted_at=from_millis(held.received_at),
            reduced=ready.reduced,
            traceparent=traceparent_of(held, dispatch.attempt),
        )
