"""Which registered keys a signature may rest on, at one moment.

Certificate-path libraries look neither at revocation nor at key strength, and a pinned
certificate is not even checked for its dates, so all three are checked here.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from broker.core.agency import RegisteredKey
from broker.core.reasons import Reason

RSA_BITS_MIN = 2048  # NIST SP 800-131A: 112 bits of security
CURVES = frozenset({"secp256r1", "secp384r1", "secp521r1"})


def strong(public_key: object) -> bool:
    """Return whether a key is RSA of 2,048 bits or more, or on P-256, P-384 or P-521."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return public_key.key_size >= RSA_BITS_MIN
    return isinstance(public_key, ec.EllipticCurvePublicKey) and public_key.curve.name in CURVES


@lru_cache(maxsize=4096)
def may_sign(certificate_der: bytes) -> bool:
    """Return whether the certificate's key usage allows signing (RFC 5280 §4.2.1.3).

    A certificate without the extension is not restricted.
    """
    certificate = x509.load_der_x509_certificate(certificate_der)
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage)
    except x509.ExtensionNotFound:
        return True
    return usage.value.digital_signature


def flaw(key: RegisteredKey, now: datetime) -> Reason | None:
    """Return why no signature made with ``key`` counts at ``now`` (ISP-1.3); None when it does."""
    if key.revoked_at is not None and key.revoked_at <= now:
        return Reason.CERTIFICATE_REVOKED
    if not key.valid_from <= now < key.valid_until:
        return Reason.CERTIFICATE_NOT_VALID
    if not strong(key.public_key):
        return Reason.CERTIFICATE_WEAK
    if not may_sign(key.certificate_der):
        return Reason.CERTIFICATE_NOT_VALID
    return None


def withdrawn(keys: Iterable[RegisteredKey], fingerprint: str, now: datetime) -> Reason | None:
    """Return why what was signed with a certificate earlier may not go on at ``now`` (ISP-1.2).

    Whoever revokes a certificate, or takes it out of the register, says that its signatures
    are not to be relied on. That it only ran out meanwhile takes nothing back.
    """
    for key in keys:
        if key.fingerprint == fingerprint:
            revoked = key.revoked_at is not None and key.revoked_at <= now
            return Reason.CERTIFICATE_REVOKED if revoked else None
    return Reason.CERTIFICATE_REVOKED
