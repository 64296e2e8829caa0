"""The moment of disclosure: the rules are asked again, and the bytes are made ready.

A message may have waited for days. Whatever was withdrawn meanwhile (an agency, its
certificate, a sharing protocol, a consent, one field of a clause) counts from then on. What
was withheld at acceptance stays withheld.
"""

from dataclasses import dataclass, field, replace
from functools import partial

from lxml import etree
from sqlalchemy import Connection

from broker.core.decision import decide
from broker.core.envelope import PAYLOAD, parse
from broker.core.errors import Permanent, Rejection
from broker.core.identity import AgencyId
from broker.core.instant import millis
from broker.core.message import ValidMessage
from broker.core.minimise import minimise
from broker.core.narrowing import still_forbidden
from broker.core.outcome import DeliveryState, Permitted
from broker.core.override import Override, override_for
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.reopening import reopen
from broker.core.schema import SchemaSet
from broker.core.signing import SigningKey, sign_envelope
from broker.core.trust import withdrawn
from broker.edge import deliveries
from broker.edge.deliveries import Held
from broker.edge.intake import Registers
from broker.edge.reports import is_report
from broker.edge.sealing import DataKey, KeyRing
from broker.edge.store import Ledger, Store
from broker.ports import Clock, Consents, Handovers


@dataclass(frozen=True, slots=True)
class Ready:
    """What may be handed over now, and on whose authority. ``resealed``: a new reduced form."""

    body: bytes = field(repr=False)
    reduced: bool
    register_digest: str
    authority: str
    resealed: bytes | None = field(repr=False, default=None)


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """Nothing may be handed over any more, and the delivery ends so."""

    state: DeliveryState
    reason: Reason


