"""A made-up message shows each change: it fares one way before and another after."""

import copy
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any

import pytest

from broker.core.contrast import Contrast, Example, grouped
from broker.core.drafting import parse_draft, with_drafts
from broker.core.envelope import PAYLOAD, parse, read_header
from broker.core.protocol import Register
from broker.core.schema import SchemaSet
from broker.core.widening import Change, compare
from broker.edge.registers import load_register
from broker.edge.schemas import load_schemas
from tests.unit.policy_world import ROOT

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
Content = dict[str, Any]


@cache
def live() -> Register:
    return load_register(ROOT / "protocols")


@cache
def schemas() -> SchemaSet:
    return load_schemas(ROOT / "schemas")


def side(name: str, content: Content) -> Register:
    return with_drafts(live(), [parse_draft(content, live(), name)])


def content(name: str) -> Content:
    return copy.deepcopy(dict(live().protocols[f"{name}@1"].terms))


def examples(old: Content, new: Content) -> list[tuple[Change, Example | None]]:
    before, after = side("old", old), side("new", new)
    contrast = Contrast(before, after, schemas())
    return [
        (one.change, contrast.example(one.change, NOW)) for one in grouped(compare(before, after))
    ]


def changed(name: str, **values: Any) -> list[tuple[Change, Example | None]]:
    """What changing the first flow of an agreement brings, with an example for each."""
    new = content(name)
    new["flow"][0] |= values
    return examples(content(name), new)


def only(found: list[tuple[Change, Example | None]]) -> tuple[Change, Example]:
    ((change, example),) = found
    assert example is not None
    return change, example


def test_a_flow_that_is_added_passes_anew_and_the_same_change_back_stops() -> None:
    old, new = content("ne-referrals"), content("ne-referrals")
    old["flow"] = [flow for flow in old["flow"] if flow["id"] != "early-help"]

    change, example = only(examples(old, new))
    assert (change.direction, change.aspect) == ("wider", "flow")
    assert example.consent
    assert example.before.outcome.reason == "policy.purpose_not_covered"
    assert example.after.outcome.permitted
    change, example = only(examples(new, old))
    assert change.direction == "narrower"
    assert example.before.outcome.permitted
    assert example.after.outcome.reason == "policy.purpose_not_covered"


def test_where_consent_is_no_longer_asked_nobody_consented() -> None:
    old, new = content("ne-referrals"), content("ne-referrals")
    asks = next(flow for flow in new["flow"] if flow["id"] == "early-help")
    asks["consent"] = "INFORMED_ONLY"

    found = examples(old, new)

    change, example = found[0]
    assert change.aspect == "consent"
    assert example is not None
    assert not example.consent
    assert example.before.outcome.reason == "policy.no_consent"


def test_an_item_that_is_withheld_from_now_on_is_shown_by_a_message_that_holds_it() -> None:
    new = content("ne-referrals")
    new["flow"][0]["item"][0]["targets"].remove("category:health")

    change, example = only(examples(content("ne-referrals"), new))

    assert (change.direction, change.aspect) == ("narrower", "field")
    assert example.before.withheld == ()
    assert any("GP" in path for path in example.after.withheld)
    payload = next(iter(next(iter(parse(example.envelope).iter(PAYLOAD)))))
    schemas().validate("Referral", "1.0", payload)
    assert read_header(parse(example.envelope)).sender == change.key.sender


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ({"roles": ["ONE"]}, "policy.practitioner"),
        (
            {"clearances": ["HIGH"], "authentication": "AAL3", "roles": ["ONE"]},
            "policy.practitioner",
        ),
        ({"reason_for_access": True}, "policy.practitioner"),
    ],
)
def test_a_practitioner_who_is_asked_more_of(rule: Content, reason: str) -> None:
    old = content("ne-referrals")
    old["flow"][0]["practitioner"] = {}
    new = copy.deepcopy(old)
    new["flow"][0]["practitioner"] = rule

    for change, example in examples(old, new):
        assert change.direction == "narrower"
        assert example is not None
        assert example.after.outcome.reason == reason
        assert example.before.outcome.permitted


def test_where_much_is_asked_of_the_practitioner_the_example_says_it_all() -> None:
    old = content("ne-referrals")
    old["flow"][0]["practitioner"] = {"authentication": "AAL2", "reason_for_access": True}
    new = copy.deepcopy(old)
    new["flow"][0]["practitioner"]["authentication"] = "AAL3"

    change, example = only(examples(old, new))

    assert change.words
    header = read_header(parse(example.envelope))
    assert header.practitioner is not None
    assert header.practitioner.authentication == "AAL2"
    assert header.reason_for_access == "ASSESSMENT"


def test_a_date_is_shown_by_a_message_of_its_day() -> None:
    old, new = content("ne-referrals"), content("ne-referrals")
    for one in (old, new):
        one["flow"] = one["flow"][:1]
    old["last_day"] = date(2027, 1, 1)
    new["last_day"] = date(2027, 6, 1)

    for change, example in examples(old, new):
        assert change.aspect == "dates"
        assert example is not None
        assert example.before.outcome.reason == "policy.isp_expired"
        assert example.at > NOW + timedelta(days=30)


def test_what_cannot_be_made_up_has_no_example() -> None:
    consent = changed("ne-referrals", consent="INFORMED_ONLY", sensitive_consent="NOT_REQUIRED")

    assert consent
    assert {example for _, example in consent} == {None}


def test_a_type_without_samples_has_no_example() -> None:
    new = content("ne-referrals")
    new["flow"][0]["message_types"] = ["Referral/1.0", "Unheard/1.0"]

    found = examples(content("ne-referrals"), new)

    assert [one for one in found if one[0].key.message_type == "Unheard"]
    assert all(example is None for _, example in found)


def test_what_differs_only_in_whom_it_concerns_is_told_once() -> None:
    new = content("ne-referrals")
    new["flow"][0]["item"][0]["targets"].remove("category:health")
    before, after = side("old", content("ne-referrals")), side("new", new)

    (group,) = grouped(compare(before, after))

    assert len(group.keys) == len(compare(before, after)) > 5
    assert group.change.key == group.keys[0]
