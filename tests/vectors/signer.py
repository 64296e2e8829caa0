"""A signer that signs anything, as hostile as asked for: it shares no code with the broker."""

import hashlib
from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from lxml import etree

KEYS = Path(__file__).parent / "keys"
DSIG = "http://www.w3.org/2000/09/xmldsig#"
MORE = "http://www.w3.org/2001/04/xmldsig-more#"
MORE_2007 = "http://www.w3.org/2007/05/xmldsig-more#"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENVELOPED = f"{DSIG}enveloped-signature"
RSA_SHA256 = f"{MORE}rsa-sha256"
ECDSA_SHA256 = f"{MORE}ecdsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
SHA384 = f"{MORE}sha384"
SHA512 = "http://www.w3.org/2001/04/xmlenc#sha512"
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - to show that it is refused
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}


@cache
def private_key(name: str) -> rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey:
    """Return a key of ``keys/``."""
    key = load_pem_private_key((KEYS / f"{name}.key.pem").read_bytes(), password=None)
    assert isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey)
    return key


def certificate_base64(name: str) -> str:
    """Return a certificate of ``keys/`` as it stands in ``X509Certificate``."""
    return "".join((KEYS / f"{name}.cert.pem").read_text().splitlines()[1:-1])


def value(method: str, key_name: str, content: bytes) -> bytes:
    """Return the signature of ``content``; deterministic but for RSA-PSS."""
    key = private_key(key_name)
    digest = _HASHES[next(name for name in _HASHES if name in method)]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        der = key.sign(content, ec.ECDSA(digest, deterministic_signing=True))
        half = (key.key_size + 7) // 8
        return b"".join(number.to_bytes(half) for number in decode_dss_signature(der))
    if "MGF1" in method:
        return key.sign(content, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
    return key.sign(content, padding.PKCS1v15(), digest)


def canonical(document: str, path: str = ".") -> bytes:
    """Return the exclusive canonical form of what ``path`` finds, by way of a second parse."""
    node = etree.fromstring(document.encode()).find(path)
    assert node is not None
    return etree.tostring(node, method="c14n", exclusive=True, with_comments=False)


def algorithm(name: str, identifier: str, content: str = "") -> str:
    """Return an element that names an algorithm, in canonical form."""
    return f'<ds:{name} Algorithm="{identifier}">{content}</ds:{name}>'


def key_info(key_name: str) -> str:
    """Return a ``KeyInfo`` with the certificate."""
    certificate = certificate_base64(key_name)
    return (
        "<ds:KeyInfo><ds:X509Data><ds:X509Certificate>"
        f"{certificate}</ds:X509Certificate></ds:X509Data></ds:KeyInfo>"
    )


EXACT_TRANSFORMS = algorithm("Transform", ENVELOPED) + algorithm("Transform", EXCLUSIVE)


@dataclass(frozen=True)
class Recipe:
    """How to sign. All texts are canonical, so that the signature verifies as written."""

    key: str = "sender-rsa"
    method: str = RSA_SHA256
    method_content: str = ""
    c14n: str = EXCLUSIVE
    c14n_content: str = ""
    uri: str | None = ""
    reference_attributes: str = ""
    transforms: str | None = EXACT_TRANSFORMS
    digest_method: str = SHA256
    digest_value: str | None = None
    digested: bytes | None = None  # instead of the whole document
    references: int = 1
    space: str = ""  # between the elements of SignedInfo
    value: str | None = None  # instead of a true signature
    key_info: str | None = None  # instead of one with the certificate
    extra: str = ""  # behind KeyInfo
    prefix: str = "ds"


def signature(document: str, recipe: Recipe) -> str:
    """Return the ``Signature`` that ``recipe`` makes over ``document``."""
    info = signed_info(document, recipe)
    signed = info.replace("<ds:SignedInfo", f'<ds:SignedInfo xmlns:ds="{DSIG}"', 1)
    value_text = recipe.value
    if value_text is None:
        content = _prefixed(signed, recipe.prefix).encode()
        value_text = b64encode(value(recipe.method, recipe.key, content)).decode()
    hints = key_info(recipe.key) if recipe.key_info is None else recipe.key_info
    return _prefixed(
        f'<ds:Signature xmlns:ds="{DSIG}">{info}'
        f"<ds:SignatureValue>{value_text}</ds:SignatureValue>{hints}{recipe.extra}</ds:Signature>",
        recipe.prefix,
    )


def signed_info(document: str, recipe: Recipe) -> str:
    """Return the ``SignedInfo`` of ``recipe``, without its namespace declaration."""
    digested = canonical(document) if recipe.digested is None else recipe.digested
    digest = hashlib.new(recipe.digest_method.rpartition("#")[2], digested).digest()
    digest_value = (
        b64encode(digest).decode() if recipe.digest_value is None else recipe.digest_value
    )
    uri = "" if recipe.uri is None else f' URI="{recipe.uri}"'
    between = recipe.space
    transforms = (
        ""
        if recipe.transforms is None
        else f"<ds:Transforms>{between}{recipe.transforms}{between}</ds:Transforms>"
    )
    reference = (
        f"<ds:Reference{recipe.reference_attributes}{uri}>{between}{transforms}{between}"
        f"{algorithm('DigestMethod', recipe.digest_method)}{between}"
        f"<ds:DigestValue>{digest_value}</ds:DigestValue>{between}</ds:Reference>"
    )
    return (
        f"<ds:SignedInfo>{between}"
        f"{algorithm('CanonicalizationMethod', recipe.c14n, recipe.c14n_content)}{between}"
        f"{algorithm('SignatureMethod', recipe.method, recipe.method_content)}{between}"
        f"{reference * recipe.references}{between}</ds:SignedInfo>"
    )


def _prefixed(text: str, prefix: str) -> str:
    if prefix == "ds":
        return text
    colon = f"{prefix}:" if prefix else ""
    declaration = f"xmlns:{prefix}=" if prefix else "xmlns="
    return (
        text.replace("xmlns:ds=", declaration)
        .replace("<ds:", f"<{colon}")
        .replace("</ds:", f"</{colon}")
    )


def signed(document: str, recipe: Recipe | None = None) -> str:
    """Return ``document`` with a signature as the last child of its root."""
    at = document.rindex("</")
    return document[:at] + signature(document, recipe or Recipe()) + document[at:]
