"""Verify a message's signature: who signed, and exactly which bytes.

One profile is accepted, element for element: one enveloped signature, the last child of
the root; one reference, to the whole document; exclusive canonicalisation without
comments; SHA-2 digests; RSA (PKCS #1 v1.5 or PSS) or ECDSA. Keys come from the register
and never from the message. Whoever calls reads from then on only the bytes returned.
"""

import hashlib
import re
from binascii import Error as BinasciiError
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

from broker.core import trust
from broker.core.agency import RegisteredKey
from broker.core.errors import Rejection
from broker.core.message import ReceivedMessage
from broker.core.reasons import Reason
from broker.core.shortage import without_canonical_form

DSIG = "http://www.w3.org/2000/09/xmldsig#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = f"{DSIG}enveloped-signature"
SIGNATURE = f"{{{DSIG}}}Signature"
_SIGNED_INFO = f"{{{DSIG}}}SignedInfo"
_SIGNATURE_VALUE = f"{{{DSIG}}}SignatureValue"
_KEY_INFO = f"{{{DSIG}}}KeyInfo"
_KEY_HINTS = frozenset(
    f"{{{DSIG}}}{name}"
    for name in (
        "KeyInfo",
        "KeyName",
        "X509Data",
        "X509Certificate",
        "X509CRL",
        "X509IssuerName",
        "X509IssuerSerial",
        "X509SerialNumber",
        "X509SKI",
        "X509SubjectName",
    )
)
_CONTENTS = ([_SIGNED_INFO, _SIGNATURE_VALUE], [_SIGNED_INFO, _SIGNATURE_VALUE, _KEY_INFO])
_SPACE = " \t\r\n"
_IDENTIFIED = etree.XPath(
    "count(//@*[.=$name][local-name()='Id' or local-name()='ID' or local-name()='id'])"
)


class Verified(NamedTuple):
    """Who signed what: the canonical bytes that were digested, and their SHA-256."""

    signed: bytes
    digest: bytes
    signer: str  # SHA-256 fingerprint of the certificate, lower-case hex
    algorithm: str  # short name: rsa-sha256, ecdsa-sha256, ...


class Verifier(Protocol):
    """Two exist: `ProfileVerifier` here, and `signature_signxml.SignxmlVerifier`."""

    def verify(
        self, received: ReceivedMessage, keys: Sequence[RegisteredKey], now: datetime
    ) -> Verified:
        """Return what one of the sender's ``keys``, good at ``now``, has signed.

        Raises:
            Rejection: nothing, or not by a key that is good.
        """


class Algorithm(NamedTuple):
    """A way of signing. ``check`` takes the key, the signature and what it should be over.

    It raises `InvalidSignature` unless the signature is right and the key of the right kind.
    """

    name: str
    check: Callable[[CertificatePublicKeyTypes, bytes, bytes], None]


def _rsa(name: str, scheme: padding.AsymmetricPadding, digest: hashes.HashAlgorithm) -> Algorithm:
    def check(key: CertificatePublicKeyTypes, signature: bytes, content: bytes) -> None:
        if not isinstance(key, rsa.RSAPublicKey):
            raise InvalidSignature
        key.verify(signature, content, scheme, digest)

    return Algorithm(name, check)


def _pss(name: str, digest: hashes.HashAlgorithm) -> Algorithm:
    return _rsa(name, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)


def _ecdsa(name: str, digest: hashes.HashAlgorithm) -> Algorithm:
    scheme = ec.ECDSA(digest)

    def check(key: CertificatePublicKeyTypes, signature: bytes, content: bytes) -> None:
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise InvalidSignature
        half = (key.key_size + 7) // 8
        # XML signatures hold r and s side by side, each as long as the curve (RFC 4050 §3.3).
        if len(signature) != 2 * half:
            raise InvalidSignature
        r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
        key.verify(encode_dss_signature(r, s), content, scheme)

    return Algorithm(name, check)


