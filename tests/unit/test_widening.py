from datetime import date
from typing import Any

import pytest

from broker.core.widening import NARROWER, WIDER, Change, compare, differences, grants_of, widenings
from tests.unit.policy_world import (
    CSC,
    YOT,
    amendment,
    flow,
    more_gateways,
    new_gateway,
    protocol,
    register,
)
from tests.unit.policy_world import (
    Change as Edit,
)

ITEMS: list[dict[str, Any]] = [
    {"targets": ["Child"], "include": "ALLOWED", "necessity": "To know who"},
    {"targets": ["Child/Name"], "include": "ALLOWED", "transform": "MASK", "necessity": "No"},
    {"targets": ["category:health"], "include": "FORBIDDEN", "necessity": "Not needed"},
    {"targets": ["Question"], "include": "MANDATORY", "necessity": "To answer"},
]
PERSON = {
    "roles": ["YOT_OFFICER"],
    "clearances": ["DBS_ENHANCED"],
    "authentication": "AAL2",
    "reason_for_access": True,
}


def items(*changed: tuple[int, dict[str, Any] | None], more: tuple[Any, ...] = ()) -> Edit:
    rules: list[dict[str, Any] | None] = [dict(item) for item in ITEMS]
    for place, values in changed:
        rules[place] = None if values is None else {**ITEMS[place], **values}
    return flow(item=[rule for rule in rules if rule is not None] + list(more))


def allowed(*targets: str) -> dict[str, Any]:
    return {"targets": list(targets), "include": "ALLOWED", "necessity": "To know"}


def changes(before: tuple[Edit, ...], after: tuple[Edit, ...]) -> tuple[Change, ...]:
    return compare(register(*before), register(*after))


def test_the_same_is_neither_wider_nor_narrower() -> None:
    assert changes((), ()) == ()


@pytest.mark.parametrize(
    ("narrow", "wide", "aspect", "words"),
    [
        ((protocol(effective_from=date(2026, 3, 1)),), (), "dates", "earlier"),
        ((protocol(review_date=date(2026, 8, 1)),), (), "dates", "later"),
        ((), (more_gateways(new_gateway("G2")), flow(gateways=["CDA-115", "G2"])), "gateway", "G2"),
        ((), (flow(conditions=None),), "gateway", "why consent"),
        ((flow(consent="EXPLICIT_REQUIRED"),), (), "consent", "NOT_REQUIRED"),
        (
            (flow(consent="EXPLICIT_REQUIRED"),),
            (flow(consent="EXPLICIT_REQUIRED", sensitive_consent="EXPLICIT_OR_HARM"),),
            "consent",
            "sensitive",
        ),
        (
            (flow(consent="EXPLICIT_REQUIRED"),),
            (flow(consent="EXPLICIT_REQUIRED", consent_kind="CONFIDENTIALITY"),),
            "consent",
            "of the kind CONFIDENTIALITY in place of GDPR_BASIS",
        ),
        ((flow(shielded="REFUSE"),), (), "shielded", "shielded"),
        ((), (flow(practitioner=None),), "practitioner", "no practitioner"),
        ((), (flow(practitioner={**PERSON, "roles": ["A", "YOT_OFFICER"]}),), "practitioner", "A"),
        (
            (),
            (flow(practitioner={k: v for k, v in PERSON.items() if k != "clearances"}),),
            "practitioner",
            "any",
        ),
        ((), (flow(practitioner={**PERSON, "authentication": "AAL1"}),), "practitioner", "AAL1"),
        (
            (),
            (flow(practitioner={**PERSON, "reason_for_access": False}),),
            "practitioner",
            "reason",
        ),
        ((items(),), (items(more=(allowed("Adult"),)),), "field", "Adult passes"),
        ((items(),), (items((2, None)),), "field", "no longer forbidden"),
        ((items(),), (items((1, None)),), "transform", "other rules"),
        ((items(),), (items((1, {"transform": "HASH"})),), "transform", "HASH in place of MASK"),
        ((items(),), (items((3, {"include": "ALLOWED"})),), "mandatory", "without Question"),
        ((), (protocol(onward_sharing="LISTED"),), "terms", "onward sharing"),
    ],
)
def test_a_wider_clause_is_told_from_a_narrower_one(
    narrow: tuple[Edit, ...], wide: tuple[Edit, ...], aspect: str, words: str
) -> None:
    found = [one for one in changes(narrow, wide) if one.direction == WIDER]

    assert {one.aspect for one in found} >= {aspect}
    assert any(words in one.words for one in found)
    assert {(one.key.sender, one.key.recipient) for one in found} == {(YOT, CSC)}
    assert {(one.protocol, one.flow) for one in found} == {("checks@1", "check")}
    back = [one.direction for one in changes(wide, narrow)]
    assert NARROWER in back
    # Of words, and of kinds of consent, nobody can say which are the wider.
    if aspect != "terms" and "kind" not in words:
        assert WIDER not in back


@pytest.mark.parametrize(
    "narrower",
    [
        items((0, {"targets": ["Child/Age"]})),  # within what was allowed
        items((1, {"include": "FORBIDDEN", "transform": "NONE"})),
        items((0, {"include": "FORBIDDEN"})),  # takes what is inside with it
        items((0, {"transform": "GENERALISE"})),
        items(more=({"targets": ["X"], "include": "FORBIDDEN", "necessity": "No need"},)),
    ],
)
def test_a_narrower_list_of_items_is_not_wider(narrower: Edit) -> None:
    found = changes((items(),), (narrower,))

    assert [one for one in found if one.direction == WIDER] == []


def test_an_allowed_item_under_a_forbidden_one_was_not_there_before() -> None:
    before = items((0, {"include": "FORBIDDEN"}))

    found = changes((before,), (items(more=(allowed("Child/Age"),)),))

    assert {"field"} <= {one.aspect for one in found if one.direction == WIDER}


def test_another_pair_type_version_or_purpose_is_a_flow_of_its_own() -> None:
    found = changes((), (flow(message_types=["Check/1.0", "Check/2.0"]),))

    assert [(one.aspect, one.key.version) for one in found] == [("flow", "2.0")]
    assert found[0].words == "Check passes"


def test_a_narrower_version_that_takes_over_widens_nothing() -> None:
    narrower = register(
        amendment(2, effective_from=date(2026, 5, 1)),
        lambda tables: tables["sharing/checks.v2.toml"]["flow"][0].update(consent="INFORMED_ONLY"),
    )

    found = compare(register(), narrower)

    assert {one.direction for one in found} == {NARROWER}


def test_what_never_stands_widens_nothing() -> None:
    draft = register(amendment(2, status="DRAFT", review_date=date(2030, 1, 1)))

    assert widenings(grants_of(register()), grants_of(draft)) == ()


def test_one_sharing_protocol_can_be_asked_about_alone() -> None:
    assert grants_of(register(), "another") == {}
    assert set(grants_of(register(), "checks")) == set(grants_of(register()))
    for clauses in grants_of(register()).values():
        assert differences(clauses[0], clauses[0]) == ()
