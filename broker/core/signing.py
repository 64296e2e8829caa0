"""Build envelopes and sign them, in the one profile that `signature` verifies.

What is signed here verifies with any XML signature tool: the signature is whole-document
(``URI=""``), enveloped, exclusively canonicalised. Since the canonical form of its
``SignedInfo`` is known beforehand but for digest and method, it is written out, not built.
"""

import hashlib
from binascii import b2a_base64
from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from lxml import etree

from broker.core import trust
from broker.core.envelope import NAMESPACE, parse
from broker.core.message import Address, Header
from broker.core.signature import DSIG, ENVELOPED, EXCLUSIVE

_SHA256 = hashes.SHA256()
_RSA_SCHEME = padding.PKCS1v15()
_ECDSA_SCHEME = ec.ECDSA(_SHA256)
_METHODS = {
    "rsa-sha256": "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256",
    "ecdsa-sha256": "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
}
_ALGORITHM = '<ds:{0} Algorithm="{1}"></ds:{0}>'
_DIGEST_TO_END = b"</ds:DigestValue></ds:Reference></ds:SignedInfo>"
_SIGNATURE_START = f'<ds:Signature xmlns:ds="{DSIG}">'.encode()
_NAMESPACE_AT_APEX = f' xmlns:ds="{DSIG}"'.encode()


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its certificate, made once: loading an RSA key costs 30 ms."""

    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = field(repr=False)
    certificate_der: bytes = field(repr=False)
    fingerprint: str  # SHA-256 of the certificate, lower-case hex
    algorithm: str  # rsa-sha256 | ecdsa-sha256
    # The signature up to its digest, and from its value on, as they stand in the document.
    opening: bytes = field(repr=False)
    closing: bytes = field(repr=False)

    def sign(self, content: bytes) -> bytes:
        """Return the signature of ``content`` in the form that XML signatures use."""
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            return self.private_key.sign(content, _RSA_SCHEME, _SHA256)
        r, s = decode_dss_signature(self.private_key.sign(content, _ECDSA_SCHEME))
        half = (self.private_key.key_size + 7) // 8
        return r.to_bytes(half) + s.to_bytes(half)


def load_signing_key(pem_key: bytes, pem_certificate: bytes) -> SigningKey:
    """Return the key that signs with SHA-256 for the holder of the certificate.

    Raises:
        ValueError: the two do not belong together, or the key is weak or of another kind.
    """
    private_key = load_pem_private_key(pem_key, password=None)
    certificate = x509.load_pem_x509_certificate(pem_certificate)
    if not isinstance(private_key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        msg = "a signing key is RSA or ECDSA"
        raise ValueError(msg)  # noqa: TRY004 - the file holds the wrong key
    if private_key.public_key() != certificate.public_key():
        msg = "the private key does not belong to the certificate"
        raise ValueError(msg)
    if not trust.strong(private_key.public_key()):
        msg = "the key is weak: RSA of 2,048 bits or more, or P-256, P-384 or P-521"
        raise ValueError(msg)
    return _signing_key(private_key, certificate)


def _signing_key(
    private_key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, certificate: x509.Certificate
) -> SigningKey:
    der = certificate.public_bytes(Encoding.DER)
    algorithm = "rsa-sha256" if isinstance(private_key, rsa.RSAPrivateKey) else "ecdsa-sha256"
    encoded = b2a_base64(der, newline=False)
    return SigningKey(
        private_key=private_key,
        certificate_der=der,
        fingerprint=certificate.fingerprint(_SHA256).hex(),
        algorithm=algorithm,
        opening=_opening(_METHODS[algorithm]),
        closing=b"</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>"
        + encoded
        + b"</ds:X509Certificate></ds:X509Data></ds:KeyInfo></ds:Signature>",
    )


def _opening(method: str) -> bytes:
    """Return the canonical ``SignedInfo`` up to its digest, less the namespace declaration."""
    parts = (
        "<ds:SignedInfo>",
        _ALGORITHM.format("CanonicalizationMethod", EXCLUSIVE),
        _ALGORITHM.format("SignatureMethod", method),
        '<ds:Reference URI=""><ds:Transforms>',
        _ALGORITHM.format("Transform", ENVELOPED),
        _ALGORITHM.format("Transform", EXCLUSIVE),
        "</ds:Transforms>",
        _ALGORITHM.format("DigestMethod", "http://www.w3.org/2001/04/xmlenc#sha256"),
        "<ds:DigestValue>",
    )
    return "".join(parts).encode()


def sign_envelope(unsigned: bytes, key: SigningKey) -> bytes:
    """Return ``unsigned``, in canonical form, with a signature as the last child of its root.

    Raises:
        Rejection: ``unsigned`` is not well-formed XML.
    """
    root = parse(unsigned)
    canonical = etree.tostring(root, method="c14n", exclusive=True, with_comments=False)
    return sign_canonical(canonical, key)


def sign_canonical(canonical: bytes, key: SigningKey) -> bytes:
    """Return ``canonical`` with a signature as the last child of its root.

    ``canonical`` is a whole document in exclusive canonical form, which is not checked; if
    it is not, the signature will not verify.
    """
    digest = b2a_base64(hashlib.sha256(canonical).digest(), newline=False)
    signed_info = key.opening + digest + _DIGEST_TO_END
    # SignedInfo is canonicalised by itself, and then carries the declaration of its prefix.
    apex = signed_info[:14] + _NAMESPACE_AT_APEX + signed_info[14:]
    value = b2a_base64(key.sign(apex), newline=False)
    end = canonical.rindex(b"</")
    return b"".join(
        (
            canonical[:end],
            _SIGNATURE_START,
            signed_info,
            b"<ds:SignatureValue>",
            value,
            key.closing,
            canonical[end:],
        )
    )


def build_envelope(header: Header, payload: etree._Element | bytes) -> bytes:
    """Return an unsigned envelope in canonical form.

    ``payload`` may be bytes of a whole document. The envelope uses a prefix, so that a
    payload without one keeps its canonical form when it is put inside.

    Raises:
        Rejection: ``payload`` is not well-formed XML.
    """
    element = parse(payload) if isinstance(payload, bytes) else payload
    content = etree.tostring(element, method="c14n", exclusive=True, with_comments=False)
    return b"".join(
        (
            f'<fame:Envelope xmlns:fame="{NAMESPACE}" version="1.0">'.encode(),
            _header(header).encode(),
            b"<fame:Payload>",
            content,
            b"</fame:Payload></fame:Envelope>",
        )
    )


def _header(header: Header) -> str:
    return _element(
        "Header",
        _leaf("MessageId", header.message_id),
        _leaf("CorrelationId", header.correlation_id),
        _leaf("CausationId", header.causation_id),
        _leaf("ConversationId", header.conversation_id),
        _leaf("MessageType", header.message_type),
        _leaf("SchemaVersion", header.schema_version),
        _sender(header),
        *(_recipient(address) for address in header.recipients),
        _leaf("Protocol", header.protocol),
        _leaf("Purpose", header.purpose),
        _leaf("Gateway", header.gateway),
        _leaf("ReasonForAccess", header.reason_for_access),
        *(_leaf("ConsentRef", reference) for reference in header.consent_refs),
        _leaf("DecisionRef", header.decision_ref),
        _handling(header),
        _leaf("CreatedAt", _instant(header.created_at)),
    )


def _sender(header: Header) -> str:
    person = header.practitioner
    practitioner = (
        ""
        if person is None
        else _element(
            "Practitioner",
            _leaf("Ref", person.ref),
            _leaf("Role", person.role),
            _leaf("Clearance", person.clearance),
            _leaf("Authentication", person.authentication),
        )
    )
    return _element(
        "Sender", _leaf("AgencyId", header.sender), _leaf("SystemId", header.system), practitioner
    )


def _recipient(address: Address) -> str:
    return _element(
        "Recipient",
        _leaf("AgencyId", address.agency_id),
        _leaf("AgencyType", address.agency_type),
        _leaf("Area", address.area),
    )


def _handling(header: Header) -> str:
    return _element(
        "Handling",
        _leaf("Classification", header.classification),
        _leaf("Shielded", "true" if header.shielded else "false"),
        _leaf("Priority", header.priority),
        _leaf("ExpiresAt", _optional_instant(header.expires_at)),
        _leaf("RespondBy", _optional_instant(header.respond_by)),
        _leaf("Acknowledge", header.acknowledge),
    )


def _element(name: str, *children: str) -> str:
    return f"<fame:{name}>{''.join(children)}</fame:{name}>"


def _leaf(name: str, text: str | None) -> str:
    return "" if text is None else f"<fame:{name}>{_escape(text)}</fame:{name}>"


def _escape(text: str) -> str:
    """Return ``text`` as canonical XML writes it (Canonical XML 1.0 §1.1)."""
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return escaped.replace("\r", "&#xD;")


def _instant(instant: datetime) -> str:
    return instant.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _optional_instant(instant: datetime | None) -> str | None:
    return None if instant is None else _instant(instant)
