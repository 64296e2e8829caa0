"""Abuse of XML signatures: other keys, algorithms, references, transforms and forms."""

import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Callable

from tests.vectors.documents import FORGED, Vector, document, header, opening, payload, wrapped
from tests.vectors.signer import (
    DSIG,
    ECDSA_SHA256,
    ENVELOPED,
    EXACT_TRANSFORMS,
    EXCLUSIVE,
    KEYS,
    MORE,
    RSA_SHA256,
    Recipe,
    algorithm,
    canonical,
    certificate_base64,
    key_info,
    signature,
    signed,
    signed_info,
    value,
)

ENVELOPE, MISSING = "sender.envelope", "sender.signature.missing"
PROFILE, DIGEST = "sender.signature.profile", "sender.signature.digest_mismatch"
INVALID, FORBIDDEN = "sender.signature.invalid", "sender.xml_forbidden"
_PLAIN = document()
_SIGNED = signed(_PLAIN)
_END = "</m:Envelope>"
_INCLUSIVE = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_PREFIX_LIST = (
    f'<ec:InclusiveNamespaces xmlns:ec="{EXCLUSIVE}" PrefixList="m"></ec:InclusiveNamespaces>'
)
Made = str | Callable[[], bytes]


def _transform(identifier: str, content: str = "") -> str:
    return algorithm("Transform", identifier, content)


def _keys() -> dict[str, tuple[Made, str]]:
    return {
        "other-agency": (signed(_PLAIN, Recipe("other-rsa")), INVALID),
        "stranger-with-own-certificate": (signed(_PLAIN, Recipe("stranger-rsa")), INVALID),
        "stranger-with-senders-certificate": (
            signed(_PLAIN, Recipe("stranger-rsa", key_info=key_info("sender-rsa"))),
            INVALID,
        ),
        "stranger-with-key-value": (
            signed(_PLAIN, Recipe("stranger-rsa", key_info=_key_value())),
            PROFILE,
        ),
        "key-value-beside-certificate": (
            signed(_PLAIN, Recipe(key_info=_key_value())),
            PROFILE,
        ),
        "retrieval-method": (
            signed(
                _PLAIN,
                Recipe(
                    key_info='<ds:KeyInfo><ds:RetrievalMethod URI="file:///etc/hostname">'
                    "</ds:RetrievalMethod></ds:KeyInfo>"
                ),
            ),
            PROFILE,
        ),
        "weak": (signed(_PLAIN, Recipe("sender-weak")), "sender.certificate.weak"),
        "expired": (signed(_PLAIN, Recipe("sender-expired")), "sender.certificate.not_valid"),
        "revoked": (signed(_PLAIN, Recipe("sender-revoked")), "sender.certificate.revoked"),
        "not-for-signing": (
            signed(_PLAIN, Recipe("sender-cipher")),
            "sender.certificate.not_valid",
        ),
        "revoked-and-tampered": (
            signed(_PLAIN, Recipe("sender-revoked")).replace(">10<", f">{FORGED}<"),
            "sender.certificate.revoked",
        ),
        "unknown-sender": (
            signed(_PLAIN.replace("sunderland-csc", "nobody-known")),
            "sender.unknown",
        ),
        "other-sender-named": (signed(_PLAIN.replace("sunderland-csc", "gateshead-csc")), INVALID),
        "sender-changed": (_SIGNED.replace("sunderland-csc", "gateshead-csc"), INVALID),
    }


def _key_value() -> str:
    return (
        "<ds:KeyInfo><ds:KeyValue><ds:RSAKeyValue><ds:Modulus>QUJD</ds:Modulus>"
        "<ds:Exponent>AQAB</ds:Exponent></ds:RSAKeyValue></ds:KeyValue></ds:KeyInfo>"
    )


