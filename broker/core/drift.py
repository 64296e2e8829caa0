"""What an agreement declares against what passed under it, and a tighter one that would do.

A flow that nothing used, a message type, a purpose or an item of it that never came: each is
more than was needed. The tighter agreement leaves these out, and no more; whether it is
narrower is for `core.widening` to say, and whether to sign it for people.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from broker.core.facts import Categories
from broker.core.plan import Action, make_plan
from broker.core.sharing import PURPOSE_TIER, Flow, SharingProtocol
from broker.core.whatif import PastDecision, action_at

FlowName = tuple[str, str]  # "id@version" and flow
NEVER = "Never populated in the period that was looked at"


@dataclass(slots=True)
class Used:
    """What passed under one flow."""

    messages: int = 0
    types: Counter[tuple[str, str]] = field(default_factory=Counter)
    purposes: Counter[str] = field(default_factory=Counter)
    pairs: Counter[tuple[str, str]] = field(default_factory=Counter)
    paths: dict[tuple[str, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))


class Usage:
    """Counts what passed, by flow: paths of elements, never what was in them."""

    def __init__(self) -> None:
        self.flows: dict[FlowName, Used] = defaultdict(Used)
        self.messages = 0

    def add(self, one: PastDecision) -> None:
        """Count one decision, if it permitted."""
        if not one.outcome.permitted:
            return
        facts = one.past.facts
        kind = facts.message_type, facts.schema_version
        used = self.flows[one.outcome.protocol, one.outcome.clause]
        self.messages += 1
        used.messages += 1
        used.types[kind] += 1
        used.purposes[facts.purpose] += 1
        used.pairs[facts.sender, one.recipient] += 1
        used.paths[kind].update(facts.paths or ())


@dataclass(frozen=True, slots=True)
class FlowDrift:
    """What one flow declares and nobody used. ``unused``: all of it."""

    flow: str
    messages: int
    types: tuple[str, ...]
    purposes: tuple[str, ...]
    paths: tuple[str, ...]  # may pass, and were in no message; the outermost only

    @property
    def unused(self) -> bool:
        """Whether nothing at all passed under it."""
        return not self.messages


def drift_of(protocol: SharingProtocol, usage: Usage, schemas: Categories) -> tuple[FlowDrift, ...]:
    """Return what of each flow of ``protocol`` was not used; nothing below the purpose tier."""
    if protocol.tier < PURPOSE_TIER:
        return ()
    return tuple(_drift(flow, usage.flows[protocol.reference, flow.flow_id], schemas)
                 for flow in protocol.flows)  # fmt: skip


def _drift(flow: Flow, used: Used, schemas: Categories) -> FlowDrift:
    if not used.messages:
        return FlowDrift(flow.flow_id, 0, (), (), ())
    return FlowDrift(
        flow.flow_id,
        used.messages,
        tuple("/".join(kind) for kind in flow.message_types if kind not in used.types),
        tuple(sorted(flow.purposes - used.purposes.keys())),
        tuple(sorted(set(_never(flow, used, schemas)))),
    )


def _never(flow: Flow, used: Used, schemas: Categories) -> Iterator[str]:
    """Yield the optional paths that may pass and that no message of any used type held.

    A path of the same name in two types counts as held if either held it.
    """
    held = {path for kind in used.paths.values() for path in kind}
    mandatory = {rule.target for rule in flow.items if rule.include == "MANDATORY"}
    for kind in used.types:
        categories = schemas.categories(*kind)
        plan = make_plan(flow.items, categories)
        for path in categories:
            around = path.rpartition("/")[0]
            outermost = path not in held and (not around or around in held)
            kept = any(one == path or one.startswith(path + "/") for one in mandatory)
            if outermost and not kept and action_at(plan, path) is not Action.REMOVED:
                yield path


def tighter(protocol: SharingProtocol, drifts: tuple[FlowDrift, ...]) -> Mapping[str, Any] | None:
    """Return the content of a draft of the next version without what nobody used.

    None: there is nothing to leave out, or nothing at all would be left.
    """
    by_flow = {one.flow: one for one in drifts}
    written: list[Mapping[str, Any]] = protocol.terms["flow"]  # type: ignore[assignment]  # parsed
    flows = [_tighter(flow, by_flow[flow["id"]]) for flow in written]
    kept = [flow for flow in flows if flow is not None]
    if not kept or kept == written:
        return None
    purposes = {purpose for flow in kept for purpose in flow["purposes"]}
    said: list[Mapping[str, Any]] = protocol.terms["purpose"]  # type: ignore[assignment]  # parsed
    content = {key: value for key, value in protocol.terms.items() if key not in _OF_SIGNING}
    return content | {
        "version": protocol.version + 1,
        "status": "DRAFT",
        "purpose": [purpose for purpose in said if purpose["code"] in purposes],
        "flow": kept,
    }


_OF_SIGNING = ("signatory", "activated_at", "example")


def _tighter(flow: Mapping[str, Any], drift: FlowDrift) -> Mapping[str, Any] | None:
    if drift.unused:
        return None
    made = dict(flow)
    made["message_types"] = [one for one in flow["message_types"] if one not in drift.types]
    made["purposes"] = [one for one in flow["purposes"] if one not in drift.purposes]
    if drift.paths:
        never = {"targets": list(drift.paths), "include": "FORBIDDEN", "necessity": NEVER}
        others = [_without(item, drift.paths) for item in flow["item"]]
        made["item"] = [*(item for item in others if item["targets"]), never]
    return made


def _without(item: Mapping[str, Any], paths: tuple[str, ...]) -> Mapping[str, Any]:
    targets = [target for target in item["targets"] if target not in paths]
    return {**item, "targets": targets}
