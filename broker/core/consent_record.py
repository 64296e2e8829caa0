"""What an agency records of a consent: checked before it is kept, and what is kept of a change.

A record is never edited: each change is a further version of it, and an entry in the ledger.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime

from broker.core.capacity import Assessment, may_give
from broker.core.consent import (
    ACTIVE,
    GROUNDS,
    IMPLIED,
    REFUSED,
    SUPERSEDED,
    WITHDRAWN,
    Consent,
)
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import millis
from broker.core.protocol import Register
from broker.core.reasons import Reason

VERSION = 1


@dataclass(frozen=True, slots=True)
class Statement:
    """What an agency says that a person said: a consent or a refusal, about one subject."""

    kind: str
    status: str  # ACTIVE | REFUSED
    purposes: frozenset[str]
    message_types: frozenset[str]
    recipients: frozenset[AgencyId]
    form: str
    given_at: datetime
    given_by: str
    capacity: str
    wording: str
    review_at: datetime
    expires_at: datetime | None = None
    assessment: Assessment | None = None
    document: str | None = None
    supersedes: str | None = None
    categories: frozenset[str] = frozenset()  # of data; empty: all that the recipients may have
    support: str | None = None


def recorded(  # noqa: PLR0913 - the facts of one record
    statement: Statement,
    *,
    consent_id: str,
    subject: SubjectRef,
    agency: AgencyId,
    register: Register,
    now: datetime,
) -> Consent:
    """Return the first version of the record of ``statement``.

    Raises:
        Rejection: nobody could rely on it; the words say why and hold no value of it.
    """
    # step 6, ISP-6.8: what nobody could rely on is not on record.
    fault = _fault(statement, register, now)
    if fault:
        raise Rejection(Reason.CONSENT_UNUSABLE, fault)
    return Consent(
        consent_id=consent_id,
        subject=subject,
        kind=statement.kind,
        status=statement.status,
        purposes=statement.purposes,
        message_types=statement.message_types,
        recipients=statement.recipients,
        form=statement.form,
        given_at=statement.given_at,
        given_by=statement.given_by,
        capacity=statement.capacity,
        wording=statement.wording,
        recorded_by=agency,
        recorded_at=now,
        review_at=statement.review_at,
        expires_at=statement.expires_at,
        assessment=statement.assessment,
        document=statement.document,
        supersedes=statement.supersedes,
        categories=statement.categories,
        support=statement.support,
    )


def _fault(said: Statement, register: Register, now: datetime) -> str:
    if said.status not in (ACTIVE, REFUSED):
        return "what is recorded is a consent or a refusal"
    if not (said.purposes and said.message_types and said.recipients):
        return "a consent names purposes, message types and recipients"
    if not said.recipients <= register.agencies.keys():
        return "each recipient is named, as an agency of the partnership"
    if not said.purposes <= register.purposes.keys():
        return "a purpose is not one of the partnership's"
    if not said.categories <= register.lists["DataCategory"]:
        return "a category of data is not one of the partnership's"
    if said.given_at > now:
        return "it was given in the future"
    ends = [said.review_at, *([said.expires_at] if said.expires_at else [])]
    if min(ends) <= said.given_at:
        return "it ends, or is due for review, before it was given"
    return _doubt(said) if said.status == ACTIVE else ""


def _doubt(said: Statement) -> str:
    """Return what is doubtful about a consent; of a refusal nobody asks who said it."""
    if said.form == IMPLIED and said.kind in GROUNDS:
        return "no disclosure through the broker rests on an implied consent"
    if not may_give(said.kind, said.given_by, said.capacity, said.assessment, said.given_at):
        return "whoever gave it could not give it, or the assessment of competence is not complete"
    return ""


def withdrawn(
    consent: Consent, now: datetime, by: str | None = None, said_at: datetime | None = None
) -> Consent:
    """Return the version of ``consent`` that says that the person withdrew it.

    ``by`` conveyed it, ``said_at`` is when the person said so. Whoever may not give a consent
    may still say that it is taken back: that is the safe side, and withdrawing has to be easy.

    Raises:
        Rejection: it is not a consent that is there to be withdrawn.
    """
    if consent.status != ACTIVE:
        raise Rejection(Reason.CONSENT_UNUSABLE, "only a consent that was not ended can be ended")
    gone = _next(consent, WITHDRAWN, now)
    return replace(
        gone, withdrawn_by=by, withdrawn_at=None if said_at is None else min(said_at, now)
    )


def superseded(consent: Consent, by: Consent, now: datetime) -> Consent:
    """Return the version of ``consent`` that says that the record ``by`` took its place.

    Raises:
        Rejection: it is another agency's or another person's, or was superseded before.
    """
    same = (consent.recorded_by, consent.subject) == (by.recorded_by, by.subject)
    if not same or consent.status == SUPERSEDED:
        raise Rejection(Reason.CONSENT_UNUSABLE, "a record takes the place of one of your own")
    return _next(consent, SUPERSEDED, now)


def _next(consent: Consent, status: str, now: datetime) -> Consent:
    return replace(consent, status=status, version=consent.version + 1, recorded_at=now)


def lineage(consent_id: str, held: Collection[Consent]) -> frozenset[str]:
    """Return ``consent_id`` and the ids of the records that it took the place of, all the way."""
    before = {consent.consent_id: consent.supersedes for consent in held}
    found: set[str] = set()
    one: str | None = consent_id
    while one is not None and one not in found:
        found.add(one)
        one = before.get(one)
    return frozenset(found)


def consent_entry(consent: Consent, *, peer: str) -> dict[str, object]:
    """Return the ledger entry of one version: codes, ids and instants, and nobody's name.

    What was said of competence stays out: it is about a child's maturity; and so does what
    helped the person to understand.
    """
    said = _if_there(consent)
    return {
        **said,
        "v": VERSION,
        "kind": "consent",
        "consent": consent.consent_id,
        "version": consent.version,
        "subject": consent.subject,
        "of": consent.kind,
        "status": consent.status,
        "purposes": sorted(consent.purposes),
        "types": sorted(consent.message_types),
        "recipients": sorted(consent.recipients),
        "form": consent.form,
        "wording": consent.wording,
        "document": consent.document,
        "given_at": millis(consent.given_at),
        "expires_at": None if consent.expires_at is None else millis(consent.expires_at),
        "review_at": millis(consent.review_at),
        "agency": consent.recorded_by,
        "peer": peer,
        "supersedes": consent.supersedes,
        "at": millis(consent.recorded_at),
    }


def _if_there(consent: Consent) -> dict[str, object]:
    """Return what not every record says."""
    said: dict[str, object] = {}
    if consent.categories:
        said["categories"] = sorted(consent.categories)
    if consent.withdrawn_by is not None:
        said["withdrawn_by"] = consent.withdrawn_by
    if consent.withdrawn_at is not None:
        said["withdrawn_at"] = millis(consent.withdrawn_at)
    return said
