"""The register: agencies, gateways and sharing protocols, compiled for deciding.

A flow of a sharing protocol becomes a `Clause` for every pair of its parties, found by
``(sender, recipient, message type)`` in one look-up, so that a decision costs the same with a
hundred clauses as with a hundred thousand. A register is never changed: a new one replaces it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from broker.core.agency import Agency
from broker.core.clause import Clause, Pair
from broker.core.clocks import ClockRule
from broker.core.gateway import Gateway, selectors
from broker.core.identity import AgencyId
from broker.core.local import narrowed_locally
from broker.core.message import Address
from broker.core.outcome import Permitted
from broker.core.sharing import Flow, SharingProtocol
from broker.core.table import Mistake
from broker.core.workdays import UNKNOWN, Calendar

__all__ = [
    "Clause",
    "Flow",
    "Gateway",
    "Purpose",
    "Register",
    "SharingProtocol",
    "compile_register",
]


@dataclass(frozen=True, slots=True)
class Purpose:
    """Why information is shared. ``child``: the identifier rule of s.16LC asks about it."""

    code: str
    title: str
    description: str
    child: bool


@dataclass(frozen=True, slots=True)
class Register:
    """Everything a decision is made from, but the message, the consents and the time.

    ``digest`` is the SHA-256 (hex) of the canonical content; a decision is recorded with it.
    """

    agencies: Mapping[AgencyId, Agency]
    gateways: Mapping[str, Gateway]
    purposes: Mapping[str, Purpose]
    lists: Mapping[str, frozenset[str]]
    protocols: Mapping[str, SharingProtocol]  # by "id@version"
    digest: str
    active: frozenset[AgencyId]
    selectors: Mapping[AgencyId, frozenset[str]]
    index: Mapping[Pair, tuple[Clause, ...]]
    types_between: Mapping[tuple[AgencyId, AgencyId], frozenset[str]]
    reach: Mapping[tuple[AgencyId, str], tuple[AgencyId, ...]]  # sender, type: to whom it may go
    serving: Mapping[tuple[str | None, str | None], tuple[AgencyId, ...]]  # agency type, area
    calendar: Calendar = UNKNOWN
    clock_rules: Mapping[str, ClockRule] = field(default_factory=dict)

    def clauses(
        self, sender: AgencyId, recipient: AgencyId, message_type: str
    ) -> tuple[Clause, ...]:
        """Return the clauses on this type in this direction, in their fixed order."""
        return self.index.get((sender, recipient, message_type), ())

    def clocks(self, reference: str, clause: str) -> tuple[ClockRule, ...]:
        """Return the clocks that start when a message passes under ``clause``."""
        protocol = self.protocols.get(reference)
        flows = () if protocol is None else protocol.flows
        return next((flow.clocks for flow in flows if flow.flow_id == clause), ())

    def resolve(self, address: Address) -> tuple[AgencyId, ...]:
        """Return the agencies that ``address`` stands for.

        An agency id stands for itself, known or not: the decision says which. A type and an
        area stand for the active agencies of that type that serve the area, in order of id.
        """
        if address.agency_id is not None:
            return (address.agency_id,)
        return self.serving.get((address.agency_type, address.area), ())


def compile_register(  # noqa: PLR0913 - the parts of a register
    *,
    agencies: Mapping[AgencyId, Agency],
    gateways: Mapping[str, Gateway],
    purposes: Mapping[str, Purpose],
    lists: Mapping[str, frozenset[str]],
    protocols: Iterable[SharingProtocol],
    digest: str,
    calendar: Calendar = UNKNOWN,
    clock_rules: Mapping[str, ClockRule] | None = None,
) -> Register:
    """Return the register of these parts.

    Raises:
        Mistake: a sharing protocol stands on one that is not there or of the wrong tier,
            binds an agency that the one above it does not, or widens what it should narrow.
    """
    given = {protocol.reference: protocol for protocol in protocols}
    effective = _superseded(given.values())
    index: dict[Pair, list[Clause]] = defaultdict(list)
    for protocol in sorted(effective.values(), key=lambda one: (one.protocol_id, -one.version)):
        chain = _chain(protocol, effective)
        for flow in protocol.flows:
            clauses = _clauses(flow, protocol, chain)
            for sender, recipient in _pairs(flow, protocol, agencies):
                for clause in clauses:
                    index[sender, recipient, clause.message_type].append(clause)
    narrowed_locally(index)
    return Register(
        agencies=agencies,
        gateways=gateways,
        purposes=purposes,
        lists=lists,
        protocols=effective,
        digest=digest,
        active=frozenset(name for name, agency in agencies.items() if agency.active),
        selectors=_selectors(agencies),
        index={key: tuple(clauses) for key, clauses in index.items()},
        types_between=_types_between(index),
        reach=_reach(index),
        serving=_serving(agencies),
        calendar=calendar,
        clock_rules=clock_rules or {},
    )


def _selectors(agencies: Mapping[AgencyId, Agency]) -> dict[AgencyId, frozenset[str]]:
    """Return the selectors of each agency; equal ones are one object, which caches are fond of."""
    known: dict[frozenset[str], frozenset[str]] = {}
    found = {}
    for name, agency in agencies.items():
        made = selectors(agency, agencies)
        found[name] = known.setdefault(made, made)
    return found


def _types_between(index: Iterable[Pair]) -> dict[tuple[AgencyId, AgencyId], frozenset[str]]:
    types: dict[tuple[AgencyId, AgencyId], set[str]] = defaultdict(set)
    for sender, recipient, message_type in index:
        types[sender, recipient].add(message_type)
    return {pair: frozenset(found) for pair, found in types.items()}


def _reach(index: Iterable[Pair]) -> dict[tuple[AgencyId, str], tuple[AgencyId, ...]]:
    reach: dict[tuple[AgencyId, str], list[AgencyId]] = defaultdict(list)
    for sender, recipient, message_type in index:
        reach[sender, message_type].append(recipient)
    return {key: tuple(sorted(found)) for key, found in reach.items()}


def _serving(
    agencies: Mapping[AgencyId, Agency],
) -> dict[tuple[str | None, str | None], tuple[AgencyId, ...]]:
    serving: dict[tuple[str | None, str | None], list[AgencyId]] = defaultdict(list)
    for name, agency in agencies.items():
        for area in agency.areas if agency.active else ():
            serving[agency.type, area].append(name)
    return {key: tuple(sorted(names)) for key, names in serving.items()}


def _superseded(protocols: Iterable[SharingProtocol]) -> dict[str, SharingProtocol]:
    """End every version where a later one begins (ISP-3.6), even if that one is suspended since.

    Otherwise suspending an amendment would bring back what it had narrowed.
    """
    effective: dict[str, SharingProtocol] = {}
    begins: dict[str, datetime] = {}  # of the versions seen so far, which are the later ones
    for protocol in sorted(protocols, key=lambda one: (one.protocol_id, -one.version)):
        name, start = protocol.protocol_id, protocol.in_force_from
        ends = [end for end in (protocol.in_force_until, begins.get(name)) if end is not None]
        effective[protocol.reference] = replace(protocol, in_force_until=min(ends, default=None))
        if start is not None:
            begins[name] = min(start, begins.get(name, start))
    return effective


def _chain(
    protocol: SharingProtocol, protocols: Mapping[str, SharingProtocol]
) -> tuple[SharingProtocol, ...]:
    """Return ``protocol`` and those it stands on, down to tier 0 (ISP-3.9)."""
    chain = [protocol]
    while chain[-1].parent is not None:
        below = chain[-1]
        parent = protocols.get(below.parent or "")
        if parent is None:
            known = ", ".join(name for name, one in protocols.items() if one.tier == below.tier - 1)
            raise Mistake(below.file, "", "parent", f"name a sharing protocol that exists: {known}")
        if parent.tier != below.tier - 1:
            raise Mistake(below.file, "", "parent", f"name one of tier {below.tier - 1}")
        bound = {party.agency for party in parent.parties}
        for party in below.parties:
            if party.agency not in bound:
                cure = f"{party.agency} must first become a party of {parent.reference}"
                raise Mistake(below.file, "party", "agency", cure)
        chain.append(parent)
    return tuple(chain)


def _pairs(
    flow: Flow, protocol: SharingProtocol, agencies: Mapping[AgencyId, Agency]
) -> Iterator[tuple[AgencyId, AgencyId]]:
    """Yield each sender with each recipient; a type stands for the parties of that type."""

    def meant(names: tuple[str, ...], party: AgencyId) -> bool:
        return party in names or agencies[party].type in names

    for sender in protocol.parties:
        if not (sender.sends and meant(flow.senders, sender.agency)):
            continue
        for recipient in protocol.parties:
            reached = recipient.receives and meant(flow.recipients, recipient.agency)
            if reached and recipient.agency != sender.agency:
                yield sender.agency, recipient.agency


def _clauses(
    flow: Flow, protocol: SharingProtocol, chain: tuple[SharingProtocol, ...]
) -> list[Clause]:
    """Return one clause for each message type of ``flow``."""
    versions: dict[str, set[str]] = defaultdict(set)
    for message_type, version in flow.message_types:
        versions[message_type].add(version)
    mandatory = tuple(rule.target for rule in flow.items if rule.include == "MANDATORY")
    permitted = {
        gateway.gateway_id: Permitted(
            protocol=protocol.protocol_id,
            version=protocol.version,
            clause=flow.flow_id,
            gateway=gateway.gateway_id,
            fields=flow.items,
        )
        for gateway in flow.gateways
    }
    return [
        Clause(
            clause_id=flow.flow_id,
            protocol=protocol,
            chain=chain,
            message_type=message_type,
            versions=frozenset(known),
            purposes=flow.purposes,
            gateways=flow.gateways,
            beside=tuple(one for one in flow.conditions if one.stands_beside),
            consent=flow.consent,
            sensitive_consent=flow.sensitive_consent,
            consent_kind=flow.consent_kind,
            asks_consent=flow.asks_consent,
            fields=flow.items,
            mandatory=mandatory,
            practitioner=flow.practitioner,
            asks_consent_reason=any(one.asks_consent_reason for one in flow.conditions),
            asks_categories=any(one.asks_categories for one in flow.gateways),
            refuses_shielded=flow.refuses_shielded,
            stands_from=max(one.stands_from for one in chain),
            stands_until=min(one.stands_until for one in chain),
            overdue_from=min(one.overdue_from for one in chain),
            permitted=permitted,
        )
        for message_type, known in versions.items()
    ]
