"""What a record says openly: written, read back, and refused when it is not ours."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from broker.core.asyncapi import HEADERS
from broker.core.identity import AgencyId, MessageId
from broker.edge.cloudevents import Card, Headers, NotOurs, card_of, headers_of
from broker.ports import Dispatch

CARD = Card(
    dispatch=Dispatch(
        delivery_id="0198f3a0-0000-7000-8000-000000000001",
        recipient=AgencyId("sunderland-csc"),
        order_key="a" * 32,
        attempt=2,
        lease_until=datetime(2026, 11, 21, 9, 1, tzinfo=UTC),
    ),
    broker=AgencyId("fame-broker"),
    sender=AgencyId("hylton-school"),
    message_id=MessageId("0198f3a0-0000-7000-8000-000000000002"),
    message_type="Referral",
    schema_version="1.0",
    accepted_at=datetime(2026, 11, 21, 9, 0, tzinfo=UTC),
    reduced=True,
    traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
KEY = b"a" * 32


def changed(name: str, value: bytes | None) -> list[tuple[str, bytes | None]]:
    return [(n, value if n == name else v) for n, v in headers_of(CARD)]


def test_a_card_is_read_as_it_was_written() -> None:
    assert card_of(KEY, headers_of(CARD)) == CARD
    whole = replace(CARD, reduced=False)
    assert card_of(KEY, headers_of(whole)) == whole


def test_the_headers_are_those_that_are_documented() -> None:
    headers = dict(headers_of(CARD))

    assert list(headers) == list(HEADERS)
    assert headers["ce_type"] == b"fame.Referral.1.0"
    assert headers["ce_source"] == b"urn:fame:agency:fame-broker"
    assert headers["ce_time"] == b"2026-11-21T09:00:00.000Z"
    assert headers["ce_partitionkey"] == KEY


def test_headers_of_others_are_passed_over() -> None:
    assert card_of(KEY, [*headers_of(CARD), ("tracestate", b"\xff"), ("b3", None)]) == CARD


@pytest.mark.parametrize("name", list(HEADERS))
def test_a_header_that_is_missing_or_there_twice_is_not_ours(name: str) -> None:
    headers: Headers = headers_of(CARD)
    (value,) = [v for n, v in headers if n == name]

    with pytest.raises(NotOurs, match=name):
        card_of(KEY, [(n, v) for n, v in headers if n != name])
    with pytest.raises(NotOurs, match=name):
        card_of(KEY, [*headers, (name, value)])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("content-type", b"application/xml"),
        ("ce_specversion", b"0.3"),
        ("ce_id", b"1"),
        ("ce_messageid", b"0198F3A0-0000-7000-8000-000000000002"),
        ("ce_source", b"fame-broker"),
        ("ce_source", b"urn:fame:agency:FAME"),
        ("ce_type", b"Referral"),
        ("ce_type", b"fame.Ref erral.1.0"),
        ("ce_time", b"yesterday"),
        ("ce_leaseuntil", b"2026-11-21T09:01:00"),
        ("ce_attempt", b"0"),
        ("ce_attempt", b"-1"),
        ("ce_attempt", b"9999999999"),
        ("ce_recipient", b"A"),
        ("ce_sender", b""),
        ("ce_reduced", b"yes"),
        ("traceparent", b"00"),
        ("traceparent", None),
        ("ce_sender", "école-fictive".encode()),
        ("ce_sender", b"a" * 257),
    ],
)
def test_a_header_of_another_form_is_not_ours_and_its_value_is_not_repeated(
    name: str, value: bytes | None
) -> None:
    with pytest.raises(NotOurs) as caught:
        card_of(KEY, changed(name, value))

    assert str(caught.value) == f"{name} is missing or not of its form"


def test_the_key_is_the_pseudonym_that_the_header_repeats() -> None:
    for key in (None, b"", b"b" * 32):
        with pytest.raises(NotOurs, match="key"):
            card_of(key, headers_of(CARD))
    with pytest.raises(NotOurs, match="ce_partitionkey"):
        card_of(b"Jane Doe", changed("ce_partitionkey", b"Jane Doe"))
