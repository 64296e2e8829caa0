"""Every row of the register of gateways: who, to whom, for what, from which day, and what it asks.

The expectations were written from the statutes as the domain lists them, not from the file.
"""

from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest
from lxml import etree

from broker.core.gateway import Gateway
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.edge.registers import load_register
from tests.unit.policy_world import ROOT

LONDON = ZoneInfo("Europe/London")
MILLISECOND = timedelta(milliseconds=1)
LISTED, RELEVANT, SPECIFIED = (
    "flag:listed_16LA",
    "flag:relevant_authority_115",
    "flag:pcsc_specified",
)
ACTS, HEALTHCARE = "acting_for:relevant_authority_115", "flag:health_or_social_care"


@cache
def partnership() -> Register:
    return load_register(ROOT / "protocols")


def row(name: str) -> Gateway:
    return partnership().gateways[name]


def body(*ways: str) -> frozenset[str]:
    return frozenset({"any", *ways})


FIRST_DAYS = {
    "CA89-17": date(1991, 10, 14),
    "CA89-47": date(1991, 10, 14),
    "CA89-27": date(1991, 10, 14),
    "CA04-10": date(2005, 4, 1),
    "CA04-11": date(2005, 10, 1),
    "CA04-12": date(2006, 1, 1),
    "EA02-175": date(2004, 6, 1),
    "EA96-436A": date(2007, 2, 27),
    "CDA-37": date(1998, 9, 30),
    "CDA-38": date(2000, 4, 1),
    "CDA-39": date(2000, 4, 1),
    "CDA-115": date(1998, 9, 30),
    "CDA-66ZA": date(2013, 4, 8),
    "PCSC-16": date(2023, 1, 31),
    "HA96-208": date(1997, 1, 20),
    "DPA-S1-18": date(2018, 5, 25),
    "DPA-S1-6": date(2018, 5, 25),
    "DPA-S1-10": date(2018, 5, 25),
    "DPA-P3": date(2018, 5, 25),
    "GDPR-9-2-h": date(2018, 5, 25),
    "GDPR-6-1-a": date(2018, 5, 25),
    "GDPR-6-1-c": date(2018, 5, 25),
    "GDPR-6-1-d": date(2018, 5, 25),
    "GDPR-6-1-e": date(2018, 5, 25),
    "GDPR-6-1-f": date(2018, 5, 25),
    "GDPR-19": date(2018, 5, 25),
    "GDPR-28": date(2018, 5, 25),
    "GDPR-6-1-ea": date(2026, 2, 5),
    "GDPR-6-1-ea-1": date(2026, 2, 5),
    "VAC-OPEN": date(2000, 1, 1),
}
NOT_COMMENCED = {"CA04-16LA", "CA04-16LC"}


@pytest.mark.parametrize("name", sorted(FIRST_DAYS))
def test_a_row_is_in_force_from_its_first_day_and_not_the_day_before(name: str) -> None:
    day = FIRST_DAYS[name]
    first = datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)

    assert row(name).in_force(first)
    assert row(name).in_force(first + timedelta(days=1))
    assert not row(name).in_force(first - MILLISECOND)
    assert not row(name).in_force(first - timedelta(days=1))


def test_no_row_lacks_a_first_day_but_those_that_have_not_commenced() -> None:
    rows = partnership().gateways

    assert set(rows) == FIRST_DAYS.keys() | NOT_COMMENCED
    assert {name for name, one in rows.items() if one.in_force_from is None} == NOT_COMMENCED


BEARS = [
    ("CA89-17", "VCS", "LA_CSC", "CIN"),
    ("CA89-47", "VCS", "LA_CSC", "CP"),
    ("CA89-47", "LA_CSC", "SCHOOL", "CP"),
    ("CA89-27", "LA_CSC", "LA_EDUCATION", "CIN"),
    ("CA89-27", "LA_CSC", "NHS_ACUTE", "CP"),
    ("CA04-10", "LA_CSC", "POLICE", "EH"),
    ("CA04-10", "YOT", "LA_EDUCATION", "INDEX"),
    ("CA04-11", LISTED, LISTED, "CP"),
    ("CA04-11", LISTED, LISTED, "EH"),
    ("CA04-16LA", LISTED, LISTED, "CP"),
    ("EA02-175", "SCHOOL", "LA_EDUCATION", "CP"),
    ("EA02-175", "LA_EDUCATION", "SCHOOL", "INDEX"),
    ("EA96-436A", "GP", "LA_EDUCATION", "CME"),
    ("CDA-38", "LA_CSC", "PROBATION", "YJ"),
    ("CDA-38", "POLICE", "LA_CSC", "YJ"),
    ("CDA-38", "COURT", "YOT", "YJ-COURT"),
    ("CDA-38", "YOT", "YOT", "YJ-CUSTODY"),
    ("CDA-38", "YOT", "YCS_SECURE", "YJ-CUSTODY"),
    ("CDA-115", "VCS", RELEVANT, "YJ"),
    ("CDA-115", "POLICE", ACTS, "CRIMEPREV"),
    ("CDA-66ZA", "POLICE", "YOT", "YJ-OOCD"),
    ("PCSC-16", SPECIFIED, SPECIFIED, "SVD"),
    ("PCSC-16", "SCHOOL", "YCS_SECURE", "SVD"),
    ("HA96-208", "LA_HOUSING", "LA_HOUSING", "TA-NOTICE"),
    ("GDPR-19", "SCHOOL", "LA_CSC", "SAR"),
    ("VAC-OPEN", "LA_HR", "JOB_PORTAL", "JOBS"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "sender", "recipient", "purpose"), BEARS)
