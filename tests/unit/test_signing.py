from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lxml import etree

from broker.core.envelope import parse, read_header, receive
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId
from broker.core.limits import LIMITS
from broker.core.message import Address, Header, Practitioner
from broker.core.reasons import Reason
from broker.core.signature import verify_root
from broker.core.signing import build_envelope, load_signing_key, sign_canonical, sign_envelope
from tests.unit.signing_world import KEYS, NOW, VERIFIERS, examined, key, schemas, signing_key
from tests.vectors.documents import payload

HEADER = Header(
    message_id=MessageId("019aa000-0000-7000-8000-000000000001"),
    message_type="VacancyClosed",
    schema_version="1.0",
    sender=AgencyId("sunderland-csc"),
    system="liquidlogic",
    recipients=(Address(agency_id=AgencyId("ne-jobs-portal")),),
    purpose="JOBS",
    created_at=NOW,
)
FULL = replace(
    HEADER,
    recipients=(*HEADER.recipients, Address(agency_type="YOT", area="E08000024")),
    correlation_id="019aa000-0000-7000-8000-0000000000c1",
    causation_id="019aa000-0000-7000-8000-0000000000c2",
    conversation_id="019aa000-0000-7000-8000-0000000000c3",
    practitioner=Practitioner("P1", "A & B < C > D", "Enhanced", "AAL2"),
    protocol="isp-1@2",
    gateway="CA2004-S10",
    reason_for_access="DIRECT-CARE",
    consent_refs=("c1", "c2"),
    decision_ref="d1",
    classification="OFFICIAL",
    shielded=True,
    priority="URGENT",
    expires_at=NOW + timedelta(days=1),
    respond_by=NOW + timedelta(hours=1, microseconds=5),
    acknowledge="L4",
)
SIGNERS = ("sender-rsa", "sender-p256", "sender-p384", "sender-p521")


@pytest.mark.parametrize("header", [HEADER, FULL])
def test_a_header_is_read_as_it_was_built(header: Header) -> None:
    built = build_envelope(header, payload().encode())

    assert read_header(parse(built)) == header


def test_an_envelope_is_built_in_canonical_form() -> None:
    awkward = payload(extra='\r\n<a xmlns="urn:other" b="&quot;&lt;">&gt;é</a><b></b>').encode()

    built = build_envelope(FULL, awkward)

    assert built == etree.tostring(parse(built), method="c14n", exclusive=True)


def test_an_envelope_may_be_built_around_an_element_of_a_larger_document() -> None:
    larger = parse(f'<x xmlns:unused="urn:u">{payload()} tail</x>'.encode())

    assert build_envelope(HEADER, larger[0]) == build_envelope(HEADER, payload().encode())


def test_instants_are_written_in_utc() -> None:
    summer = datetime(2026, 7, 1, 10, tzinfo=timezone(timedelta(hours=1)))

    built = build_envelope(replace(HEADER, created_at=summer), payload().encode())

    assert b"<fame:CreatedAt>2026-07-01T09:00:00Z</fame:CreatedAt>" in built
    assert read_header(parse(built)).created_at.tzinfo is UTC


@pytest.mark.parametrize("verifier", VERIFIERS)
@pytest.mark.parametrize("name", SIGNERS)
def test_what_is_signed_here_is_accepted(name: str, verifier: str) -> None:
    raw = sign_envelope(build_envelope(HEADER, payload().encode()), signing_key(name))

    message = examined(raw, VERIFIERS[verifier])

    assert message.header == HEADER
    assert message.verified.signer == signing_key(name).fingerprint
    assert message.verified.algorithm == signing_key(name).algorithm


def test_signing_canonical_bytes_is_signing_the_envelope_without_the_parse() -> None:
    unsigned = build_envelope(HEADER, payload().encode())

    assert sign_canonical(unsigned, signing_key()) == sign_envelope(unsigned, signing_key())


def test_a_document_that_is_not_canonical_is_made_so_before_it_is_signed() -> None:
    unsigned = build_envelope(HEADER, payload().encode()).replace(
        b'version="1.0"', b"version='1.0' "
    )

    raw = sign_envelope(b'<?xml version="1.0"?>\n' + unsigned + b"\n", signing_key())

    assert examined(raw).header == HEADER
    with pytest.raises(Rejection) as caught:
        verify_root(parse(sign_canonical(unsigned, signing_key())), [key("sender-rsa")], NOW)
    assert caught.value.reason is Reason.SIGNATURE_DIGEST


def test_a_document_of_another_kind_may_be_signed_and_verified() -> None:
    raw = sign_canonical(b'<r xmlns="urn:x">1</r>', signing_key("sender-p256"))

    verified = verify_root(parse(raw), [key("sender-p256")], NOW)

    assert verified.signed == b'<r xmlns="urn:x">1</r>'


def test_an_unsigned_envelope_is_not_signed_by_being_built() -> None:
    with pytest.raises(Rejection) as caught:
        receive(build_envelope(HEADER, payload().encode()), LIMITS, schemas())

    assert caught.value.reason is Reason.SIGNATURE_MISSING


def _files(name: str) -> tuple[bytes, bytes]:
    return tuple((KEYS / f"{name}.{kind}.pem").read_bytes() for kind in ("key", "cert"))  # type: ignore[return-value]


def test_a_key_without_its_certificate_is_not_loaded() -> None:
    with pytest.raises(ValueError, match="does not belong"):
        load_signing_key(_files("sender-rsa")[0], _files("other-rsa")[1])


def test_a_weak_key_is_not_loaded() -> None:
    with pytest.raises(ValueError, match="weak"):
        load_signing_key(*_files("sender-weak"))


def test_a_key_of_another_kind_is_not_loaded() -> None:
    edwards = ed25519.Ed25519PrivateKey.generate()
    pem = edwards.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    with pytest.raises(ValueError, match="RSA or ECDSA"):
        load_signing_key(pem, _files("sender-rsa")[1])


def test_a_key_shows_nothing_of_itself() -> None:
    shown = repr(signing_key())

    assert "rsa-sha256" in shown
    assert "private" not in shown
    assert "X509" not in shown
