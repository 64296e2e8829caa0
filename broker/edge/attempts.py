"""One attempt to hand one message over: load, ask the rules, hand over, record.

The rules are asked immediately before the adapter is called. Whatever goes wrong, the
delivery ends or waits for its next attempt; after the last, its sender is told.
"""

import asyncio
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Protocol, TypeVar

import structlog
from sqlalchemy import Connection

from adapters.contract import (
    Adapter,
    Delivered,
    Delivery,
    Deposited,
    Refused,
    Result,
    RetryLater,
)
from broker.core.agency import Agency
from broker.core.errors import Fault, Transient
from broker.core.instant import millis
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge import deliveries
from broker.edge.crash import crash_point
from broker.edge.deliveries import Held
from broker.edge.disclosure import Discloser, Ready, Withdrawn
from broker.edge.ledger import Ledger
from broker.edge.outcomes import Recorder
from broker.edge.pausing import is_paused
from broker.edge.store import Store, StoreLost
from broker.ports import Arrival, Clock, Dispatch

T = TypeVar("T")
RECORD_AGAIN_S = 0.2
NO_WAY = "none"  # the adapter was not reached

log = structlog.get_logger(__name__)


class Routes(Protocol):
    """Knows the way to every agency."""

    def adapter(self, agency: Agency) -> Adapter:
        """Return the adapter of ``agency``, the same one as long as its route stays."""
        ...


@dataclass(frozen=True, slots=True)
class Patience:
    """How often and how long a recipient is tried. Times in seconds."""

    attempts_max: int = 12
    backoff_s_first: float = 1.0
    backoff_s_max: float = 900.0
    timeout_s: float = 15.0

    def wait_s(self, attempt: int, rng: random.Random, asked_s: float | None = None) -> float:
        """Return how long to wait after ``attempt``: exponential, with full jitter, bounded.

        Full jitter spreads the retries of many messages that failed together. What the
        recipient asked for is honoured up to the same bound.
        """
        ceiling = min(self.backoff_s_max, self.backoff_s_first * 2.0 ** min(attempt - 1, 60))
        return max(rng.uniform(0, ceiling), min(asked_s or 0.0, self.backoff_s_max))


