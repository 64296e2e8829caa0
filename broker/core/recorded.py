"""What is kept of a message so that a decision on it can be made again: codes, never values.

A record is JSON of a few hundred bytes beside the decision. It says which elements the payload
holds, as bits over the paths of its schema in their order, with the start of a digest of these
paths, so that a schema that has changed since makes it unknown instead of wrong. Of consent it
holds the answers of the register, one for each kind, not the consents; of a decision to share
without consent, only the power that it stands on. It speaks of a subject, who is a pseudonym,
so it is erased with the payload.
"""

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from typing import Any

import orjson
from lxml import etree

from broker.core.consent import GROUNDS, Consent, Disclosure, Reach, consent_reach
from broker.core.errors import Rejection
from broker.core.facts import GIVEN, Categories, DecisionFacts, facts_of, local_name
from broker.core.handover import follows_answer
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import from_millis, millis
from broker.core.message import Practitioner, ValidMessage
from broker.core.override import Override
from broker.core.reasons import Reason

VERSION = 4  # one more whenever a decision asks for another fact: see the tests
_ASKS_TAKEN = 3  # the version since which it says that a recipient has not taken what is offered
_OLDEST = 2  # before, the answer on consent was one for all kinds of it
STATED = "STATED"  # for what is asked of a decision only whether it is there
NOBODY = ""  # a practitioner's reference is never kept
_MOMENT = timedelta(milliseconds=1)
_STATED = ("reason_for_access",)
_FLAGS = tuple(one.name for one in fields(DecisionFacts) if one.type is bool)
_CODES = tuple(
    one.name for one in fields(DecisionFacts) if one.type == str | None and one.name not in _STATED
)

# For one recipient and what is on record of the subject's consent; None: nobody looked.
MakeRecord = Callable[[AgencyId, Collection[Consent] | None], str]


