"""The second opinion on signatures: signxml in a strict configuration, and asserts around it.

Slower than `signature.ProfileVerifier`, and the work of other people; the tests hold the
two against each other. The configuration chooses.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidDigest, InvalidSignature
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from broker.core import trust
from broker.core.agency import RegisteredKey
from broker.core.envelope import hardened_parser
from broker.core.errors import Rejection
from broker.core.message import ReceivedMessage
from broker.core.reasons import Reason
from broker.core.signature import (
    ALGORITHMS,
    DIGESTS,
    DSIG,
    ENVELOPED,
    EXCLUSIVE,
    SIGNATURE,
    Verified,
    base64_bytes,
    key_that_signed,
)

_DS = {"ds": DSIG}
_HINTS = frozenset({f"{{{DSIG}}}X509Data", f"{{{DSIG}}}KeyName"})
_METHODS = frozenset(SignatureMethod(identifier) for identifier in ALGORITHMS)
_DIGESTS = frozenset(DigestAlgorithm(identifier) for identifier in DIGESTS)


class SignxmlVerifier:
    """Verifies with signxml, with the certificate registered for the sender and no other."""

    def verify(
        self, received: ReceivedMessage, keys: Sequence[RegisteredKey], now: datetime
    ) -> Verified:
        """Return what one of ``keys``, good at ``now``, has signed.

        Raises:
            Rejection: as `signature.verify_root` does.
        """
        method = _check_structure(received.root)
        results: list[VerifyResult] = []

        def signed_by(key: RegisteredKey) -> bool:
            return _fits(key, method) and _attempt(received.raw, key, now, results)

        key = key_that_signed(keys, now, signed_by)
        if not results:
            raise Rejection(Reason.SIGNATURE_DIGEST, "the content is not what was signed")
        signed, root = results[-1].signed_data, results[-1].signed_xml
        if root is None or _identity(root) != _identity(received.root):
            raise _off_profile("the whole document is signed")
        return Verified(
            signed, hashlib.sha256(signed).digest(), key.fingerprint, ALGORITHMS[method].name
        )


def _attempt(raw: bytes, key: RegisteredKey, now: datetime, results: list[VerifyResult]) -> bool:
    """Return whether ``key`` signed; add a result when the content is what was signed, too."""
    certificate = _certificate(key.certificate_der)
    good = trust.flaw(key, now) is None
    configuration = SignatureConfiguration(
        require_x509=True,
        location="./",
        expect_references=1,
        signature_methods=_METHODS,
        digest_algorithms=_DIGESTS,
        # A key that is not good is tried only to be able to say so.
        verification_time=now if good else certificate.not_valid_before_utc,
    )
    try:
        result = XMLVerifier().verify(
            raw,
            x509_cert=certificate,
            parser=hardened_parser(),
            id_attribute="Id",
            expect_config=configuration,
        )
    except InvalidDigest:
        return True
    except InvalidSignature:
        return False
    except Exception:  # noqa: BLE001 - hostile input raises TypeError and others, too
        raise _off_profile("the signature could not be read") from None
    results.append(result)  # type: ignore[arg-type] # one reference gives one result
    return True


@lru_cache(maxsize=4096)
def _certificate(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _fits(key: RegisteredKey, method: str) -> bool:
    kind = ec.EllipticCurvePublicKey if "ecdsa" in method else rsa.RSAPublicKey
    return isinstance(key.public_key, kind)


def _identity(root: etree._Element) -> tuple[object, str | None]:
    return root.tag, root.get("Id")


def _check_structure(root: etree._Element) -> str:
    """Refuse what signxml would take but the profile does not; return the signature method."""
    signatures = root.findall(f".//{SIGNATURE}")
    if not signatures:
        raise Rejection(Reason.SIGNATURE_MISSING)
    if signatures[0] is not root[-1]:
        raise _off_profile("there is one signature, and it is the last child of the root")
    signature = signatures[0]
    if any(child.tag not in _HINTS for child in signature.iterfind("ds:KeyInfo/*", _DS)):
        raise _off_profile("KeyInfo holds X509Data and KeyName only")
    if signature.find("ds:Object", _DS) is not None:
        raise _off_profile("there is no Object")
    if _algorithms(signature, "ds:CanonicalizationMethod") != [EXCLUSIVE]:
        raise _off_profile("canonicalisation is exclusive")
    transforms = _algorithms(signature, "ds:Reference/ds:Transforms/ds:Transform")
    if transforms != [ENVELOPED, EXCLUSIVE]:
        raise _off_profile("the transforms are enveloped-signature and exclusive")
    uris = [node.get("URI") for node in signature.iterfind("ds:SignedInfo/ds:Reference", _DS)]
    if uris not in ([""], [f"#{root.get('Id')}"]):
        raise _off_profile("the reference is to the whole document")
    for path in ("ds:SignatureValue", "ds:SignedInfo/ds:Reference/ds:DigestValue"):
        base64_bytes(signature.findtext(path, "", _DS))  # signxml skips what is not base64
    methods = _algorithms(signature, "ds:SignatureMethod")
    if len(methods) != 1 or methods[0] is None or methods[0] not in ALGORITHMS:
        raise _off_profile("the signature method is RSA or ECDSA with SHA-2")
    return methods[0]


def _algorithms(signature: etree._Element, path: str) -> list[str | None]:
    """Return the algorithm at ``path`` below ``SignedInfo``; none where it has parameters."""
    nodes = signature.iterfind(f"ds:SignedInfo/{path}", _DS)
    return [None if len(node) else node.get("Algorithm") for node in nodes]


def _off_profile(detail: str) -> Rejection:
    return Rejection(Reason.SIGNATURE_PROFILE, detail)