def _algorithms() -> dict[str, tuple[Made, str]]:
    sha1 = f"{DSIG}sha1"
    return {
        "hmac-with-certificate": (_hmac(""), PROFILE),
        "hmac-truncated": (
            _hmac("<ds:HMACOutputLength>8</ds:HMACOutputLength>"),
            PROFILE,
        ),
        "rsa-sha1": (signed(_PLAIN, Recipe(method=f"{DSIG}rsa-sha1")), PROFILE),
        "digest-sha1": (signed(_PLAIN, Recipe(digest_method=sha1)), PROFILE),
        "rsa-md5": (signed(_PLAIN, Recipe(method=f"{MORE}rsa-md5", value="QUJD")), PROFILE),
        "digest-md5": (signed(_PLAIN, Recipe(digest_method=f"{MORE}md5")), PROFILE),
        "ecdsa-sha1": (
            signed(_PLAIN, Recipe("sender-p256", method=f"{MORE}ecdsa-sha1")),
            PROFILE,
        ),
        "dsa": (signed(_PLAIN, Recipe(method=f"{DSIG}dsa-sha1", value="QUJD")), PROFILE),
        "almost-the-method": (
            _renamed("sender-rsa", RSA_SHA256, RSA_SHA256.replace(".", "x")),
            PROFILE,
        ),
        "unknown-method": (signed(_PLAIN, Recipe(method="urn:x", value="QUJD")), PROFILE),
        "method-parameters": (
            signed(_PLAIN, Recipe(method_content="<ds:HMACOutputLength>256</ds:HMACOutputLength>")),
            PROFILE,
        ),
        "rsa-signature-called-ecdsa": (_renamed("sender-rsa", RSA_SHA256, ECDSA_SHA256), INVALID),
        "ecdsa-signature-called-rsa": (_renamed("sender-p256", ECDSA_SHA256, RSA_SHA256), INVALID),
        "rsa-signature-called-pss": (
            _renamed(
                "sender-rsa", RSA_SHA256, "http://www.w3.org/2007/05/xmldsig-more#sha256-rsa-MGF1"
            ),
            INVALID,
        ),
        "ecdsa-zero": (_ecdsa(lambda raw: bytes(len(raw))), INVALID),
        "ecdsa-der": (_ecdsa(_der), INVALID),
        "ecdsa-padded": (_ecdsa(lambda raw: b"\0" + raw[:32] + b"\0" + raw[32:]), INVALID),
        "ecdsa-zero-between": (_ecdsa(lambda raw: raw[:32] + b"\0" + raw[32:]), INVALID),
        "ecdsa-halves-swapped": (_ecdsa(lambda raw: raw[32:] + raw[:32]), INVALID),
        "signature-all-ones": (_with_value(b64encode(b"\xff" * 256).decode()), INVALID),
    }


def _hmac(content: str) -> str:
    recipe = Recipe(method=f"{MORE}hmac-sha256", method_content=content, value="")
    info = signed_info(_PLAIN, recipe).replace("SignedInfo", f'SignedInfo xmlns:ds="{DSIG}"', 1)
    key = (KEYS / "sender-rsa.cert.pem").read_bytes()
    mac = b64encode(hmac.digest(key, info.encode(), "sha256")).decode()
    return _SIGNED[: _SIGNED.index("<ds:Signature ")] + (
        signature(_PLAIN, Recipe(method=f"{MORE}hmac-sha256", method_content=content, value=mac))
        + _END
    )


def _renamed(key: str, true_method: str, claimed: str) -> str:
    info = signed_info(_PLAIN, Recipe(key, claimed))
    apex = info.replace("<ds:SignedInfo", f'<ds:SignedInfo xmlns:ds="{DSIG}"', 1)
    made = b64encode(value(true_method, key, apex.encode())).decode()
    return signed(_PLAIN, Recipe(key, claimed, value=made))


def _ecdsa(change: Callable[[bytes], bytes]) -> str:
    text = signed(_PLAIN, Recipe("sender-p256", ECDSA_SHA256))
    raw = b64decode(_value_of(text))
    return text.replace(_value_of(text), b64encode(change(raw)).decode())


def _der(raw: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    return encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))


def _value_of(text: str) -> str:
    return text.partition("<ds:SignatureValue>")[2].partition("</ds:SignatureValue>")[0]


def _digest_of(text: str) -> str:
    return text.partition("<ds:DigestValue>")[2].partition("</ds:DigestValue>")[0]


def _with_value(text: str) -> str:
    return _SIGNED.replace(_value_of(_SIGNED), text)


