import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from broker.config import RegistersSection
from broker.core.coverage import Run, coverage_of
from broker.core.example_maker import as_toml, make_examples, vary
from broker.core.examples import Example, Expectation, parse_examples, run_example
from broker.core.identity import AgencyId
from broker.core.in_force import as_if_in_force
from broker.core.message import Subject
from broker.core.protocol import Register
from broker.core.schema import SchemaSet
from broker.core.table import Mistake, Table
from broker.edge.registers import load_as_if_in_force, load_examples, load_register
from broker.edge.schemas import load_schemas
from tests.unit.policy_world import (
    CSC,
    NOW,
    PRACTITIONER,
    ROOT,
    SHARING,
    YOT,
    amendment,
    files,
    flow,
)
from tests.unit.policy_world import register as world

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
PROTOCOLS = ROOT / "protocols"
SHIPPED = sorted(one.reference for one in load_register(PROTOCOLS).protocols.values() if one.flows)


@cache
def schemas() -> SchemaSet:
    return load_schemas(ROOT / "schemas")


@cache
def register() -> Register:
    return load_register(PROTOCOLS)


def example(**values: Any) -> Example:
    given: dict[str, Any] = {
        "name": "a vacancy",
        "sender": AgencyId("gateshead-hr"),
        "recipient": AgencyId("ne-jobs-portal"),
        "message_type": "VacancyPublished",
        "version": "1.0",
        "purpose": "JOBS",
        "at": AT,
    }
    return Example(**{**given, **values})


def became(**values: Any) -> Expectation:
    return run_example(example(**values), register(), schemas()).result


@cache
def shipped(reference: str) -> tuple[Run, ...]:
    """The examples that travel with a shipped agreement, and what became of each."""
    protocol = register().protocols[reference]
    supposed = load_as_if_in_force(PROTOCOLS, protocol.file)
    examples = load_examples(PROTOCOLS, protocol.protocol_id, protocol.version)
    return tuple((one, run_example(one, supposed, schemas())) for one in examples)


def test_every_shipped_agreement_that_has_flows_travels_with_examples() -> None:
    travelling = {path.stem for path in (PROTOCOLS / "tests").glob("*.toml")}
    assert travelling == {one.replace("@", ".v") for one in SHIPPED}
    assert len(SHIPPED) >= 12


@pytest.mark.parametrize("reference", SHIPPED)
def test_every_agreement_has_examples_that_hold_and_touch_all_of_it(reference: str) -> None:
    runs = shipped(reference)

    assert [one.name for one, outcome in runs if outcome.result != one.expect] == []
    assert {one.expect.decision for one, _ in runs} == {"permitted", "refused"}
    found = coverage_of(register().protocols[reference], runs, schemas())
    assert found.missing == ()
    assert found.percent == 100 >= RegistersSection().coverage_min_percent > 0


@pytest.mark.parametrize("reference", SHIPPED)
def test_a_clause_or_an_item_whose_examples_are_taken_out_is_missed(reference: str) -> None:
    protocol, runs = register().protocols[reference], shipped(reference)

    for one in protocol.flows:
        clause = f"{reference} {one.flow_id}"
        others = [run for run in runs if run[1].result.clause != clause]
        refused = [run for run in runs if run[0].expect.decision != "permitted"]
        without = coverage_of(protocol, others, schemas()).missing
        only_refused = coverage_of(protocol, refused, schemas()).missing
        for name, version in one.message_types:
            words = f"flow {one.flow_id}: no example of {name}/{version} passes"
            assert words in without
            assert words in only_refused
        assert f"flow {one.flow_id}: no example is refused under it" in without
        items = [words for words in only_refused if words.startswith(f"flow {one.flow_id}: no ex")]
        assert any(" holds " in words for words in items)


def test_an_example_says_what_is_withheld_and_under_which_clause() -> None:
    assert became() == Expectation("permitted", "", "ne-vacancies@1 publish")
    to_council = became(recipient=AgencyId("sunderland-csc"))
    assert to_council.clause == "ne-vacancies@1 publish-councils"
    assert "Vacancy/Contact/Name" in to_council.withheld


def test_an_example_says_why_it_is_refused() -> None:
    assert became(purpose="CP").reason == "policy.purpose_not_covered"
    nobody = became(recipient=AgencyId("nobody"))
    assert nobody == Expectation("refused", "policy.recipient_unknown")


def test_a_payload_may_be_given_and_parts_taken_out() -> None:
    payload = (
        '<VacancyPublished xmlns="urn:fame:vacancy:1.0"><Vacancy><Title>Cook</Title>'
        "<Contact><Name>A</Name></Contact></Vacancy></VacancyPublished>"
    )

    whole = run_example(example(payload=payload), register(), schemas())
    less = run_example(
        example(payload=payload, without=("Vacancy/Contact",)), register(), schemas()
    )

    assert whole.paths == {"Vacancy", "Vacancy/Title", "Vacancy/Contact", "Vacancy/Contact/Name"}
    assert less.paths == {"Vacancy", "Vacancy/Title"}