_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
ALGORITHMS: Mapping[str, Algorithm] = {
    f"{_MORE}rsa-sha256": _rsa("rsa-sha256", padding.PKCS1v15(), hashes.SHA256()),
    f"{_MORE}rsa-sha384": _rsa("rsa-sha384", padding.PKCS1v15(), hashes.SHA384()),
    f"{_MORE}rsa-sha512": _rsa("rsa-sha512", padding.PKCS1v15(), hashes.SHA512()),
    f"{_MORE_2007}sha256-rsa-MGF1": _pss("sha256-rsa-MGF1", hashes.SHA256()),
    f"{_MORE}ecdsa-sha256": _ecdsa("ecdsa-sha256", hashes.SHA256()),
    f"{_MORE}ecdsa-sha384": _ecdsa("ecdsa-sha384", hashes.SHA384()),
    f"{_MORE}ecdsa-sha512": _ecdsa("ecdsa-sha512", hashes.SHA512()),
}
DIGESTS: Mapping[str, Callable[[bytes], "hashlib._Hash"]] = {
    "http://www.w3.org/2001/04/xmlenc#sha256": hashlib.sha256,
    f"{_MORE}sha384": hashlib.sha384,
    "http://www.w3.org/2001/04/xmlenc#sha512": hashlib.sha512,
}


class _SignedInfo(NamedTuple):
    """What a ``SignedInfo`` says, read from the canonical bytes that the signature covers."""

    canonical: bytes
    algorithm: Algorithm
    uri: str
    digest: Callable[[bytes], "hashlib._Hash"]
    digest_value: bytes


def _pattern() -> re.Pattern[bytes]:
    """Return the canonical form of the one profile, with any prefix and any white space.

    Canonical XML leaves no choice of quotes, attribute order or empty tags, so that a
    pattern over the signed bytes says element for element what may stand there.
    """
    space = r"[ \t\n]*(?:&#xD;[ \t\n]*)*"
    prefix = r"(?P<p>(?:(?P<prefix>[^\s<>:=\"]+):)?)"

    def element(name: str, *children: str, attributes: str = "") -> str:
        content = space.join(("", *children, "")) if children else ""
        return f"<(?P=p){name}{attributes}>{content}</(?P=p){name}>"

    def algorithm(name: str, *identifiers: str, group: str = "") -> str:
        choice = "|".join(re.escape(identifier) for identifier in identifiers)
        label = f"?P<{group}>" if group else "?:"
        return element(name, attributes=f' Algorithm="({label}{choice})"')

    reference = element(
        "Reference",
        element("Transforms", algorithm("Transform", ENVELOPED), algorithm("Transform", EXCLUSIVE)),
        algorithm("DigestMethod", *DIGESTS, group="digest"),
        element("DigestValue", r"(?P<value>[A-Za-z0-9+/= \t\n]*(?:&#xD;[A-Za-z0-9+/= \t\n]*)*)"),
        attributes=' URI="(?P<uri>|#[^"&]+)"',
    )
    signed_info = element(
        "SignedInfo",
        algorithm("CanonicalizationMethod", EXCLUSIVE),
        algorithm("SignatureMethod", *ALGORITHMS, group="method"),
        reference,
        attributes=f' xmlns(?(prefix):(?P=prefix))="{re.escape(DSIG)}"',
    )
    return re.compile(signed_info.replace("(?P=p)", prefix, 1).encode())


_PATTERN = _pattern()


class ProfileVerifier:
    """Verifies the one profile: lxml canonicalises, cryptography verifies, the rest is here."""

    def verify(
        self, received: ReceivedMessage, keys: Sequence[RegisteredKey], now: datetime
    ) -> Verified:
        """Return what one of ``keys``, good at ``now``, has signed. See `verify_root`."""
        return verify_root(received.root, keys, now)


def verify_root(root: etree._Element, keys: Sequence[RegisteredKey], now: datetime) -> Verified:
    """Return what one of ``keys``, good at ``now``, has signed of the document of ``root``.

    The signature is taken out of the tree of ``root``, which is of no further use.

    Raises:
        Rejection: the signature is not of the profile, does not verify, was made with a key
            that is not good at ``now``, or does not match the content.
    """
    signature = only_signature(root)
    information, value = _parts(signature)
    signed_info = _read(_canonical(information))
    _check_reference(root, signed_info.uri)
    signature_value = base64_bytes(value.text or "")
    # The signature comes before the digest: until then nobody vouches for the reference.
    key = key_that_signed(keys, now, lambda key: _signed_by(key, signed_info, signature_value))
    signed = _canonical(_without(root, signature))
    digest = hashlib.sha256(signed).digest()
    if signed_info.digest is not hashlib.sha256:
        computed = signed_info.digest(signed).digest()
    else:
        computed = digest
    # step 1, ISP-1.3: the digest is that of what came.
    if computed != signed_info.digest_value:
        raise Rejection(Reason.SIGNATURE_DIGEST, "the content is not what was signed")
    return Verified(signed, digest, key.fingerprint, signed_info.algorithm.name)