@dataclass(frozen=True, slots=True)
class Attempts:
    """Makes attempts in the name of one lease owner."""

    store: Store
    discloser: Discloser
    recorder: Recorder
    routes: Routes
    clock: Clock
    patience: Patience
    rng: random.Random
    owner: str
    observe: Callable[[str, str], None]  # adapter, outcome: for metrics
    lease: timedelta | None = None  # when claims of relays in other processes are taken over

    async def make(self, arrival: Arrival) -> None:
        """Make the attempt that ``arrival`` stands for, if it still is ours to make.

        Raises:
            Fault: the store failed; the lease runs out and the attempt is made again.
        """
        dispatch = arrival.dispatch
        if self.lease is not None and not await self._taken_over(dispatch, self.lease):
            return
        held, paused = await self.store.read(partial(_look, dispatch))
        if held is None or not self._is_ours(held, dispatch):
            return
        if paused or not self._in_time(held):
            await self._release(held)
            return
        if held.attempts > max(2, self.patience.attempts_max):
            # The attempts before this one ended with the process: it may be the message.
            await self._end(
                held.answered(), DeliveryState.UNDELIVERABLE, Reason.ATTEMPTS_EXHAUSTED, NO_WAY
            )
            return
        await self._attempt(held, arrival.body)

    async def _taken_over(self, dispatch: Dispatch, lease: timedelta) -> bool:
        """Make the claim of a relay in another process our own, or learn that it is none."""
        until = millis(self.clock.now() + lease)
        return await self._write(
            lambda conn, _ledger: deliveries.take_over(
                conn, dispatch, owner=self.owner, until=until
            )
        )

    def _in_time(self, held: Held) -> bool:
        """Say whether an attempt that begins now ends before its lease does."""
        left = (held.lease_until or 0) - millis(self.clock.now())
        return left > 1000 * self.patience.timeout_s

    async def _release(self, held: Held) -> None:
        await self._write(
            lambda conn, _ledger: deliveries.release(conn, self.owner, [held.delivery_id])
        )

    def _is_ours(self, held: Held, dispatch: Dispatch) -> bool:
        return (
            held.state is DeliveryState.PENDING
            and held.lease_owner == self.owner
            and held.attempts == dispatch.attempt
        )

    async def _attempt(self, held: Held, body: bytes | None) -> None:
        try:
            ready = await self.discloser.prepare_stable(held)
        except Fault as fault:
            # Nobody's fault but ours: not an attempt. Nothing passes until the rules can be
            # asked, and no refusal is made of it.
            log.warning("delivery_held", code=fault.reason.value, delivery_id=held.delivery_id)
            await self._postpone(held.answered(), fault.reason, NO_WAY, counted=False)
            return
        if isinstance(ready, Withdrawn):
            await self._end(held.answered(), ready.state, ready.reason, NO_WAY)
            return
        if body is not None and not self.discloser.shows_no_more(held, ready, body):
            # The record is not what we sent, or less than it: the outbox sends it again.
            log.error(
                "record_unreadable",
                code=Reason.RECORD_UNREADABLE.value,
                delivery_id=held.delivery_id,
            )
            await self._postpone(held.answered(), Reason.RECORD_UNREADABLE, NO_WAY, counted=False)
            return
        if not self._in_time(held):
            # We were stopped for a while: somebody else may be at it.
            await self._release(held)
            return
        agency = self.discloser.registers.current.agencies.get(held.recipient)
        name = NO_WAY if agency is None else agency.delivery.adapter
        crash_point("K15")
        result = await self._hand_over(held, ready, agency)
        crash_point("K16")
        await self._record(held, ready, result, name)
        crash_point("K17")

    async def _hand_over(self, held: Held, ready: Ready, agency: Agency | None) -> Result:
        if agency is None:  # only a report's recipient is not looked up by the rules
            return Deposited()
        delivery = Delivery(
            delivery_id=held.delivery_id,
            recipient=held.recipient,
            sender=held.sender,
            message_id=held.message_id,
            message_type=held.message_type,
            body=ready.body,
            attempt=held.attempts,
            reduced=ready.reduced,
            traceparent=traceparent_of(held, held.attempts),
        )
        try:
            async with asyncio.timeout(self.patience.timeout_s):
                return await self.routes.adapter(agency).deliver(delivery)
        except TimeoutError:
            return RetryLater(Reason.RECIPIENT_UNREACHABLE, in_doubt=True)
        except Exception as error:
            log.exception("adapter_failed", exc_info=error, delivery_id=held.delivery_id)
            return RetryLater(Reason.INTERNAL, in_doubt=True)

    async def _record(self, held: Held, ready: Ready, result: Result, name: str) -> None:
        if not (isinstance(result, RetryLater) and result.in_doubt):
            held = held.answered()
        match result:
            case Delivered(evidence):
                facts = disclosed_facts(ready, name) | {"note": evidence}
                await self._settle(
                    held, lambda conn, ledger: self.recorder.delivered(conn, ledger, held, facts)
                )
                self.observe(name, DeliveryState.DELIVERED.value)
            case Deposited():
                await self._write(lambda conn, ledger: self.recorder.deposited(conn, ledger, held))
                self.observe(name, DeliveryState.AVAILABLE.value)
            case RetryLater(reason, after_s) if held.attempts < self.patience.attempts_max:
                await self._postpone(held, reason, name, after_s)
            case RetryLater():
                reason = Reason.ATTEMPTS_EXHAUSTED
                await self._end(held, DeliveryState.UNDELIVERABLE, reason, name)
            case Refused(reason):
                await self._end(held, DeliveryState.UNDELIVERABLE, reason, name)

    async def _postpone(
        self,
        held: Held,
        reason: Reason,
        name: str,
        after_s: float | None = None,
        *,
        counted: bool = True,
    ) -> None:
        wait = timedelta(seconds=self.patience.wait_s(held.attempts, self.rng, after_s))
        next_at = millis(self.clock.now() + wait)
        await self._write(
            lambda conn, _ledger: self.recorder.postponed(
                conn, held, next_at=next_at, reason=reason, counted=counted
            )
        )
        self.observe(name, "postponed" if counted else "held")

    async def _end(self, held: Held, state: DeliveryState, reason: Reason, name: str) -> None:
        await self._settle(
            held,
            lambda conn, ledger: self.recorder.ended(
                conn, ledger, held, state=state, reason=reason
            ),
        )
        log.info(
            "delivery_ended", delivery_id=held.delivery_id, outcome=state.value, code=reason.value
        )
        self.observe(name, state.value)

    async def _settle(self, held: Held, act: Callable[[Connection, Ledger], bool]) -> None:
        """Write how a delivery ended, and have the relays told: the next of its key may go."""

        def settle(conn: Connection, ledger: Ledger) -> None:
            if act(conn, ledger):
                ledger.wake(held.recipient)

        await self._write(settle)

    async def _write(self, act: Callable[[Connection, Ledger], T]) -> T:
        """Write, trying again while the store is only busy: what happened must be recorded.

        Raises:
            Fault: the disk failed, or a lease's time went by. Then the attempt is made
                again under the same delivery id, which the recipient's system knows.
        """
        try:
            async with asyncio.timeout(self.patience.timeout_s):
                while True:
                    try:
                        return await self.store.write(act)
                    except StoreLost:
                        raise
                    except Transient:
                        await asyncio.sleep(RECORD_AGAIN_S)
        except TimeoutError:
            raise Transient(Reason.STORE_UNAVAILABLE, "an outcome could not be recorded") from None


def disclosed_facts(ready: Ready, way: str) -> dict[str, str | int | bool | None]:
    """Return what the ledger says of one disclosure: by what way, of what, on what authority."""
    return {
        "way": way,
        "authority": ready.authority,
        "register": ready.register_digest,
        "reduced": ready.reduced,
        "sha256": hashlib.sha256(ready.body).hexdigest(),
    }


def traceparent_of(held: Held, attempt: int) -> str:
    """Return the trace context of one attempt: the submission's trace, a span of its own."""
    name = f"{held.delivery_id}:{attempt}".encode()
    return f"00-{held.trace_id}-{hashlib.sha256(name).hexdigest()[:16]}-01"


def _look(dispatch: Dispatch, conn: Connection) -> tuple[Held | None, bool]:
    return deliveries.load(conn, dispatch.delivery_id), is_paused(conn, dispatch.recipient)
