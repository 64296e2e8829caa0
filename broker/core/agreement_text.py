"""A sharing protocol as a text for people: sections in plain English, from the same file.

The sections know nothing of pages or markup: `broker.core.agreement_html` and the PDF writer
of the edge lay them out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from broker.core import remedy
from broker.core.clocks import ClockRule
from broker.core.explanation import consent_words
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule
from broker.core.protocol import Register
from broker.core.sharing import CATEGORY, Flow, SharingProtocol
from broker.core.table import london_day

TIERS = ("Memorandum of understanding", "Community agreement", "Sharing protocol", "Local flow")
_INCLUDE = {"MANDATORY": "Always", "ALLOWED": "May pass", "FORBIDDEN": "Never"}
_TRANSFORM = {
    "MASK": "shown as ***",
    "HASH": "as a code that stands for it",
    "GENERALISE": "less exact: month, day or area",
}
_CAPACITY = {"BOTH": "sends and receives", "SENDER": "sends", "RECEIVER": "receives"}
_ROLE = {"CONTROLLER": "controller", "JOINT": "joint controller", "PROCESSOR": "processor"}
_TERMS = {
    "transparency": "What people are told",
    "security": "Security",
    "retention": "How long it is kept",
    "data_quality": "Quality",
    "rights": "Rights of the people concerned",
    "breach": "If something goes wrong",
    "complaints": "Complaints",
    "termination": "Leaving",
}
_GENERAL = {
    "subject_categories": "About whom",
    "controller_model": "Controllers",
    "onward_sharing": "Sharing onwards",
    "secondary_use": "Other uses",
    "automated_decision": "Decisions by machine",
    "dpia_ref": "Impact assessment",
    "risk_score": "Risk",
}


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Grid:
    """A table with a caption. The first cell of a row is what the row is about."""

    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Paragraph | Grid


@dataclass(frozen=True, slots=True)
class Section:
    """A heading of level 2 or 3, and what stands below it."""

    title: str
    level: int
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The whole text."""

    title: str
    subtitle: str
    sections: tuple[Section, ...]


def agreement_text(
    protocol: SharingProtocol, register: Register, digest: str, now: datetime
) -> Agreement:
    """Return the text of ``protocol``; ``digest`` is what its parties sign."""
    return Agreement(
        title=protocol.title,
        subtitle=f"{TIERS[protocol.tier]} {protocol.protocol_id}, version {protocol.version}",
        sections=(
            _about(protocol, register, digest, now),
            _parties(protocol, register),
            *_why(protocol),
            *_flows(protocol, register),
            *_terms(protocol),
            _signatures(protocol),
        ),
    )


def _about(protocol: SharingProtocol, register: Register, digest: str, now: datetime) -> Section:
    reason = protocol.standing(now)
    state = "in force" if reason is None else "not in force"
    rows = [
        ("State", f"{state} on {_day(now)}"),
        ("In force from", _day(protocol.in_force_from) if protocol.in_force_from else "not yet"),
        (
            "Last day",
            _last_day(protocol.in_force_until) if protocol.in_force_until else "no end agreed",
        ),
        ("Review due", _day(protocol.review_date)),
        ("Lapses unless reviewed", _day(protocol.lapses_on)),
        ("Lead", _named(protocol.lead, register)),
        ("Stands on", protocol.parent or "nothing"),
        ("SHA-256 of what is signed", digest),
    ]
    return Section("In short", 2, (Grid("The agreement", ("What", "Says"), tuple(rows)),))


def _named(agency: AgencyId, register: Register) -> str:
    """Return an agency as people and as files call it; one that is not registered has no name."""
    found = register.agencies.get(agency)
    return agency if found is None else f"{found.name} ({agency})"


def _day(day: date) -> str:
    if isinstance(day, datetime):
        day = london_day(day)
    return f"{day.day} {day:%B %Y}"


def _last_day(end: datetime) -> str:
    """Return the last day of what has ended at ``end``."""
    return _day(london_day(end) - timedelta(days=1))


def _parties(protocol: SharingProtocol, register: Register) -> Section:
    rows = tuple(
        (
            register.agencies[one.agency].name,
            one.agency,
            _ROLE[one.role],
            _CAPACITY[one.capacity],
        )
        for one in protocol.parties
    )
    header = ("Party", "Known as", "Role", "Part")
    return Section("Who takes part", 2, (Grid("The parties", header, rows),))


def _why(protocol: SharingProtocol) -> Iterator[Section]:
    tables = _tables(protocol.terms, "purpose")
    benefits = {str(one["code"]): str(one["benefits"]) for one in tables}
    rows = tuple((code, statement, benefits[code]) for code, statement in protocol.purposes.items())
    if rows:
        grid = Grid("The purposes", ("Code", "What for", "What is gained"), rows)
        yield Section("What it is for", 2, (grid,))
    bases = tuple(
        (str(one["article_6"]), str(one["condition"]), ", ".join(one["gateways"]))
        for one in _tables(protocol.terms, "lawful_basis")
    )
    if bases:
        header = ("UK GDPR Article 6", "Condition for sensitive data", "Legal gateways")
        yield Section("On what legal basis", 2, (Grid("The lawful bases", header, bases),))


