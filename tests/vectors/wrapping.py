"""Signature wrapping: what was signed is still there, and something else stands in its place.

XSW 1 to 8 after Somorovsky and others, "On Breaking SAML" (2012), and four more, each for a
reference to the whole document, to the root by its Id, and to the payload only.
"""

from tests.vectors.documents import (
    FORGED,
    GENUINE,
    Vector,
    document,
    header,
    opening,
    payload,
    wrapped,
)
from tests.vectors.signer import Recipe, canonical, signature

_END = "</m:Envelope>"
ENVELOPE, DIGEST = "sender.envelope", "sender.signature.digest_mismatch"
MISSING, PROFILE = "sender.signature.missing", "sender.signature.profile"


def _whole(content: str, signature_text: str, *, root_id: str, inner: str = "") -> str:
    return opening(root_id) + header() + content + inner + signature_text + _END


def _documents(style: str) -> dict[str, str]:
    """Return the documents of one style of reference, by name."""
    root_id = "" if style == "whole" else "m1"
    payload_id = "p1" if style == "payload" else ""
    genuine_payload = wrapped(payload(GENUINE), payload_id)
    evil_payload = wrapped(payload(FORGED), payload_id)
    elsewhere = wrapped(payload(FORGED), "evil" if payload_id else "")
    original = opening(root_id) + header() + genuine_payload + _END
    recipe = Recipe(uri={"whole": "", "root": "#m1", "payload": "#p1"}[style])
    if style == "payload":
        content = canonical(original, "{urn:fame:envelope:1.0}Payload")
        recipe = Recipe(uri="#p1", digested=content)
    sign = signature(original, recipe)
    signed_original = original[: -len(_END)] + sign + _END
    evil_id = "evil" if root_id else ""

    def inside(text: str) -> str:
        """Put ``text`` into the signature, at its end."""
        return sign[: -len("</ds:Signature>")] + text + "</ds:Signature>"

    nested = genuine_payload[: -len("</m:Payload>")]
    return {
        "genuine": signed_original,
        "tamper": signed_original.replace(f">{GENUINE}<", f">{FORGED}<"),
        "xsw1": _whole(evil_payload, inside(original), root_id=evil_id),
        "xsw2": _whole(evil_payload, sign, root_id=evil_id, inner=original),
        "xsw3": _whole(elsewhere + genuine_payload, sign, root_id=root_id),
        "xsw4": _whole(
            elsewhere[: -len("</m:Payload>")] + nested + "</m:Payload></m:Payload>",
            sign,
            root_id=root_id,
        ),
        "xsw5": _whole(elsewhere, sign + genuine_payload, root_id=root_id),
        "xsw6": _whole(elsewhere, inside(genuine_payload), root_id=root_id),
        "xsw7": _whole(
            f"<m:Extensions>{evil_payload}</m:Extensions>{genuine_payload}", sign, root_id=root_id
        ),
        "xsw8": _whole(
            elsewhere, inside(f"<ds:Object>{genuine_payload}</ds:Object>"), root_id=root_id
        ),
        "original-as-child": _whole(evil_payload, "", root_id=evil_id, inner=signed_original),
        "original-in-object": _whole(
            evil_payload, inside(f"<ds:Object>{original}</ds:Object>"), root_id=evil_id
        ),
        "original-as-sibling": _whole(evil_payload, sign + original, root_id=evil_id),
        "original-deep": _whole(
            evil_payload, "", root_id=evil_id, inner=f"<m:Extension>{signed_original}</m:Extension>"
        ),
    }


_CODES = {
    "tamper": DIGEST,
    "xsw1": PROFILE,
    "xsw6": PROFILE,
    "xsw8": PROFILE,
    "original-in-object": PROFILE,
    "original-as-child": MISSING,
    "original-deep": MISSING,
}


def vectors() -> list[Vector]:
    """Return the pack: 42 documents, of which two are genuine."""
    made: list[Vector] = []
    for style in ("whole", "root", "payload"):
        for name, text in _documents(style).items():
            code = _CODES.get(name, ENVELOPE)
            if style == "payload" and code != MISSING:
                code = ENVELOPE  # a payload has no Id, and is never what a reference means
            if name == "genuine" and style != "payload":
                made.append(_vector(f"{style}-{name}", text, None))
            else:
                made.append(_vector(f"{style}-{name}", text, code))
    return made


def _vector(name: str, text: str, code: str | None) -> Vector:
    raw = text.encode()
    return Vector("wrapping", name, lambda: raw, code)


def valid_form() -> list[Vector]:
    """Return wrappings that follow the envelope schema: only the verifier can refuse them."""
    original = document(root_id="m1")
    sign = signature(original, Recipe(uri="#m1"))
    forged = document(payload(FORGED), root_id="m1")[: -len(_END)]
    nested = document(f'<x:Box xmlns:x="urn:x">{original}</x:Box>{""}', root_id="evil")[
        : -len(_END)
    ]
    same_id = document(f'<x:Box xmlns:x="urn:x">{original}</x:Box>', root_id="")[: -len(_END)]
    return [
        _vector("form-forged-root", forged + sign + _END, DIGEST),
        _vector("form-original-in-payload", nested + sign + _END, PROFILE),
        _vector("form-original-in-payload-no-root-id", same_id + sign + _END, PROFILE),
    ]
