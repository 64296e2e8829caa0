"""What lint finds wrong with agreements that can be read."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest

from broker.core.lint import CODES, lint
from broker.edge.registers import load_register
from broker.edge.schemas import load_schemas
from tests.unit.policy_world import (
    NOW,
    ROOT,
    SHARING,
    WORLD,
    Change,
    Tables,
    amendment,
    flow,
    gateway,
    protocol,
    register,
    table,
)
from tests.unit.test_clocks import CLOCK

KNOWN = {("Check", "1.0"): {"Subject": "identity", "Question": "safeguarding"}}


def found(*changes: Change, now: datetime = NOW) -> list[tuple[str, str, str]]:
    findings = lint(register(*changes), KNOWN, now)
    return [(one.severity, one.flow, one.words) for one in findings]


def second_flow(**values: object) -> Change:
    def change(tables: Tables) -> None:
        flows = tables[SHARING]["flow"]
        later = {**flows[0], "id": "second", **values}
        flows.append({key: value for key, value in later.items() if value is not None})

    return change


def item(number: int, **values: object) -> Change:
    return lambda tables: tables[SHARING]["flow"][0]["item"][number].update(values)


BASIS = {"article_6": "6(1)(e)", "condition": "None", "gateways": ["CDA-115"]}


def both(*changes: Change) -> Change:
    def change(tables: Tables) -> None:
        for one in changes:
            one(tables)

    return change


def unused_purpose(tables: Tables) -> None:
    more = {"code": "CP", "statement": "To protect", "benefits": "Safety"}
    tables[SHARING]["purpose"].append(more)


def unsigned(tables: Tables) -> None:
    del tables[SHARING]["signatory"][0]


def test_a_sound_register_has_no_findings() -> None:
    assert found() == []


def test_the_sandbox_partnership_has_no_findings() -> None:
    schemas = load_schemas(ROOT / "schemas")
    known = {key: schemas.categories(*key) for key in schemas.catalogue.messages}
    now = datetime(2026, 11, 20, tzinfo=UTC)

    assert lint(load_register(ROOT / "protocols"), known, now) == ()


@pytest.mark.parametrize(
    ("change", "severity", "words"),
    [
        (
            protocol(effective_from=date(2028, 1, 1)),
            "error",
            "its review lapses, before it begins",
        ),
        (protocol(last_day=date(2029, 1, 1)), "error", "for longer than community@1"),
        (
            protocol(lawful_basis=[{**BASIS, "gateways": ["DPA-S1-18"]}]),
            "error",
            "flow check rests on CDA-115 without lawful basis",
        ),
        (item(0, targets=["Subject/Name"], necessity="Subject name."), "warning", "what Subject"),
        (
            item(2, targets=["category:safeguarding"]),
            "error",
            "Question is MANDATORY, but category:safeguarding is FORBIDDEN",
        ),
        (
            both(item(0, targets=["Subject/Name"]), item(2, targets=["Subject"])),
            "warning",
            "Subject/Name is ALLOWED, but Subject is FORBIDDEN",
        ),
        (
            flow(consent="EXPLICIT_REQUIRED", sensitive_consent="EXPLICIT_OR_HARM"),
            "error",
            "EXPLICIT_OR_HARM for sensitive services",
        ),
        (flow(to=["YOT"]), "error", "reaches nobody"),
        (flow(message_types=["Other/1.0"]), "error", "no schema is there for Other/1.0"),
        (item(0, targets=["Subjct"]), "error", "no schema of its message types has Subjct"),
        (item(0, necessity="Needed"), "warning", "does not say why category:identity"),
        (gateway(in_force_from=None), "error", "none of its gateways is in force"),
        (gateway(purposes=["CP"]), "error", "no gateway bears yot to csc for YJ"),
        (gateway(route=[{"from": ["POLICE"], "to": ["any"]}]), "error", "no gateway bears yot"),
        (
            gateway(carve_out=[{"from": ["YOT"], "text": "not from such"}]),
            "error",
            "no gateway bears yot to csc for YJ",
        ),
        (second_flow(), "warning", "never relied on: checks@1 check comes before it"),
        (unused_purpose, "warning", "no flow serves purpose CP"),
        (unsigned, "warning", "not in force: not signed by yot"),
        (protocol(status="DRAFT"), "warning", "not in force: its status is DRAFT"),
        (protocol(review_date=date(2026, 8, 30)), "warning", "its review is due on 30 August 2026"),
        (protocol(review_date=date(2026, 5, 1)), "warning", "lapses on 30 July 2026"),
        (protocol(status="OVERDUE"), "warning", "overdue for review"),
        (protocol(review_date=date(2026, 2, 1)), "error", "lapsed"),
        (
            table("sharing/community.v1.toml", status="SUSPENDED"),
            "error",
            "community@1, which it stands on, is not in force",
        ),
    ],
)
def test_a_fault_is_found(change: Change, severity: str, words: str) -> None:
    findings = found(change)

    assert any(one[0] == severity and words in one[2] for one in findings), findings


def timed(**values: object) -> Change:
    def change(tables: Tables) -> None:
        tables["clocks.toml"] = {"clock": [{**CLOCK, **values}]}
        tables[SHARING]["flow"][0]["clocks"] = ["ACK"]

    return change


def answered(tables: Tables) -> None:
    back = {"from": ["LA_CSC"], "to": ["YOT"], "message_types": ["Check/1.0"], "clocks": None}
    second_flow(**back)(tables)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (timed(stops=["Check"]), "ACK never stops: csc may send none of what stops it"),
        (
            timed(starts="STATED", element="EventAt", stops=["L2"]),
            "ACK starts at EventAt, and Check has none",
        ),
    ],
)
def test_a_clock_that_cannot_start_or_stop_is_found(change: Change, words: str) -> None:
    assert ("error", "check", words) in found(change)


@pytest.mark.parametrize(
    "change",
    [
        timed(),  # an acknowledgement stops it, too
        timed(stops=["L2"]),
        timed(starts="STATED", element="Question", stops=["L2"]),
        both(timed(stops=["Check"]), answered),
    ],
)
def test_a_clock_that_starts_and_stops_is_no_finding(change: Change) -> None:
    assert not [one for one in found(change) if "ACK" in one[2]]


def test_of_a_type_without_schema_only_that_is_said() -> None:
    other = both(timed(starts="STATED", element="EventAt"), flow(message_types=["Other/1.0"]))

    assert not [one for one in found(other) if "ACK" in one[2]]


def test_a_flow_that_allows_nothing_is_found() -> None:
    def all_forbidden(tables: Tables) -> None:
        for one in tables[SHARING]["flow"][0]["item"]:
            one["include"] = "FORBIDDEN"

    assert ("warning", "check", "allows no item at all") in found(all_forbidden)


def test_a_carve_out_of_content_alone_leaves_the_flow_borne() -> None:
    carved = gateway(carve_out=[{"categories": ["health"], "text": "no such"}])

    assert found(carved) == []


def test_a_review_more_than_ninety_days_ahead_is_no_finding() -> None:
    assert found(protocol(review_date=date(2026, 9, 1))) == []


@pytest.mark.parametrize(
    "difference",
    [
        {"purposes": ["YJ", "CP"]},
        {"consent": "INFORMED_ONLY"},
        {"practitioner": None},
        {"message_types": ["Check/1.0", "Check/1.1"]},
        {"shielded": "STRIP", "conditions": None},
    ],
)
def test_a_later_flow_that_permits_more_is_not_shadowed(difference: dict[str, object]) -> None:
    findings = found(unused_purpose, second_flow(**difference))

    assert not [one for one in findings if "never relied on" in one[2]]


def test_a_flow_that_refuses_the_shielded_does_not_shadow_one_that_strips() -> None:
    findings = found(flow(shielded="REFUSE"), second_flow(shielded="STRIP"))

    assert not [one for one in findings if "never relied on" in one[2]]


def test_two_versions_of_a_protocol_do_not_shadow_each_other() -> None:
    assert found(amendment(2, effective_from=date(2026, 7, 1))) == []


def test_a_finding_is_told_once_for_a_pair_of_agencies() -> None:
    twice = flow(message_types=["Check/1.0", "Other/1.0"])

    findings = found(twice, gateway(purposes=["CP"]))

    assert len([one for one in findings if "no gateway bears" in one[2]]) == 1


@pytest.mark.parametrize(
    ("change", "code", "table", "key"),
    [
        (flow(to=["YOT"]), "reaches-nobody", "flow 1", "to"),
        (item(1, targets=["Qestion"]), "field-unknown", "flow 1.item 2", "targets"),
        (unused_purpose, "purpose-unused", "purpose 2", ""),
        (protocol(status="DRAFT"), "not-in-force", "", "status"),
    ],
)
def test_a_finding_names_its_place_and_a_cure(
    change: Change, code: str, table: str, key: str
) -> None:
    findings = lint(register(change), KNOWN, NOW)

    (one,) = (finding for finding in findings if finding.code == code)
    assert (one.file, one.table, one.key) == (SHARING, table, key)
    assert one.cure == CODES[code][1]


def test_terms_that_no_file_gave_are_not_compared() -> None:
    plain = register()
    bare = replace(plain.protocols["checks@1"], terms={"flow": WORLD[SHARING]["flow"]})
    changed = replace(plain, protocols={**plain.protocols, "checks@1": bare})

    assert lint(changed, KNOWN, NOW) == ()