def _tables(terms: Mapping[str, object], key: str) -> Sequence[Mapping[str, list[str]]]:
    tables = terms.get(key)
    return tables if isinstance(tables, list) else []


def _flows(protocol: SharingProtocol, register: Register) -> Iterator[Section]:
    if not protocol.flows:
        words = "Nothing passes by this agreement alone; others stand on it."
        yield Section("Who may send what to whom", 2, (Paragraph(words),))
        return
    rows = tuple(
        (
            flow.flow_id,
            flow.method["description"],
            _names(flow.senders, protocol, register),
            _names(flow.recipients, protocol, register),
        )
        for flow in protocol.flows
    )
    grid = Grid("All flows", ("Flow", "What passes", "From", "To"), rows)
    yield Section("Who may send what to whom", 2, (grid,))
    for flow in protocol.flows:
        yield _flow(flow, protocol, register)


def _names(names: Sequence[str], protocol: SharingProtocol, register: Register) -> str:
    """Return agencies by name; a type stands for the parties of that type."""
    found = []
    for name in names:
        parties = [register.agencies[one.agency] for one in protocol.parties]
        found += [one.name for one in parties if name in (one.agency_id, one.type)]
    return "; ".join(dict.fromkeys(found))


def _flow(flow: Flow, protocol: SharingProtocol, register: Register) -> Section:
    gateways = (*flow.gateways, *flow.conditions)
    sensitive = consent_words(flow, flow.sensitive_consent)
    person = remedy.practitioner(flow.practitioner) if flow.practitioner else "not asked"
    shielded = "is refused" if flow.refuses_shielded else "passes without any address or place"
    rows = [
        ("Messages", ", ".join(f"{name} {version}" for name, version in flow.message_types)),
        ("From", _names(flow.senders, protocol, register)),
        ("To", _names(flow.recipients, protocol, register)),
        ("For", ", ".join(sorted(flow.purposes))),
        ("Under", "; ".join(f"{one.statute} ({one.gateway_id})" for one in gateways)),
        ("Consent", consent_words(flow, flow.consent)),
        ("Practitioner", person),
        ("A shielded person", f"a message about one {shielded}"),
        ("How", f"{flow.method['method']}; {flow.method['frequency'].lower()}"),
        ("Within", flow.method["max_latency"]),
    ]
    if flow.clocks:
        rows.append(("Clocks", "; ".join(_clock(one) for one in flow.clocks)))
    if flow.sensitive_consent != flow.consent:
        rows.insert(6, ("Consent, sensitive services", sensitive))
    items = tuple(_item(rule, flow) for rule in flow.items)
    header = ("Item", "Passes", "Why it is needed")
    return Section(
        f"Flow {flow.flow_id}",
        3,
        (
            Paragraph(flow.method["description"]),
            Grid(f"Terms of flow {flow.flow_id}", ("What", "Says"), tuple(rows)),
            Grid(f"Items of flow {flow.flow_id}; all others are withheld", header, items),
        ),
    )


def _clock(clock: ClockRule) -> str:
    start = {"ACCEPTED": "from its acceptance", "CREATED": "from the making of the message"}
    since = start.get(clock.starts, f"from what the message states as {clock.element}")
    return f"{clock.title.lower()} within {clock.within}, {since}"


def _item(rule: FieldRule, flow: Flow) -> tuple[str, str, str]:
    name = rule.target.replace("/", " / ")
    if rule.target.startswith(CATEGORY):
        name = f"Every item of category {rule.target.removeprefix(CATEGORY).replace('-', ' ')}"
    passes = _INCLUDE[rule.include]
    if rule.transform in _TRANSFORM:
        passes = f"{passes}, {_TRANSFORM[rule.transform]}"
    return name, passes, flow.necessity[rule.target]


def _terms(protocol: SharingProtocol) -> Iterator[Section]:
    general = tuple(
        (words, _said(protocol.terms[key]))
        for key, words in _GENERAL.items()
        if key in protocol.terms
    )
    if general:
        grid = Grid("General terms", ("What", "Says"), general)
        yield Section("General terms", 2, (grid,))
    for key, title in _TERMS.items():
        block = protocol.terms.get(key)
        if isinstance(block, Mapping):
            rows = tuple((_label(name), _said(value)) for name, value in block.items())
            yield Section(title, 2, (Grid(title, ("What", "Says"), rows),))


def _label(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _said(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_said(one) for one in value)
    text = str(value)
    return _label(text.lower()) if text.isupper() else text


def _signatures(protocol: SharingProtocol) -> Section:
    signed = {one.party: one for one in protocol.signatories}
    rows = []
    for party in protocol.parties:
        one = signed.get(party.agency)
        if one is None:
            rows.append((str(party.agency), "not signed", "", "", ""))
        else:
            what = (one.name, one.position, _day(one.signed_from), one.signature_ref)
            rows.append((str(party.agency), *what))
    header = ("For", "Name", "Position", "On", "Signature")
    words = (
        "A version takes effect when the designated people named here have signed it. Every "
        "signature can be checked: fame protocol log."
    )
    return Section("Signatures", 2, (Paragraph(words), Grid("Who signed", header, tuple(rows))))
