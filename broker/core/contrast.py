"""A message to show for a change of agreements: it fares one way before, and another after.

It is made up, complete and valid; who asks runs the decision and the minimisation of both
registers on it. That it differs is therefore not said but shown.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import product

from broker.core.consent import ACTIVE, Consent
from broker.core.decision import decide
from broker.core.envelope import PAYLOAD, parse
from broker.core.identity import AgencyId, MessageId, SubjectRef
from broker.core.message import Address, Header, Practitioner, ValidMessage, VerifiedMessage
from broker.core.minimise import minimise
from broker.core.outcome import Permitted
from broker.core.protocol import Clause, Register
from broker.core.samples import sample_payload, sample_types
from broker.core.schema import SchemaSet
from broker.core.sharing import AUTHENTICATION, BEGINNING_OF_TIME, END_OF_TIME
from broker.core.signing import build_envelope
from broker.core.whatif import Outcome, outcome_of
from broker.core.widening import WIDER, Change, Key

SEEDS = 8  # of samples that are tried: together they hold nearly all that a type can hold
_NO_SECRET = bytes(32)  # the salts of a made-up message protect nobody
_ID = MessageId("01900000-0000-7000-8000-000000000001")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message: the decision in short, and the paths that are withheld."""

    outcome: Outcome
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """An envelope, unsigned, the instant at which it is looked at, and its two fates.

    ``consent``: the subject is taken to have consented.
    """

    envelope: bytes
    at: datetime
    consent: bool
    before: Fate
    after: Fate


class Contrast:
    """Finds examples. ``before`` and ``after`` are the registers that are compared."""

    def __init__(self, before: Register, after: Register, schemas: SchemaSet) -> None:
        self._before = before
        self._after = after
        self._schemas = schemas
        self._payloads: dict[tuple[str, str], tuple[bytes, ...]] = {}

    def example(self, change: Change, now: datetime) -> Example | None:
        """Return a message that fares better after a widening, or before a narrowing.

        None: none of the samples shows the change, for what it lacks cannot be made up.
        """
        wide, narrow = self._after, self._before
        if change.direction != WIDER:
            wide, narrow = narrow, wide
        clauses = wide.clauses(change.key.sender, change.key.recipient, change.key.message_type)
        named = [
            clause
            for clause in clauses
            if (clause.protocol.reference, clause.clause_id) == (change.protocol, change.flow)
        ]
        dated = change.aspect == "dates"
        for clause in named:
            for message, try_ in self._tries(
                change.key, clause, _instants(clause, now, dated=dated)
            ):
                fates = [
                    self._fate(message, change.key, register, try_) for register in (narrow, wide)
                ]
                if _better(*fates):
                    self._validate(message)
                    if wide is self._before:
                        fates.reverse()
                    consent = bool(try_.consents)
                    return Example(message.verified.raw, try_.at, consent, *fates)
        return None

    def _fate(self, message: ValidMessage, key: Key, register: Register, try_: "_Try") -> Fate:
        schemas = self._schemas
        to, consents, at = key.recipient, try_.consents, try_.at
        decision = decide(message, to, register, consents, at, schemas=schemas, taken=True)
        if not isinstance(decision, Permitted):
            return Fate(outcome_of(decision))
        minimised = minimise(message, decision, schemas, _NO_SECRET)
        paths = tuple(dict.fromkeys(item.path for item in minimised.withheld))
        return Fate(outcome_of(decision), paths)

    def _tries(
        self, key: Key, clause: Clause, instants: list[datetime]
    ) -> Iterator[tuple[ValidMessage, "_Try"]]:
        """Yield messages that the clause may permit, the plainest first."""
        ways = product(
            (False, True) if clause.asks_consent else (False,),
            instants,
            _people(clause),
            (False, True),
            self._samples(key.message_type, key.version),
        )
        for consented, at, person, shielded, payload in ways:
            header = Header(
                message_id=_ID,
                message_type=key.message_type,
                schema_version=key.version,
                sender=key.sender,
                system="example",
                recipients=(Address(agency_id=key.recipient),),
                purpose=key.purpose,
                created_at=at,
                practitioner=person[0],
                reason_for_access=person[1],
                shielded=shielded,
            )
            consents = (_consent(key, clause.consent_kind, at),) if consented else ()
            yield self._made(header, payload), _Try(at, consents)

    def _samples(self, message_type: str, version: str) -> tuple[bytes, ...]:
        key = message_type, version
        if key not in self._payloads:
            known = message_type in sample_types() and key in self._schemas.catalogue.messages
            made = (sample_payload(message_type, seed) for seed in range(SEEDS if known else 0))
            self._payloads[key] = tuple(made)
        return self._payloads[key]

    def _made(self, header: Header, payload: bytes) -> ValidMessage:
        raw = build_envelope(header, payload)
        root = parse(raw)
        element = next(iter(next(iter(root.iter(PAYLOAD)))))
        version = header.schema_version
        subject = self._schemas.subject(header.message_type, version, element)
        digest = hashlib.sha256(raw).digest()
        verified = VerifiedMessage(raw, raw, root, header, digest, "", "")
        return ValidMessage(verified, header, element, subject, self._schemas.digest)

    def _validate(self, message: ValidMessage) -> None:
        """Hold what will be shown to its schema: of the samples that are tried, tests do."""
        header = message.header
        self._schemas.validate(header.message_type, header.schema_version, message.payload)


