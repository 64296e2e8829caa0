"""What nobody used of an agreement, and the tighter one that leaves it out."""

import copy
from dataclasses import replace
from typing import Any

from broker.core.drafting import parse_draft, with_drafts
from broker.core.drift import FlowDrift, Usage, drift_of, tighter
from broker.core.identity import AgencyId
from broker.core.protocol import Register
from broker.core.recorded import Past
from broker.core.sharing import SharingProtocol
from broker.core.whatif import Outcome, PastDecision
from broker.core.widening import compare
from tests.unit.policy_world import CSC, FACTS, NOW, SHARING, Tables, flow, plain, register

KNOWN = {
    "Question": "safeguarding",
    "Subject": "identity",
    "Subject/Name": "identity",
    "Subject/Number": "identity",
    "Clinic": "health",
    "Alias": "identity",
    "Alias/Name": "identity",
}
ITEMS = [
    {"targets": ["category:identity", "Alias"], "include": "ALLOWED", "necessity": "To know who"},
    {"targets": ["Subject/Number"], "include": "ALLOWED", "necessity": "To be sure"},
    {"targets": ["Question"], "include": "MANDATORY", "necessity": "To answer"},
    {"targets": ["category:health"], "include": "FORBIDDEN", "necessity": "Not needed"},
]


class Schemas:
    def categories(self, message_type: str, version: str) -> dict[str, str]:
        assert message_type
        assert version
        return KNOWN


def used(*paths: str, outcome: Outcome | None = None, **facts: Any) -> PastDecision:
    past = Past(replace(FACTS, **{"paths": frozenset(paths), **facts}), NOW)
    return PastDecision(past, CSC, outcome or Outcome("", "checks@1", "check"))


def usage(*decisions: PastDecision) -> Usage:
    made = Usage()
    for one in decisions:
        made.add(one)
    return made


def wide() -> Register:
    """Two flows; the first for two types and two purposes."""

    def more(tables: Tables) -> None:
        signed = tables[SHARING]
        signed["purpose"].append({"code": "CP", "statement": "To protect", "benefits": "Safety"})
        signed["flow"].append(copy.deepcopy(signed["flow"][0]) | {"id": "spare"})

    first = flow(message_types=["Check/1.0", "Reply/1.0"], purposes=["YJ", "CP"], item=ITEMS)
    return register(more, first)


def agreement(held: Register) -> SharingProtocol:
    return held.protocols["checks@1"]


def test_what_nobody_used_is_told_flow_by_flow() -> None:
    seen = usage(
        used("Question", "Subject", "Subject/Name"),
        used(),
        used(outcome=Outcome("policy.no_isp", "", "")),
        used(paths=None),
    )

    found = drift_of(agreement(wide()), seen, Schemas())

    assert seen.messages == 3
    assert found == (
        FlowDrift("check", 3, ("Reply/1.0",), ("CP",), ("Alias", "Subject/Number")),
        FlowDrift("spare", 0, (), (), ()),
    )
    assert [one.unused for one in found] == [False, True]
    assert seen.flows["checks@1", "check"].pairs == {(AgencyId("yot"), CSC): 3}


def test_a_mandatory_item_is_not_proposed_away() -> None:
    found = drift_of(agreement(wide()), usage(used()), Schemas())

    assert found[0].paths == ("Alias", "Subject")


def test_the_tighter_agreement_is_narrower_and_wider_in_nothing() -> None:
    held = wide()
    seen = usage(used("Question", "Subject", "Subject/Name"))

    content = tighter(agreement(held), drift_of(agreement(held), seen, Schemas()))

    assert content is not None
    assert (content["version"], content["status"]) == (2, "DRAFT")
    assert [one["id"] for one in content["flow"]] == ["check"]
    assert [one["code"] for one in content["purpose"]] == ["YJ"]
    assert "signatory" not in content
    items = content["flow"][0]["item"]
    assert items[0]["targets"] == ["category:identity"]
    assert items[-1]["targets"] == ["Alias", "Subject/Number"]
    assert len(items) == 4  # the one that allowed nothing else is gone
    draft = with_drafts(held, [parse_draft(content, held, "proposal")])
    signed = with_drafts(held, [agreement(held)])
    assert {change.direction for change in compare(signed, draft)} == {"narrower"}


def test_where_all_or_nothing_was_used_nothing_is_proposed() -> None:
    seen = usage(used(*KNOWN))

    assert tighter(agreement(plain()), drift_of(agreement(plain()), seen, Schemas())) is None
    assert tighter(agreement(plain()), drift_of(agreement(plain()), usage(), Schemas())) is None
    assert drift_of(plain().protocols["community@1"], usage(), Schemas()) == ()