class CheckSchemas:
    """The message type of `policy_world`, which has no schema."""

    def categories(self, message_type: str, version: str) -> dict[str, str]:  # noqa: ARG002
        return {"Subject": "identity", "Question": "safeguarding"}

    def subject(self, *_: object) -> Subject:
        return Subject("somebody", nhs_number="9990000018")


CHECK = example(
    sender=YOT,
    recipient=CSC,
    message_type="Check",
    purpose="YJ",
    at=NOW,
    payload='<Check xmlns="urn:x"><Subject>A</Subject><Question>B</Question></Check>',
    practitioner=PRACTITIONER,
    reason_for_access="ASSESSMENT",
)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("ACTIVE", ""),
        ("", "policy.no_consent"),
        ("WITHDRAWN", "policy.consent_withdrawn"),
        ("REFUSED", "policy.consent_refused"),
    ],
)
def test_consent_is_what_the_example_says(said: str, reason: str) -> None:
    asks = world(flow(consent="EXPLICIT_REQUIRED", conditions=None))

    outcome = run_example(replace(CHECK, consent=said), asks, CheckSchemas())

    assert outcome.result.reason == reason


def test_of_what_is_sent_once_it_was_taken_an_example_is_not_taken() -> None:
    moves = world(flow(message_types=["RecordTransfer/1.0"], conditions=None))
    protocol = moves.protocols["checks@1"]
    record = replace(CHECK, message_type="RecordTransfer")

    variations = {one.name: one for one in vary(record, protocol.flows[0], protocol)}

    before = variations[f"{protocol.flows[0].flow_id}: before it was taken"]
    assert run_example(record, moves, CheckSchemas()).result.decision == "permitted"
    assert run_example(before, moves, CheckSchemas()).result.reason == "policy.not_taken"
    assert "taken = false" in as_toml("checks@1", (before,))


def test_of_a_clause_that_asks_consent_examples_go_both_ways() -> None:
    asks = world(flow(consent="EXPLICIT_REQUIRED", conditions=None))
    checks = asks.protocols["checks@1"]

    variations = {one.name: one for one in vary(CHECK_CONSENTED, checks.flows[0], checks)}

    assert variations["check: without consent"].consent == ""
    assert variations["check: consent withdrawn"].consent == "WITHDRAWN"
    assert variations["check: without Question"].without == ("Question",)


CHECK_CONSENTED = replace(CHECK, consent="ACTIVE")


@pytest.mark.parametrize("reference", ["ne-vacancies@1", "ne-yot-checks@1"])
def test_examples_are_made_of_an_agreement_and_read_back(reference: str) -> None:
    protocol = register().protocols[reference]

    made = make_examples(protocol, register(), schemas(), AT)
    name, read = parse_examples(Table(tomllib.loads(as_toml(reference, made)), "tests/x.toml"))

    assert (name, read) == (reference, made)
    assert len(made) > 20


def test_of_a_flow_that_reaches_nobody_no_example_is_made() -> None:
    protocol = register().protocols["ne-vacancies@1"]
    alone = replace(
        protocol, flows=(replace(protocol.flows[0], flow_id="another"),), protocol_id="x"
    )

    assert make_examples(alone, register(), schemas(), AT) == ()


def test_what_no_example_touches_is_named() -> None:
    protocol = register().protocols["ne-vacancies@1"]

    found = coverage_of(protocol, (), schemas())

    assert found.percent == 0
    assert "flow publish: no example of VacancyPublished/1.0 passes" in found.missing
    assert "flow publish: no example is refused under it" in found.missing
    assert "flow publish: no example holds category:employment, ALLOWED" in found.missing
    assert not any("category:identity" in words for words in found.missing)  # no such item there
    assert coverage_of(register().protocols["ne-memorandum@1"], (), schemas()).percent == 100


def test_a_rule_on_a_category_counts_if_one_type_of_its_clause_has_it() -> None:
    class Schemas(CheckSchemas):
        def categories(self, message_type: str, version: str) -> dict[str, str]:
            return super().categories(message_type, version) if message_type == "Check" else {}

    both = world(flow(message_types=["Check/1.0", "Other/1.0"]))

    found = coverage_of(both.protocols["checks@1"], (), Schemas())

    assert "flow check: no example holds category:identity, ALLOWED" in found.missing


def test_two_examples_of_one_name_are_a_mistake() -> None:
    one = tomllib.loads(as_toml("x@1", (example(),)))
    one["example"] *= 2

    with pytest.raises(Mistake, match="a name of its own"):
        parse_examples(Table(one, "tests/x.toml"))


def test_an_agreement_is_supposed_to_have_begun_on_its_first_day() -> None:
    world = files(amendment(2, status="DRAFT"))

    supposed = as_if_in_force(world, "sharing/checks.v2.toml")

    assert supposed["sharing/checks.v2.toml"]["status"] == "ACTIVE"
    assert supposed["sharing/checks.v2.toml"]["activated_at"] == datetime(2026, 1, 1, tzinfo=UTC)
    assert supposed[SHARING] == world[SHARING]
    del world[SHARING]["effective_from"]
    assert "activated_at" not in as_if_in_force(world, SHARING)[SHARING]
