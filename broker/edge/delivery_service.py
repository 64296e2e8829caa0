"""Deliveries as the HTTP routes need them: collect, acknowledge, look up, operate.

Whoever asks is identified already; here it is decided whether the delivery is theirs. What
is not theirs does not exist for them.
"""

from dataclasses import dataclass, field
from datetime import timedelta

from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId
from broker.core.instant import millis
from broker.core.outcome import DeliveryState, DiscardCause, Level
from broker.core.reasons import Reason
from broker.edge import deliveries, delivery_views
from broker.edge.attempts import Patience, disclosed_facts
from broker.edge.deliveries import Held
from broker.edge.delivery_views import View
from broker.edge.disclosure import Discloser, Withdrawn
from broker.edge.outcomes import Recorder
from broker.edge.store import Store
from broker.ports import Clock

COLLECTED = "collected"
RECIPIENTS_WORD = frozenset({Level.READ, Level.BUSINESS})
DISCLOSABLE = frozenset({DeliveryState.PENDING, DeliveryState.AVAILABLE, DeliveryState.DELIVERED})
OVERDUE_BATCH = 200
FRESH = timedelta(seconds=1)  # what was decided longer ago is decided again


@dataclass(frozen=True, slots=True)
class Disclosed:
    """A message handed to its recipient; that it was is on record."""

    delivery_id: str
    sender: AgencyId
    message_id: MessageId
    message_type: str
    reduced: bool
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DeliveryService:
    """What agencies and operators do with deliveries."""

    store: Store
    discloser: Discloser
    recorder: Recorder
    clock: Clock
    patience: Patience

    async def mailbox_list(self, agency: AgencyId, limit: int, after: str | None) -> list[View]:
        """Return what lies in the mailbox of ``agency``, oldest first, after ``after``."""
        return await self.store.read(
            lambda conn: delivery_views.mailbox(conn, agency, limit, after)
        )

    async def disclose(self, delivery_id: str, agency: AgencyId) -> Disclosed:
        """Return a message to its recipient, if the rules still allow it at this moment.

        The first time is recorded (L2) before the bytes are given; when that took long, the
        rules are asked once more. It may be repeated until the recipient acknowledges. Works
        for a message that is still on its way, too: whoever waits for an answer need not wait
        for the worker.

        Raises:
            Rejection: there is no such message for ``agency``, or it may have it no more.
            Fault: the rules cannot be asked now.
        """
        held = await self._theirs(delivery_id, agency)
        if held.state not in DISCLOSABLE or held.acknowledged:
            raise Rejection(Reason.NOT_FOUND)
        asked_at = self.clock.now()
        ready = await self.discloser.prepare_stable(held)
        if isinstance(ready, Withdrawn):
            raise await self._withdrawn(held, ready)
        if held.state is not DeliveryState.DELIVERED:
            facts = disclosed_facts(ready, COLLECTED)
            first = await self.store.write(
                lambda conn, ledger: self.recorder.collected(conn, ledger, held, facts)
            )
            if not first or self.clock.now() - asked_at > FRESH:
                # Somebody was faster: another reader, or the rules; or the database was held
                # up, and what was decided may not hold any more. It is read and decided anew;
                # each time round the delivery is further on, so this ends.
                return await self.disclose(delivery_id, agency)
        return Disclosed(
            delivery_id=held.delivery_id,
            sender=held.sender,
            message_id=held.message_id,
            message_type=held.message_type,
            reduced=ready.reduced,
            body=ready.body,
        )

    async def acknowledge(
        self, delivery_id: str, agency: AgencyId, level: Level, code: str | None
    ) -> View:
        """Record that a message was read by a person (L3) or dealt with (L4).

        Raises:
            Rejection: it is not theirs, was not handed over yet, or the level is not theirs
                to give.
        """
        held = await self._theirs(delivery_id, agency)
        if level not in RECIPIENTS_WORD:
            raise Rejection(Reason.REQUEST_INVALID, "a recipient acknowledges at L3 or L4")
        unseen = held.state is DeliveryState.PENDING and held.attempts == 0
        if unseen or held.state is DeliveryState.AVAILABLE:
            raise Rejection(Reason.REQUEST_INVALID, "a message is read before it is acknowledged")
        done = await self.store.write(
            lambda conn, ledger: self.recorder.acknowledged(conn, ledger, held, level, code)
        )
        if not done:
            raise Rejection(Reason.NOT_FOUND)
        return {"delivery_id": delivery_id, "level": level.value, "code": code}

    async def message_view(self, submission_id: str, agencies: frozenset[AgencyId]) -> View:
        """Return how a message stands, as far as ``agencies`` may know.

        Raises:
            Rejection: they are no party to it, or there is none; nobody can tell which.
        """
        view = await self.store.read(
            lambda conn: delivery_views.message_view(conn, submission_id, agencies)
        )
        if view is None:
            raise Rejection(Reason.NOT_FOUND)
        return view

    async def dead_letters(self, limit: int, after: str | None) -> list[View]:
        """Return the deliveries that were given up and that nobody has dealt with."""
        return await self.store.read(lambda conn: delivery_views.dead_letters(conn, limit, after))

    async def replay(self, delivery_id: str, operator: str) -> View:
        """Try a delivery again that was given up; its rules are asked again, too.

        Raises:
            Rejection: it was not given up, or has expired meanwhile.
        """
        held = await self._given_up(delivery_id)
        if held.expires_at <= millis(self.clock.now()):
            raise Rejection(Reason.EXPIRED, "the sender has to send it anew")
        done = await self.store.write(
            lambda conn, ledger: self.recorder.replayed(
                conn, ledger, held, operator, self.patience.attempts_max
            )
        )
        return _operated(held, DeliveryState.PENDING, done=done)

    async def discard(self, delivery_id: str, operator: str, why: DiscardCause) -> View:
        """Let a delivery go that was given up. Its sender was told when it was given up.

        Raises:
            Rejection: it was not given up.
        """
        held = await self._given_up(delivery_id)
        done = await self.store.write(
            lambda conn, ledger: self.recorder.discarded(conn, ledger, held, operator, why)
        )
        return _operated(held, DeliveryState.UNDELIVERABLE, done=done)

    async def expire(self) -> int:
        """End what was not collected or delivered in its time, and return how much there was.

        Its sender is told. What was read and not acknowledged leaves the mailbox.
        """
        now = millis(self.clock.now())
        overdue = await self.store.read(lambda conn: deliveries.overdue(conn, now, OVERDUE_BATCH))
        for delivery_id in overdue:
            await self._expire(await self._find(delivery_id))
        return len(overdue)

    async def _expire(self, held: Held) -> None:
        await self.store.write(lambda conn, ledger: self.recorder.expired(conn, ledger, held))

    async def _withdrawn(self, held: Held, withdrawn: Withdrawn) -> Rejection:
        """Record the end of a delivery that may not be disclosed, and return what to say."""
        if held.state is not DeliveryState.DELIVERED:
            await self.store.write(
                lambda conn, ledger: self.recorder.ended(
                    conn, ledger, held, state=withdrawn.state, reason=withdrawn.reason
                )
            )
        if withdrawn.state is DeliveryState.EXPIRED:
            return Rejection(Reason.NOT_FOUND)
        return Rejection(withdrawn.reason)

    async def _theirs(self, delivery_id: str, agency: AgencyId) -> Held:
        held = await self._find(delivery_id)
        if held.recipient != agency:
            raise Rejection(Reason.NOT_FOUND)
        return held

    async def _given_up(self, delivery_id: str) -> Held:
        held = await self._find(delivery_id)
        if held.state is not DeliveryState.UNDELIVERABLE:
            raise Rejection(Reason.REQUEST_INVALID, "the delivery was not given up")
        return held

    async def _find(self, delivery_id: str) -> Held:
        held = await self.store.read(lambda conn: deliveries.load(conn, delivery_id))
        if held is None:
            raise Rejection(Reason.NOT_FOUND)
        return held


def _operated(held: Held, state: DeliveryState, *, done: bool) -> View:
    """Return what an operator is told; not ``done``: another operator was faster."""
    return {"delivery_id": held.delivery_id, "state": state.value, "done": done}
