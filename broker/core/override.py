"""Decisions to share without consent: who made one, why the law allows it, and how far it carries.

One answers the question of consent (step 6) and no other: an unknown recipient, a suspended
agency, a carve-out, a missing gateway or a payload that breaks its schema stays refused. It
is short-lived, made by two practitioners, and reviewed afterwards. It names nobody: subject
and practitioners are pseudonyms, and the words of necessity stay in the sealed message.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.errors import Rejection
from broker.core.gateway import Gateway
from broker.core.identity import AgencyId, SubjectRef, folded
from broker.core.instant import millis
from broker.core.limits import OVERRIDE_REVIEW_S, OVERRIDE_S_MAX
from broker.core.protocol import Register
from broker.core.reasons import Reason

VERSION = 1
REASONS = (
    "SIGNIFICANT_HARM",
    "SERIOUS_CRIME",
    "VITAL_INTEREST",
    "COURT_ORDER",
    "STATUTORY_DUTY",
    "PUBLIC_INTEREST_CONFIDENCE",
)
OUTCOMES = ("JUSTIFIED", "JUSTIFIED_WITH_LEARNING", "NOT_JUSTIFIED")


@dataclass(frozen=True, slots=True)
class DisclosureClaim:
    """What a sender says that two of its practitioners decided."""

    reason: str
    gateway: str
    purposes: frozenset[str]
    message_types: frozenset[str]
    recipients: frozenset[AgencyId]
    detriment: str
    decided_by: str
    approved_by: str
    made_at: datetime


@dataclass(frozen=True, slots=True)
class Override:
    """A decision to share without consent, as recorded. ``until`` is excluded."""

    override_id: str
    subject: SubjectRef
    agency: AgencyId
    reason: str
    gateway: str
    purposes: frozenset[str]
    message_types: frozenset[str]
    recipients: frozenset[AgencyId]
    decided_by: str  # keyed hash, as is the next
    approved_by: str
    made_at: datetime
    recorded_at: datetime
    until: datetime
    review_by: datetime

    def reaches(
        self,
        *,
        sender: AgencyId,
        recipient: AgencyId,
        purpose: str,
        message_type: str,
        now: datetime,
    ) -> bool:
        """Return whether it is about this disclosure, at this moment."""
        return (
            self.agency == sender
            and recipient in self.recipients
            and purpose in self.purposes
            and message_type in self.message_types
            and self.recorded_at <= now < self.until
        )

    def carries(  # noqa: PLR0913 - the question in full
        self,
        *,
        sender: AgencyId,
        recipient: AgencyId,
        purpose: str,
        message_type: str,
        gateway: Gateway,
        now: datetime,
    ) -> bool:
        """Return whether it answers for this disclosure, on this power, at this moment."""
        return self.gateway == gateway.gateway_id and self.reaches(
            sender=sender, recipient=recipient, purpose=purpose, message_type=message_type, now=now
        )


def decided(  # noqa: PLR0913 - the facts of one record
    claim: DisclosureClaim,
    *,
    override_id: str,
    subject: SubjectRef,
    agency: AgencyId,
    practitioners: tuple[str, str],
    register: Register,
    now: datetime,
) -> Override:
    """Return the record of ``claim``; ``practitioners`` are the pseudonyms of who made it.

    Raises:
        Rejection: nothing may be shared on it; the words say why and hold no value of it.
    """
    # step 6, ISP-6.9: what lacks a reason, a power or a second practitioner is not on record.
    fault = _fault(claim, register, now)
    if fault:
        raise Rejection(Reason.OVERRIDE_UNUSABLE, fault)
    decider, approver = practitioners
    return Override(
        override_id=override_id,
        subject=subject,
        agency=agency,
        reason=claim.reason,
        gateway=claim.gateway,
        purposes=claim.purposes,
        message_types=claim.message_types,
        recipients=claim.recipients,
        decided_by=decider,
        approved_by=approver,
        made_at=claim.made_at,
        recorded_at=now,
        until=claim.made_at + timedelta(seconds=OVERRIDE_S_MAX),
        review_by=now + timedelta(seconds=OVERRIDE_REVIEW_S),
    )


def _fault(claim: DisclosureClaim, register: Register, now: datetime) -> str:
    gateway = register.gateways.get(claim.gateway)
    if claim.reason not in REASONS:
        return "the reason is not one that the law knows"
    if not (claim.decided_by + claim.approved_by).isascii():
        # A letter of another script can look the same, and would make one person two.
        return "each practitioner is named by an id of plain letters and digits"
    if folded(claim.decided_by) == folded(claim.approved_by):
        return "whoever approves is somebody else than who decides"
    if claim.detriment != "NOT_DETRIMENTAL":
        return "disclosure was judged more detrimental, or that was not judged"
    if gateway is None or not gateway.bears_flow or not gateway.in_force(now):
        return "no power of that name is in force that a disclosure can rest on"
    if not (claim.purposes and claim.message_types and claim.recipients):
        return "a decision names purposes, message types and recipients"
    if not claim.recipients <= register.agencies.keys():
        return "each recipient is named, as an agency of the partnership"
    if not now - timedelta(seconds=OVERRIDE_S_MAX) < claim.made_at <= now:
        return "it was made in the future, or too long ago to be acted on"
    return ""


def override_for(
    found: Override | None, subject: SubjectRef | None, sender: AgencyId
) -> Override | None:
    """Return ``found`` if it is the sender's own and about the person the message is about."""
    if found is None or (found.subject, found.agency) != (subject, sender):
        return None
    return found


def override_entry(
    override: Override, *, peer: str, submission: str, message_id: str, protocol: str
) -> dict[str, object]:
    """Return the ledger entry of a decision to share without consent.

    The rest is the message that said it, and the agreement that it was sent under: its review
    is a clock on that message.
    """
    return {
        "v": VERSION,
        "kind": "override",
        "override": override.override_id,
        "submission": submission,
        "message_id": message_id,
        "protocol": protocol,
        "subject": override.subject,
        "agency": override.agency,
        "reason": override.reason,
        "gateway": override.gateway,
        "purposes": sorted(override.purposes),
        "types": sorted(override.message_types),
        "recipients": sorted(override.recipients),
        "decided_by": override.decided_by,
        "approved_by": override.approved_by,
        "made_at": millis(override.made_at),
        "until": millis(override.until),
        "review_by": millis(override.review_by),
        "peer": peer,
        "at": millis(override.recorded_at),
    }


def review_entry(  # noqa: PLR0913 - the facts of one review
    override: Override,
    *,
    outcome: str,
    reviewer: str,
    agency: AgencyId,
    peer: str,
    submission: str | None,
    at: datetime,
) -> dict[str, object]:
    """Return the ledger entry of the review of such a decision.

    Raises:
        Rejection: the reviewer took part in it, or the outcome is not one.
    """
    if reviewer in (override.decided_by, override.approved_by):
        detail = "whoever reviews took no part in the decision"
        raise Rejection(Reason.OVERRIDE_UNUSABLE, detail)
    if outcome not in OUTCOMES:
        raise Rejection(Reason.OVERRIDE_UNUSABLE, "the outcome of a review is one of the list")
    return {
        "v": VERSION,
        "kind": "override-review",
        "override": override.override_id,
        "submission": submission,
        "outcome": outcome,
        "reviewer": reviewer,
        "agency": agency,
        "in_time": at <= override.review_by,
        "peer": peer,
        "at": millis(at),
    }
