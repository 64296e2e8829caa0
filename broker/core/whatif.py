"""What a draft would have decided about messages that came: every decision that turns out other.

Only codes are known of a past message (`core.recorded`): the facts that its decision asked
about, and which elements its payload held. That is all that a decision is made from.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from broker.core.decision import decide_facts
from broker.core.facts import Categories, DecisionFacts
from broker.core.identity import AgencyId
from broker.core.outcome import Decision, FieldRule, Permitted
from broker.core.plan import Action, Node, make_plan
from broker.core.protocol import Register
from broker.core.recorded import Past


class Turn(StrEnum):
    """How a decision turns out other."""

    PASSES = "passes"  # refused then, permitted under the draft
    STOPS = "stops"
    SHOWS_MORE = "shows more"  # permitted both times, and some element is withheld less
    SHOWS_LESS = "shows less"
    OTHER_REASON = "other reason"  # refused both times


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision in short: ``reason`` is a code, empty when permitted."""

    reason: str
    protocol: str  # "id@version", empty when no protocol is named
    clause: str

    @property
    def permitted(self) -> bool:
        """Whether the message passes."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class PastDecision:
    """A decision on record: what was asked, to whom, and how it was answered."""

    past: Past
    recipient: AgencyId
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Flip:
    """What past decisions have in common that turn out other in the same way.

    ``fields`` are the paths shown more or less. ``anyway``: the register of today already
    decides so, without the draft.
    """

    turn: Turn
    sender: AgencyId
    recipient: AgencyId
    message_type: str
    purpose: str
    before: Outcome
    after: Outcome
    fields: tuple[str, ...] = ()
    anyway: bool = False


def outcome_of(decision: Decision) -> Outcome:
    """Return ``decision`` in short."""
    if isinstance(decision, Permitted):
        return Outcome("", f"{decision.protocol}@{decision.version}", decision.clause)
    return Outcome(decision.reason.value, decision.protocol or "", decision.clause or "")


class WhatIf:
    """Asks one draft about one past decision after the other, and counts what turns.

    ``live`` is the register of today, ``draft`` the same with the draft in force.
    """

    def __init__(self, live: Register, draft: Register, schemas: Categories) -> None:
        self._live = live
        self._draft = draft
        self._views = Views(schemas)
        self.flips: Counter[Flip] = Counter()
        self.asked = 0
        self.consent_unknown = 0

    def ask(self, one: PastDecision) -> None:
        """Decide ``one`` again, under the draft."""
        self.asked += 1
        facts = one.past.facts
        decision = _again(one, self._draft)
        if facts.consent_answers is None and _rests_on_consent(decision):
            self.consent_unknown += 1
        now = outcome_of(decision)
        for turn, fields in self._turns(one, decision, now):
            flip = Flip(
                turn,
                facts.sender,
                one.recipient,
                facts.message_type,
                facts.purpose,
                one.outcome,
                now,
                fields,
                self._anyway(one, turn, now),
            )
            self.flips[flip] += 1

    def _turns(
        self, one: PastDecision, decision: Decision, now: Outcome
    ) -> Iterator[tuple[Turn, tuple[str, ...]]]:
        then = one.outcome
        if then.permitted and isinstance(decision, Permitted):
            rules = rules_of(self._live, then)
            if rules is not None:
                yield from self._views.turns(one.past.facts, rules, decision)
        elif then.permitted != now.permitted:
            yield (Turn.PASSES if now.permitted else Turn.STOPS), ()
        elif then.reason != now.reason:
            yield Turn.OTHER_REASON, ()

    def _anyway(self, one: PastDecision, turn: Turn, now: Outcome) -> bool:
        """Return whether today's register turns it like this too: agencies, gateways, versions."""
        if turn in (Turn.SHOWS_MORE, Turn.SHOWS_LESS):
            return False
        return outcome_of(_again(one, self._live)).reason == now.reason


def compared_of(live: Register, drafted: Register) -> list[str]:
    """Return which parts of the register besides the agreements are not the same in a draft.

    A past message is asked about by all of them: who is active and what the law asks about
    an agency, which power is in force, what a purpose is.
    """
    parts: dict[str, Callable[[Register], object]] = {
        "agencies": lambda one: one.agencies,
        "gateways": lambda one: one.gateways,
        "purposes": lambda one: one.purposes,
    }
    return [name for name, of in parts.items() if of(live) != of(drafted)]


def _again(one: PastDecision, register: Register) -> Decision:
    past = one.past
    return decide_facts(past.facts, one.recipient, register, (), past.at, override=past.override)


def _rests_on_consent(decision: Decision) -> bool:
    return not isinstance(decision, Permitted) and decision.reason.value.startswith(
        ("policy.no_consent", "policy.consent")
    )


def rules_of(register: Register, outcome: Outcome) -> tuple[FieldRule, ...] | None:
    """Return the rules on items of the clause that ``outcome`` names; None if it is gone."""
    protocol = register.protocols.get(outcome.protocol)
    flows = protocol.flows if protocol else ()
    return next((flow.items for flow in flows if flow.flow_id == outcome.clause), None)


_Rules = tuple[FieldRule, ...]
_Difference = tuple[frozenset[str], frozenset[str]]
_RANK = {action: rank for rank, action in enumerate(Action)}


class Views:
    """Compares what two clauses show of a message type; each pair of clauses once."""

    def __init__(self, schemas: Categories) -> None:
        self._schemas = schemas
        self._known: dict[tuple[_Rules, _Rules, str, str, bool], _Difference] = {}

    def turns(
        self, facts: DecisionFacts, then: _Rules, now: Permitted
    ) -> Iterator[tuple[Turn, tuple[str, ...]]]:
        """Yield what of the payload ``now`` shows more, and what less, than the rules did."""
        if then is now.fields or then == now.fields:
            return
        more, less = self.difference(
            then, now.fields, facts.message_type, facts.schema_version, strip=now.strip_location
        )
        held = facts.paths or frozenset()
        for turn, paths in ((Turn.SHOWS_MORE, more & held), (Turn.SHOWS_LESS, less & held)):
            if paths:
                yield turn, tuple(sorted(paths))

    def difference(
        self, then: _Rules, now: _Rules, message_type: str, version: str, *, strip: bool
    ) -> _Difference:
        """Return the paths that ``now`` shows more of than ``then``, and those it shows less of."""
        key = then, now, message_type, version, strip
        if key not in self._known:
            categories = self._schemas.categories(message_type, version)
            old = make_plan(then, categories, strip_location=strip)
            new = make_plan(now, categories, strip_location=strip)
            more: set[str] = set()
            less: set[str] = set()
            for path in categories:
                was, will = _RANK[action_at(old, path)], _RANK[action_at(new, path)]
                if will != was:
                    (more if will < was else less).add(path)
            self._known[key] = frozenset(more), frozenset(less)
        return self._known[key]


def action_at(plan: Node, path: str) -> Action:
    """Return what ``plan`` does to the element at ``path``."""
    node = plan
    for name in path.split("/"):
        node = node.child(name)
    return node.action
