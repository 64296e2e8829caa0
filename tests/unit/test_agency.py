"""Agencies and their registered keys."""

from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from broker.core.agency import Agency, EncryptionKey, encryption_key, registered_key
from broker.core.identity import AgencyId

FIRST, LAST = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


@cache
def pem() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "yot")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, FIRST, LAST)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def test_a_registered_key_is_known_by_the_fingerprint_of_its_certificate() -> None:
    key = registered_key(pem())

    certificate = x509.load_pem_x509_certificate(pem())
    assert key.fingerprint == certificate.fingerprint(hashes.SHA256()).hex()
    assert key.certificate_der == certificate.public_bytes(Encoding.DER)
    assert key.public_key == certificate.public_key()
    assert key.revoked_at is None


def test_it_is_good_for_the_certificates_period() -> None:
    key = registered_key(pem())

    assert (key.valid_from, key.valid_until) == (FIRST, LAST)


def test_the_registrar_may_narrow_the_period_and_never_widen_it() -> None:
    narrowed = registered_key(pem(), valid_from=FIRST + DAY, valid_until=LAST - DAY)
    widened = registered_key(pem(), valid_from=FIRST - DAY, valid_until=LAST + DAY)

    assert (narrowed.valid_from, narrowed.valid_until) == (FIRST + DAY, LAST - DAY)
    assert (widened.valid_from, widened.valid_until) == (FIRST, LAST)


def test_a_revocation_is_kept() -> None:
    assert registered_key(pem(), revoked_at=FIRST).revoked_at == FIRST


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(ValueError, match="PEM"):
        registered_key(b"nothing")


def test_key_material_is_not_shown() -> None:
    assert "certificate_der" not in repr(registered_key(pem()))


def public(key: ec.EllipticCurvePrivateKey | x25519.X25519PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


P256 = public(ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    "pem",
    [P256, public(x25519.X25519PrivateKey.generate())],
    ids=["P-256", "X25519"],
)
def test_a_key_to_encrypt_to_is_always_good_unless_narrowed(pem: bytes) -> None:
    always = encryption_key(pem)
    narrowed = encryption_key(pem, valid_from=FIRST, valid_until=LAST)

    assert always == EncryptionKey(pem)
    assert (narrowed.valid_from, narrowed.valid_until) == (FIRST, LAST)
    assert "PUBLIC" not in repr(narrowed)


def test_a_private_key_or_one_on_another_curve_has_no_place_in_the_register() -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    for unusable in (pem, public(ec.generate_private_key(ec.SECP256K1())), b"nothing"):
        with pytest.raises(ValueError, match=r"key|PEM"):
            encryption_key(unusable)


def test_the_newest_key_that_is_good_is_the_one_to_encrypt_to() -> None:
    first = encryption_key(P256, valid_until=LAST)
    second = encryption_key(P256, valid_from=FIRST + DAY, valid_until=LAST - DAY)
    agency = Agency(AgencyId("yot"), "Team", "YOT", encryption=(second, first))

    assert agency.encryption_key(FIRST) is first
    assert agency.encryption_key(FIRST + DAY) is second
    assert agency.encryption_key(LAST - DAY) is first
    assert agency.encryption_key(LAST) is None
