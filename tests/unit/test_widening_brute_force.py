"""What is said of a change of an agreement, against asking the decision about every message.

Small agreements are made at random, in pairs; thousands of messages are asked about under both.
Whatever passes anew, or shows more, must have been told as wider: that is what two keys rest on.
What stops, or shows less, must have been told as narrower.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from itertools import product
from typing import Any

import pytest

from broker.core.assembly import build_register
from broker.core.consent import Consent
from broker.core.decision import decide_facts
from broker.core.facts import DecisionFacts
from broker.core.message import Practitioner
from broker.core.outcome import Decision, Permitted
from broker.core.override import Override
from broker.core.plan import Action, make_plan
from broker.core.protocol import Register
from broker.core.whatif import action_at
from broker.core.widening import NARROWER, WIDER, Key, compare, grants_of, widenings
from tests.unit.policy_world import (
    CONSENT,
    CSC,
    FACTS,
    SHARING,
    YOT,
    Tables,
    files,
    more_gateways,
    new_gateway,
)
from tests.unit.policy_world import _flow as usual_flow
from tests.unit.test_recorded import OVERRIDE

HELD = {"Name": "identity", "Clinic": "health", "Question": "safeguarding", "Home": "address"}
MODELS = ("NOT_REQUIRED", "INFORMED_ONLY", "EXPLICIT_OR_HARM", "EXPLICIT_REQUIRED")
TIMES = tuple(datetime(2026, month, 10, 12, tzinfo=UTC) for month in (4, 6, 8))
WEAK = Practitioner("w", "YOT_OFFICER", "DBS_ENHANCED", "AAL1")
PEOPLE = (
    replace(WEAK, authentication="AAL3"),
    WEAK,
    None,
    replace(WEAK, role="NURSE"),
    replace(WEAK, clearance="SC"),
)
RANK = {action: rank for rank, action in enumerate(Action)}

# Of each key of a flow, what it may say here; the first is the usual.
CHOICES: dict[str, tuple[Any, ...]] = {
    "purposes": (["YJ"], ["CP"], ["YJ", "CP"]),
    "message_types": (["Check/1.0"], ["Check/1.1"], ["Check/1.0", "Check/1.1"]),
    "gateways": (["CDA-115"], ["G2"], ["CDA-115", "G2"], ["G2", "CDA-115"]),
    "conditions": (None, ["DPA-S1-18"], ["BASIS"]),
    "consent": MODELS,
    "sensitive_consent": MODELS,
    "consent_kind": ("GDPR_BASIS", "CONFIDENTIALITY"),
    "shielded": ("STRIP", "REFUSE"),
    "practitioner": (
        None, {}, {"authentication": "AAL2"}, {"roles": ["NURSE"]}, {"clearances": ["SC"]},
        {"reason_for_access": True},
    ),
    "items": tuple(
        product(
            ("ALLOWED", "FORBIDDEN", "MASK"), (None, "ALLOWED"), (None, "ALLOWED", "MANDATORY")
        )
    ),
}  # fmt: skip
DAYS: dict[str, tuple[Any, ...]] = {
    "effective_from": (date(2026, 1, 1), date(2026, 5, 1)),
    "last_day": (None, date(2026, 7, 1)),
}


def items(name: str, health: str | None, question: str | None) -> list[dict[str, Any]]:
    """The rules of a flow on the items of `HELD`."""
    rules = [("category:identity", name), ("Clinic", health), ("Question", question)]
    found = []
    for target, said in [*rules, ("category:address", "ALLOWED")]:
        if said is not None:
            include, transform = ("ALLOWED", said) if said == "MASK" else (said, "NONE")
            rule = {"targets": [target], "include": include, "transform": transform}
            found.append({**rule, "necessity": "To know"})
    return found


def made(said: dict[str, Any], name: str) -> dict[str, Any]:
    flow = {**usual_flow(), "id": name, **said, "item": items(*said["items"])}
    del flow["items"]
    return {key: value for key, value in flow.items() if value is not None}


def usual() -> dict[str, Any]:
    return {key: values[0] for key, values in CHOICES.items()}


def another(chance: random.Random, said: dict[str, Any]) -> dict[str, Any]:
    """The same flow with one thing in it, or some, said otherwise."""
    changed = chance.sample(sorted(CHOICES), chance.choice((1, 1, 2, 4)))
    return said | {key: chance.choice(CHOICES[key]) for key in changed}


def register_of(flows: list[dict[str, Any]], days: dict[str, Any]) -> Register:
    tables: Tables = files(
        more_gateways(
            new_gateway("G2", purposes=["any"]),
            {
                "id": "BASIS", "statute": "Annex 1", "kind": "BASIS", "purposes": ["any"],
                "bears_flow": False, "asks_public_task": True, "source": "us",
                "in_force_from": date(2026, 2, 5),
            },
        )
    )  # fmt: skip
    tables["gateways.toml"]["gateway"][0]["purposes"] = ["any"]
    table = tables[SHARING]
    table["purpose"] = [{"code": one, "statement": "s", "benefits": "b"} for one in ("YJ", "CP")]
    table["lawful_basis"][0]["gateways"] = ["CDA-115", "G2"]
    table["flow"] = [made(said, f"flow-{place}") for place, said in enumerate(flows)]
    table |= {key: value for key, value in days.items() if value is not None}
    return build_register(tables, {}, {})


@dataclass(frozen=True)
class Asked:
    facts: DecisionFacts
    consents: tuple[Consent, ...]
    override: Override | None
    at: datetime

    @property
    def key(self) -> Key:
        facts = self.facts
        return Key(YOT, CSC, facts.message_type, facts.schema_version, facts.purpose)


def consents() -> tuple[tuple[Consent, ...], ...]:
    early = datetime(2026, 3, 1, tzinfo=UTC)
    both = frozenset({"YJ", "CP"})
    whole = replace(CONSENT, purposes=both, given_at=early, expires_at=None)
    part = replace(whole, categories=frozenset({"identity"}))
    return (), (whole,), (replace(whole, kind="CONFIDENTIALITY"),), (part,)


def overrides() -> tuple[Override | None, ...]:
    lasting = replace(
        OVERRIDE,
        purposes=frozenset({"YJ", "CP"}),
        recorded_at=TIMES[0] - timedelta(days=1),
        until=TIMES[-1] + timedelta(days=1),
    )
    return None, lasting, replace(lasting, gateway="G2")


def asked_of(chance: random.Random, count: int, times: tuple[datetime, ...] = TIMES) -> list[Asked]:
    """Return messages with what is on record beside them; the usual of each thing is frequent."""
    flags = (False, True)
    given, overruled = consents(), overrides()

    def one(*values: Any) -> Any:
        return values[0] if chance.random() < 0.4 else chance.choice(values)

    def facts() -> DecisionFacts:
        return replace(
            FACTS,
            schema_version=one("1.0", "1.1"),
            purpose=one("YJ", "CP"),
            gateway=one(None, "G2", "CDA-115"),
            practitioner=one(*PEOPLE),
            reason_for_access=one("ASSESSMENT", None),
            consent_reason=one("NOT_REASONABLE", None),
            public_task=one(*flags[::-1]),
            shielded=one(*flags),
            sensitive=one(*flags),
            harm=one(*flags),
            paths=frozenset(HELD) - one(frozenset(), {"Question"}),
        )

    return [
        Asked(facts(), chance.choice(given), one(*overruled), chance.choice(times))
        for _ in range(count)
    ]


def shown(decision: Decision) -> tuple[int, ...] | None:
    """How much of each item is shown, a smaller number being more; None: nothing passes."""
    if not isinstance(decision, Permitted):
        return None
    plan = make_plan(decision.fields, HELD, strip_location=decision.strip_location)
    return tuple(
        RANK[action_at(plan, path)] if decision.reach.covers(category) else len(RANK)
        for path, category in HELD.items()
    )


def fate(one: Asked, register: Register) -> tuple[int, ...] | None:
    decision = decide_facts(one.facts, CSC, register, one.consents, one.at, override=one.override)
    return shown(decision)


def beyond(before: tuple[int, ...] | None, after: tuple[int, ...] | None) -> bool:
    """Whether more is told after than before."""
    if before is None or after is None:
        return before is None and after is not None
    return any(now < then for then, now in zip(before, after, strict=True))


def turned(before: Register, after: Register, asked: list[Asked]) -> tuple[set[Key], set[Key]]:
    """The classes of which some message tells more than it did, and of which some tells less."""
    more, less = set(), set()
    for one in asked:
        then, now = fate(one, before), fate(one, after)
        if then != now:
            more |= {one.key} if beyond(then, now) else set()
            less |= {one.key} if beyond(now, then) else set()
    return more, less


def told(before: Register, after: Register) -> tuple[set[Key], set[Key], set[Key]]:
    """The classes that are told as wider by `diff`, as narrower by it, and as wider to sign."""
    changes = compare(before, after)
    wider = {one.key for one in changes if one.direction == WIDER}
    narrower = {one.key for one in changes if one.direction == NARROWER}
    signed = {one.key for one in widenings(grants_of(before), grants_of(after))}
    return wider, narrower, signed


@pytest.mark.parametrize("part", range(4))
def test_whatever_passes_anew_or_shows_more_was_told_as_wider(part: int) -> None:
    met: Counter[str] = Counter()
    for seed in range(part * 1000, part * 1000 + 40):
        chance = random.Random(seed)  # noqa: S311 - a test that is the same in every run
        flows = [another(chance, usual()) for _ in range(chance.choice((1, 1, 2, 3)))]
        later = [another(chance, one) if chance.random() < 0.7 else one for one in flows]
        if chance.random() < 0.3:
            chance.shuffle(later)
        if chance.random() < 0.2 and len(later) > 1:
            later.pop(chance.randrange(len(later)))
        days = [
            {key: chance.choice(values) for key, values in DAYS.items()}
            if chance.random() < 0.3
            else {}
            for _ in range(2)
        ]
        before, after = register_of(flows, days[0]), register_of(later, days[1])

        more, less = turned(before, after, asked_of(chance, 600))
        wider, narrower, signed = told(before, after)

        assert more <= wider, (seed, flows, later, more - wider)
        assert less <= narrower, (seed, flows, later, less - narrower)
        assert wider <= signed, seed
        met["more"] += bool(more)
        met["less"] += bool(less)
        met["same"] += not (more or less)
        met["one way only"] += bool(signed) != bool(narrower)
    assert all(met[kind] > 2 for kind in ("more", "less", "same", "one way only")), met


CONTEXTS: tuple[dict[str, Any], ...] = (
    {},
    {"consent": "EXPLICIT_REQUIRED", "sensitive_consent": "EXPLICIT_OR_HARM"},
)
# What is told although no message need turn: a duty that falls away, or another kind of consent.
DOUBTED = (
    "INFORMED_ONLY", "need not meet", "need not say", "in place of GDPR_BASIS",
    "in place of CONFIDENTIALITY",
)  # fmt: skip


def one_thing(key: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield pairs of flows that differ in what ``key`` says, and in nothing else."""
    pairs = [(old, new) for old in CHOICES[key] for new in CHOICES[key] if old != new]
    for context, (old, new) in product(CONTEXTS, pairs[:: max(1, len(pairs) // 15)]):
        base = usual() | context
        yield base | {key: old}, base | {key: new}


@pytest.mark.parametrize("key", sorted(CHOICES))
def test_one_change_is_told_where_a_message_turns_and_nowhere_else(key: str) -> None:
    chance = random.Random(key)  # noqa: S311 - a test that is the same in every run
    asked = asked_of(chance, 1500, TIMES[1:2])
    turns = 0
    for old, new in one_thing(key):
        before, after = register_of([old], {}), register_of([new], {})

        more, less = turned(before, after, asked)
        wider, narrower, signed = told(before, after)

        words = {one.words for one in compare(before, after)}
        where = (old[key], new[key], old["consent"], words)
        assert more <= wider <= signed, where
        assert less <= narrower, where
        if not any(doubt in one for doubt in DOUBTED for one in words):
            assert (wider, narrower) == (more, less), where
        turns += bool(more or less)
    assert turns
