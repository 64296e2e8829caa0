"""Which flows stop by a day unless somebody acts: agreement, review, gateway, certificate.

A flow here is a sender, a recipient, a message type and a purpose. Whether it passes is asked
of the decision itself, about a message that lacks nothing: so a second clause, or a version
that takes over, is seen.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from broker.core.agency import Agency
from broker.core.consent import GROUNDS
from broker.core.decision import decide_facts
from broker.core.facts import GIVEN, DecisionFacts
from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.outcome import Permitted
from broker.core.policy_log import Act
from broker.core.protocol import Clause, Register
from broker.core.sharing import SharingProtocol
from broker.core.table import london_midnight

EXPIRY, REVIEW, GATEWAY, CERTIFICATE = "expiry", "review", "gateway", "certificate"
DAY_S = 24 * 3600
WEEK_S = 7 * DAY_S
_ALL_GIVEN = dict.fromkeys(GROUNDS, GIVEN)
FlowKey = tuple[AgencyId, AgencyId, str, str]  # sender, recipient, message type, purpose


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a flow stops at ``at``. ``what`` is an agreement, a gateway or an agency.

    ``chase`` are those whose signature, review or certificate would keep it going.
    """

    kind: str
    what: str
    at: datetime
    chase: tuple[AgencyId, ...]


@dataclass(frozen=True, slots=True)
class Stop:
    """A flow that stops, and why."""

    flow: FlowKey
    cause: Cause


def stops(register: Register, now: datetime, on: datetime) -> tuple[Stop, ...]:
    """Return every flow that passes ``now`` and no longer ``on`` that instant, the first first."""
    found = []
    for (sender, recipient, message_type), clauses in register.index.items():
        for purpose in sorted({purpose for clause in clauses for purpose in clause.purposes}):
            flow = sender, recipient, message_type, purpose
            if not _passes(register, flow, now) or _passes(register, flow, on):
                continue
            causes = _causes(register, flow, now, on)
            found.append(Stop(flow, next(one for one in causes if _ends(register, flow, one))))
    return tuple(sorted(found, key=lambda stop: (stop.cause.at, stop.flow)))


def _passes(register: Register, flow: FlowKey, at: datetime) -> bool:
    sender, recipient, message_type, purpose = flow
    if not _signs(register.agencies[sender], at):
        return False
    clauses = register.clauses(sender, recipient, message_type)
    versions = {version for clause in clauses for version in clause.versions}
    return any(
        isinstance(
            decide_facts(
                DecisionFacts(
                    sender, message_type, version, purpose, consent_answers=_ALL_GIVEN, settled=True
                ),
                recipient,
                register,
                (),
                at,
            ),
            Permitted,
        )
        for version in versions
    )


def _ends(register: Register, flow: FlowKey, cause: Cause) -> bool:
    return not _passes(register, flow, cause.at)


def _signs(agency: Agency, at: datetime) -> bool:
    """Return whether a certificate to sign with is good; of whom none is known, it is assumed."""
    return not agency.keys or any(at < end for end in _good_until(agency))


def _good_until(agency: Agency) -> Iterator[datetime]:
    return (key.valid_until for key in agency.keys if key.revoked_at is None)


def _causes(register: Register, flow: FlowKey, now: datetime, on: datetime) -> list[Cause]:
    """Return all that ends for the flow after ``now`` and up to ``on``, in order of time."""
    sender, recipient, message_type, purpose = flow
    ends = [
        Cause(CERTIFICATE, sender, end, (sender,)) for end in _good_until(register.agencies[sender])
    ]
    for clause in register.clauses(sender, recipient, message_type):
        if purpose in clause.purposes:
            ends += [_agreement(one) for one in clause.chain]
            ends += [
                Cause(GATEWAY, one.gateway_id, one.in_force_until, (clause.protocol.lead,))
                for one in _gateways(clause)
                if one.in_force_until is not None
            ]
    return sorted((one for one in ends if now < one.at <= on), key=lambda one: one.at)


def _gateways(clause: Clause) -> tuple[Gateway, ...]:
    return (*clause.gateways, *clause.beside)


def _agreement(protocol: SharingProtocol) -> Cause:
    lapses = london_midnight(protocol.lapses_on)
    kind = REVIEW if protocol.stands_until == lapses else EXPIRY
    others = (party.agency for party in protocol.parties if party.agency != protocol.lead)
    return Cause(kind, protocol.reference, protocol.stands_until, (protocol.lead, *others))


def weekly(counts: Mapping[FlowKey, int], since: datetime, until: datetime) -> dict[FlowKey, float]:
    """Return how many messages a week each flow carried from ``since`` to ``until``."""
    weeks = (until - since).total_seconds() / WEEK_S
    return {flow: count / weeks for flow, count in counts.items()}


def signing_days(acts: Iterable[Act]) -> float | None:
    """Return how long it took, in the median, from the first signature until all had signed.

    None: nothing on the policy log has been signed and activated yet.
    """
    begun: dict[tuple[str, str], datetime] = {}
    took: dict[tuple[str, str], float] = {}
    for act in acts:
        agreement = act.protocol, act.digest
        if act.act == "sign":
            begun.setdefault(agreement, act.at)
        elif act.act == "activate" and agreement in begun:
            took.setdefault(agreement, (act.at - begun[agreement]).total_seconds() / DAY_S)
    return median(took.values()) if took else None
