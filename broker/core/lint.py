"""Look for what is wrong with sharing protocols although they can be read.

A finding has a code, its place, and a cure. An error means that the agreement does not do what
it says; a warning, that somebody should look.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.clause import Clause
from broker.core.clocks import LEVELS
from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule
from broker.core.protocol import Register
from broker.core.sharing import CATEGORY, Flow, SharingProtocol
from broker.core.table import london_midnight

REVIEW_NOTICE = timedelta(days=90)  # before a review is due, the lead is told (domain §5.2)
WORDS_MIN = 2  # of a text that says why an item is necessary

ERROR, WARNING = "error", "warning"

# Code to severity and cure. A code is added, never renamed.
CODES: Mapping[str, tuple[str, str]] = {
    "lapsed": (ERROR, "agree a new version with a later review_date"),
    "overdue": (WARNING, "review it, and agree a new version with a later review_date"),
    "review-due": (WARNING, "start the review"),
    "not-in-force": (WARNING, "let every party sign, then activate it"),
    "parent-not-in-force": (ERROR, "bring the parent into force first, or name another"),
    "purpose-unused": (WARNING, "take the purpose away, or name it in a flow"),
    "dates-contradict": (ERROR, "let it begin before it ends and before its review"),
    "basis-missing": (ERROR, "name the gateway in a lawful_basis"),
    "reaches-nobody": (ERROR, "name parties that may send in from, and others that receive in to"),
    "schema-missing": (ERROR, "name a message type and version that is published"),
    "field-unknown": (ERROR, "name a path or category of the schema: fame schema docs"),
    "necessity-missing": (WARNING, "say in a sentence what the recipient cannot do without it"),
    "necessity-copied": (WARNING, "say why each item is needed, not what it is"),
    "nothing-allowed": (WARNING, "allow what the recipient needs, or take the flow away"),
    "item-contradicts": (ERROR, "take one of the two rules away: what is forbidden outweighs"),
    "item-idle": (WARNING, "take the rule away: another one decides"),
    "consent-contradicts": (ERROR, "ask at least as much consent for sensitive services"),
    "gateway-not-in-force": (ERROR, "rest the flow on a gateway that has commenced"),
    "gateway-does-not-bear": (
        ERROR,
        "rest it on a gateway that reaches these two, or part the flow",
    ),
    "clock-unstated": (ERROR, "name a clock that starts at an element of every message type"),
    "clock-never-stops": (ERROR, "let the recipient send what stops it, or name another clock"),
    "never-relied-on": (WARNING, "take the flow away, or say what it alone permits"),
    "wider-than-parent": (ERROR, "end it no later than the agreement it stands on"),
}

Known = Mapping[tuple[str, str], Mapping[str, str]]  # message type and version to categories


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found; ``flow`` is empty when it is about the whole sharing protocol.

    ``table`` is named as `broker.core.table.Table` does, such as ``flow 2.item 3``.
    """

    code: str
    protocol: str
    flow: str
    words: str
    file: str
    table: str = ""
    key: str = ""

    @property
    def severity(self) -> str:
        """How bad it is: error or warning."""
        return CODES[self.code][0]

    @property
    def cure(self) -> str:
        """What helps."""
        return CODES[self.code][1]


@dataclass(frozen=True, slots=True)
class _Found:
    code: str
    words: str
    table: str = ""  # below that of the flow
    key: str = ""