def _references() -> dict[str, tuple[Made, str]]:
    uris = {
        "local-file": "file:///etc/hostname",
        "local-path": "/etc/hostname",
        "device": "/dev/zero",
        "http": "http://127.0.0.1:18099/canary",
        "xpointer": "#xpointer(/)",
        "xpointer-id": "#xpointer(id('m1'))",
        "other-id": "#m2",
        "no-id": "#",
        "two-hashes": "##m1",
        "white-space": " ",
    }
    base = document(root_id="m1")
    made: dict[str, tuple[Made, str]] = {
        f"reference-{name}": (signed(base, Recipe(uri=uri)), PROFILE) for name, uri in uris.items()
    }
    return made | {
        "reference-without-uri": (signed(base, Recipe(uri=None)), PROFILE),
        "reference-type": (
            signed(_PLAIN, Recipe(reference_attributes=' Type="urn:x"')),
            PROFILE,
        ),
        "reference-twice": (signed(_PLAIN, Recipe(references=2)), PROFILE),
        "reference-never": (signed(_PLAIN, Recipe(references=0)), PROFILE),
        "reference-50-times": (signed(_PLAIN, Recipe(references=50)), PROFILE),
        "reference-to-root-without-id": (signed(_PLAIN, Recipe(uri="#m1")), PROFILE),
        "id-twice": (
            signed(document(payload(attributes=' Id="m1"'), root_id="m1"), Recipe(uri="#m1")),
            PROFILE,
        ),
        "id-twice-other-case": (
            signed(document(payload(attributes=' ID="m1"'), root_id="m1"), Recipe(uri="#m1")),
            PROFILE,
        ),
        "id-twice-xml-id": (
            signed(document(payload(attributes=' xml:id="m1"'), root_id="m1"), Recipe(uri="#m1")),
            ENVELOPE,
        ),
        "id-in-a-namespace": (
            signed(
                document(root_id="m1").replace("<m:Envelope", '<m:Envelope m:Id="m2"'),
                Recipe(uri="#m2"),
            ),
            ENVELOPE,
        ),
    }


def _transforms() -> dict[str, tuple[Made, str]]:
    xpath = "http://www.w3.org/TR/1999/REC-xpath-19991116"
    not_payload = "<ds:XPath>not(ancestor-or-self::*[local-name()='Payload'])</ds:XPath>"
    sheet = (
        '<xsl:stylesheet xmlns:xsl="http://www.w3.org/1999/XSL/Transform" version="1.0">'
        '<xsl:template match="/"><xsl:copy-of select="document(\'/etc/hostname\')">'
        "</xsl:copy-of></xsl:template></xsl:stylesheet>"
    )
    enveloped, exclusive = _transform(ENVELOPED), _transform(EXCLUSIVE)
    transforms: dict[str, str | None] = {
        "xpath-covers-less": _transform(xpath, not_payload) + exclusive,
        "xpath-slow": _transform(xpath, "<ds:XPath>count(//*[count(//*) = 1]) = 0</ds:XPath>"),
        "xpath-filter-2": _transform("http://www.w3.org/2002/06/xmldsig-filter2") + exclusive,
        "xslt": _transform("http://www.w3.org/TR/1999/REC-xslt-19991116", sheet),
        "base64": enveloped + _transform(f"{DSIG}base64"),
        "none": None,
        "empty": "",
        "enveloped-only": enveloped,
        "exclusive-only": exclusive,
        "reversed": exclusive + enveloped,
        "enveloped-twice": enveloped + enveloped,
        "exclusive-twice": exclusive + exclusive,
        "three": enveloped + exclusive + exclusive,
        "fifty": enveloped + exclusive * 50,
        "with-comments": enveloped + _transform(f"{EXCLUSIVE}WithComments"),
        "inclusive": enveloped + _transform(_INCLUSIVE),
        "inclusive-1.1": enveloped + _transform("http://www.w3.org/2006/12/xml-c14n11"),
        "prefix-list": enveloped + _transform(EXCLUSIVE, _PREFIX_LIST),
        "almost": enveloped + _transform(EXCLUSIVE.replace(".", "x")),
        "unknown": enveloped + exclusive + _transform("urn:x"),
    }
    made: dict[str, tuple[Made, str]] = {
        f"transforms-{name}": (signed(_PLAIN, Recipe(transforms=text)), PROFILE)
        for name, text in transforms.items()
    }
    covered = signed(_PLAIN, Recipe(transforms=transforms["xpath-covers-less"]))
    return made | {
        "transforms-xpath-uncovered-part-changed": (covered.replace(">10<", ">9999<"), PROFILE),
        "c14n-inclusive": (signed(_PLAIN, Recipe(c14n=_INCLUSIVE)), PROFILE),
        "c14n-with-comments": (signed(_PLAIN, Recipe(c14n=f"{EXCLUSIVE}WithComments")), PROFILE),
        "c14n-prefix-list": (signed(_PLAIN, Recipe(c14n_content=_PREFIX_LIST)), PROFILE),
        "c14n-unknown": (signed(_PLAIN, Recipe(c14n="urn:x")), PROFILE),
    }


