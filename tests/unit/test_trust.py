from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.agency import registered_key
from broker.core.reasons import Reason
from broker.core.trust import flaw, may_sign, strong, withdrawn
from tests.unit.signing_world import NOW, key
from tests.vectors.make_keys import certificate_of
from tests.vectors.signer import private_key

KEY = key("sender-rsa")
INSTANT = timedelta(microseconds=1)


def test_a_key_is_good_from_its_first_instant_up_to_but_not_including_its_last() -> None:
    registered = replace(KEY, valid_from=NOW, valid_until=NOW + INSTANT)

    assert flaw(registered, NOW) is None
    assert flaw(registered, NOW - INSTANT) is Reason.CERTIFICATE_NOT_VALID
    assert flaw(registered, NOW + INSTANT) is Reason.CERTIFICATE_NOT_VALID


def test_a_revocation_holds_from_its_instant_on() -> None:
    registered = replace(KEY, revoked_at=NOW)

    assert flaw(registered, NOW - INSTANT) is None
    assert flaw(registered, NOW) is Reason.CERTIFICATE_REVOKED


def test_of_a_key_both_revoked_and_expired_the_revocation_is_told() -> None:
    registered = replace(KEY, revoked_at=NOW, valid_until=NOW)

    assert flaw(registered, NOW) is Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize("name", ["sender-rsa", "sender-p256", "sender-p384", "sender-p521"])
def test_rsa_of_2048_bits_and_the_nist_curves_are_strong(name: str) -> None:
    assert strong(key(name).public_key)


def test_a_short_rsa_key_is_weak() -> None:
    assert flaw(key("sender-weak"), NOW) is Reason.CERTIFICATE_WEAK


@pytest.mark.parametrize("curve", [ec.SECP256K1(), ec.BrainpoolP256R1(), ec.SECP224R1()])
def test_other_curves_are_weak(curve: ec.EllipticCurve) -> None:
    assert not strong(ec.generate_private_key(curve).public_key())


def test_other_kinds_of_key_are_weak() -> None:
    assert not strong(ed25519.Ed25519PrivateKey.generate().public_key())
    assert not strong(dsa.generate_private_key(2048).public_key())


def test_a_certificate_must_be_meant_for_signing() -> None:
    assert flaw(key("sender-cipher"), NOW) is Reason.CERTIFICATE_NOT_VALID
    assert not may_sign(key("sender-cipher").certificate_der)
    assert may_sign(KEY.certificate_der)


def test_a_certificate_that_says_nothing_of_its_use_may_sign() -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    holder = certificate_of(private_key("sender-p256"), "plain")
    builder = x509.CertificateBuilder(
        issuer_name=holder.issuer,
        subject_name=holder.subject,
        public_key=holder.public_key(),
        serial_number=2,
        not_valid_before=holder.not_valid_before_utc,
        not_valid_after=holder.not_valid_after_utc,
    )
    plain = builder.sign(private_key("sender-p256"), hashes.SHA256())

    assert flaw(registered_key(plain.public_bytes(Encoding.PEM)), NOW) is None


def test_what_was_signed_waits_in_vain_once_its_certificate_is_revoked() -> None:
    registered = replace(KEY, revoked_at=NOW)

    assert withdrawn([registered], KEY.fingerprint, NOW - INSTANT) is None
    assert withdrawn([registered], KEY.fingerprint, NOW) is Reason.CERTIFICATE_REVOKED


def test_a_certificate_that_is_not_registered_any_more_counts_as_revoked() -> None:
    assert withdrawn([], KEY.fingerprint, NOW) is Reason.CERTIFICATE_REVOKED
    others = [key("sender-p256")]
    assert withdrawn(others, KEY.fingerprint, NOW) is Reason.CERTIFICATE_REVOKED


def test_that_a_certificate_ran_out_or_another_was_revoked_takes_nothing_back() -> None:
    keys = [replace(key("sender-p256"), revoked_at=NOW), replace(KEY, valid_until=NOW)]

    assert withdrawn(keys, KEY.fingerprint, NOW + INSTANT) is None
