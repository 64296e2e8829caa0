"""Which flows stop by a day, why, and whom to ask."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from broker.core.agency import RegisteredKey
from broker.core.forecast import Stop, signing_days, stops, weekly
from broker.core.identity import AgencyId
from broker.core.policy_log import Act
from broker.core.protocol import Register
from broker.core.table import london_midnight
from tests.unit.policy_world import (
    CSC,
    NOW,
    SHARING,
    YOT,
    Change,
    Tables,
    amendment,
    flow,
    gateway,
    more_gateways,
    new_gateway,
    plain,
    protocol,
    register,
)

FLOW = (YOT, CSC, "Check", "YJ")
SUMMER = datetime(2026, 8, 1, tzinfo=UTC)
FAR = datetime(2030, 1, 1, tzinfo=UTC)
SPARE = (more_gateways(new_gateway("SPARE")), flow(gateways=["CDA-115", "SPARE"]))
ENDS = gateway(last_day=date(2026, 7, 1))


def only(found: tuple[Stop, ...]) -> Stop:
    (one,) = found
    assert one.flow == FLOW
    return one


@pytest.mark.parametrize(
    ("change", "kind", "what", "day", "chase"),
    [
        (protocol(last_day=date(2026, 7, 1)), "expiry", "checks@1", 1, ("csc", "yot")),
        (protocol(review_date=date(2026, 4, 2)), "review", "checks@1", 30, ("csc", "yot")),
        (ENDS, "gateway", "CDA-115", 1, ("csc",)),
    ],
)
def test_what_ends_is_told_with_the_day_and_whom_to_ask(
    change: Change, kind: str, what: str, day: int, chase: tuple[str, ...]
) -> None:
    cause = only(stops(register(change), NOW, SUMMER)).cause

    assert (cause.kind, cause.what, cause.chase) == (kind, what, chase)
    assert cause.at == london_midnight(date(2026, 7, 2) if day == 1 else date(2026, 7, 1))


def test_what_goes_on_is_not_told() -> None:
    assert stops(plain(), NOW, SUMMER) == ()
    assert stops(register(*SPARE, ENDS), NOW, SUMMER) == ()  # the other gateway carries it
    later = amendment(2, effective_from=date(2026, 7, 1))
    assert stops(register(later), NOW, SUMMER) == ()  # the new version takes over


def test_each_purpose_is_a_flow_of_its_own() -> None:
    def other_purpose(tables: Tables) -> None:
        signed = tables[SHARING]
        signed["purpose"].append({"code": "CP", "statement": "To protect", "benefits": "Safety"})
        other = {"id": "protect", "purposes": ["CP"], "gateways": ["SPARE"]}
        signed["flow"].append(signed["flow"][0] | other)

    spare = new_gateway("SPARE", purposes=["CP"])

    found = stops(register(more_gateways(spare), other_purpose, ENDS), NOW, SUMMER)

    assert only(found).cause.what == "CDA-115"


def test_what_does_not_pass_today_does_not_stop() -> None:
    assert stops(register(protocol(status="SUSPENDED", last_day=date(2026, 7, 1))), NOW, FAR) == ()


def test_of_several_that_end_the_one_that_stops_the_flow_is_named() -> None:
    last = protocol(last_day=date(2026, 7, 10))

    assert only(stops(register(*SPARE, ENDS, last), NOW, SUMMER)).cause.what == "checks@1"


def test_a_sender_whose_certificates_end_stops_sending() -> None:
    held = with_keys(plain(), [SUMMER - timedelta(days=9), SUMMER - timedelta(days=2)])
    revoked = with_keys(plain(), [SUMMER - timedelta(days=9), FAR], revoked=True)

    cause = only(stops(held, NOW, SUMMER)).cause
    assert (cause.kind, cause.what, cause.chase) == ("certificate", YOT, (YOT,))
    assert cause.at == SUMMER - timedelta(days=2)
    assert only(stops(revoked, NOW, SUMMER)).cause.at == SUMMER - timedelta(days=9)
    assert stops(with_keys(plain(), [FAR]), NOW, SUMMER) == ()


def with_keys(held: Register, ends: list[datetime], *, revoked: bool = False) -> Register:
    key = plain().agencies[YOT].keys
    assert key == ()
    keys = tuple(
        RegisteredKey(b"", "ab", None, NOW, end, NOW if revoked and end == FAR else None)  # type: ignore[arg-type]  # no key is used
        for end in ends
    )
    return replace(held, agencies={**held.agencies, YOT: replace(held.agencies[YOT], keys=keys)})


def test_messages_a_week() -> None:
    assert weekly({FLOW: 10}, NOW - timedelta(days=14), NOW) == {FLOW: 5.0}


def act(kind: str, days: float, name: str = "checks@1") -> Act:
    at = NOW + timedelta(days=days)
    return Act(1, "", at, kind, AgencyId("yot"), "ab", protocol=name, digest="cd")


def test_how_long_signing_takes_is_the_median_of_what_the_policy_log_tells() -> None:
    signed = [
        act("designate", 0), act("sign", 0), act("sign", 3), act("activate", 4),
        act("sign", 0, "b@1"), act("activate", 10, "b@1"), act("activate", 0, "c@1"),
    ]  # fmt: skip

    assert signing_days(signed) == 7
    assert signing_days([act("sign", 0)]) is None
