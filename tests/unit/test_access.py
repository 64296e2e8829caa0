"""Which agencies hear that others were shown that they work with a child."""

import pytest

from broker.core.access import controllers_shown, names_controllers
from broker.core.message import ValidMessage
from tests.unit.policy_world import message


def answer(*agencies: str, lead: str = "", message_type: str = "WhoElseResponse") -> ValidMessage:
    inner = "".join(
        f"<Involvement><Contact><AgencyId>{name}</AgencyId></Contact></Involvement>"
        for name in agencies
    )
    inner += f"<LeadProfessional><AgencyId>{lead}</AgencyId></LeadProfessional>" if lead else ""
    payload = f'<{message_type} xmlns="urn:x">{inner}<Involvement/></{message_type}>'
    return message(payload, message_type=message_type)


def test_every_agency_that_is_named_hears_of_it_once() -> None:
    shown = controllers_shown(answer("a-school", "b-yot", "a-school", lead="c-csc"), ())

    assert shown == {"a-school", "b-yot", "c-csc"}


@pytest.mark.parametrize(
    ("withheld", "told"),
    [
        (("Involvement[1]",), {"b-yot", "c-csc"}),
        (("Involvement[2]",), {"a-school", "c-csc"}),
        (("LeadProfessional",), {"a-school", "b-yot"}),
        (
            ("Involvement[1]/Contact/AgencyId", "Involvement[2]/Contact"),
            {"a-school", "b-yot", "c-csc"},
        ),
    ],
)
def test_what_was_withheld_as_a_whole_was_not_shown(
    withheld: tuple[str, ...], told: set[str]
) -> None:
    assert controllers_shown(answer("a-school", "b-yot", lead="c-csc"), withheld) == told


def test_one_that_stands_alone_is_withheld_without_a_position() -> None:
    alone = message(
        '<WhoElseResponse xmlns="urn:x"><Involvement><Contact><AgencyId>a-school</AgencyId>'
        "</Contact></Involvement></WhoElseResponse>",
        message_type="WhoElseResponse",
    )

    assert controllers_shown(alone, ("Involvement",)) == set()
    assert controllers_shown(alone, ()) == {"a-school"}


def test_what_is_no_agency_and_what_names_none_tells_nobody() -> None:
    assert controllers_shown(answer("", "Not An Agency"), ()) == set()
    assert controllers_shown(answer("a-school", message_type="Referral"), ()) == set()
    assert names_controllers("WhoElseResponse")
    assert not names_controllers("Referral")