@dataclass(frozen=True, slots=True)
class Past:
    """A decision's question as it stood: the facts, the answer on consent in them, the instant.

    ``override`` stands for the decision to share without consent that carried this disclosure.
    """

    facts: DecisionFacts
    at: datetime
    override: Override | None = None


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which bit stands for which path of a message type, and what tells that from another."""

    digest: str
    places: Mapping[str, int]
    categories: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Shape:
    paths: frozenset[str]
    categories: frozenset[str]


class Records:
    """Makes and reads records. What many payloads have in common is worked out once."""

    def __init__(self, schemas: Categories) -> None:
        self._schemas = schemas
        self._layouts: dict[tuple[str, str], _Layout] = {}
        self._shapes: dict[tuple[str, str, str], _Shape | None] = {}

    def of(
        self,
        message: ValidMessage,
        now: datetime,
        taken: Collection[AgencyId] = (),
        override: Override | None = None,
    ) -> MakeRecord:
        """Return what makes the record of the decision on ``message`` for each recipient.

        ``taken`` are the recipients that have taken it, where that is asked; ``override`` is
        the sender's own decision to share about this subject without consent.
        """
        facts = facts_of(message)
        follows = follows_answer(facts.message_type)
        layout = self._layout(facts.message_type, facts.schema_version)
        person = facts.practitioner
        common: dict[str, Any] = {
            "v": VERSION,
            "at": millis(now),
            "is": [name for name in _FLAGS if getattr(facts, name)],
            "has": [name for name in _STATED if getattr(facts, name)],
            "holds": _bits(message.payload, layout),
            **{name: code for name in _CODES if (code := getattr(facts, name)) is not None},
        }
        if person is not None:
            common["by"] = [person.role, person.clearance, person.authentication]

        def made(recipient: AgencyId, consents: Collection[Consent] | None) -> str:
            found = None if consents is None else _answers(facts, recipient, consents, now)
            said = {**common, "consent": None if found is None else _codes(found)}
            parts = {} if found is None else _parts(found)
            if parts:
                said["parts"] = parts
            if follows and recipient not in taken:
                said["is"] = [*common["is"], "untaken"]
            if override is not None and _answers_for(override, facts, recipient, now):
                said["override"] = override.gateway
            return orjson.dumps(said).decode()

        return made

    def past(  # noqa: PLR0913 - a row of the store
        self,
        record: str,
        *,
        sender: AgencyId,
        recipient: AgencyId,
        message_type: str,
        version: str,
        purpose: str,
    ) -> Past | None:
        """Return the question that ``record`` keeps; None if not all of it is known.

        So it is when the schema has changed since, and when an older version of the record does
        not say what the decision may have turned on. The other arguments are what stands beside
        it in the store.
        """
        read = orjson.loads(record)
        shape = self._shape(message_type, version, read["holds"])
        if shape is None or not _told(read, message_type):
            return None
        person = read.get("by")
        stated: dict[str, Any] = {name: read[name] for name in _CODES if name in read}
        stated |= dict.fromkeys(read["is"], True) | dict.fromkeys(read["has"], STATED)
        facts = DecisionFacts(
            sender=sender,
            message_type=message_type,
            schema_version=version,
            purpose=purpose,
            practitioner=None if person is None else Practitioner(NOBODY, *person),
            categories=shape.categories,
            paths=shape.paths,
            consent_answers=read["consent"],
            consent_reach=_reaches(read.get("parts", {})),
            **stated,
        )
        at, gateway = from_millis(read["at"]), read.get("override")
        if gateway is None:
            return Past(facts, at)
        return Past(facts, at, _remembered(gateway, facts, recipient, at))

    def _layout(self, message_type: str, version: str) -> _Layout:
        key = message_type, version
        if key not in self._layouts:
            known = self._schemas.categories(*key)
            ordered = sorted(known)
            digest = hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:8]
            places = {path: place for place, path in enumerate(ordered)}
            self._layouts[key] = _Layout(digest, places, known)
        return self._layouts[key]

    def _shape(self, message_type: str, version: str, bits: str) -> _Shape | None:
        key = message_type, version, bits
        if key not in self._shapes:
            self._shapes[key] = self._worked_out(*key)
        return self._shapes[key]

    def _worked_out(self, message_type: str, version: str, bits: str) -> _Shape | None:
        try:
            layout = self._layout(message_type, version)
        except Rejection:
            return None
        digest, _, digits = bits.partition(":")
        if digest != layout.digest:
            return None
        number = int(digits, 16)
        paths = frozenset(path for path, place in layout.places.items() if number >> place & 1)
        return _Shape(paths, frozenset(layout.categories[path] for path in paths))


def _told(read: Mapping[str, Any], message_type: str) -> bool:
    """Return whether ``read`` says all that a decision asks, although it may be an older one."""
    number, answers = read["v"], read["consent"]
    if number >= VERSION:
        return bool(number == VERSION)
    if number < _OLDEST or (number < _ASKS_TAKEN and follows_answer(message_type)):
        return False
    # Which decision to share without consent there was, it does not say. There was none where
    # nobody looked, or where the message was about nobody, and none that mattered beside a yes.
    whole = answers is None or ("parts" not in read and set(answers.values()) == {GIVEN})
    return whole or "has_subject" not in read["is"]


def _remembered(gateway: str, facts: DecisionFacts, recipient: AgencyId, at: datetime) -> Override:
    """Return what stands for a decision to share without consent that reached this disclosure."""
    return Override(
        override_id=STATED,
        subject=SubjectRef(STATED),
        agency=facts.sender,
        reason=STATED,
        gateway=gateway,
        purposes=frozenset({facts.purpose}),
        message_types=frozenset({facts.message_type}),
        recipients=frozenset({recipient}),
        decided_by=NOBODY,
        approved_by=NOBODY,
        made_at=at,
        recorded_at=at,
        until=at + _MOMENT,
        review_by=at + _MOMENT,
    )


def _answers_for(
    override: Override, facts: DecisionFacts, recipient: AgencyId, now: datetime
) -> bool:
    return override.reaches(
        sender=facts.sender,
        recipient=recipient,
        purpose=facts.purpose,
        message_type=facts.message_type,
        now=now,
    )


def _answers(
    facts: DecisionFacts, recipient: AgencyId, consents: Collection[Consent], now: datetime
) -> dict[str, Reach | Reason]:
    """Return the answer for each kind of consent: another clause may rest on the other."""
    return {
        kind: consent_reach(
            consents, Disclosure(kind, facts.purpose, facts.message_type, recipient), now
        )
        for kind in GROUNDS
    }


def _codes(answers: Mapping[str, Reach | Reason]) -> dict[str, str]:
    return {
        kind: answer.value if isinstance(answer, Reason) else GIVEN
        for kind, answer in answers.items()
    }


def _parts(answers: Mapping[str, Reach | Reason]) -> dict[str, tuple[list[str] | None, list[str]]]:
    """Return, for each kind that was given for a part, what was agreed to and what declined."""
    return {
        kind: (None if answer.only is None else sorted(answer.only), sorted(answer.never))
        for kind, answer in answers.items()
        if isinstance(answer, Reach) and not answer.whole
    }


def _reaches(parts: Mapping[str, tuple[list[str] | None, list[str]]]) -> dict[str, Reach]:
    return {
        kind: Reach(None if only is None else frozenset(only), frozenset(never))
        for kind, (only, never) in parts.items()
    }


def _bits(payload: etree._Element, layout: _Layout) -> str:
    """Return which paths of ``layout`` the payload holds."""
    number = 0

    def descend(element: etree._Element, prefix: str) -> None:
        nonlocal number
        for child in element:
            path = prefix + local_name(child)
            place = layout.places.get(path)
            if place is not None:
                number |= 1 << place
            if len(child):
                descend(child, path + "/")

    descend(payload, "")
    return f"{layout.digest}:{number:x}"
