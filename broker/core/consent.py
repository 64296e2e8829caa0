"""Consents on record, and whether one reaches a disclosure.

A consent here is the UK GDPR lawful basis or a waiver of confidentiality: agreement to a
service and medical treatment are other things (domain §5.3). Every doubt is a no.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from broker.core.identity import AgencyId, SubjectRef
from broker.core.reasons import Reason

ACTIVE = "ACTIVE"
REFUSED = "REFUSED"
WITHDRAWN = "WITHDRAWN"
IMPLIED = "IMPLIED"
GROUNDS = frozenset({"GDPR_BASIS", "CONFIDENTIALITY"})


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person said, once, of sharing about them. ``expires_at`` is excluded."""

    consent_id: str
    subject: SubjectRef
    kind: str  # GDPR_BASIS | SERVICE_AGREEMENT | CONFIDENTIALITY | RETAIN_18_25
    status: str  # ACTIVE | REFUSED | WITHDRAWN | EXPIRED | SUPERSEDED
    purposes: frozenset[str]
    message_types: frozenset[str]
    recipients: frozenset[AgencyId]  # each named: a category of recipient is not enough
    form: str  # EXPLICIT_WRITTEN | EXPLICIT_VERBAL | EXPLICIT_ELECTRONIC | IMPLIED
    given_at: datetime
    expires_at: datetime | None = None

    def reaches(self, purpose: str, message_type: str, recipient: AgencyId) -> bool:
        """Return whether the person spoke of this purpose, information and recipient."""
        return (
            purpose in self.purposes
            and message_type in self.message_types
            and recipient in self.recipients
        )

    def holds(self, now: datetime) -> bool:
        """Return whether this is a consent in force, explicit, and of a kind to rest on."""
        return (
            self.status == ACTIVE
            and self.kind in GROUNDS
            and self.form != IMPLIED
            and self.given_at <= now
            and (self.expires_at is None or now < self.expires_at)
        )


def consent_refusal(
    held: Collection[Consent],
    *,
    purpose: str,
    message_type: str,
    recipient: AgencyId,
    now: datetime,
) -> Reason | None:
    """Return why ``held``, all about the subject, do not carry the disclosure; None if they do.

    A refusal or withdrawal that reaches the disclosure outweighs any consent beside it: the
    person who gave consent anew has the old record superseded, so two that contradict each
    other are a doubt.
    """
    reaching = [consent for consent in held if consent.reaches(purpose, message_type, recipient)]
    said = {consent.status for consent in reaching}
    if WITHDRAWN in said:
        return Reason.CONSENT_WITHDRAWN
    if REFUSED in said:
        return Reason.CONSENT_REFUSED
    if any(consent.holds(now) for consent in reaching):
        return None
    if any(consent.holds(now) for consent in held):
        return Reason.CONSENT_SCOPE
    return Reason.NO_CONSENT
