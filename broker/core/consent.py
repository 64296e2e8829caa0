"""Consents on record, and whether one reaches a disclosure.

Kinds that are never taken for one another (domain §5.3): the UK GDPR lawful basis and the
waiver of confidentiality, on which a disclosure may rest, each where the clause says so, and
the agreement to receive a service, on which none does; nor on the agreement to have a record
kept from 18 to 25. Every doubt is a no: an unknown code, another person's record, two records
that contradict.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import combinations

from broker.core.capacity import Assessment, may_give
from broker.core.identity import AgencyId, SubjectRef
from broker.core.reasons import Reason

ACTIVE = "ACTIVE"
REFUSED = "REFUSED"
WITHDRAWN = "WITHDRAWN"
SUPERSEDED = "SUPERSEDED"
STATUSES = (ACTIVE, REFUSED, WITHDRAWN, "EXPIRED", SUPERSEDED)
IMPLIED = "IMPLIED"
EXPLICIT = ("EXPLICIT_WRITTEN", "EXPLICIT_VERBAL", "EXPLICIT_ELECTRONIC")
FORMS = (*EXPLICIT, IMPLIED)
GDPR_BASIS = "GDPR_BASIS"
CONFIDENTIALITY = "CONFIDENTIALITY"
GROUNDS = (GDPR_BASIS, CONFIDENTIALITY)
OTHER_KINDS = frozenset({"SERVICE_AGREEMENT", "RETAIN_18_25"})
KINDS = ("GDPR_BASIS", "SERVICE_AGREEMENT", "CONFIDENTIALITY", "RETAIN_18_25")
_NEGATIVE = frozenset({REFUSED, WITHDRAWN})
# Who it is about, whom to ring and how to file it: without these nothing can be told at all.
ALWAYS = frozenset({"administrative", "identity", "practitioner"})


@dataclass(frozen=True, slots=True)
class Reach:
    """How much of a message a person's words reach, by data category.

    ``only`` are the categories that were agreed to, None: all; ``never`` those that were not.
    """

    only: frozenset[str] | None = None
    never: frozenset[str] = frozenset()

    @property
    def whole(self) -> bool:
        """Whether everything may be told."""
        return self.only is None and not self.never

    @property
    def nothing(self) -> bool:
        """Whether nothing is left of what was agreed to."""
        return self.only is not None and self.only <= self.never

    def covers(self, category: str) -> bool:
        """Return whether an element of this category, by itself, may be told."""
        agreed = self.only is None or category in self.only or category in ALWAYS
        return agreed and category not in self.never


WHOLE = Reach()


@dataclass(frozen=True, slots=True)
class Consent:
    """What a person said, once, of sharing about them, as one agency recorded it.

    It names nobody: ``subject`` is a pseudonym. ``expires_at`` and ``review_at`` are
    excluded: at either the person has to be asked again. ``version`` counts what was
    recorded under one id; ``recorded_at`` is when this version was.
    """

    consent_id: str
    subject: SubjectRef
    kind: str
    status: str
    purposes: frozenset[str]
    message_types: frozenset[str]
    recipients: frozenset[AgencyId]  # each named: a category of recipient is not enough
    form: str
    given_at: datetime
    given_by: str
    capacity: str
    wording: str  # version of the words that the person was told
    recorded_by: AgencyId
    recorded_at: datetime
    review_at: datetime
    expires_at: datetime | None = None
    assessment: Assessment | None = None
    document: str | None = None  # SHA-256 of the evidence, which stays with its agency
    supersedes: str | None = None
    categories: frozenset[str] = frozenset()  # of data that it is about; empty: all
    support: str | None = None  # code of what helped the person to understand: an interpreter
    withdrawn_by: str | None = None  # who conveyed it, of `GIVERS`
    withdrawn_at: datetime | None = None  # when the person said so, if that was told
    version: int = 1

    def reaches(self, disclosure: "Disclosure") -> bool:
        """Return whether the person spoke of this purpose, information and recipient."""
        return (
            disclosure.purpose in self.purposes
            and disclosure.message_type in self.message_types
            and disclosure.recipient in self.recipients
        )

    def holds(self, now: datetime) -> bool:
        """Return whether this is a consent in force, explicit, and of a kind to rest on."""
        return (
            self.status == ACTIVE
            and self.kind in GROUNDS
            and self.form in EXPLICIT
            and self.given_at <= now < self.review_at
            and (self.expires_at is None or now < self.expires_at)
            and may_give(self.kind, self.given_by, self.capacity, self.assessment, self.given_at)
        )

    def contradicts(self, other: "Consent") -> bool:
        """Return whether one of the two is a yes and the other a no to the same disclosure."""
        said = {self.status, other.status}
        return (
            ACTIVE in said
            and bool(said & _NEGATIVE)
            and self.subject == other.subject
            and not {self.kind, other.kind} & OTHER_KINDS
            and bool(self.purposes & other.purposes)
            and bool(self.message_types & other.message_types)
            and bool(self.recipients & other.recipients)
            and self._shares_categories(other)
        )

    def _shares_categories(self, other: "Consent") -> bool:
        some = bool(self.categories and other.categories)
        return not some or bool(self.categories & other.categories)


@dataclass(frozen=True, slots=True)
class Disclosure:
    """What a consent has to reach, and the kind of consent that it has to be (of `GROUNDS`)."""

    kind: str
    purpose: str
    message_type: str
    recipient: AgencyId


def consent_reach(
    held: Collection[Consent], disclosure: Disclosure, now: datetime
) -> Reach | Reason:
    """Return how far ``held``, all about the subject, carry it (ISP-6.3), or why they do not.

    A refusal or withdrawal that reaches the disclosure, of either ground, outweighs any consent
    beside it: the person who gave consent anew has the old record superseded, so two that
    contradict each other are a doubt. One that names categories outweighs it for those. A status
    that is not known is a doubt, too, as are records of more than one person. A yes counts only
    if it is of the kind that the disclosure rests on.
    """
    if len({consent.subject for consent in held}) > 1:
        return Reason.NO_CONSENT
    kept = [consent for consent in held if consent.kind not in OTHER_KINDS]
    reaching = [consent for consent in kept if consent.reaches(disclosure)]
    no = _no({consent.status for consent in reaching if not consent.categories})
    if no is not None:
        return no
    said = {consent.status for consent in reaching}
    if not said.issubset(STATUSES):
        return Reason.NO_CONSENT
    good = [one for one in kept if one.kind == disclosure.kind and one.holds(now)]
    carrying = [one for one in good if one.reaches(disclosure)]
    if carrying:
        reach = Reach(_agreed(carrying), _declined(reaching))
        if not reach.nothing:
            return reach
    return _no(said) or (Reason.CONSENT_SCOPE if good else Reason.NO_CONSENT)


def _no(said: Collection[str]) -> Reason | None:
    # step 6, ISP-6.3: a no outweighs a yes.
    if WITHDRAWN in said:
        return Reason.CONSENT_WITHDRAWN
    return Reason.CONSENT_REFUSED if REFUSED in said else None


def _agreed(carrying: Collection[Consent]) -> frozenset[str] | None:
    if not all(one.categories for one in carrying):
        return None
    return frozenset().union(*(one.categories for one in carrying))


def _declined(reaching: Collection[Consent]) -> frozenset[str]:
    declined = (one.categories for one in reaching if one.status in _NEGATIVE)
    return frozenset().union(*declined)


def consent_refusal(
    held: Collection[Consent], disclosure: Disclosure, now: datetime
) -> Reason | None:
    """Return why ``held`` do not carry the disclosure at all; None if they do, or some of it."""
    answer = consent_reach(held, disclosure, now)
    return answer if isinstance(answer, Reason) else None


def relied_on(held: Collection[Consent], disclosure: Disclosure, now: datetime) -> tuple[str, ...]:
    """Return the ids of every consent that carries the disclosure, in order; empty: none does."""
    if consent_refusal(held, disclosure, now) is not None:
        return ()
    carrying = (one for one in held if one.kind == disclosure.kind and one.reaches(disclosure))
    return tuple(sorted(one.consent_id for one in carrying if one.holds(now)))


def conflicts(held: Collection[Consent]) -> Iterator[tuple[Consent, Consent]]:
    """Yield each pair of records that contradict, the consent first."""
    for one, other in combinations(held, 2):
        if one.contradicts(other):
            yield (one, other) if one.status == ACTIVE else (other, one)
