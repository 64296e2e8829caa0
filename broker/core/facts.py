"""What a decision asks of a message, taken from its header and a few places of its payload."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from lxml import etree

from broker.core.consent import Reach
from broker.core.identity import AgencyId
from broker.core.message import Practitioner, ValidMessage

GIVEN = "GIVEN"  # the answer on consent: one in force carries the disclosure
SAFEGUARDING_CONDITION = "DPA-S1-18"
_TASK = "PublicTaskStatement"
_STATED = ("SharingBasis", "Consent", "SensitiveInvolvement", _TASK)
# What says in the payload itself that nobody may find these people, by message type.
_HIDES = {"HouseholdPlacementNotice": ("RiskMarker", "DOMESTIC_ABUSE")}
_Values = dict[str, list[str | None]]  # texts of the children of an element, by name


class Categories(Protocol):
    """What is needed of the sealed schemas here and to minimise."""

    def categories(self, message_type: str, version: str) -> Mapping[str, str]:
        """Return the data category of every element a payload can hold, by its path."""


@dataclass(frozen=True, slots=True)
class DecisionFacts:
    """What is known of a message, and no more than codes of it.

    ``categories`` are what the payload holds, ``paths`` those that a clause makes mandatory and
    that it holds; None: not looked up. ``settled``
    marks a message that was permitted before and is asked about again at disclosure: what
    cannot have changed since (practitioner, payload) is not asked a second time.
    ``consent_answers`` are set only where a recorded decision is made again (`core.recorded`).
    """

    sender: AgencyId
    message_type: str
    schema_version: str
    purpose: str
    protocol: str | None = None  # "id" or "id@version"
    gateway: str | None = None
    practitioner: Practitioner | None = None
    reason_for_access: str | None = None
    shielded: bool = False
    has_subject: bool = False
    has_identifier: bool = False
    omission_reason: str | None = None
    detriment: str | None = None  # NOT_DETRIMENTAL | DETRIMENTAL
    relevant: bool = False  # a practitioner considered it relevant to safeguarding or welfare
    public_task: bool = False  # the payload says for which public task it asks
    consent_reason: str | None = None  # why consent was not obtained
    consent_said: bool = False  # the payload says that a parent or the child agreed
    harm: bool = False  # the payload states a ground of harm
    sensitive: bool = False  # the payload names a sensitive service
    untaken: bool = False  # it follows an answer of its recipient, who has not said yes
    categories: frozenset[str] | None = None
    paths: frozenset[str] | None = None
    consent_answers: Mapping[str, str] | None = None  # by kind: GIVEN, or the reason why not
    consent_reach: Mapping[str, Reach] | None = None  # by kind, where it was given for a part
    settled: bool = False


def facts_of(message: ValidMessage) -> DecisionFacts:
    """Return the facts of ``message``, without a look at all of its payload."""
    header, subject, payload = message.header, message.subject, message.payload
    basis, consent, services, public_task = _stated(payload)
    return DecisionFacts(
        sender=header.sender,
        message_type=header.message_type,
        schema_version=header.schema_version,
        purpose=header.purpose,
        protocol=header.protocol,
        gateway=header.gateway,
        practitioner=header.practitioner,
        reason_for_access=header.reason_for_access,
        shielded=header.shielded or _hides(header.message_type, payload),
        has_subject=subject is not None,
        has_identifier=subject is not None and subject.nhs_number is not None,
        omission_reason=None if subject is None else subject.omission_reason,
        detriment=_first(basis, "DetrimentTest"),
        relevant=_first(basis, "RelevanceConsidered") == "true",
        public_task=public_task,
        consent_reason=_first(basis, "ConsentNotObtained"),
        consent_said="true" in (_first(consent, "ParentConsent"), _first(consent, "ChildConsent")),
        harm=_harm(basis, services),
        sensitive=bool(services),
    )


def _stated(payload: etree._Element) -> tuple[_Values, _Values, list[_Values], bool]:
    """Return what the stated basis, the stated consent, and each named sensitive service hold.

    Last, whether a public task is stated.
    """
    namespace, brace, _ = payload.tag.rpartition("}")
    prefix = namespace + brace
    basis: _Values = {}
    consent: _Values = {}
    services: list[_Values] = []
    public_task = False
    for child in payload.iterchildren(*(prefix + name for name in _STATED)):
        values: _Values = {}
        for one in child:
            values.setdefault(one.tag.removeprefix(prefix), []).append(one.text)
        name = child.tag.removeprefix(prefix)
        if name == "SensitiveInvolvement":
            services.append(values)
        elif name == "Consent":
            consent = values
        elif name == _TASK:
            public_task = True
        else:
            basis = values
    return basis, consent, services, public_task


def _hides(message_type: str, payload: etree._Element) -> bool:
    """Return whether the payload says what shields whoever it is about, marked or not (ISP-8.1)."""
    if message_type not in _HIDES:
        return False
    name, code = _HIDES[message_type]
    namespace, brace, _ = payload.tag.rpartition("}")
    return any(one.text == code for one in payload.iterchildren(namespace + brace + name))


def _first(values: _Values, name: str) -> str | None:
    return values[name][0] if name in values else None


def _harm(basis: _Values, services: list[_Values]) -> bool:
    """Return whether a ground of harm is stated: for the whole, or for every sensitive service."""
    if "ConsentNotObtained" in basis and SAFEGUARDING_CONDITION in basis.get("Condition", ()):
        return True
    return {_first(service, "Ground") for service in services} == {"SIGNIFICANT_HARM"}


def with_paths(facts: DecisionFacts, message: ValidMessage, wanted: Iterable[str]) -> DecisionFacts:
    """Return ``facts`` with those of the ``wanted`` paths that the payload holds."""
    namespace, brace, _ = message.payload.tag.rpartition("}")
    steps = {path: path.replace("/", f"/{namespace}{brace}") for path in wanted}
    find = message.payload.find
    found = (path for path, step in steps.items() if find(f"{namespace}{brace}{step}") is not None)
    return replace(facts, paths=frozenset(found))


def with_categories(
    facts: DecisionFacts, message: ValidMessage, schemas: Categories
) -> DecisionFacts:
    """Return ``facts`` with the data categories that the payload holds."""
    known = schemas.categories(facts.message_type, facts.schema_version)
    found: set[str] = set()

    def descend(element: etree._Element, prefix: str) -> None:
        for child in element:
            path = prefix + local_name(child)
            if path in known:
                found.add(known[path])
            descend(child, path + "/")

    descend(message.payload, "")
    return replace(facts, categories=frozenset(found))


def local_name(element: etree._Element) -> str:
    """Return the name of ``element`` without its namespace."""
    return element.tag.rpartition("}")[2]
