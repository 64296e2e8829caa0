"""Consents as routes and signed messages need them: record, withdraw, show, find what conflicts.

People are identified in the body of a request only, and become pseudonyms here. What is not
an agency's own does not exist for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from broker.core.consent import Consent, conflicts
from broker.core.consent_messages import (
    CONSENT_RECORDED,
    CONSENT_WITHDRAWN,
    DISCLOSURE_DECISION,
    consent_id_of,
    statement_of,
    withdrawal_of,
)
from broker.core.consent_record import Statement, recorded
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import millis, rfc3339
from broker.core.message import ValidMessage
from broker.core.outcome import DeliveryState
from broker.core.pseudonym import subject_ref
from broker.core.reasons import Reason
from broker.core.submission import Submission
from broker.edge import consent_acts, consent_rows, deliveries
from broker.edge.consent_acts import Kept, Recording, Withdrawing
from broker.edge.consent_notices import Notices
from broker.edge.disclosure import Discloser, Withdrawn
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.outcomes import Recorder
from broker.edge.override_service import OverrideService, OverrideTask
from broker.edge.peers import Peer
from broker.edge.store import Store
from broker.ports import Clock

View = Mapping[str, Any]
DISPUTED_MAX = 500
ASKING = frozenset({CONSENT_RECORDED, CONSENT_WITHDRAWN, DISCLOSURE_DECISION})
_WAITING = frozenset({DeliveryState.PENDING, DeliveryState.AVAILABLE})


@dataclass(frozen=True, slots=True)
class ConsentService:
    """What agencies and operators do with records of consent."""

    store: Store
    discloser: Discloser
    recorder: Recorder
    notices: Notices
    clock: Clock
    overrides: OverrideService
    pseudonym: bytes = field(repr=False)

    def subject(self, key: str) -> SubjectRef:
        """Return the pseudonym of the person whose canonical text is ``key``."""
        return subject_ref(self.pseudonym, key)

    async def record(self, agency: AgencyId, key: str, said: Statement, peer: str) -> View:
        """Record what a person said, on behalf of ``agency``.

        Raises:
            Rejection: nobody could rely on it.
        """
        consent = recorded(
            said,
            consent_id=new_id(),
            subject=self.subject(key),
            agency=agency,
            register=self.discloser.registers.current,
            now=self.clock.now(),
        )
        return await self._keep(Recording(consent, peer))

    async def withdraw(
        self,
        agency: AgencyId,
        consent_id: str,
        peer: str,
        *,
        by: str | None = None,
        said_at: datetime | None = None,
    ) -> View:
        """Record that a person withdrew a consent; stop what waits, tell who received.

        ``by`` conveyed that, ``said_at`` is when the person said so, if that is known.

        Raises:
            Rejection: ``agency`` recorded no such consent, or it has ended already.
        """
        at = self.clock.now()
        return await self._keep(Withdrawing(consent_id, agency, at, peer, by=by, said_at=said_at))

    async def _keep(self, what: Recording | Withdrawing) -> View:
        kept = await self.store.write(
            lambda conn, ledger: consent_acts.keep(conn, ledger, what, self.notices.withdrawn)
        )
        return view(kept.consent) | {"stopped": await self.stop(kept), "told": kept.told}

    async def stop(self, kept: Kept) -> int:
        """End the waiting deliveries that the rules refuse now, and return their number.

        Any that a worker holds at this moment it refuses itself: it asks the same rules.
        """
        stopped = 0
        for delivery_id in kept.waiting:
            stopped += await self._stop(delivery_id)
        return stopped

    async def _stop(self, delivery_id: str) -> bool:
        held = await self.store.read(lambda conn: deliveries.load(conn, delivery_id))
        now = millis(self.clock.now())
        if held is None or held.state not in _WAITING or (held.lease_until or 0) > now:
            return False
        ready = await self.discloser.prepare(held)
        if not isinstance(ready, Withdrawn):
            return False
        return await self.store.write(
            lambda conn, ledger: self.recorder.ended(
                conn, ledger, held, state=ready.state, reason=ready.reason
            )
        )

    def task(
        self, message: ValidMessage, subject: SubjectRef | None, peer: str
    ) -> "ConsentTask | OverrideTask | None":
        """Return what a message to the broker asks to be recorded, if anything.

        Raises:
            Rejection: nobody could rely on it.
        """
        header, payload = message.header, message.payload
        if header.message_type not in ASKING:
            return None
        assert subject is not None  # the schema of each has one
        if header.message_type == DISCLOSURE_DECISION:
            return self.overrides.recording(message, subject, peer)
        if header.message_type == CONSENT_RECORDED:
            consent = recorded(
                statement_of(payload),
                consent_id=consent_id_of(payload),
                subject=subject,
                agency=header.sender,
                register=self.discloser.registers.current,
                now=self.clock.now(),
            )
            return ConsentTask(self, Recording(consent, peer))
        wanted = consent_id_of(payload)
        at, said = self.clock.now(), withdrawal_of(payload)
        return ConsentTask(self, Withdrawing(wanted, header.sender, at, peer, subject, *said))

    def overridden(self, conn: Connection, ledger: Ledger, submission: Submission) -> None:
        """Record what passed by a decision to share without consent, and tell of it."""
        self.overrides.passed(conn, ledger, submission)

    async def show(self, peer: Peer, consent_id: str) -> View:
        """Return one record with its history.

        Raises:
            Rejection: it is not the peer's own, or there is none; nobody can tell which.
        """
        history = await self.store.read(lambda conn: consent_rows.history(conn, consent_id))
        if not history or history[-1].recorded_by not in peer.agencies:
            raise Rejection(Reason.NOT_FOUND)
        versions = [
            {"version": one.version, "status": one.status, "at": rfc3339(one.recorded_at)}
            for one in history
        ]
        return view(history[-1]) | {"history": versions}

    async def listed(self, agency: AgencyId, limit: int, after: str | None) -> list[View]:
        """Return what ``agency`` recorded, as it stands now."""
        found = await self.store.read(
            lambda conn: consent_rows.of_agency(conn, agency, limit, after)
        )
        return [view(one) for one in found]

    async def about(self, agency: AgencyId, key: str) -> list[View]:
        """Return what ``agency`` recorded about a person. Others' records are not shown.

        Everything on record is read either way, so that the answer takes as long whether
        others have a record of the person or not.
        """
        subject = self.subject(key)
        found = await self.store.read(lambda conn: consent_rows.held(conn, subject))
        return [view(one) for one in found if one.recorded_by == agency]

    async def conflicts(self, agency: AgencyId | None) -> list[View]:
        """Return the records that contradict one another.

        An agency (None: an officer, who sees both sides) sees its own record and that some
        other contradicts it, not whose: that could tell of a sensitive service.
        """
        records = await self.store.read(
            lambda conn: consent_rows.of_subjects(conn, consent_rows.disputed(conn, DISPUTED_MAX))
        )
        found = list(conflicts(records))
        if agency is None:
            return [{"consent": view(yes), "contradicted_by": view(no)} for yes, no in found]
        own = {one.consent_id: one for pair in found for one in pair if one.recorded_by == agency}
        return [{"consent": view(one), "contradicted": True} for one in own.values()]


@dataclass(slots=True)
class ConsentTask:
    """What a signed message asks to be recorded, done in the transaction that keeps it."""

    service: ConsentService
    what: Recording | Withdrawing
    kept: Kept | None = None

    def act(self, conn: Connection, ledger: Ledger) -> None:
        """Record it. It is done anew when the transaction is."""
        tell = self.service.notices.withdrawn
        self.kept = consent_acts.keep(conn, ledger, self.what, tell)

    async def follow(self) -> None:
        """Stop what waits. Of a message that came before, nothing is left to do."""
        if self.kept is not None:
            await self.service.stop(self.kept)


def view(consent: Consent) -> dict[str, Any]:
    """Return a record as JSON values. It names nobody."""
    return {
        "consent_id": consent.consent_id,
        "version": consent.version,
        "subject": consent.subject,
        "kind": consent.kind,
        "status": consent.status,
        "given_by": consent.given_by,
        "capacity": consent.capacity,
        "support": consent.support,
        "categories": sorted(consent.categories),
        "purposes": sorted(consent.purposes),
        "message_types": sorted(consent.message_types),
        "recipients": sorted(consent.recipients),
        "form": consent.form,
        "wording": consent.wording,
        "given_at": rfc3339(consent.given_at),
        "review_at": rfc3339(consent.review_at),
        "expires_at": None if consent.expires_at is None else rfc3339(consent.expires_at),
        "recorded_by": consent.recorded_by,
        "recorded_at": rfc3339(consent.recorded_at),
        "supersedes": consent.supersedes,
        "withdrawn_by": consent.withdrawn_by,
        "withdrawn_at": None if consent.withdrawn_at is None else rfc3339(consent.withdrawn_at),
    }