def key_that_signed(
    keys: Sequence[RegisteredKey], now: datetime, signed_by: Callable[[RegisteredKey], bool]
) -> RegisteredKey:
    """Return the key that signed, if it is good at ``now``.

    Keys that are not good are tried last, so that the sender is told what is wrong.

    Raises:
        Rejection: no key signed, or one that is revoked, out of its period or weak.
    """
    flawed: list[tuple[Reason, RegisteredKey]] = []
    for key in keys:
        flaw = trust.flaw(key, now)
        if flaw is not None:
            flawed.append((flaw, key))
        elif signed_by(key):
            return key
    for flaw, key in flawed:
        if signed_by(key):
            raise Rejection(flaw)
    # step 1, ISP-1.3: no registered key made it.
    raise Rejection(Reason.SIGNATURE_INVALID)


def only_signature(root: etree._Element) -> etree._Element:
    """Return the signature of a document: the first anywhere, and the last child of its root.

    Raises:
        Rejection: there is none, or the first stands elsewhere.
    """
    # step 1, ISP-1.3: one signature, over everything.
    first = next(root.iter(SIGNATURE), None)
    if first is None:
        raise Rejection(Reason.SIGNATURE_MISSING)
    if first is root or first is not root[-1]:
        raise _off_profile("there is one signature, and it is the last child of the root")
    return first


def _parts(signature: etree._Element) -> tuple[etree._Element, etree._Element]:
    """Return ``SignedInfo`` and ``SignatureValue``, provided that nothing else counts."""
    children = list(signature)
    if [child.tag for child in children] not in _CONTENTS or signature.attrib:
        raise _off_profile("a signature is SignedInfo, SignatureValue and perhaps KeyInfo")
    texts = (signature.text, *(child.tail for child in children))
    if any(text and text.strip(_SPACE) for text in texts):
        raise _off_profile("there is text between the parts of the signature")
    information, value, *hints = children
    if len(value) or value.attrib:
        raise _off_profile("SignatureValue holds base64 only")
    if not all(node.tag in _KEY_HINTS for hint in hints for node in hint.iter()):
        raise _off_profile("KeyInfo holds X509Data and KeyName only")
    return information, value


def _read(canonical: bytes) -> _SignedInfo:
    match = _PATTERN.fullmatch(canonical)
    if match is None:
        raise _off_profile("SignedInfo is not of the accepted form")
    return _SignedInfo(
        canonical,
        ALGORITHMS[match["method"].decode()],
        match["uri"].decode(),
        DIGESTS[match["digest"].decode()],
        base64_bytes(match["value"].replace(b"&#xD;", b"").decode()),
    )


def _check_reference(root: etree._Element, uri: str) -> None:
    """Refuse a reference to anything but the whole document, or one that has two readings."""
    if uri and (root.get("Id") != uri[1:] or _IDENTIFIED(root, name=uri[1:]) != 1):
        raise _off_profile("the reference is to the whole document")


def _signed_by(key: RegisteredKey, signed_info: _SignedInfo, signature_value: bytes) -> bool:
    try:
        signed_info.algorithm.check(key.public_key, signature_value, signed_info.canonical)
    except InvalidSignature:
        return False
    return True


def _canonical(element: etree._Element) -> bytes:
    try:
        return etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
    except etree.C14NError:  # never to be read as "nothing"
        rejection = _off_profile("the content has no canonical form")
        raise without_canonical_form(element, rejection) from None


def _without(root: etree._Element, signature: etree._Element) -> etree._Element:
    """Take ``signature`` out of ``root``, and leave the text behind it, which is signed."""
    tail, before = signature.tail, signature.getprevious()
    root.remove(signature)
    if tail and before is None:
        root.text = (root.text or "") + tail
    elif tail and before is not None:
        before.tail = (before.tail or "") + tail
    return root


def base64_bytes(text: str) -> bytes:
    """Decode base64 that may hold white space and nothing else beside its one right form.

    Raises:
        Rejection: it is not so.
    """
    try:
        compact = b"".join(text.encode("ascii").split())
        decoded = a2b_base64(compact)
    except (BinasciiError, UnicodeEncodeError):
        raise _off_profile("base64 is malformed") from None
    if b2a_base64(decoded, newline=False) != compact:
        raise _off_profile("base64 is not in its one right form")
    return decoded


def _off_profile(detail: str) -> Rejection:
    # step 1, ISP-1.3: one profile, so that nothing is left to the sender's choice.
    return Rejection(Reason.SIGNATURE_PROFILE, detail)