def test_a_row_bears_what_the_statute_says(
    name: str, sender: str, recipient: str, purpose: str
) -> None:
    held = row(name)

    assert held.bears_flow
    assert held.parties_refusal(body(sender), body(recipient)) is None
    assert held.serves(purpose)


DOES_NOT = [
    ("CA89-17", "LA_CSC", "VCS", "GATEWAY_PARTIES"),  # one way only
    ("CA89-47", "SCHOOL", "POLICE", "GATEWAY_PARTIES"),  # the authority is on one side
    ("CA89-27", "SCHOOL", "LA_CSC", "GATEWAY_PARTIES"),  # the authority asks
    ("CA89-27", "LA_CSC", "POLICE", "GATEWAY_PARTIES"),
    ("CA04-10", "POLICE", "SCHOOL", "GATEWAY_PARTIES"),
    ("CA04-11", LISTED, "VCS", "GATEWAY_PARTIES"),
    ("CA04-16LA", "VCS", LISTED, "GATEWAY_PARTIES"),
    ("EA02-175", "SCHOOL", "POLICE", "GATEWAY_PARTIES"),
    ("EA96-436A", "LA_EDUCATION", "GP", "GATEWAY_PARTIES"),
    ("CDA-38", "SCHOOL", "YOT", "GATEWAY_PARTIES"),
    ("CDA-38", "VCS", "LA_CSC", "GATEWAY_PARTIES"),
    ("CDA-115", "POLICE", "VCS", "RECIPIENT_NOT_RELEVANT_AUTHORITY"),
    ("CDA-66ZA", "YOT", "POLICE", "GATEWAY_PARTIES"),
    ("PCSC-16", "VCS", SPECIFIED, "GATEWAY_PARTIES"),
    ("HA96-208", "LA_CSC", "LA_HOUSING", "GATEWAY_PARTIES"),
    ("VAC-OPEN", "LA_CSC", "JOB_PORTAL", "GATEWAY_PARTIES"),
]


@pytest.mark.parametrize(("name", "sender", "recipient", "reason"), DOES_NOT)
def test_a_row_does_not_bear_what_the_statute_does_not_say(
    name: str, sender: str, recipient: str, reason: str
) -> None:
    assert row(name).parties_refusal(body(sender), body(recipient)) is Reason[reason]


def test_a_voluntary_body_is_reached_under_section_115_while_it_acts_for_an_authority() -> None:
    assert row("CDA-115").parties_refusal(body("POLICE"), body("VCS", ACTS)) is None


def test_the_serious_violence_gateway_leaves_out_health_on_either_ground() -> None:
    held, school, police = row("PCSC-16"), body("SCHOOL"), body("POLICE", SPECIFIED)
    hospital = body("NHS_ACUTE", SPECIFIED, HEALTHCARE)

    assert held.carved_out(school, police, frozenset({"identity"})) is None
    assert held.carved_out(school, hospital, frozenset({"identity"})) is None
    assert held.carved_out(hospital, police, frozenset({"identity"})) is not None
    assert held.carved_out(school, police, frozenset({"health"})) is not None
    assert held.carved_out(school, police, frozenset({"sensitive-involvement"})) is not None


def test_the_duty_to_share_asks_for_relevance_and_the_detriment_test() -> None:
    asking = {name for name, one in partnership().gateways.items() if one.detriment_test}

    assert asking == {"CA04-16LA"}
    assert {name for name, one in partnership().gateways.items() if one.relevance_test} == asking


@pytest.mark.parametrize(
    ("demand", "rows"),
    [("asks_consent_reason", {"DPA-S1-18"}), ("asks_public_task", {"GDPR-6-1-ea-1"})],
)
def test_a_basis_or_condition_demands_what_it_must(demand: str, rows: set[str]) -> None:
    assert {name for name, one in partnership().gateways.items() if getattr(one, demand)} == rows


def test_a_basis_or_condition_bears_nothing_by_itself_and_is_asked_for_besides() -> None:
    beside = {name for name, one in partnership().gateways.items() if one.stands_beside}

    assert beside == {
        "DPA-S1-18", "DPA-S1-6", "DPA-S1-10", "DPA-P3", "GDPR-9-2-h", "GDPR-6-1-a", "GDPR-6-1-c",
        "GDPR-6-1-d", "GDPR-6-1-e", "GDPR-6-1-f", "GDPR-6-1-ea", "GDPR-6-1-ea-1",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["GDPR-6-1-ea", "GDPR-6-1-f"])
def test_what_is_for_other_than_public_bodies_is_not_meant_for_them(name: str) -> None:
    assert row(name).meant_for(body("VCS"), body("LA_CSC"))
    assert not row(name).meant_for(body("LA_CSC"), body("VCS"))


def test_part_three_is_for_competent_authorities() -> None:
    assert row("DPA-P3").meant_for(body("flag:competent_authority_le"), body("YOT"))
    assert not row("DPA-P3").meant_for(body("YOT"), body("POLICE"))
    assert row("GDPR-6-1-e").meant_for(body("YOT"), body("POLICE"))


def test_every_condition_that_a_message_can_state_has_its_row() -> None:
    schema = etree.parse(ROOT / "schemas/base/1.0/base.xsd")
    codes = [
        one.get("value")
        for kind in schema.iter("{*}simpleType")
        if kind.get("name") == "ConditionCode"
        for one in kind.iter("{*}enumeration")
    ]

    assert codes
    assert set(codes) <= set(partnership().gateways)
