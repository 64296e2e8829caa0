"""What a record says openly about a delivery: CloudEvents 1.0 in the binary mode of Kafka.

Names, headers and key are readable by whoever runs the cluster, so none of them comes from
a payload: ids, agencies, the message type, instants, and a pseudonym.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from broker.core.asyncapi import HEADERS, JOSE, event_type
from broker.core.identity import UUID, AgencyId, MessageId, agency_id
from broker.core.instant import rfc3339
from broker.ports import Dispatch

Headers = list[tuple[str, bytes]]

SOURCE: Final = "urn:fame:agency:"
SPEC_VERSION: Final = "1.0"
VALUE_BYTES_MAX: Final = 256
TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_TYPE = re.compile(r"fame\.([A-Za-z][A-Za-z0-9]{0,63})\.([0-9]+\.[0-9]+)")
_ORDER_KEY = re.compile(r"[0-9a-f-]{1,64}")
_ATTEMPT = re.compile(r"[1-9][0-9]{0,8}")


class NotOurs(ValueError):
    """A record is not one that a broker made. The words hold nothing of the record."""


@dataclass(frozen=True, slots=True)
class Card:
    """A dispatch and the open facts about its message that travel beside the sealed body."""

    dispatch: Dispatch
    broker: AgencyId
    sender: AgencyId
    message_id: MessageId
    message_type: str
    schema_version: str
    accepted_at: datetime
    reduced: bool
    traceparent: str


def headers_of(card: Card) -> Headers:
    """Return the headers of the record for ``card``, in the order in which they are documented."""
    dispatch = card.dispatch
    values = {
        "content-type": JOSE,
        "ce_specversion": SPEC_VERSION,
        "ce_id": dispatch.delivery_id,
        "ce_source": SOURCE + card.broker,
        "ce_type": event_type(card.message_type, card.schema_version),
        "ce_time": rfc3339(card.accepted_at),
        "ce_partitionkey": dispatch.order_key,
        "ce_recipient": dispatch.recipient,
        "ce_sender": card.sender,
        "ce_messageid": card.message_id,
        "ce_attempt": str(dispatch.attempt),
        "ce_leaseuntil": rfc3339(dispatch.lease_until),
        "ce_reduced": "true" if card.reduced else "false",
        "traceparent": card.traceparent,
    }
    return [(name, values[name].encode("ascii")) for name in HEADERS]


def card_of(key: bytes | None, headers: Iterable[tuple[str, bytes | None]]) -> Card:
    """Return what a record's key and headers say.

    Raises:
        NotOurs: a header is missing, twice there, too long, or not of its form.
    """
    said = _texts(headers)
    _demand("content-type", said["content-type"] == JOSE)
    _demand("ce_specversion", said["ce_specversion"] == SPEC_VERSION)
    _demand("key", key == said["ce_partitionkey"].encode("ascii"))
    _demand("ce_partitionkey", _ORDER_KEY.fullmatch(said["ce_partitionkey"]))
    for name in ("ce_id", "ce_messageid"):
        _demand(name, UUID.fullmatch(said[name]))
    _demand("ce_attempt", _ATTEMPT.fullmatch(said["ce_attempt"]))
    _demand("ce_reduced", said["ce_reduced"] in {"true", "false"})
    _demand("traceparent", TRACEPARENT.fullmatch(said["traceparent"]))
    _demand("ce_source", said["ce_source"].startswith(SOURCE))
    named = _TYPE.fullmatch(said["ce_type"])
    if named is None:
        raise _not_ours("ce_type")
    return Card(
        dispatch=Dispatch(
            delivery_id=said["ce_id"],
            recipient=_agency("ce_recipient", said["ce_recipient"]),
            order_key=said["ce_partitionkey"],
            attempt=int(said["ce_attempt"]),
            lease_until=_instant("ce_leaseuntil", said["ce_leaseuntil"]),
        ),
        broker=_agency("ce_source", said["ce_source"].removeprefix(SOURCE)),
        sender=_agency("ce_sender", said["ce_sender"]),
        message_id=MessageId(said["ce_messageid"]),
        message_type=named[1],
        schema_version=named[2],
        accepted_at=_instant("ce_time", said["ce_time"]),
        reduced=said["ce_reduced"] == "true",
        traceparent=said["traceparent"],
    )


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    said: dict[str, str] = {}
    for name, value in headers:
        if name not in HEADERS:
            continue  # tracing libraries add their own
        _demand(name, name not in said and value is not None)
        assert value is not None
        _demand(name, len(value) <= VALUE_BYTES_MAX and value.isascii())
        said[name] = value.decode("ascii")
    for name in HEADERS:
        _demand(name, name in said)
    return said


def _demand(name: str, met: object) -> None:
    if not met:
        raise _not_ours(name)


def _not_ours(name: str) -> NotOurs:
    return NotOurs(f"{name} is missing or not of its form")


def _agency(name: str, text: str) -> AgencyId:
    try:
        return agency_id(text)
    except ValueError:
        raise _not_ours(name) from None


def _instant(name: str, text: str) -> datetime:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        raise _not_ours(name) from None
    _demand(name, instant.tzinfo is not None)
    return instant
