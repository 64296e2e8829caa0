"""Decisions to share without consent: recorded from signed messages, told of, reviewed, counted."""

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from sqlalchemy import Connection

from broker.core.consent_messages import claim_of, decision_id_of
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId, SubjectRef, folded
from broker.core.instant import millis, rfc3339
from broker.core.ledger import VERSION
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted, RecipientVerdict
from broker.core.override import Override, decided, review_entry
from broker.core.reasons import Reason
from broker.core.submission import Submission
from broker.edge import override_rows
from broker.edge.accepting import Acceptance
from broker.edge.consent_notices import NAMESPACE, Notices
from broker.edge.intake import Registers
from broker.edge.ledger import Ledger
from broker.edge.reports import OVERRIDE_NOTICE
from broker.edge.store import Store
from broker.ports import Clock

View = Mapping[str, Any]
RATE_DAYS = 90
_DOMAIN = b"fame:practitioner:1\0"


@dataclass(frozen=True, slots=True)
class OverrideService:
    """What senders, owners and officers do with decisions to share without consent."""

    store: Store
    registers: Registers
    notices: Notices
    clock: Clock
    pseudonym: bytes = field(repr=False)

    def practitioner(self, agency: AgencyId, ref: str) -> str:
        """Return the pseudonym of a practitioner: the same person counts as one, unnamed.

        However the id is written, as `folded` has it.
        """
        text = _DOMAIN + f"{agency}\0{folded(ref)}".encode()
        return hmac.digest(self.pseudonym, text, hashlib.sha256).hex()[:32]

    def recording(self, message: ValidMessage, subject: SubjectRef, peer: str) -> "OverrideTask":
        """Return the task of recording what a DisclosureDecision says.

        Raises:
            Rejection: nothing may be shared on it.
        """
        claim, sender = claim_of(message.payload), message.header.sender
        override = decided(
            claim,
            override_id=decision_id_of(message.payload),
            subject=subject,
            agency=sender,
            practitioners=(
                self.practitioner(sender, claim.decided_by),
                self.practitioner(sender, claim.approved_by),
            ),
            register=self.registers.current,
            now=self.clock.now(),
        )
        return OverrideTask(override, peer, message.header.message_id)

    def passed(self, conn: Connection, ledger: Ledger, submission: Submission) -> None:
        """Record what passed by a decision, and tell who answers for it, in one transaction."""
        for verdict in submission.verdicts:
            decision = verdict.decision
            if isinstance(decision, Permitted) and decision.override is not None:
                self._passed(conn, ledger, submission, verdict, decision)

    def _passed(
        self,
        conn: Connection,
        ledger: Ledger,
        submission: Submission,
        verdict: RecipientVerdict,
        decision: Permitted,
    ) -> None:
        override = override_rows.load(conn, decision.override or "")
        assert override is not None  # the decision was made from it, and none is ever deleted
        override_rows.use(conn, override.override_id, submission.submission_id, verdict.recipient)
        ledger.append(
            {
                "v": VERSION,
                "kind": "override-use",
                "override": override.override_id,
                "submission": submission.submission_id,
                "recipient": verdict.recipient,
                "at": millis(submission.decided_at),
            }
        )
        header = submission.message.header
        protocol = self.registers.current.protocols.get(f"{decision.protocol}@{decision.version}")
        lead = header.sender if protocol is None else protocol.lead
        payload = _payload(override, submission, verdict.recipient)
        told = [
            self.notices.reporter.notice(
                OVERRIDE_NOTICE,
                recipient=agency,
                name=f"{submission.submission_id}:{verdict.recipient}:{agency}",
                about=header.message_id,
                payload=payload,
                at=submission.decided_at,
                trace_id=submission.trace_id,
            )
            for agency in dict.fromkeys((header.sender, lead, verdict.recipient))
        ]
        Acceptance(self.notices.ring, self.notices.issuer, conn.dialect).accept(conn, ledger, told)

    async def listed(
        self, agency: AgencyId | None, limit: int, after: str | None, *, overdue: bool = False
    ) -> list[View]:
        """Return decisions of ``agency`` (None: of all), each with its review or its deadline.

        ``overdue``: only those that nobody reviewed in time.
        """
        now = self.clock.now()
        late = millis(now) if overdue else None
        rows = await self.store.read(
            lambda conn: override_rows.listed(conn, agency, limit, after, late)
        )
        return [_view(row, now) for row in rows]

    async def review(
        self, override_id: str, agency: AgencyId, *, reviewer: str, outcome: str, peer: str
    ) -> View:
        """Record the review of a decision by somebody of the agency that made it.

        Raises:
            Rejection: it is not theirs, was reviewed before, or the reviewer took part in it.
        """
        at, who = self.clock.now(), self.practitioner(agency, reviewer)

        def act(conn: Connection, ledger: Ledger) -> Override:
            found = override_rows.load(conn, override_id)
            if found is None or found.agency != agency:
                raise Rejection(Reason.NOT_FOUND)
            if override_rows.reviewed(conn, override_id):
                raise Rejection(Reason.OVERRIDE_UNUSABLE, "it was reviewed before")
            entry = review_entry(
                found,
                outcome=outcome,
                reviewer=who,
                agency=agency,
                peer=peer,
                submission=override_rows.submission_of(conn, override_id),
                at=at,
            )
            place = ledger.append(entry)
            override_rows.review(
                conn,
                override_id,
                outcome=outcome,
                reviewer=who,
                at=millis(at),
                ledger_seq=place.sequence,
            )
            return found

        found = await self.store.write(act)
        return {"override_id": override_id, "outcome": outcome, "in_time": at <= found.review_by}

    async def rate(self, agency: AgencyId | None, days: int = RATE_DAYS) -> list[View]:
        """Return how many such decisions each practitioner made in the last ``days``."""
        since = millis(self.clock.now() - timedelta(days=days))
        return await self.store.read(lambda conn: override_rows.rate(conn, agency, since))