def _places() -> dict[str, tuple[Made, str]]:
    sign = signature(_PLAIN, Recipe())
    bare = _PLAIN[: -len(_END)]
    start = opening()
    forged = document(payload(FORGED))
    in_payload = document(payload(attributes="") + "")
    own_signature = signed(
        document(f'<b:Box xmlns:b="urn:x">{signature(_PLAIN, Recipe())}</b:Box>')
    )
    return {
        "unsigned": (_PLAIN, MISSING),
        "signature-first": (start + sign + _PLAIN[len(start) :], ENVELOPE),
        "signature-in-header": (in_payload.replace("</m:Header>", f"{sign}</m:Header>"), MISSING),
        "signature-in-payload": (
            in_payload.replace("</m:Payload>", f"{sign}</m:Payload>"),
            MISSING,
        ),
        "signature-before-payload": (
            in_payload.replace("<m:Payload>", f"{sign}<m:Payload>"),
            ENVELOPE,
        ),
        "signature-twice": (bare + sign + sign + _END, ENVELOPE),
        "signature-and-a-foreign-one": (
            bare + signature(_PLAIN, Recipe("stranger-rsa")) + sign + _END,
            ENVELOPE,
        ),
        "signature-inside-payload-as-well": (own_signature, PROFILE),
        "signature-of-another-message": (forged[: -len(_END)] + sign + _END, DIGEST),
        "signature-as-root": (sign, ENVELOPE),
        "signature-in-other-namespace": (_SIGNED.replace(DSIG + '">', DSIG + 'x">', 1), MISSING),
        "fake-signature-first": (
            bare + '<x:Signature xmlns:x="urn:x"></x:Signature>' + sign + _END,
            ENVELOPE,
        ),
        "envelope-in-envelope": (
            opening() + header() + wrapped(_SIGNED) + sign + _END,
            ENVELOPE,
        ),
        "empty-envelope": (start + sign + _END, ENVELOPE),
        "header-only": (start + header() + sign + _END, ENVELOPE),
    }


def _forms() -> dict[str, tuple[Made, str]]:
    value_text, digest_text = _value_of(_SIGNED), _digest_of(_SIGNED)
    empty_digest = b64encode(hashlib.sha256(b"").digest()).decode()
    information = _SIGNED[_SIGNED.index("<ds:SignedInfo>") : _SIGNED.index("<ds:SignatureValue>")]
    evil = signed_info(document(payload(FORGED)), Recipe())
    forged = _SIGNED.replace(">10<", f">{FORGED}<")
    relative = document(payload(attributes=' xmlns:x="relative" x:y="z"'))
    bits = value_text[:-3] + _next_letter(value_text[-3]) + "=="
    changes = {
        "two-signed-infos": information + evil,
        "two-signed-infos-forged-first": evil + information,
        "no-signed-info": "",
        "signed-info-in-another-namespace": information.replace("<ds:", "<m:").replace(
            "</ds:", "</m:"
        ),
        "signed-info-with-id": information.replace("<ds:SignedInfo>", '<ds:SignedInfo Id="s">'),
        "signed-info-forged": evil,
        "signed-info-nested": f"<ds:SignedInfo>{evil}{information}</ds:SignedInfo>",
    }
    made: dict[str, tuple[Made, str]] = {
        name: (_SIGNED.replace(information, text), PROFILE) for name, text in changes.items()
    }
    made["signed-info-forged"] = (forged.replace(information, evil), INVALID)
    return made | {
        "value-empty": (_with_value(""), PROFILE),
        "value-missing": (
            _SIGNED.replace(f"<ds:SignatureValue>{value_text}</ds:SignatureValue>", ""),
            PROFILE,
        ),
        "value-with-junk-behind": (_with_value(value_text + "!!!!"), PROFILE),
        "value-with-more-behind": (_with_value(value_text + "QUJD"), PROFILE),
        "value-with-junk-inside": (_with_value(value_text[:8] + "*" + value_text[8:]), PROFILE),
        "value-with-spare-bits": (_with_value(bits), PROFILE),
        "value-without-padding": (_with_value(value_text.rstrip("=")), PROFILE),
        "value-with-no-break-space": (
            _with_value(value_text[:8] + "\xa0" + value_text[8:]),
            PROFILE,
        ),
        "value-with-element": (_with_value(f"<m:x></m:x>{value_text}"), PROFILE),
        "value-with-element-behind": (_with_value(f"{value_text}<m:x></m:x>"), PROFILE),
        "value-twice": (
            _SIGNED.replace(
                "<ds:KeyInfo>", f"<ds:SignatureValue>{value_text}</ds:SignatureValue><ds:KeyInfo>"
            ),
            PROFILE,
        ),
        "digest-empty": (signed(_PLAIN, Recipe(digest_value="")), PROFILE),
        "digest-of-nothing": (signed(_PLAIN, Recipe(digest_value=empty_digest)), DIGEST),
        "digest-with-junk": (signed(_PLAIN, Recipe(digest_value=digest_text + "!!!!")), PROFILE),
        "digest-short": (signed(_PLAIN, Recipe(digest_value=digest_text[:20])), PROFILE),
        "digest-with-element": (
            signed(_PLAIN, Recipe(digest_value=f"<m:x xmlns:m='urn:x'></m:x>{digest_text}")),
            PROFILE,
        ),
        "object": (signed(_PLAIN, Recipe(extra="<ds:Object>10</ds:Object>")), PROFILE),
        "manifest": (
            signed(
                _PLAIN,
                Recipe(
                    reference_attributes=f' Type="{DSIG}Manifest"',
                    uri="#x",
                    extra='<ds:Object><ds:Manifest Id="x"></ds:Manifest></ds:Object>',
                ),
            ),
            PROFILE,
        ),
        "text-between-parts": (_SIGNED.replace("<ds:KeyInfo>", "10<ds:KeyInfo>"), PROFILE),
        "signature-with-id": (_SIGNED.replace("<ds:Signature ", '<ds:Signature Id="s" '), PROFILE),
        "key-info-twice": (
            _SIGNED.replace("</ds:Signature>", f"{key_info('sender-rsa')}</ds:Signature>"),
            PROFILE,
        ),
        "key-info-first": (
            _SIGNED.replace(key_info("sender-rsa"), "").replace(
                "<ds:SignedInfo>", f"{key_info('sender-rsa')}<ds:SignedInfo>"
            ),
            PROFILE,
        ),
        "void-canonical-form": (
            lambda: _void(relative, empty_digest).encode(),
            PROFILE,
        ),
        "void-canonical-form-of-signed-info": (
            _SIGNED.replace("<ds:SignedInfo>", '<ds:SignedInfo xmlns:x="relative" x:y="z">'),
            PROFILE,
        ),
    }


