"""Examples that travel with an agreement: a message, and what must become of it.

An example is a synthetic payload with a header, at an instant, and what the parties expect:
permitted under which clause with what withheld, or refused for which reason. They are run
against the agreement as if it were in force, before it is.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol

from lxml import etree

from broker.core.consent import GDPR_BASIS, GROUNDS, Consent
from broker.core.decision import decide
from broker.core.envelope import parse
from broker.core.identity import AgencyId, MessageId, SubjectRef
from broker.core.message import Header, Practitioner, Subject, ValidMessage, VerifiedMessage
from broker.core.minimise import minimise
from broker.core.outcome import Refused
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.samples import sample_payload
from broker.core.table import Table

EXAMPLES = "tests"  # the folder, below that of the register
PERMITTED, REFUSED = "permitted", "refused"
CONSENTS = ("ACTIVE", "REFUSED", "WITHDRAWN")
_POSITION = re.compile(r"\[[0-9]+\]")
_SALT = bytes(32)  # nothing of a reduction leaves this module but paths
_NAMESPACE = "urn:fame:envelope:1.0"


class Schemas(Protocol):
    """What is needed of the sealed schemas here."""

    def categories(self, message_type: str, version: str) -> Mapping[str, str]:
        """Return the data category of every element a payload can hold, by its path."""

    def subject(self, message_type: str, version: str, payload: etree._Element) -> Subject | None:
        """Return whom a payload is about."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """What must become of an example. ``withheld`` are paths, without positions."""

    decision: str
    reason: str = ""
    clause: str = ""
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Example:
    """One example. The payload is the sample of ``seed``, unless ``payload`` gives another."""

    name: str
    sender: AgencyId
    recipient: AgencyId
    message_type: str
    version: str
    purpose: str
    at: datetime
    seed: int = 1
    payload: str = ""
    without: tuple[str, ...] = ()
    practitioner: Practitioner | None = None
    reason_for_access: str = ""
    shielded: bool = False
    consent: str = ""  # what the person has said; empty: not asked
    consent_kind: str = GDPR_BASIS
    taken: bool = True  # by its recipient, where it is sent only then
    expect: Expectation = field(default_factory=lambda: Expectation(REFUSED))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an example; ``paths`` are those that its payload holds."""

    result: Expectation
    paths: frozenset[str]


def run_example(example: Example, register: Register, schemas: Schemas) -> Outcome:
    """Return what ``register`` makes of ``example``."""
    message = _message(example, schemas)
    recipient, consents = example.recipient, _consents(example)
    at, taken = example.at, example.taken
    decision = decide(message, recipient, register, consents, at, schemas=schemas, taken=taken)
    paths = _paths(message.payload)
    if isinstance(decision, Refused):
        clause = _clause(decision.protocol, decision.clause)
        return Outcome(Expectation(REFUSED, decision.reason.value, clause), paths)
    reduced = minimise(message, decision, schemas, _SALT)
    withheld = tuple(sorted({_POSITION.sub("", one.path) for one in reduced.withheld}))
    clause = _clause(f"{decision.protocol}@{decision.version}", decision.clause)
    return Outcome(Expectation(PERMITTED, "", clause, withheld), paths)


def _clause(reference: str | None, clause: str | None) -> str:
    return f"{reference} {clause}" if reference and clause else ""


def _message(example: Example, schemas: Schemas) -> ValidMessage:
    """Return the message of an example; it was never sent, so nothing of it was verified."""
    raw = example.payload.encode() or sample_payload(example.message_type, example.seed)
    payload = parse(raw)
    for path in example.without:
        for found in payload.findall("/".join(f"{{*}}{name}" for name in path.split("/"))):
            parent = found.getparent()
            assert parent is not None
            parent.remove(found)
    root = etree.fromstring(f'<Envelope xmlns="{_NAMESPACE}"><Header/><Payload/></Envelope>')
    header = Header(
        message_id=MessageId("00000000-0000-7000-8000-000000000000"),
        message_type=example.message_type,
        schema_version=example.version,
        sender=example.sender,
        system="example",
        recipients=(),
        purpose=example.purpose,
        created_at=example.at,
        practitioner=example.practitioner,
        reason_for_access=example.reason_for_access or None,
        shielded=example.shielded,
    )
    digest = hashlib.sha256(raw).digest()
    verified = VerifiedMessage(raw, raw, root, header, digest, "", "example")
    subject = schemas.subject(example.message_type, example.version, payload)
    return ValidMessage(verified, header, payload, subject, "")


def _consents(example: Example) -> tuple[Consent, ...]:
    if not example.consent:
        return ()
    day = timedelta(days=1)
    return (
        Consent(
            consent_id="example",
            subject=SubjectRef("example"),
            kind=example.consent_kind,
            status=example.consent,
            purposes=frozenset({example.purpose}),
            message_types=frozenset({example.message_type}),
            recipients=frozenset({example.recipient}),
            form="EXPLICIT_WRITTEN",
            given_at=example.at - day,
            given_by="SUBJECT",
            capacity="16_17_PRESUMED",
            wording="example",
            recorded_by=example.sender,
            recorded_at=example.at - day,
            review_at=example.at + day,
        ),
    )


def _paths(payload: etree._Element) -> frozenset[str]:
    found: set[str] = set()

    def descend(element: etree._Element, prefix: str) -> None:
        for child in element.iterchildren("*"):
            path = prefix + etree.QName(child).localname
            found.add(path)
            descend(child, path + "/")

    descend(payload, "")
    return frozenset(found)


def parse_examples(table: Table) -> tuple[str, tuple[Example, ...]]:
    """Return the protocol that a file of examples is about, and the examples.

    Raises:
        Mistake: the file is not complete, or says something that cannot be used.
    """
    reference = table.text("protocol")
    examples = tuple(_example(one) for one in table.tables("example"))
    table.close()
    names = [one.name for one in examples]
    if len(set(names)) != len(names):
        raise table.mistake("example", "give every example a name of its own")
    return reference, examples


def _example(table: Table) -> Example:
    expect = table.table("expect")
    example = Example(
        name=table.text("name"),
        sender=AgencyId(table.text("from")),
        recipient=AgencyId(table.text("to")),
        message_type=table.text("type"),
        version=table.text("version"),
        purpose=table.text("purpose"),
        at=table.instant("at"),
        seed=table.number("seed", 0, 1),
        payload=table.text("payload", ""),
        without=table.texts("without", ()),
        practitioner=_practitioner(table),
        reason_for_access=table.text("reason_for_access", ""),
        shielded=table.flag("shielded", default=False),
        consent=table.choice("consent", CONSENTS, ""),
        consent_kind=table.choice("consent_kind", GROUNDS, GDPR_BASIS),
        taken=table.flag("taken", default=True),
        expect=Expectation(
            decision=expect.choice("decision", (PERMITTED, REFUSED)),
            reason=expect.choice("reason", {reason.value for reason in Reason}, ""),
            clause=expect.text("clause", ""),
            withheld=expect.texts("withheld", ()),
        ),
    )
    expect.close()
    table.close()
    return example


def _practitioner(table: Table) -> Practitioner | None:
    if not table.has("practitioner"):
        return None
    block = table.table("practitioner")
    person = Practitioner(
        ref="example",
        role=block.text("role"),
        clearance=block.text("clearance", "") or None,
        authentication=block.text("authentication", "") or None,
    )
    block.close()
    return person