def lint(register: Register, known: Known, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong, protocol by protocol.

    ``known`` are the data categories of the message types that have a schema.
    """
    findings: list[Finding] = []
    for reference, protocol in sorted(register.protocols.items()):
        for one in _protocol(protocol, register, now):
            place = (protocol.file, one.table, one.key)
            findings.append(Finding(one.code, reference, "", one.words, *place))
        for number, flow in enumerate(protocol.flows, 1):
            for one in _flow(flow, protocol, register, known, now):
                table = f"flow {number}.{one.table}" if one.table else f"flow {number}"
                place = (protocol.file, table, one.key)
                findings.append(Finding(one.code, reference, flow.flow_id, one.words, *place))
    return tuple(findings)


def _protocol(protocol: SharingProtocol, register: Register, now: datetime) -> Iterator[_Found]:
    yield from _review(protocol, now)
    if protocol.in_force_from is None:
        yield _Found("not-in-force", f"not in force: {_unsigned(protocol)}", key="status")
    elif protocol.in_force_from >= protocol.stands_until:
        words = "ends, or its review lapses, before it begins"
        yield _Found("dates-contradict", words, key="effective_from")
    parent = register.protocols.get(protocol.parent or "")
    if parent is not None and parent.standing(now) is not None:
        words = f"{parent.reference}, which it stands on, is not in force"
        yield _Found("parent-not-in-force", words, key="parent")
    if parent is not None and (protocol.in_force_until or now) > parent.stands_until:
        words = f"it is agreed for longer than {parent.reference}, which it stands on"
        yield _Found("wider-than-parent", words, key="last_day")
    used = {code for flow in protocol.flows for code in flow.purposes}
    for code in sorted(protocol.purposes.keys() - used):
        number = list(protocol.purposes).index(code) + 1
        yield _Found("purpose-unused", f"no flow serves purpose {code}", f"purpose {number}")
    yield from _basis(protocol)


def _review(protocol: SharingProtocol, now: datetime) -> Iterator[_Found]:
    key = "review_date"
    if now >= london_midnight(protocol.lapses_on):
        words = f"lapsed: its review was due 90 days ago or more; ask {protocol.lead}"
        yield _Found("lapsed", words, key=key)
    elif now >= protocol.overdue_from:
        words = f"overdue for review; lapses on {protocol.lapses_on:%d %B %Y}"
        yield _Found("overdue", words, key=key)
    elif now >= protocol.overdue_from - REVIEW_NOTICE:
        words = f"its review is due on {protocol.review_date:%d %B %Y}"
        yield _Found("review-due", words, key=key)


def _unsigned(protocol: SharingProtocol) -> str:
    signed = {one.party for one in protocol.signatories}
    missing = [party.agency for party in protocol.parties if party.agency not in signed]
    return f"not signed by {', '.join(missing)}" if missing else f"its status is {protocol.status}"


def _basis(protocol: SharingProtocol) -> Iterator[_Found]:
    """Compare the gateways of the flows with those that the lawful bases name."""
    tables = protocol.terms.get("lawful_basis")
    if not isinstance(tables, list) or not protocol.flows:
        return
    named = {name for one in tables for name in one["gateways"]}
    for number, flow in enumerate(protocol.flows, 1):
        for gateway in flow.gateways:
            if gateway.gateway_id not in named:
                words = f"flow {flow.flow_id} rests on {gateway.gateway_id} without lawful basis"
                yield _Found("basis-missing", words, f"flow {number}", "gateways")


def _flow(
    flow: Flow, protocol: SharingProtocol, register: Register, known: Known, now: datetime
) -> Iterator[_Found]:
    pairs = [
        (sender, recipient, clause)
        for (sender, recipient, _), clauses in register.index.items()
        for clause in clauses
        if clause.protocol.reference == protocol.reference and clause.clause_id == flow.flow_id
    ]
    if not pairs:
        yield _Found("reaches-nobody", "reaches nobody: no party may send it to another", key="to")
    if _OPENNESS[flow.sensitive_consent] > _OPENNESS[flow.consent]:
        words = f"{flow.sensitive_consent} for sensitive services, but {flow.consent} for others"
        yield _Found("consent-contradicts", words, key="sensitive_consent")
    yield from _types(flow, protocol, known)
    yield from _items(flow, protocol)
    yield from _contradictions(flow, protocol, known)
    yield from _gateways(flow, pairs, register, now)
    yield from _clocks(flow, pairs, register, known)
    yield from _shadowed(pairs, register)


_OPENNESS = {
    "EXPLICIT_REQUIRED": 0,
    "EXPLICIT_OR_HARM": 1,
    "INFORMED_ONLY": 2,
    "NOT_REQUIRED": 2,
    "NOT_APPLICABLE": 2,
}


def _types(flow: Flow, protocol: SharingProtocol, known: Known) -> Iterator[_Found]:
    paths: set[str] = set()
    for message_type, version in flow.message_types:
        if (message_type, version) not in known:
            words = f"no schema is there for {message_type}/{version}"
            yield _Found("schema-missing", words, key="message_types")
        paths |= known.get((message_type, version), {}).keys()
    for rule in flow.items:
        if paths and not rule.target.startswith(CATEGORY) and rule.target not in paths:
            words = f"no schema of its message types has {rule.target}"
            yield _Found("field-unknown", words, _item_table(flow, protocol, rule), "targets")


def _item_table(flow: Flow, protocol: SharingProtocol, rule: FieldRule) -> str:
    """Return the name of the table of ``rule`` below its flow; one table has several targets."""
    flows = protocol.terms["flow"]
    assert isinstance(flows, list)
    (content,) = (one for one in flows if one["id"] == flow.flow_id)
    numbers = [n for n, item in enumerate(content["item"], 1) if rule.target in item["targets"]]
    return f"item {numbers[0]}"


def _items(flow: Flow, protocol: SharingProtocol) -> Iterator[_Found]:
    for rule in flow.items:
        table = _item_table(flow, protocol, rule)
        necessity = flow.necessity[rule.target]
        if len(necessity.split()) < WORDS_MIN:
            words = f"does not say why {rule.target} is necessary"
            yield _Found("necessity-missing", words, table, "necessity")
        elif necessity.strip(". ").lower() == rule.target.lower().replace("/", " "):
            words = f"says what {rule.target} is, not why it is necessary"
            yield _Found("necessity-copied", words, table, "necessity")
    if all(rule.include == "FORBIDDEN" for rule in flow.items):
        yield _Found("nothing-allowed", "allows no item at all")


def _contradictions(flow: Flow, protocol: SharingProtocol, known: Known) -> Iterator[_Found]:
    """Find rules that another rule of the same flow makes void."""
    schemas = [known.get(key, {}) for key in flow.message_types]
    for rule in flow.items:
        if rule.include == "FORBIDDEN" or rule.target.startswith(CATEGORY):
            continue
        around = rule.target.split("/")
        places = {"/".join(around[:count]) for count in range(1, len(around) + 1)}
        places |= {
            f"{CATEGORY}{schema[one]}" for schema in schemas for one in places if one in schema
        }
        for other in flow.items:
            if other.target in places and other.include == "FORBIDDEN":
                code = "item-contradicts" if rule.include == "MANDATORY" else "item-idle"
                words = f"{rule.target} is {rule.include}, but {other.target} is FORBIDDEN"
                yield _Found(code, words, _item_table(flow, protocol, rule), "include")


def _gateways(
    flow: Flow,
    pairs: list[tuple[AgencyId, AgencyId, Clause]],
    register: Register,
    now: datetime,
) -> Iterator[_Found]:
    if not any(gateway.in_force(now) for gateway in flow.gateways):
        yield _Found("gateway-not-in-force", "none of its gateways is in force", key="gateways")
    told: set[tuple[AgencyId, AgencyId]] = set()
    for sender, recipient, _ in pairs:
        if (sender, recipient) in told:
            continue
        told.add((sender, recipient))
        for purpose in sorted(flow.purposes):
            if not any(_bears(one, sender, recipient, purpose, register) for one in flow.gateways):
                words = f"no gateway bears {sender} to {recipient} for {purpose}"
                yield _Found("gateway-does-not-bear", words, key="gateways")


def _bears(
    gateway: Gateway, sender: AgencyId, recipient: AgencyId, purpose: str, register: Register
) -> bool:
    parties = register.selectors[sender], register.selectors[recipient]
    return (
        gateway.serves(purpose)
        and gateway.parties_refusal(*parties) is None
        and gateway.carved_out(*parties, frozenset()) is None  # of a payload that holds nothing
    )


def _clocks(
    flow: Flow,
    pairs: list[tuple[AgencyId, AgencyId, Clause]],
    register: Register,
    known: Known,
) -> Iterator[_Found]:
    """Find clocks that cannot start where they should, or that nothing can stop."""
    for clock in flow.clocks:
        for kind in flow.message_types:
            if clock.element and clock.element not in known.get(kind, {clock.element: ""}):
                words = f"{clock.clock_id} starts at {clock.element}, and {kind[0]} has none"
                yield _Found("clock-unstated", words, key="clocks")
        answers = clock.stops - LEVELS
        mute = {
            recipient
            for sender, recipient, _ in pairs
            if not answers & register.types_between.get((recipient, sender), frozenset())
        }
        if answers == clock.stops and mute:
            words = f"{clock.clock_id} never stops: {min(mute)} may send none of what stops it"
            yield _Found("clock-never-stops", words, key="clocks")


def _shadowed(
    pairs: list[tuple[AgencyId, AgencyId, Clause]], register: Register
) -> Iterator[_Found]:
    """Find a clause that is never relied on, since an earlier one always permits the same."""
    shadows: set[str] = set()
    for sender, recipient, clause in pairs:
        clauses = register.clauses(sender, recipient, clause.message_type)
        for earlier in clauses[: clauses.index(clause)]:
            if _covers(earlier, clause):
                shadows.add(f"{earlier.protocol.reference} {earlier.clause_id}")
    for name in sorted(shadows):
        words = f"never relied on: {name} comes before it and permits the same"
        yield _Found("never-relied-on", words, key="id")


def _covers(earlier: Clause, clause: Clause) -> bool:
    """Return whether ``earlier`` permits all that ``clause`` does, and at all times."""
    return (
        earlier.stands_from <= clause.stands_from
        and earlier.stands_until >= clause.stands_until
        and earlier.purposes >= clause.purposes
        and earlier.versions >= clause.versions
        and set(earlier.gateways) >= set(clause.gateways)
        and earlier.practitioner in (None, clause.practitioner)
        and (earlier.consent, earlier.sensitive_consent, earlier.consent_kind)
        == (clause.consent, clause.sensitive_consent, clause.consent_kind)
        and set(earlier.mandatory) <= set(clause.mandatory)
        and not (earlier.asks_consent_reason and not clause.asks_consent_reason)
        and not (earlier.refuses_shielded and not clause.refuses_shielded)
    )
