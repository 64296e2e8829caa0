"""A draft asked about past decisions: it agrees with deciding on the messages themselves."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

from broker.core.assembly import build_register
from broker.core.decision import decide, decide_facts
from broker.core.facts import DecisionFacts
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule, Permitted
from broker.core.protocol import Register
from broker.core.recorded import Past, Records
from broker.core.whatif import Flip, PastDecision, Turn, Views, WhatIf, compared_of, outcome_of
from tests.unit.oracle_cases import ELEMENTS, as_message, cases
from tests.unit.policy_world import CSC, FACTS, NOW, flow, plain, register

KNOWN = {"Question": "safeguarding", "Subject": "identity", "Subject/Name": "identity"}


class Schemas:
    def __init__(self, known: dict[str, str] = KNOWN) -> None:
        self.known = known

    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert message_type
        assert version
        return self.known


def asked(draft: Register, *, live: Register | None = None, **facts: Any) -> Counter[Flip]:
    """The flips of one decision that was made in the world as it is."""
    past = Past(replace(FACTS, **facts), NOW)
    then = outcome_of(decide_facts(past.facts, CSC, plain(), (), NOW))
    what = WhatIf(live or plain(), draft, Schemas())
    what.ask(PastDecision(past, CSC, then))
    return what.flips


def only(flips: Counter[Flip]) -> Flip:
    ((flip, count),) = flips.items()
    assert count == 1
    return flip


def test_what_else_of_the_register_differs_is_named() -> None:
    live = plain()

    assert compared_of(live, register()) == []
    for part in ("agencies", "gateways", "purposes"):
        fewer: dict[str, Any] = {part: dict(list(getattr(live, part).items())[1:])}
        assert compared_of(live, replace(live, **fewer)) == [part]


def test_what_stays_as_it_was_is_not_told() -> None:
    assert not asked(plain())
    assert not asked(plain(), purpose="CP")


def test_what_stops_is_told_with_both_outcomes() -> None:
    flip = only(asked(register(flow(gateways=["CDA-115"], shielded="REFUSE")), shielded=True))

    assert flip.turn is Turn.STOPS
    assert (flip.before.permitted, flip.before.protocol, flip.before.clause) == (
        True, "checks@1", "check",
    )  # fmt: skip
    assert flip.after.reason == "policy.shielded"
    assert not flip.anyway


def test_what_passes_anew_and_what_is_refused_for_another_reason() -> None:
    assert only(asked(register(flow(practitioner=None)), practitioner=None)).turn is Turn.PASSES
    later = register(flow(message_types=["Check/2.0"]))
    other = only(asked(later, practitioner=None))
    assert other.turn is Turn.OTHER_REASON


def test_what_todays_register_turns_by_itself_is_marked() -> None:
    stopped = register(flow(shielded="REFUSE"))

    assert only(asked(stopped, live=stopped, shielded=True)).anyway


def test_fields_that_a_message_held_are_told_when_more_or_less_is_shown() -> None:
    items = [
        {"targets": ["Question"], "include": "ALLOWED", "transform": "MASK", "necessity": "Why"},
        {"targets": ["Subject/Name"], "include": "ALLOWED", "necessity": "Why"},
        {"targets": ["category:health"], "include": "ALLOWED", "necessity": "Why"},
    ]
    draft = register(flow(item=items))

    less = only(asked(draft))
    assert (less.turn, less.fields) == (Turn.SHOWS_LESS, ("Question", "Subject"))
    assert not asked(draft, paths=None)
    more = asked(plain(), live=draft)  # the same the other way round
    assert only(more).turn is Turn.SHOWS_MORE


def test_of_a_clause_that_is_gone_no_fields_are_compared() -> None:
    renamed = register(flow(id="other", item=[
        {"targets": ["Question"], "include": "ALLOWED", "necessity": "Why"}
    ]))  # fmt: skip

    assert not asked(renamed, live=renamed)


def test_consent_that_nobody_looked_up_is_counted() -> None:
    past = Past(FACTS, NOW)
    then = outcome_of(decide_facts(FACTS, CSC, plain(), (), NOW))
    draft = register(flow(consent="EXPLICIT_REQUIRED", conditions=None))
    what = WhatIf(plain(), draft, Schemas())

    what.ask(PastDecision(past, CSC, then))
    known = Past(replace(FACTS, consent_answers={"GDPR_BASIS": "GIVEN"}), NOW)
    what.ask(PastDecision(known, CSC, then))

    assert (what.asked, what.consent_unknown) == (2, 1)
    assert [flip.after.reason for flip in what.flips] == ["policy.no_consent"]


def test_a_pair_of_clauses_is_compared_once() -> None:
    views = Views(Schemas())
    facts = DecisionFacts(FACTS.sender, "Check", "1.0", "YJ", paths=frozenset({"Question"}))
    rules = (FieldRule("Question", "ALLOWED"),)
    now = decide_facts(FACTS, CSC, plain(), (), NOW)
    assert isinstance(now, Permitted)

    first = list(views.turns(facts, (), replace(now, fields=rules)))

    assert first == list(views.turns(facts, (), replace(now, fields=rules)))
    assert first == [(Turn.SHOWS_MORE, ("Question",))]


def test_the_answer_is_that_of_deciding_on_the_messages_themselves() -> None:
    """Brute force over generated partnerships: another partnership is the draft."""
    turned = 0
    schemas = Schemas(ELEMENTS)
    for seed in range(25):
        made = list(cases(seed, 20))
        live = build_register(made[0].tables, {}, {})
        own = made[0].tables.items()
        other = {name: table for name, table in own if not name.startswith("sharing/")}
        other |= {
            name: table
            for name, table in next(cases(seed + 5000, 1)).tables.items()
            if name.startswith("sharing/")
        }
        draft = build_register(other, {}, {})
        for case in made:
            message, to = as_message(case.said), AgencyId(case.said.recipient)
            now = case.now.replace(microsecond=case.now.microsecond // 1000 * 1000)
            over = case.override
            then = decide(message, to, live, case.consents, now, schemas=schemas, override=over)
            will = decide(message, to, draft, case.consents, now, schemas=schemas, override=over)
            record = Records(schemas).of(message, now, (), over)(to, case.consents)
            header = message.header
            past = Records(schemas).past(
                record,
                sender=header.sender,
                recipient=to,
                message_type=header.message_type,
                version=header.schema_version,
                purpose=header.purpose,
            )
            assert past is not None
            assert past.at == now < past.at + timedelta(seconds=1)
            what = WhatIf(live, draft, schemas)
            what.ask(PastDecision(past, to, outcome_of(then)))

            flips = [flip for flip in what.flips if not flip.fields]
            reasons = outcome_of(then).reason, outcome_of(will).reason
            assert bool(flips) == (reasons[0] != reasons[1]), (seed, case.number)
            if flips:
                assert (flips[0].before.reason, flips[0].after.reason) == reasons
                turned += 1
    assert turned > 20


def test_what_is_in_force_turns_none_of_its_own_decisions() -> None:
    """By consent, to a part, by a decision to share without it, once and again at disclosure."""
    schemas = Schemas(ELEMENTS)
    met: Counter[str] = Counter()
    for seed in range(40):
        made = list(cases(seed, 20))
        live = build_register(made[0].tables, {}, {})
        what = WhatIf(live, live, schemas)
        for case in made:
            message, to = as_message(case.said), AgencyId(case.said.recipient)
            taken = {to} if case.said.taken else set()
            for now in (case.now, case.now + timedelta(hours=1)):  # it may have waited
                then = decide(
                    message,
                    to,
                    live,
                    case.consents,
                    now,
                    schemas=schemas,
                    override=case.override,
                    taken=case.said.taken,
                )
                make = Records(schemas).of(message, now, taken, case.override)
                past = Records(schemas).past(
                    make(to, case.consents),
                    sender=message.header.sender,
                    recipient=to,
                    message_type=message.header.message_type,
                    version=message.header.schema_version,
                    purpose=message.header.purpose,
                )
                assert past is not None
                what.ask(PastDecision(past, to, outcome_of(then)))
                if isinstance(then, Permitted):
                    met["overridden"] += then.override is not None
                    met["by consent"] += bool(then.consents)
                    met["to a part"] += not then.reach.whole
        assert not what.flips, seed

    assert set(+met) == {"overridden", "by consent", "to a part"}
