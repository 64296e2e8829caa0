"""What an agreement says that decides no message by itself, and yet binds who signed it.

Statements of purpose, retention, statutory clocks, how a flow is used, why an item is needed:
of words nobody can say which are the narrower. So whatever is not compared elsewhere, by what
passes and what is shown, counts as wider as soon as it is not the same. A key that is new to
the format is therefore under the two keys from its first day.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from broker.core.clause import Clause
from broker.core.sharing import Flow

# What `core.widening` compares by what it lets pass, and what the policy log says of its own.
COMPARED = frozenset({
    "id", "version", "tier", "status", "effective_from", "last_day", "review_date",
    "activated_at", "signatory", "party", "purpose", "flow",
})  # fmt: skip
COMPARED_OF_FLOW = frozenset({
    "id", "message_types", "from", "to", "purposes", "gateways", "conditions", "consent",
    "sensitive_consent", "consent_kind", "shielded", "practitioner", "item",
})  # fmt: skip


def reworded(narrow: Clause, clause: Clause, purpose: str) -> Iterator[str]:
    """Yield what reads otherwise in ``clause``, for messages of this purpose."""
    old, new = narrow.protocol, clause.protocol
    yield from _other(old.terms, new.terms, COMPARED, "")
    if _entry(old.terms, "purpose", "code", purpose) != _entry(
        new.terms, "purpose", "code", purpose
    ):
        yield "what the purpose is and brings"
    flows = [
        _entry(one.protocol.terms, "flow", "id", one.clause_id) or {} for one in (narrow, clause)
    ]
    yield from _other(flows[0], flows[1], COMPARED_OF_FLOW, " of the flow")
    was, now = _needed(narrow), _needed(clause)
    if any(was[target] != now[target] for target in was.keys() & now.keys()):
        yield "why an item is needed"
    if {one.agency: one.role for one in old.parties} != {
        one.agency: one.role for one in new.parties
    }:
        yield "who the parties are and in which role"


def _other(
    old: Mapping[str, object], new: Mapping[str, object], compared: frozenset[str], where: str
) -> Iterator[str]:
    for key in sorted((old.keys() | new.keys()) - compared):
        if old.get(key) != new.get(key):
            yield f"{key.replace('_', ' ')}{where}"


def _entry(terms: Mapping[str, Any], name: str, key: str, value: str) -> Mapping[str, Any] | None:
    return next((one for one in terms.get(name, ()) if one.get(key) == value), None)


def _needed(clause: Clause) -> Mapping[str, str]:
    flows: Iterator[Flow] = iter(clause.protocol.flows)
    return next((one.necessity for one in flows if one.flow_id == clause.clause_id), {})
