from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Any

import pytest

from broker.core.clause import Clause
from broker.core.widening import (
    NARROWER,
    WIDER,
    Change,
    Key,
    compare,
    differences,
    grants_of,
    widenings,
)
from broker.core.wording import COMPARED
from broker.edge.registers import load_register
from tests.unit.policy_world import (
    CSC,
    ROOT,
    SHARING,
    WORLD,
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
    # Who has explicit consent passes where a reason for having none was asked.
    if aspect != "terms" and "kind" not in words and words != "NOT_REQUIRED":
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


def later_reads(*edits: Edit) -> set[str]:
    """What is told of a second version, once the first is signed, that says something else."""
    before = register(amendment(2, effective_from=date(2026, 5, 1)))

    def change(tables: dict[str, dict[str, Any]]) -> None:
        second = {SHARING: tables["sharing/checks.v2.toml"]}
        for edit in edits:
            edit(second)

    after = register(amendment(2, effective_from=date(2026, 5, 1)), change)
    return {one.words for one in widenings(grants_of(before), grants_of(after))}


def test_a_later_version_that_reads_the_same_widens_nothing() -> None:
    assert later_reads() == set()
    assert later_reads(flow(shielded="REFUSE")) == set()


@pytest.mark.parametrize(
    "key", sorted(set(WORLD[SHARING]) - COMPARED - {"parent", "lead_organisation"})
)
def test_whatever_an_agreement_says_otherwise_takes_both_keys(key: str) -> None:
    """So it does for a key that nobody has thought of comparing."""
    written = WORLD[SHARING][key]
    block = {**written, next(iter(written)): "otherwise"} if isinstance(written, dict) else written
    other: dict[str, object] = {
        "onward_sharing": "LISTED", "controller_model": "JOINT", "instrument": "DDA",
        "subject_categories": ["ADULT"],
        "lawful_basis": [{"article_6": "6(1)(c)", "condition": "None", "gateways": ["CDA-115"]}],
    }  # fmt: skip
    value = other.get(key, block if isinstance(written, dict) else "otherwise")

    def more(tables: dict[str, dict[str, Any]]) -> None:
        tables["code-lists.toml"]["list"][2]["values"].append("ADULT")

    before = register(more)
    after = register(more, protocol(**{key: value}))

    found = {one.words for one in widenings(grants_of(before), grants_of(after))}
    assert any(key.replace("_", " ") in words for words in found)


def test_who_leads_and_what_it_stands_on_take_both_keys() -> None:
    assert later_reads(protocol(lead_organisation="yot")) == {"lead organisation: reads otherwise"}
    beside = protocol(parent="other@1")
    other = {**WORLD["sharing/community.v1.toml"], "id": "other"}

    def more(tables: dict[str, dict[str, Any]]) -> None:
        tables["sharing/other.v1.toml"] = other

    found = widenings(grants_of(register(more)), grants_of(register(more, beside)))
    assert {one.words for one in found} == {"parent: reads otherwise"}


@pytest.mark.parametrize("key", ["description", "frequency", "method", "max_latency"])
def test_how_a_flow_is_used_takes_both_keys(key: str) -> None:
    assert later_reads(flow(**{key: "otherwise"})) == {
        f"{key.replace('_', ' ')} of the flow: reads otherwise"
    }


def test_why_an_item_is_needed_takes_both_keys() -> None:
    first = WORLD[SHARING]["flow"][0]["item"][0]
    rest = WORLD[SHARING]["flow"][0]["item"][1:]

    told = later_reads(flow(item=[{**first, "necessity": "Otherwise"}, *rest]))

    assert told == {"why an item is needed: reads otherwise"}
    assert later_reads(flow(item=rest)) == set()  # what is not shared need not be needed


def test_what_a_purpose_brings_and_the_role_of_a_party_take_both_keys() -> None:
    purpose = {"code": "YJ", "statement": "To assess", "benefits": "Otherwise"}
    parties = [dict(one) for one in WORLD[SHARING]["party"]]
    parties[0]["role"] = "PROCESSOR"

    assert later_reads(protocol(purpose=[purpose])) == {
        "what the purpose is and brings: reads otherwise"
    }
    assert later_reads(protocol(party=parties)) == {
        "who the parties are and in which role: reads otherwise"
    }


def test_a_clock_that_is_left_out_takes_both_keys() -> None:
    live = load_register(ROOT / "protocols")
    timed = [
        clause
        for clauses in live.index.values()
        for clause in clauses
        if any(flow.clocks and flow.flow_id == clause.clause_id for flow in clause.protocol.flows)
    ]
    assert timed
    clause = timed[0]
    flows = [
        {key: value for key, value in one.items() if key != "clocks"}
        for one in clause.protocol.terms["flow"]  # type: ignore[attr-defined]
    ]
    bare = replace(
        clause, protocol=replace(clause.protocol, terms={**clause.protocol.terms, "flow": flows})
    )
    key = Key(YOT, CSC, clause.message_type, "1.0", min(clause.purposes))

    found = widenings({key: [clause]}, {key: [bare]})

    assert {one.words for one in found} == {"clocks of the flow: reads otherwise"}


def test_a_local_flow_has_the_words_of_the_one_above_it() -> None:
    ((above,),) = grants_of(register()).values()
    own = replace(above.protocol, protocol_id="local", tier=3, terms={"title": "Local"})
    key = Key(YOT, CSC, "Check", "1.0", "YJ")

    assert widenings({key: [above]}, {key: [replace(above, protocol=own)]}) == ()


def test_a_clause_that_goes_away_uncovers_no_wider_one() -> None:
    """The first that permits decides what is shown."""
    strict = {"targets": ["Question"], "include": "MANDATORY", "necessity": "To answer"}
    never = {"targets": ["category:health"], "include": "FORBIDDEN", "necessity": "Not needed"}
    narrow = {**WORLD[SHARING]["flow"][0], "id": "narrow", "item": [strict, never]}
    wide = WORLD[SHARING]["flow"][0]

    def both(tables: dict[str, dict[str, Any]]) -> None:
        tables[SHARING]["flow"] = [narrow, wide]

    def order(tables: dict[str, dict[str, Any]]) -> None:
        tables[SHARING]["flow"] = [wide, narrow]

    for after in (register(), register(order)):
        found = [one for one in compare(register(both), after) if one.direction == WIDER]
        assert {one.aspect for one in found} == {"field"}
    assert WIDER not in {one.direction for one in compare(register(order), register(both))}
    assert compare(register(both), register(both)) == ()


DAY = timedelta(days=1)


def narrow_before_wide() -> tuple[Key, Clause, Clause]:
    """Two clauses of which the first keeps back what the second shows, and stands for less long."""
    never = {"targets": ["category:health"], "include": "FORBIDDEN", "necessity": "Not needed"}
    flows = [{**WORLD[SHARING]["flow"][0], "item": WORLD[SHARING]["flow"][0]["item"][:2]}]
    flows = [{**flows[0], "id": "narrow", "item": [*flows[0]["item"], never]}, *flows]
    ((key, (narrow, wide)),) = grants_of(register(protocol(flow=flows))).items()
    begins, ends = wide.stands_from + DAY, wide.stands_until - DAY
    return key, replace(narrow, stands_from=begins, stands_until=ends), wide


def aspects(before: Sequence[Clause], after: Sequence[Clause], key: Key) -> set[str]:
    return {one.aspect for one in widenings({key: before}, {key: after})}


def test_a_clause_uncovers_another_only_where_it_stood_and_as_long_as_it_did() -> None:
    key, narrow, wide = narrow_before_wide()
    later = replace(narrow, stands_from=narrow.stands_from + DAY)
    sooner = replace(narrow, stands_until=narrow.stands_until - DAY)

    assert aspects([narrow, wide], [narrow, wide], key) == set()
    for shorter in (later, sooner):
        assert aspects([narrow, wide], [shorter, wide], key) == {"field"}
        assert aspects([shorter, wide], [narrow, wide], key) == set()  # the second passes it all


def test_a_clause_for_fewer_people_uncovers_another_for_the_rest() -> None:
    key, narrow, wide = narrow_before_wide()
    assert narrow.practitioner is not None
    fewer = replace(narrow, practitioner=replace(narrow.practitioner, authentication="AAL3"))

    assert aspects([narrow, wide], [fewer, wide], key) == {"field"}


def test_a_clause_that_ends_as_it_begins_widens_nothing() -> None:
    key, _, wide = narrow_before_wide()

    assert aspects([], [wide], key) == {"flow"}
    assert aspects([], [replace(wide, stands_until=wide.stands_from)], key) == set()


def test_words_are_compared_for_those_who_sign_and_not_for_those_who_look() -> None:
    item = [{**one, "necessity": "Otherwise"} for one in WORLD[SHARING]["flow"][0]["item"]]
    before, after = register(), register(flow(item=item))

    assert widenings(grants_of(before), grants_of(after)) != ()
    assert compare(before, after) == ()


@pytest.mark.parametrize(
    ("tier", "protocol_id"), [(2, "another"), (3, "checks")], ids=["beside it", "the same"]
)
def test_only_a_local_flow_under_another_has_the_words_of_the_one_above(
    tier: int, protocol_id: str
) -> None:
    ((key, (above,)),) = grants_of(register()).items()
    reads = {**above.protocol.terms, "dpia_ref": "D-2"}
    own = replace(above.protocol, protocol_id=protocol_id, tier=tier, terms=reads)

    assert aspects([above], [replace(above, protocol=own)], key) == {"terms"}


def test_where_no_decision_stands_on_the_first_power_their_order_is_nothing() -> None:
    powers = more_gateways(new_gateway("G2"), new_gateway("G3"))
    before = register(powers, flow(gateways=["CDA-115", "G2"]))
    turned = register(powers, flow(gateways=["G2", "CDA-115"]))

    assert compare(before, turned) == ()


def test_a_power_that_is_new_is_told_once() -> None:
    powers = more_gateways(new_gateway("G2"), new_gateway("G3"))
    asks = flow(consent="EXPLICIT_REQUIRED", gateways=["CDA-115", "G2"])
    after = register(powers, asks, flow(gateways=["G3", "CDA-115"]))

    found = compare(register(powers, asks), after)

    assert [one.words for one in found if one.direction == WIDER] == ["may also rest on G3"]


@pytest.mark.parametrize("model", ["consent", "sensitive_consent"])
def test_consent_in_place_of_a_reason_for_having_none_is_wider(model: str) -> None:
    either = {"consent": "NOT_REQUIRED", "sensitive_consent": "NOT_REQUIRED"}
    reason = flow(**either)

    found = compare(register(reason), register(flow(**{**either, model: "EXPLICIT_REQUIRED"})))

    words = "passes with explicit consent, without a reason for having none"
    assert [one.words for one in found if one.direction == WIDER] == [words]


def test_another_power_first_takes_both_keys_where_a_decision_may_stand_on_it() -> None:
    powers = more_gateways(new_gateway("G2"))
    asks = flow(consent="EXPLICIT_REQUIRED", gateways=["CDA-115", "G2"])
    before = register(powers, asks)

    for names, wider in ((["G2", "CDA-115"], True), (["G2"], True), (["CDA-115"], False)):
        after = register(powers, asks, flow(gateways=names))
        found = {one.aspect for one in compare(before, after) if one.direction == WIDER}
        assert found == ({"gateway"} if wider else set()), names