@dataclass(frozen=True, slots=True)
class Keys:
    """What opens, reduces and signs: the master keys, the salt and the broker's own key."""

    ring: KeyRing
    broker: SigningKey = field(repr=False)
    salt: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Discloser:
    """Decides, at the last moment, what a recipient gets of a delivery."""

    broker: AgencyId
    store: Store
    registers: Registers
    consents: Consents
    handovers: Handovers
    schemas: SchemaSet
    keys: Keys
    clock: Clock

    async def prepare_stable(self, held: Held) -> Ready | Withdrawn:
        """Return what `prepare` does; a new reduced form is kept before it is shown.

        So every attempt shows the same bytes. Keeping takes time, so the rules are asked
        once more behind it.
        """
        ready = await self.prepare(held)
        while isinstance(ready, Ready) and ready.resealed is not None:
            held = replace(held, shown=ready.resealed, reduced=True)
            await self.store.write(partial(_keep, held))
            ready = await self.prepare(held)
        return ready

    async def prepare(self, held: Held) -> Ready | Withdrawn:
        """Return what may be handed over of ``held`` at this moment.

        Raises:
            Fault: the rules or the message cannot be consulted: nothing may pass, and the
                delivery waits.
        """
        # What was to be reduced is never shown as sent, also if its reduced form is gone.
        gone = held.wrapped_key is None or (held.reduced and held.shown is None)
        if gone or held.original is None:
            return Withdrawn(DeliveryState.EXPIRED, Reason.ERASED)
        key = self.keys.ring.unwrap(held.kek_id, held.wrapped_key)
        raw = key.open(held.original, held.submission_id)
        if is_report(held, self.broker):
            # The broker's own report discloses nothing about anybody: no agreement covers it.
            return self._unless_expired(held) or Ready(
                raw, reduced=False, register_digest="", authority="report"
            )
        signer = await self.store.read(lambda conn: _signer(conn, held))
        message = reopen(raw, held.digest, self.schemas, signer=signer)
        consents = await self.consents.held(held.subject_ref)
        override = await self._override(held, message)
        to = (held.recipient,)
        taken = await self.handovers.taken_by(message, held.subject_ref, to)
        register = self.registers.deciding
        # The clock is read after the facts, and nothing is awaited between the decision and
        # the caller's attempt unless the agreement has changed since the acceptance.
        expired = self._unless_expired(held)
        if expired is not None:
            return expired
        now = self.clock.now()
        decision = decide(
            message,
            held.recipient,
            register,
            consents,
            now,
            schemas=self.schemas,
            override=override,
            taken=held.recipient in taken,
        )
        if not isinstance(decision, Permitted):
            return Withdrawn(DeliveryState.REFUSED, decision.reason)
        # What is permitted has a sender that is registered.
        revoked = withdrawn(register.agencies[held.sender].keys, signer, now)
        if revoked is not None:
            return Withdrawn(DeliveryState.REFUSED, revoked)
        if _as_accepted(held, register, decision):
            reduced = None if held.shown is None else key.open(held.shown, *_context(held))
            return Ready(
                raw if reduced is None else reduced,
                reduced=reduced is not None,
                register_digest=register.digest,
                authority=_authority(decision),
            )
        return self._anew(held, key, message, register, decision)

    def shows_no_more(self, held: Held, ready: Ready, record: bytes) -> bool:
        """Return whether ``ready`` shows nothing but what ``record``, on its way to us, shows.

        It is so for every record of ours, because what was once withheld stays withheld. A
        record that shows less, or something else, was not made from this delivery.
        """
        if record == ready.body:
            return True
        try:
            shown = _payload(record)
        except (Rejection, AssertionError):
            return False
        key = self.keys.ring.unwrap(held.kek_id, held.wrapped_key or b"")
        original = _payload(key.open(held.original or b"", held.submission_id))
        return not still_forbidden(original, shown, _payload(ready.body))

    async def _override(self, held: Held, message: ValidMessage) -> Override | None:
        named = message.header.decision_ref
        if named is None:
            return None
        return override_for(await self.consents.override(named), held.subject_ref, held.sender)

    def _unless_expired(self, held: Held) -> Withdrawn | None:
        if held.expires_at > millis(self.clock.now()):
            return None
        collected = held.state is DeliveryState.AVAILABLE
        reason = Reason.NOT_COLLECTED if collected else Reason.ATTEMPTS_EXHAUSTED
        return Withdrawn(DeliveryState.EXPIRED, reason)

    def _anew(
        self,
        held: Held,
        key: DataKey,
        message: ValidMessage,
        register: Register,
        decision: Permitted,
    ) -> Ready:
        """Return what today's clause leaves of what was left at acceptance."""
        told = partial(Ready, register_digest=register.digest, authority=_authority(decision))
        then = None if held.shown is None else key.open(held.shown, *_context(held))
        body = self._reduce(message, decision)
        if then is not None:
            shown, would_show = _payload(then), message.payload if body is None else _payload(body)
            more = still_forbidden(message.payload, shown, would_show)
            if more or body is None:
                body = self._reduce(message, replace(decision, fields=decision.fields + more))
            if body is None or _canonical(_payload(body)) == _canonical(shown):
                return told(then, reduced=True)
        if body is None:
            return told(message.verified.raw, reduced=False)
        signed = sign_envelope(body, self.keys.broker)
        resealed = key.seal(signed, *_context(held))
        return told(signed, reduced=True, resealed=resealed)

    def _reduce(self, message: ValidMessage, decision: Permitted) -> bytes | None:
        salt = self.keys.salt
        return minimise(message, decision, self.schemas, salt, broker=self.broker).body


def _keep(held: Held, conn: Connection, _ledger: Ledger) -> None:
    deliveries.keep_reduced(conn, held)


def _as_accepted(held: Held, register: Register, decision: Permitted) -> bool:
    """Return whether the very clause of the acceptance permits, in the very same register.

    Where consent reaches only a part, it may have reached further then.
    """
    return (
        decision.reach.whole
        and register.digest == held.register_digest
        and decision.protocol == held.protocol
        and decision.version == held.protocol_version
        and decision.clause == held.clause
    )


def _authority(decision: Permitted) -> str:
    return f"{decision.protocol}@{decision.version} {decision.clause}"


def _context(held: Held) -> tuple[str, str]:
    """Return the ids that the reduced form is bound to where it is sealed."""
    return held.submission_id, held.delivery_id


def _signer(conn: Connection, held: Held) -> str:
    signer = deliveries.signer(conn, held.submission_id)
    if signer is None:
        raise Permanent(Reason.INTERNAL, "the ledger entry of a message is missing")
    return signer


def _payload(envelope: bytes) -> etree._Element:
    payload = parse(envelope).find(f"{PAYLOAD}/*")
    assert payload is not None  # we made it
    return payload


def _canonical(element: etree._Element) -> bytes:
    return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
