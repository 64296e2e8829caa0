import tomllib
from dataclasses import replace
from datetime import date
from typing import Any

from broker.core.assembly import build_register
from broker.core.lint import lint
from broker.core.scaffold import Wish, gateway_for, parent_for, scaffold
from tests.unit.policy_world import (
    CHARITY,
    CSC,
    NOW,
    YOT,
    Change,
    files,
    gateway,
    plain,
    register,
    table,
)

WISH = Wish(
    protocol_id="draft",
    title='A team says "look" to social care',
    sender=YOT,
    recipient=CSC,
    message_type="Check",
    version="1.0",
    purpose="YJ",
    statement="To assess a child",
    items={"category:identity": "To know who", "Question": "To answer it"},
    subject="CHILD",
    consent="NOT_REQUIRED",
    begins=date(2026, 6, 2),
)
KNOWN = {("Check", "1.0"): {"Subject": "identity", "Question": "safeguarding"}}


def test_a_draft_can_be_read_and_lint_has_nothing_against_it() -> None:
    content: dict[str, Any] = tomllib.loads(scaffold(WISH, "CDA-115", "community@1"))
    held = build_register({**files(), "sharing/draft.v1.toml": content}, {}, {})

    draft = held.protocols["draft@1"]
    codes = {one.code for one in lint(held, KNOWN, NOW) if one.protocol == "draft@1"}

    assert draft.title == WISH.title
    assert draft.review_date == date(2027, 6, 2)
    assert {rule.target for rule in draft.flows[0].items} == set(WISH.items)
    assert codes <= {"not-in-force", "never-relied-on", "parent-not-in-force"}


def test_the_power_is_one_that_carries_it() -> None:
    found = gateway_for(WISH, plain(), NOW)

    assert found is not None
    assert found.gateway_id == "CDA-115"
    assert gateway_for(replace(WISH, recipient=CHARITY), plain(), NOW) is None
    assert gateway_for(replace(WISH, purpose="CP"), plain(), NOW) is None
    carved: Change = gateway(carve_out=[{"from": ["YOT"], "text": "not from such"}])
    assert gateway_for(WISH, register(carved), NOW) is None


def test_the_parent_binds_both() -> None:
    assert parent_for(WISH, plain()) == "community@1"
    assert parent_for(replace(WISH, sender=plain().agencies[CSC].agency_id), plain()) is not None
    stranger = table("sharing/community.v1.toml", tier=0, parent=None)
    assert parent_for(WISH, register(stranger, _without_checks)) is None


def _without_checks(tables: Any) -> None:
    del tables["sharing/checks.v1.toml"]
