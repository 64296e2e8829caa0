"""A decision explained step by step, and an item of a payload rule by rule."""

import pytest

from broker.core import remedy
from broker.core.explanation import flow_of, item_of, steps_of, texts_of
from broker.core.outcome import FieldRule, Permitted
from broker.core.sharing import Flow
from tests.unit.policy_world import POLICE, decided, plain, register
from tests.unit.policy_world import flow as change_flow

CATEGORIES = {
    "Child": "identity",
    "Child/Name": "identity",
    "Child/Address": "address",
    "Child/Address/Line": "address",
    "Health": "health",
    "Health/Note": "health",
    "Question": "safeguarding",
}


def flow(*rules: FieldRule) -> Flow:
    signed = plain().protocols["checks@1"].flows[0]
    values = {name: getattr(signed, name) for name in Flow.__slots__}
    necessity = {rule.target: f"because of {rule.target}" for rule in rules}
    return Flow(**{**values, "items": rules, "necessity": necessity})


def test_a_permitted_message_passed_all_ten_steps() -> None:
    steps = steps_of(decided())

    assert [one.number for one in steps] == list(range(1, 11))
    assert {one.outcome for one in steps} == {"passed"}
    assert steps[2].words == "checks@1, flow check"
    assert steps[3].words == "CDA-115"


def test_what_was_stripped_and_warned_of_is_said() -> None:
    decision = decided(shielded=True, has_identifier=False, omission_reason="DETRIMENTAL")
    assert isinstance(decision, Permitted)

    steps = steps_of(decision)

    assert steps[7].words == "address and location are removed"
    assert steps[9].words == remedy.UNPLACED


def test_a_refused_message_stopped_at_one_step() -> None:
    steps = steps_of(decided(practitioner=None))

    assert [one.outcome for one in steps] == ["passed"] * 4 + ["refused"] + ["not reached"] * 5
    assert "practitioner" in steps[4].words
    assert not any(one.words for one in steps if one.outcome != "refused")


def test_the_flow_a_decision_names_is_found() -> None:
    register = plain()

    permitted, refused = flow_of(decided(), register), flow_of(decided(purpose="CP"), register)

    assert permitted is refused is register.protocols["checks@1"].flows[0]
    assert flow_of(decided(recipient=POLICE), register) is None


@pytest.mark.parametrize(
    ("path", "action", "words"),
    [
        ("Child/Name", "KEPT", "because of category:identity"),
        ("Child/Address/Line", "REMOVED", "because of Child/Address"),
        ("Child/Address", "REMOVED", "because of Child/Address"),
        ("Question", "MASKED", "because of Question"),
        ("Health/Note", "REMOVED", "no rule reaches it: forbidden"),
        ("Unheard/Of", "REMOVED", "no rule reaches it: forbidden"),
    ],
)
def test_an_item_is_explained_by_the_rules_that_reach_it(
    path: str, action: str, words: str
) -> None:
    asked = flow(
        FieldRule("category:identity", "ALLOWED"),
        FieldRule("Child/Address", "FORBIDDEN"),
        FieldRule("Question", "ALLOWED", "MASK"),
    )

    item = item_of(asked, path, CATEGORIES)

    assert (item.action, item.necessity) == (action, words)
    assert item.category == CATEGORIES.get(path, "")


def test_an_element_of_which_a_part_stays_says_so() -> None:
    item = item_of(flow(FieldRule("Health/Note", "ALLOWED")), "Health", CATEGORIES)

    assert item.action == "some of what is in it stays"
    assert item.rules == ()


def test_a_category_that_is_forbidden_around_an_item_explains_it() -> None:
    asked = flow(FieldRule("category:identity", "FORBIDDEN"), FieldRule("Child/Address", "ALLOWED"))

    item = item_of(asked, "Child/Address/Line", CATEGORIES)

    assert (item.action, item.necessity) == ("REMOVED", "because of category:identity")


def test_each_step_quotes_what_was_agreed() -> None:
    texts = texts_of(decided(), plain())

    assert texts[3] == "A team asks Check/1.0, from YOT to csc, for YJ: To assess"
    assert texts[4].startswith("rests on CDA-115 (Statute CDA-115), with DPA-S1-18")
    assert "in role YOT_OFFICER" in texts[5]
    assert texts[6].startswith("consent is not asked")
    assert texts[8].endswith("address and location are removed")
    assert texts[9] == ("must hold Question; may hold category:identity; never category:health")
    assert texts_of(decided(purpose="CP"), plain()) == texts
    assert texts_of(decided(recipient=POLICE), plain()) == {}


def test_what_a_clause_does_not_ask_is_said_too() -> None:
    changes = (
        change_flow(
            practitioner=None,
            conditions=None,
            shielded="REFUSE",
            consent="EXPLICIT_REQUIRED",
            sensitive_consent="EXPLICIT_OR_HARM",
            item=[{"targets": ["Question"], "include": "ALLOWED", "necessity": "To answer"}],
        ),
    )
    texts = texts_of(decided(*changes), register(*changes))

    assert texts[4] == "rests on CDA-115 (Statute CDA-115)"
    assert texts[5] == "nobody need be named"
    assert "is needed (as the lawful basis under UK GDPR); for" in texts[6]
    assert "for sensitive services, the person's explicit consent is needed, or" in texts[6]
    assert texts[8].endswith("it is refused")
    assert texts[9] == "may hold Question"