@dataclass(frozen=True, slots=True)
class _Try:
    at: datetime
    consents: tuple[Consent, ...]


def _consent(key: Key, kind: str, at: datetime) -> Consent:
    """Return the consent of somebody old enough, in writing, to exactly this."""
    return Consent(
        consent_id="example",
        subject=SubjectRef("example"),
        kind=kind,
        status=ACTIVE,
        purposes=frozenset({key.purpose}),
        message_types=frozenset({key.message_type}),
        recipients=frozenset({key.recipient}),
        form="EXPLICIT_WRITTEN",
        given_at=at - _DAY,
        given_by="SUBJECT",
        capacity="16_17_PRESUMED",
        wording="example",
        recorded_by=key.sender,
        recorded_at=at - _DAY,
        review_at=at + _DAY,
    )


def _better(before: Fate, after: Fate) -> bool:
    if before.outcome.permitted and after.outcome.permitted:
        return bool(set(before.withheld) - set(after.withheld))
    return after.outcome.permitted and not before.outcome.permitted


def _instants(clause: Clause, now: datetime, *, dated: bool) -> list[datetime]:
    """Return instants at which the clause stands: now if it does, its first and its last day."""
    if clause.stands_from <= now < clause.stands_until and not dated:
        return [now]
    first, last = clause.stands_from, clause.stands_until - _DAY
    edges = [one for one in (first, last) if BEGINNING_OF_TIME < one < END_OF_TIME - _DAY]
    return [one for one in (now, *edges) if first <= one < clause.stands_until]


def _people(clause: Clause) -> list[tuple[Practitioner | None, str | None]]:
    """Return practitioners and reasons for access that the clause takes, the least asked first."""
    rule = clause.practitioner
    if rule is None:
        return [(None, None), (Practitioner("example", "PRACTITIONER", None, "AAL3"), "ASSESSMENT")]
    levels = [one for one in AUTHENTICATION if one >= rule.authentication]
    if not rule.authentication:
        levels.insert(0, "")
    people = [
        Practitioner("example", role, clearance or None, level or None)
        for role, clearance, level in product(
            sorted(rule.roles) or ["PRACTITIONER"], sorted(rule.clearances) or [""], levels
        )
    ]
    reasons: list[str | None] = ["ASSESSMENT"]
    if not rule.reason_for_access:
        reasons.insert(0, None)
    return [(person, reason) for reason in reasons for person in people]


@dataclass(frozen=True, slots=True)
class Group:
    """The same change for several pairs, types and purposes of one flow."""

    change: Change  # of the first of them
    keys: tuple[Key, ...]


def grouped(changes: tuple[Change, ...]) -> tuple[Group, ...]:
    """Return the changes, those that differ only in whom they concern together."""
    found: dict[Change, list[Key]] = {}
    first = Key(AgencyId(""), AgencyId(""), "", "", "")
    for change in changes:
        found.setdefault(replace(change, key=first), []).append(change.key)
    return tuple(Group(replace(change, key=keys[0]), tuple(keys)) for change, keys in found.items())
