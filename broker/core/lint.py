"""Look for what is wrong with sharing protocols although they can be read."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.protocol import Clause, Register
from broker.core.sharing import CATEGORY, Flow, SharingProtocol
from broker.core.table import london_midnight

REVIEW_NOTICE = timedelta(days=90)  # before a review is due, the lead is told (domain §5.2)
WORDS_MIN = 2  # of a text that says why an item is necessary

ERROR, WARNING = "error", "warning"

Known = Mapping[tuple[str, str], Mapping[str, str]]  # message type and version to categories


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found; ``flow`` is empty when it is about the whole sharing protocol."""

    severity: str
    protocol: str
    flow: str
    words: str


def lint(register: Register, known: Known, now: datetime) -> tuple[Finding, ...]:
    """Return what is wrong, protocol by protocol.

    ``known`` are the data categories of the message types that have a schema.
    """
    findings: list[Finding] = []
    for reference, protocol in sorted(register.protocols.items()):
        for severity, words in _protocol(protocol, register, now):
            findings.append(Finding(severity, reference, "", words))
        for flow in protocol.flows:
            for severity, words in _flow(flow, protocol, register, known, now):
                findings.append(Finding(severity, reference, flow.flow_id, words))
    return tuple(findings)


def _protocol(
    protocol: SharingProtocol, register: Register, now: datetime
) -> Iterator[tuple[str, str]]:
    if now >= london_midnight(protocol.lapses_on):
        yield ERROR, f"lapsed: its review was due 90 days ago or more; ask {protocol.lead}"
    elif now >= protocol.overdue_from:
        yield WARNING, f"overdue for review; lapses on {protocol.lapses_on:%d %B %Y}"
    elif now >= protocol.overdue_from - REVIEW_NOTICE:
        yield WARNING, f"its review is due on {protocol.review_date:%d %B %Y}"
    if protocol.in_force_from is None:
        yield WARNING, f"not in force: {_unsigned(protocol)}"
    parent = register.protocols.get(protocol.parent or "")
    if parent is not None and parent.standing(now) is not None:
        yield ERROR, f"{parent.reference}, which it stands on, is not in force"
    used = {code for flow in protocol.flows for code in flow.purposes}
    for code in sorted(protocol.purposes.keys() - used):
        yield WARNING, f"no flow serves purpose {code}"


def _unsigned(protocol: SharingProtocol) -> str:
    signed = {one.party for one in protocol.signatories}
    missing = [party.agency for party in protocol.parties if party.agency not in signed]
    return f"not signed by {', '.join(missing)}" if missing else f"its status is {protocol.status}"


def _flow(
    flow: Flow, protocol: SharingProtocol, register: Register, known: Known, now: datetime
) -> Iterator[tuple[str, str]]:
    pairs = [
        (sender, recipient, clause)
        for (sender, recipient, _), clauses in register.index.items()
        for clause in clauses
        if clause.protocol is protocol and clause.clause_id == flow.flow_id
    ]
    if not pairs:
        yield ERROR, "reaches nobody: no party may send it to another"
    yield from _types(flow, known)
    yield from _items(flow)
    yield from _gateways(flow, pairs, register, now)
    yield from _shadowed(pairs, register)


def _types(flow: Flow, known: Known) -> Iterator[tuple[str, str]]:
    paths: set[str] = set()
    for message_type, version in flow.message_types:
        if (message_type, version) not in known:
            yield ERROR, f"no schema is there for {message_type}/{version}"
        paths |= known.get((message_type, version), {}).keys()
    for rule in flow.items:
        if paths and not rule.target.startswith(CATEGORY) and rule.target not in paths:
            yield ERROR, f"no schema of its message types has {rule.target}"


def _items(flow: Flow) -> Iterator[tuple[str, str]]:
    for target, necessity in flow.necessity.items():
        if len(necessity.split()) < WORDS_MIN:
            yield WARNING, f"does not say why {target} is necessary"
    if all(rule.include == "FORBIDDEN" for rule in flow.items):
        yield WARNING, "allows no item at all"


def _gateways(
    flow: Flow,
    pairs: list[tuple[AgencyId, AgencyId, Clause]],
    register: Register,
    now: datetime,
) -> Iterator[tuple[str, str]]:
    if not any(gateway.in_force(now) for gateway in flow.gateways):
        yield ERROR, "none of its gateways is in force"
    told: set[tuple[AgencyId, AgencyId]] = set()
    for sender, recipient, _ in pairs:
        if (sender, recipient) in told:
            continue
        told.add((sender, recipient))
        for purpose in sorted(flow.purposes):
            if not any(_bears(one, sender, recipient, purpose, register) for one in flow.gateways):
                yield ERROR, f"no gateway bears {sender} to {recipient} for {purpose}"


def _bears(
    gateway: Gateway, sender: AgencyId, recipient: AgencyId, purpose: str, register: Register
) -> bool:
    parties = register.selectors[sender], register.selectors[recipient]
    return (
        gateway.serves(purpose)
        and gateway.parties_refusal(*parties) is None
        and gateway.carved_out(*parties, frozenset()) is None  # of a payload that holds nothing
    )


def _shadowed(
    pairs: list[tuple[AgencyId, AgencyId, Clause]], register: Register
) -> Iterator[tuple[str, str]]:
    """Find a clause that is never relied on, since an earlier one always permits the same."""
    shadows: set[str] = set()
    for sender, recipient, clause in pairs:
        clauses = register.clauses(sender, recipient, clause.message_type)
        for earlier in clauses[: clauses.index(clause)]:
            if _covers(earlier, clause):
                shadows.add(f"{earlier.protocol.reference} {earlier.clause_id}")
    for name in sorted(shadows):
        yield WARNING, f"never relied on: {name} comes before it and permits the same"


def _covers(earlier: Clause, clause: Clause) -> bool:
    """Return whether ``earlier`` permits all that ``clause`` does, and at all times."""
    return (
        earlier.stands_from <= clause.stands_from
        and earlier.stands_until >= clause.stands_until
        and earlier.purposes >= clause.purposes
        and earlier.versions >= clause.versions
        and set(earlier.gateways) >= set(clause.gateways)
        and earlier.practitioner in (None, clause.practitioner)
        and (earlier.consent, earlier.sensitive_consent)
        == (clause.consent, clause.sensitive_consent)
        and set(earlier.mandatory) <= set(clause.mandatory)
        and not (earlier.asks_consent_reason and not clause.asks_consent_reason)
        and not (earlier.refuses_shielded and not clause.refuses_shielded)
    )
