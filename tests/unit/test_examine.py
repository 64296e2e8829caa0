import contextlib
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.agency import AgencyLookup, System
from broker.core.errors import Rejection
from broker.core.examine import Step, examine
from broker.core.identity import AgencyId
from broker.core.limits import LIMITS
from broker.core.message import ReceivedMessage, ValidMessage
from broker.core.reasons import Reason
from broker.core.signature import ProfileVerifier, Verified
from broker.core.signing import build_envelope, sign_envelope
from tests.unit.signing_world import (
    AGENCIES,
    NOW,
    OTHER,
    SENDER,
    VERIFIERS,
    examined,
    key,
    schemas,
    signing_key,
)
from tests.unit.test_signing import HEADER
from tests.vectors.documents import document, header, opening, payload, wrapped
from tests.vectors.signer import signed

RAW = sign_envelope(build_envelope(HEADER, payload().encode()), signing_key())
SECOND = timedelta(seconds=1)


def reason(raw: bytes = RAW, **changes: object) -> Reason:
    with pytest.raises(Rejection) as caught:
        examined(raw, **changes)  # type: ignore[arg-type]
    return caught.value.reason


def made(**changes: object) -> bytes:
    content = str(changes.pop("payload", payload())).encode()
    changed = replace(HEADER, **changes)  # type: ignore[arg-type]
    return sign_envelope(build_envelope(changed, content), signing_key())


def steps(raw: bytes) -> list[Step]:
    """Return what an observer was told before the end, good or bad."""
    told: list[Step] = []
    with contextlib.suppress(Rejection):
        among(AGENCIES, raw, told.append)
    return told


def among(
    agencies: AgencyLookup, raw: bytes = RAW, done: Callable[[Step], None] | None = None
) -> ValidMessage:
    return examine(
        raw,
        peer_agencies=None,
        agencies=agencies,
        schemas=schemas(),
        verifier=ProfileVerifier(),
        limits=LIMITS,
        now=NOW,
        **({} if done is None else {"done": done}),
    )


def test_an_observer_is_told_each_step_once_it_is_done_and_none_that_failed() -> None:
    assert steps(RAW) == [Step.PARSED, Step.VERIFIED, Step.FRESH, Step.VALIDATED]
    assert steps(made(message_type="Unknown")) == [Step.PARSED, Step.VERIFIED, Step.FRESH]
    assert steps(made(created_at=NOW - timedelta(days=400))) == [Step.PARSED, Step.VERIFIED]
    assert steps(RAW.replace(b"CreatedAt>20", b"CreatedAt>21", 1)) == [Step.PARSED]
    assert steps(RAW[:-9]) == []


def test_a_valid_message_holds_what_was_signed_and_nothing_else() -> None:
    message = examined(RAW)

    assert message.header == HEADER
    assert message.verified.raw == RAW
    assert message.verified.signed == build_envelope(HEADER, payload().encode())
    assert message.digest == message.verified.digest
    assert message.verified.root in message.payload.iterancestors()
    assert message.subject is None
    assert message.catalogue_digest == schemas().digest


def test_an_unknown_sender_is_rejected_before_anything_is_verified() -> None:
    with pytest.raises(Rejection) as caught:
        among({})

    assert caught.value.reason is Reason.SENDER_UNKNOWN


def test_a_peer_speaks_for_its_own_agencies_only() -> None:
    assert examined(RAW, peer=frozenset({SENDER, OTHER})).header.sender == SENDER
    assert reason(peer=frozenset({OTHER})) is Reason.PEER_NOT_SENDER
    assert reason(peer=frozenset()) is Reason.PEER_NOT_SENDER


def test_a_system_must_be_registered_for_the_sender() -> None:
    sender = replace(AGENCIES[SENDER], systems=(System("mosaic"),))

    with pytest.raises(Rejection) as caught:
        among({SENDER: sender})

    assert caught.value.reason is Reason.SYSTEM_UNKNOWN
    assert caught.value.pointer == "/Envelope/Header/Sender/SystemId"


def test_a_message_may_be_ahead_of_the_clock_by_the_skew_and_no_more() -> None:
    skew = timedelta(seconds=LIMITS.clock_skew_s)

    assert examined(made(created_at=NOW + skew)).header.created_at == NOW + skew
    assert reason(made(created_at=NOW + skew + SECOND)) is Reason.FUTURE


def test_a_message_may_be_as_old_as_the_replay_window_and_no_older() -> None:
    age = timedelta(seconds=LIMITS.age_s_max)

    assert examined(made(created_at=NOW - age)).header.created_at == NOW - age
    assert reason(made(created_at=NOW - age - SECOND)) is Reason.STALE


def test_a_message_is_expired_from_the_instant_it_names() -> None:
    assert examined(made(expires_at=NOW + SECOND)).header.expires_at == NOW + SECOND
    assert reason(made(expires_at=NOW)) is Reason.EXPIRED


def test_a_message_type_must_be_in_the_catalogue() -> None:
    assert reason(made(message_type="VacancyForgotten")) is Reason.TYPE_UNKNOWN
    assert reason(made(schema_version="9.9")) is Reason.TYPE_UNKNOWN


def test_a_payload_must_follow_its_schema() -> None:
    assert reason(made(payload=payload("none"))) is Reason.SCHEMA
    assert reason(made(message_type="VacancyWithdrawn")) is Reason.SCHEMA


def test_nothing_of_the_payload_is_told_to_whom_the_message_is_not_from() -> None:
    broken = made(payload=payload("none"), message_type="VacancyForgotten")

    assert reason(broken, peer=frozenset({OTHER})) is Reason.PEER_NOT_SENDER


class Liar:
    """A verifier that says that other bytes were signed than it was given."""

    def __init__(self, signed_bytes: bytes) -> None:
        self._signed = signed_bytes

    def verify(self, _received: ReceivedMessage, _keys: object, _now: object) -> Verified:
        return Verified(self._signed, b"", key("sender-rsa").fingerprint, "rsa-sha256")


def test_only_the_signed_bytes_are_read() -> None:
    other = build_envelope(replace(HEADER, purpose="OTHER"), payload("11").encode())

    message = examined(RAW, Liar(other))

    assert message.header.purpose == "OTHER"
    assert message.payload.findtext("{urn:fame:vacancy:1.0}Version") == "11"


def test_the_signed_sender_must_be_the_one_whose_keys_were_tried() -> None:
    other = build_envelope(replace(HEADER, sender=OTHER), payload().encode())

    assert reason(RAW, verifier=Liar(other)) is Reason.SIGNATURE_INVALID


@pytest.mark.parametrize(
    "signed_text",
    [
        opening() + header() + "</m:Envelope>",
        opening() + header() + wrapped("") + "</m:Envelope>",
        opening() + header() + wrapped(payload() + payload()) + "</m:Envelope>",
    ],
)
def test_what_was_signed_must_hold_one_payload(signed_text: str) -> None:
    assert reason(RAW, verifier=Liar(signed_text.encode())) is Reason.ENVELOPE


def test_both_verifiers_reject_a_message_of_one_agency_in_the_name_of_another() -> None:
    forged = signed(document().replace(SENDER, AgencyId("gateshead-csc"))).encode()

    for verifier in VERIFIERS.values():
        assert reason(forged, verifier=verifier) is Reason.SIGNATURE_INVALID