def _void(relative: str, empty_digest: str) -> str:
    """Sign the digest of nothing, for a verifier that reads an error as an empty text."""
    sign = signature(_PLAIN, Recipe(digest_value=empty_digest))
    return relative[: -len(_END)] + sign + _END


def _next_letter(letter: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[(alphabet.index(letter) + 1) % 64]


def _changes() -> dict[str, tuple[Made, str]]:
    """Return genuine messages in which one thing was changed behind the signer's back."""
    changes = {
        "recipient": ("ne-jobs-portal", "northern-lights"),
        "message-id": (
            "019aa000-0000-7000-8000-000000000001",
            "019aa000-0000-7000-8000-000000000002",
        ),
        "system": ("liquidlogic", "mosaic"),
        "created-at": ("2026-11-20T10:00:00Z</m:CreatedAt>", "2026-11-20T10:00:01Z</m:CreatedAt>"),
        "white-space": ("<Version>10", "\n<Version>10"),
        "payload-value": (">10<", ">9999<"),
        "payload-attribute": ("<VacancyClosed ", '<VacancyClosed x="y" '),
        "payload-namespace": ("urn:fame:vacancy:1.0", "urn:fame:referral:1.0"),
        "payload-prefix": (
            "<Version>10</Version>",
            '<v:Version xmlns:v="urn:fame:vacancy:1.0">10</v:Version>',
        ),
        "root-id": ("<m:Envelope ", '<m:Envelope Id="m1" '),
        "text-behind-signature": ("</ds:Signature>", "</ds:Signature>\n"),
        "character": ("Sunderland City", "Sunder\u0142and City"),
    }
    return {
        f"changed-{name}": (_SIGNED.replace(old, new, 1), DIGEST)
        for name, (old, new) in changes.items()
    }


def vectors() -> list[Vector]:
    """Return the pack; nothing in it is accepted."""
    groups = (
        _keys(),
        _algorithms(),
        _references(),
        _transforms(),
        _places(),
        _forms(),
        _changes(),
    )
    return [_vector(name, made, code) for group in groups for name, (made, code) in group.items()]


def _vector(name: str, text: Made, code: str) -> Vector:
    if callable(text):
        return Vector("abuse", name, text, code)
    raw = text.encode()
    return Vector("abuse", name, lambda: raw, code)


assert canonical(_PLAIN) == _PLAIN.encode()
assert EXACT_TRANSFORMS in _SIGNED
assert certificate_base64("sender-rsa") in _SIGNED
