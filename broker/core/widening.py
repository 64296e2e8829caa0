"""Compare what two registers let pass, pair by pair: what a change widens and what it narrows.

The question is put to every pair of agencies, message type, version and purpose by itself. A
clause is no wider than another if every message that passes under it would pass under the
other, with at least as much of it shown. Where that cannot be told from the words of the two,
the answer is wider: who is in doubt asks both parties. Where several clauses reach a message, the
first that permits it decides what is shown: one that goes away must not uncover a wider one.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from broker.core.clause import Clause
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule
from broker.core.sharing import CATEGORY, EXPLICIT_MODELS, LOCAL_TIER, PractitionerRule
from broker.core.wording import reworded

if TYPE_CHECKING:  # a register is made with the help of this module
    from broker.core.protocol import Register

WIDER, NARROWER = "wider", "narrower"

# From the strictest to the most open; the place in the row is the rank.
_CONSENT = {
    "EXPLICIT_REQUIRED": 0,
    "EXPLICIT_OR_HARM": 1,
    "INFORMED_ONLY": 2,
    "NOT_REQUIRED": 3,
    "NOT_APPLICABLE": 3,
}
_TRANSFORM = {"MASK": 0, "HASH": 1, "GENERALISE": 2, "NONE": 3}
_OPEN = PractitionerRule()
# Terms that say how long and to what end a recipient may keep what it got.
_TERMS = ("retention", "onward_sharing", "secondary_use", "automated_decision", "security")


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """What is compared by itself."""

    sender: AgencyId
    recipient: AgencyId
    message_type: str
    version: str
    purpose: str


@dataclass(frozen=True, slots=True)
class Difference:
    """One way in which a clause is wider than another; ``aspect`` is a stable word."""

    aspect: str
    words: str


@dataclass(frozen=True, slots=True)
class Change:
    """What a change does for one key. ``protocol`` and ``flow`` name the clause it is read in.

    ``aspect`` is ``flow`` where something passes, or stops, altogether.
    """

    direction: str  # wider | narrower
    key: Key
    aspect: str
    words: str
    protocol: str
    flow: str


Grants = Mapping[Key, Sequence[Clause]]


def compare(before: "Register", after: "Register", protocol_id: str = "") -> tuple[Change, ...]:
    """Return what changes from ``before`` to ``after``; of one sharing protocol if it is named."""
    then, now = grants_of(before, protocol_id), grants_of(after, protocol_id)
    wider = _changes(then, now, WIDER)
    return (*wider, *_changes(now, then, NARROWER))


def widenings(before: Grants, after: Grants) -> tuple[Change, ...]:
    """Return what ``after`` lets pass, shows, or says otherwise, beyond ``before``.

    It is total: whatever is not a narrowing beyond doubt is told.
    """
    return tuple(_changes(before, after, WIDER, words=True))


def grants_of(register: "Register", protocol_id: str = "") -> Grants:
    """Return the clauses for every key; of one sharing protocol if it is named."""
    grants: dict[Key, list[Clause]] = defaultdict(list)
    for (sender, recipient, message_type), clauses in register.index.items():
        for clause in clauses:
            if protocol_id in ("", clause.protocol.protocol_id):
                for version in clause.versions:
                    for purpose in clause.purposes:
                        key = Key(sender, recipient, message_type, version, purpose)
                        grants[key].append(clause)
    return grants


def _changes(
    before: Grants, after: Grants, direction: str, *, words: bool = False
) -> Iterator[Change]:
    """Yield what ``after`` has beyond ``before``, called ``direction``."""
    for key in sorted(after):
        for place, clause in enumerate(after[key]):
            if clause.stands_from >= clause.stands_until:
                continue  # nothing ever passes under it
            found = _beyond(
                clause, after[key][:place], before.get(key, ()), key.purpose if words else None
            )
            for one in found:
                yield Change(
                    direction,
                    key,
                    one.aspect,
                    one.words,
                    clause.protocol.reference,
                    clause.clause_id,
                )


def _beyond(
    clause: Clause, earlier: Sequence[Clause], others: Sequence[Clause], purpose: str | None
) -> tuple[Difference, ...]:
    """Return how ``clause`` is wider than the one of ``others`` that comes nearest to it.

    ``earlier`` are asked before it; with a ``purpose``, the words are compared too.
    """
    if not others:
        return (Difference("flow", f"{clause.message_type} passes"),)
    found = (
        (
            *differences(other, clause),
            *_uncovered(clause, earlier, others[:place]),
            *(() if _is_above(other, clause) else _reason(other, clause)),
            *(() if purpose is None else _words(other, clause, purpose)),
        )
        for place, other in enumerate(others)
    )
    return min(found, key=len)


def _uncovered(
    clause: Clause, earlier: Sequence[Clause], before: Sequence[Clause]
) -> Iterator[Difference]:
    """Find clauses that took messages ``before`` ``clause`` did, showed less, and are gone."""
    for gone in before:
        shows_more = (*_fields(gone, clause), *_consent(gone, clause))
        if shows_more and not any(_covers(one, gone, clause) for one in earlier):
            words = f"shows what {gone.clause_id} of {gone.protocol.reference} kept back"
            yield Difference("field", words)


def _covers(now: Clause, then: Clause, clause: Clause) -> bool:
    """Return whether ``now`` takes all that ``then`` took, as long as ``clause`` stands."""
    wider = (
        one
        for one in (*differences(now, then), *_reason(now, then))
        if one.aspect not in ("dates", "terms")
    )
    begins = max(clause.stands_from, then.stands_from)
    ends = min(clause.stands_until, then.stands_until)
    return now.stands_from <= begins and now.stands_until >= ends and not any(wider)


def _is_above(narrow: Clause, clause: Clause) -> bool:
    """Return whether ``clause`` is a local flow under ``narrow``: `core.local` holds it to that."""
    own, above = clause.protocol, narrow.protocol
    return own.tier == LOCAL_TIER and own.protocol_id != above.protocol_id


def _words(narrow: Clause, clause: Clause, purpose: str) -> Iterator[Difference]:
    if _is_above(narrow, clause):
        return  # it has the words of the one above it, or those that `_terms` compares
    for what in reworded(narrow, clause, purpose):
        yield Difference("terms", f"{what}: reads otherwise")


def differences(narrow: Clause, clause: Clause) -> tuple[Difference, ...]:
    """Return how ``clause`` is wider than ``narrow``; nothing if it is not."""
    return tuple(
        difference
        for check in (_dates, _gateways, _consent, _practitioner, _fields, _mandatory, _terms)
        for difference in check(narrow, clause)
    )


def _dates(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    if clause.stands_from < narrow.stands_from:
        yield Difference("dates", f"begins {clause.stands_from:%d %B %Y}, which is earlier")
    if clause.stands_until > narrow.stands_until:
        yield Difference("dates", f"ends {clause.stands_until:%d %B %Y}, which is later")


def _gateways(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    known = [gateway.gateway_id for gateway in narrow.gateways]
    named = [gateway.gateway_id for gateway in clause.gateways]
    for name in named:
        if name not in known:
            yield Difference("gateway", f"may also rest on {name}")
    if clause.asks_consent and known[: len(named)] != named and set(named) <= set(known):
        # A decision to share without consent stands on the first that carries the disclosure.
        yield Difference("gateway", f"rests on {named[0]} where it rested on another")
    beside = {gateway.gateway_id for gateway in clause.beside}
    for gateway in narrow.beside:
        if gateway.gateway_id not in beside:
            yield Difference("gateway", f"need not meet {gateway.gateway_id}")
    if narrow.asks_consent_reason and not clause.asks_consent_reason:
        yield Difference("gateway", "need not say why consent was not obtained")


def _reason(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    """Find that consent is asked where it was asked why there is none: whoever has it passes."""
    models = (
        (narrow.consent, clause.consent),
        (narrow.sensitive_consent, clause.sensitive_consent),
    )
    if narrow.asks_consent_reason and any(
        _explicit(new) and not _explicit(old) for old, new in models
    ):
        yield Difference(
            "consent", "passes with explicit consent, without a reason for having none"
        )


def _explicit(model: str) -> bool:
    return model in EXPLICIT_MODELS


def _consent(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    if _CONSENT[clause.consent] > _CONSENT[narrow.consent]:
        yield Difference("consent", f"consent {clause.consent} in place of {narrow.consent}")
    if _CONSENT[clause.sensitive_consent] > _CONSENT[narrow.sensitive_consent]:
        words = f"{clause.sensitive_consent} in place of {narrow.sensitive_consent}"
        yield Difference("consent", f"consent for sensitive services {words}")
    if narrow.asks_consent and clause.consent_kind != narrow.consent_kind:
        words = f"consent of the kind {clause.consent_kind} in place of {narrow.consent_kind}"
        yield Difference("consent", words)
    if narrow.refuses_shielded and not clause.refuses_shielded:
        yield Difference("shielded", "passes for a shielded person, without the place")


def _practitioner(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    asked, asks = narrow.practitioner or _OPEN, clause.practitioner or _OPEN
    if narrow.practitioner is not None and clause.practitioner is None:
        yield Difference("practitioner", "no practitioner need be named")
    for what, listed, lists in (
        ("role", asked.roles, asks.roles),
        ("clearance", asked.clearances, asks.clearances),
    ):
        if listed and (not lists or lists - listed):
            more = ", ".join(sorted(lists - listed)) or "any"
            yield Difference("practitioner", f"{what} of the practitioner: also {more}")
    if asks.authentication < asked.authentication:
        least = asks.authentication or "any authentication"
        yield Difference("practitioner", f"{least} in place of {asked.authentication}")
    if asked.reason_for_access and not asks.reason_for_access:
        yield Difference("practitioner", "no reason for access need be given")


def _fields(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    """Compare by the rules alone, so that the answer does not change with a schema."""
    old, new = _by_target(narrow.fields), _by_target(clause.fields)
    for target, rule in new.items():
        if rule.include != "FORBIDDEN" and not any(
            old[place].include != "FORBIDDEN" for place in _around(target) if place in old
        ):
            yield Difference("field", f"{target} passes")
    for target, rule in old.items():
        kept = [new[place] for place in _around(target) if place in new]
        if rule.include == "FORBIDDEN":
            if not any(one.include == "FORBIDDEN" for one in kept):
                yield Difference("field", f"{target} is no longer forbidden")
        elif not any(_as_strict(one, rule) for one in kept) and rule.transform != "NONE":
            shown = new[target].transform if target in new else "other rules"
            words = f"{shown} in place of {rule.transform}"
            yield Difference("transform", f"{target} is shown by {words}")


def _by_target(rules: Sequence[FieldRule]) -> dict[str, FieldRule]:
    return {rule.target: rule for rule in rules}


def _around(target: str) -> tuple[str, ...]:
    """Return ``target`` and the paths of the elements around it."""
    if target.startswith(CATEGORY):
        return (target,)
    names = target.split("/")
    return tuple("/".join(names[:count]) for count in range(len(names), 0, -1))


def _as_strict(rule: FieldRule, other: FieldRule) -> bool:
    if rule.include == "FORBIDDEN":
        return True
    return _TRANSFORM[rule.transform] <= _TRANSFORM[other.transform]


def _mandatory(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    for target in sorted(set(narrow.mandatory) - set(clause.mandatory)):
        yield Difference("mandatory", f"passes without {target}")


def _terms(narrow: Clause, clause: Clause) -> Iterator[Difference]:
    """Find terms that are not the same: words cannot be compared, so both parties are asked."""
    for term in _TERMS:
        words = clause.protocol.terms.get(term)  # a local flow has those above it
        if words is not None and words != narrow.protocol.terms.get(term):
            yield Difference("terms", f"{term.replace('_', ' ')} reads otherwise")