@dataclass(frozen=True, slots=True)
class OverrideTask:
    """Recording a decision, in the transaction that keeps the message that says it."""

    override: Override
    peer: str
    message_id: MessageId

    def act(self, conn: Connection, ledger: Ledger) -> None:
        """Record it."""
        if override_rows.load(conn, self.override.override_id) is not None:
            raise Rejection(Reason.OVERRIDE_UNUSABLE, "a decision of this id is there already")
        override_rows.add(conn, ledger, self.override, peer=self.peer, message_id=self.message_id)

    async def follow(self) -> None:
        """Nothing follows until a message rests on it."""


def _view(row: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    override: Override = row["override"]
    overdue = row["outcome"] is None and now > override.review_by
    return {
        "override_id": override.override_id,
        "agency": override.agency,
        "subject": override.subject,
        "reason": override.reason,
        "gateway": override.gateway,
        "recipients": sorted(override.recipients),
        "decided_by": override.decided_by,
        "approved_by": override.approved_by,
        "made_at": rfc3339(override.made_at),
        "until": rfc3339(override.until),
        "review_by": rfc3339(override.review_by),
        "uses": row["uses"],
        "review": row["outcome"] or ("OVERDUE" if overdue else "DUE"),
    }


def _payload(override: Override, submission: Submission, recipient: AgencyId) -> bytes:
    header = submission.message.header
    parts = (
        ("DecisionId", override.override_id),
        ("MessageId", header.message_id),
        ("MessageType", header.message_type),
        ("Sender", header.sender),
        ("Recipient", recipient),
        ("Reason", override.reason),
        ("At", rfc3339(submission.decided_at)),
        ("ReviewBy", rfc3339(override.review_by)),
    )
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
    return f'<{OVERRIDE_NOTICE} xmlns="{NAMESPACE}">{inner}</{OVERRIDE_NOTICE}>'.encode()
