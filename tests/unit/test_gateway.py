"""Gateways as the partnership's register has them: dates, routes, carve-outs."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest

from broker.core.gateway import selectors
from broker.core.identity import AgencyId
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.table import Mistake
from broker.edge.registers import load_register
from tests.unit.policy_world import ROOT, gateway, plain, register, table

NOW = datetime(2026, 11, 20, tzinfo=UTC)


@cache
def partnership() -> Register:
    return load_register(ROOT / "protocols")


def of(name: str) -> frozenset[str]:
    return partnership().selectors[AgencyId(name)]


def test_an_agency_is_named_by_its_type_its_flags_and_whom_it_acts_for() -> None:
    agencies = partnership().agencies
    index = agencies[AgencyId("regional-index")]

    assert selectors(index, agencies) == {
        "any",
        "INDEX",
        "flag:listed_16LA",
        "acting_for:relevant_authority_115",
        "acting_for:listed_16LA",
        "acting_for:pcsc_specified",
        "acting_for:health_or_social_care",
    }
    assert selectors(agencies[AgencyId("northern-lights")], agencies) == {"any", "VCS"}


def test_acting_for_an_agency_that_is_gone_gives_nothing() -> None:
    agencies = partnership().agencies
    index = agencies[AgencyId("regional-index")]

    assert selectors(index, {}) == {"any", "INDEX", "flag:listed_16LA"}


@pytest.mark.parametrize(
    ("name", "sender", "recipient", "reason"),
    [
        ("CDA-115", "hylton-school", "sunderland-yot", None),
        ("CDA-115", "sunderland-yot", "hylton-school", "RECIPIENT_NOT_RELEVANT_AUTHORITY"),
        ("CDA-115", "sunderland-yot", "northern-lights", "RECIPIENT_NOT_RELEVANT_AUTHORITY"),
        ("CDA-115", "sunderland-yot", "regional-index", None),
        ("CA89-47", "northern-lights", "sunderland-csc", None),
        ("CA89-47", "sunderland-csc", "northern-lights", None),
        ("CA89-47", "hylton-school", "northumbria-police", "GATEWAY_PARTIES"),
        ("CA89-17", "sunderland-csc", "hylton-school", "GATEWAY_PARTIES"),
        ("CA04-11", "hylton-school", "wearside-nhs", None),
        ("CA04-11", "northern-lights", "wearside-nhs", "GATEWAY_PARTIES"),
        ("PCSC-16", "northumbria-police", "sunderland-yot", None),
        ("PCSC-16", "northern-lights", "sunderland-yot", "GATEWAY_PARTIES"),
        ("VAC-OPEN", "gateshead-hr", "ne-jobs-portal", None),
        ("VAC-OPEN", "sunderland-csc", "ne-jobs-portal", "GATEWAY_PARTIES"),
    ],
)
def test_the_register_of_gateways_reaches_whom_the_statute_names(
    name: str, sender: str, recipient: str, reason: str | None
) -> None:
    refusal = partnership().gateways[name].parties_refusal(of(sender), of(recipient))

    assert refusal is (None if reason is None else Reason[reason])


def test_the_serious_violence_gateway_carries_no_patient_information() -> None:
    row = partnership().gateways["PCSC-16"]
    police, team = of("northumbria-police"), of("sunderland-yot")

    assert row.carved_out(police, team, frozenset({"identity", "offending"})) is None
    assert row.carved_out(police, team, frozenset({"identity", "health"})) is not None
    assert row.carved_out(police, team, frozenset({"sensitive-involvement"})) is not None
    assert row.carved_out(police, team, None) is not None
    assert row.asks_categories


@pytest.mark.parametrize("sender", ["sunderland-csc", "wearside-nhs"])
def test_nor_anything_personal_from_a_health_or_social_care_authority(sender: str) -> None:
    row = partnership().gateways["PCSC-16"]

    assert row.carved_out(of(sender), of("northumbria-police"), frozenset()) is not None


def test_the_serious_violence_gateway_began_on_31_january_2023() -> None:
    row = partnership().gateways["PCSC-16"]
    first = datetime(2023, 1, 31, tzinfo=UTC)

    assert row.in_force(first)
    assert not row.in_force(first - timedelta(microseconds=1))


@pytest.mark.parametrize("name", ["CA04-16LA", "CA04-16LC"])
def test_what_is_not_known_to_have_commenced_is_not_in_force(name: str) -> None:
    assert not partnership().gateways[name].in_force(NOW)


@pytest.mark.parametrize("name", ["CDA-37", "CDA-39", "CA04-12", "DPA-S1-18", "GDPR-6-1-ea"])
def test_an_aim_a_condition_or_a_spent_power_bears_no_flow(name: str) -> None:
    assert not partnership().gateways[name].bears_flow


def test_every_gateway_of_the_domain_is_there() -> None:
    expected = """CA89-17 CA89-47 CA89-27 CA04-10 CA04-11 CA04-16LA CA04-16LC CA04-12 EA02-175
    EA96-436A CDA-37 CDA-38 CDA-39 CDA-115 CDA-66ZA PCSC-16 HA96-208 DPA-S1-18 GDPR-6-1-ea
    VAC-OPEN"""

    assert set(expected.split()) <= set(partnership().gateways)
    assert all(row.source for row in partnership().gateways.values())


def test_a_gateway_that_bears_a_flow_needs_a_route_and_purposes() -> None:
    for change in (gateway(route=None), gateway(purposes=None)):
        with pytest.raises(Mistake, match="needs a route and purposes"):
            register(change)


def test_a_carve_out_says_what_is_carved_out() -> None:
    with pytest.raises(Mistake, match="say what is carved out"):
        register(gateway(carve_out=[{"text": "nothing"}]))


def test_a_gateway_stands_in_the_register_once() -> None:
    with pytest.raises(Mistake, match="stands here twice"):
        register(gateway(1, id="CDA-115"))


def test_a_misspelt_agency_type_is_found() -> None:
    with pytest.raises(Mistake, match="did you mean LA_CSC"):
        register(gateway(route=[{"from": ["LA_CSK"], "to": ["any"]}]))


def test_selectors_are_made_when_the_register_is() -> None:
    held = register(table("agencies/csc.toml", flags={"pcsc_specified": True}))

    assert held.selectors[AgencyId("csc")] == {"any", "LA_CSC", "flag:pcsc_specified"}
    assert plain().gateways["CDA-115"].in_force(datetime(2020, 1, 1, tzinfo=UTC))
