"""How much of an agreement its examples touch: every clause, and every rule on an item."""

from collections.abc import Iterable
from dataclasses import dataclass

from broker.core.examples import PERMITTED, Example, Outcome, Schemas
from broker.core.outcome import FieldRule
from broker.core.sharing import CATEGORY, Flow, SharingProtocol

Run = tuple[Example, Outcome]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What the examples touch, and what they leave out, in words."""

    covered: int
    total: int
    missing: tuple[str, ...]

    @property
    def percent(self) -> int:
        """Covered parts of a hundred, rounded down; an agreement without flows is covered."""
        return self.covered * 100 // self.total if self.total else 100


def coverage_of(protocol: SharingProtocol, runs: Iterable[Run], schemas: Schemas) -> Coverage:
    """Return what ``runs`` touch of ``protocol``.

    A clause is touched by an example that it permits and by one that it refuses, a rule by a
    permitted one whose payload holds an item that the rule reaches. A rule on a category that
    no message type of its clause has is for later types, and is not counted.
    """
    known = tuple(runs)
    parts: dict[str, bool] = {}
    for flow in protocol.flows:
        clause = f"{protocol.reference} {flow.flow_id}"
        reached = [one for one in known if one[1].result.clause == clause]
        passed = [one for one in reached if one[1].result.decision == PERMITTED]
        for message_type, version in flow.message_types:
            key = (message_type, version)
            words = f"flow {flow.flow_id}: no example of {message_type}/{version} passes"
            parts[words] = any((one.message_type, one.version) == key for one, _ in passed)
        words = f"flow {flow.flow_id}: no example is refused under it"
        parts[words] = len(reached) > len(passed)
        for rule in flow.items:
            if not _meetable(rule, flow, schemas):
                continue
            words = f"flow {flow.flow_id}: no example holds {rule.target}, {rule.include}"
            parts[words] = any(_touches(rule, run, schemas) for run in passed)
    missing = tuple(words for words, covered in parts.items() if not covered)
    return Coverage(len(parts) - len(missing), len(parts), missing)


def _meetable(rule: FieldRule, flow: Flow, schemas: Schemas) -> bool:
    category = rule.target.removeprefix(CATEGORY)
    return category == rule.target or any(
        category in schemas.categories(*key).values() for key in flow.message_types
    )


def rules_touched(flow: Flow, run: Run, schemas: Schemas) -> frozenset[str]:
    """Return the targets of the rules of ``flow`` that reach an item of a run's payload."""
    return frozenset(rule.target for rule in flow.items if _touches(rule, run, schemas))


def _touches(rule: FieldRule, run: Run, schemas: Schemas) -> bool:
    example, outcome = run
    if not rule.target.startswith(CATEGORY):
        return rule.target in outcome.paths
    categories = schemas.categories(example.message_type, example.version)
    wanted = rule.target.removeprefix(CATEGORY)
    return any(categories.get(path) == wanted for path in outcome.paths)
