"""A draft counts as signed and in force from the beginning, in place of the version before."""

import copy
from dataclasses import replace
from datetime import date
from typing import Any

import pytest

from broker.core.decision import decide_facts
from broker.core.drafting import changed, parse_draft, with_drafts
from broker.core.outcome import Permitted, Refused
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.table import Mistake
from tests.unit.policy_world import (
    CSC,
    FACTS,
    NOW,
    SHARING,
    WORLD,
    YOT,
    amendment,
    plain,
    register,
)


def draft(**values: Any) -> dict[str, Any]:
    return {
        **copy.deepcopy(WORLD[SHARING]),
        "version": 2,
        "status": "DRAFT",
        "signatory": [],
        "effective_from": date(2031, 1, 1),
        **values,
    }


def drafted(**values: Any) -> Register:
    return with_drafts(plain(), [parse_draft(draft(**values), plain(), "draft.toml")])


def test_an_unsigned_draft_of_a_later_day_permits_today() -> None:
    decision = decide_facts(FACTS, CSC, drafted(), (), NOW)

    assert isinstance(decision, Permitted)
    assert decision.version == 2
    assert [one.version for one in drafted().protocols.values() if one.tier == 2] == [2]


def test_a_suspended_draft_stays_so_and_its_end_counts() -> None:
    for values, reason in (
        ({"status": "SUSPENDED"}, Reason.ISP_SUSPENDED),
        ({"last_day": date(2026, 5, 1)}, Reason.ISP_EXPIRED),
    ):
        decision = decide_facts(FACTS, CSC, drafted(**values), (), NOW)

        assert isinstance(decision, Refused)
        assert decision.reason is reason


def test_what_stands_on_the_version_before_stands_on_the_draft() -> None:
    community = replace(plain().protocols["community@1"], version=2)

    made = with_drafts(plain(), [community])

    assert made.protocols["checks@1"].parent == "community@2"
    assert made.clauses(YOT, CSC, "Check")[0].chain[1].version == 2


def test_a_draft_that_names_what_is_not_there_is_a_mistake() -> None:
    with pytest.raises(Mistake, match=r"draft\.toml"):
        parse_draft(draft(lead_organisation="nobody"), plain(), "draft.toml")


def test_the_newest_version_of_what_differs_is_what_changed() -> None:
    assert changed(plain(), register()) == ()
    amended = register(amendment(2), amendment(3))

    assert [one.reference for one in changed(plain(), amended)] == ["checks@3"]
