"""Messages that must be accepted: every algorithm, and every way of writing the same content."""

from tests.vectors.documents import Vector, document, header, opening, payload, wrapped
from tests.vectors.signer import (
    DSIG,
    ECDSA_SHA256,
    MORE,
    MORE_2007,
    SHA384,
    SHA512,
    Recipe,
    signed,
)

_RECIPES = {
    "rsa-sha256": Recipe(),
    "rsa-sha384": Recipe(method=f"{MORE}rsa-sha384", digest_method=SHA384),
    "rsa-sha512": Recipe(method=f"{MORE}rsa-sha512", digest_method=SHA512),
    "ecdsa-p256-sha256": Recipe("sender-p256", ECDSA_SHA256),
    "ecdsa-p384-sha384": Recipe("sender-p384", f"{MORE}ecdsa-sha384", digest_method=SHA384),
    "ecdsa-p521-sha512": Recipe("sender-p521", f"{MORE}ecdsa-sha512", digest_method=SHA512),
    "indented-signed-info": Recipe(space="\n  "),
    "prefix-dsig": Recipe(prefix="dsig"),
    "no-prefix": Recipe(prefix=""),
    "no-key-info": Recipe(key_info=""),
    "key-name-only": Recipe(key_info="<ds:KeyInfo><ds:KeyName>1</ds:KeyName></ds:KeyInfo>"),
    "foreign-key-info": Recipe(
        key_info="<ds:KeyInfo><ds:X509Data><ds:X509Certificate>QUJD</ds:X509Certificate>"
        "</ds:X509Data></ds:KeyInfo>"
    ),
}
_RANDOM = {f"rsa-pss-{bits}": Recipe(method=f"{MORE_2007}sha{bits}-rsa-MGF1") for bits in (256,)}
RANDOM_NAMES = frozenset(_RANDOM)  # RSA-PSS salts its signatures: other bytes each time


def vectors() -> list[Vector]:
    """Return the pack."""
    plain = signed(document())
    variants: dict[str, str | bytes] = {
        "root-id": signed(document(root_id="m1"), Recipe(uri="#m1")),
        "root-id-not-referred-to": signed(document(root_id="m1")),
        "byte-order-mark": b"\xef\xbb\xbf" + plain.encode(),
        "declaration": '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n' + plain,
        "declaration-lower-case": "<?xml version='1.0' encoding='utf-8'?>" + plain,
        "white-space-around": f"\n{plain}\n\n",
        "cdata": plain.replace("Sunderland City", "<![CDATA[Sunderland]]> City"),
        "cdata-like-markup": signed(
            document().replace("Sunderland City", "&lt;!DOCTYPE&gt; &lt;!--")
        ).replace("&lt;!DOCTYPE&gt; &lt;!--", "<![CDATA[<!DOCTYPE> <!--]]>"),
        "character-reference": plain.replace(">liquidlogic<", ">li&#113;uid&#x6C;ogic<"),
        "single-quotes": plain.replace('version="1.0"', "version='1.0'"),
        "empty-tags": plain.replace("></ds:Transform>", "/>").replace("></ds:DigestMethod>", "/>"),
        "attributes-in-another-order": signed(document(root_id="m1"), Recipe(uri="#m1")).replace(
            'Id="m1" version="1.0"', 'version="1.0"   Id="m1"'
        ),
        "wrapped-signature-value": _wrapped(plain, "\n"),
        "wrapped-signature-value-of-java": _wrapped(plain, "&#13;\n"),
        "white-space-behind-signature": _spaced_behind(),
        "white-space-inside-signature": plain.replace(
            "<ds:SignatureValue>", "\n <ds:SignatureValue>"
        ),
        "unused-namespace": plain.replace("<m:Envelope ", '<m:Envelope xmlns:unused="urn:x" '),
        "signature-namespace-on-root": plain.replace(
            "<m:Envelope ", f'<m:Envelope xmlns:ds="{DSIG}" '
        ),
        "default-namespace": signed(_default_namespace()),
        "letters-of-the-world": signed(
            document().replace("Sunderland City", "Łódź 東京 \U0001f600")
        ),
    }
    recipes = {name: signed(document(), recipe) for name, recipe in _RECIPES.items()}
    everything: dict[str, str | bytes] = {**recipes, **variants}
    made = [_vector(name, text) for name, text in everything.items()]
    salted = [_salted(name, recipe) for name, recipe in _RANDOM.items()]
    return made + salted


def _vector(name: str, text: str | bytes) -> Vector:
    raw = text if isinstance(text, bytes) else text.encode()
    return Vector("genuine", name, lambda: raw, None)


def _salted(name: str, recipe: Recipe) -> Vector:
    return Vector("genuine", name, lambda: signed(document(), recipe).encode(), None)


def _wrapped(text: str, ending: str) -> str:
    start = text.index("<ds:SignatureValue>") + len("<ds:SignatureValue>")
    end = text.index("</ds:SignatureValue>")
    value = text[start:end]
    lines = [value[at : at + 76] for at in range(0, len(value), 76)]
    return text[:start] + ending.join(lines) + ending + text[end:]


def _spaced_behind() -> str:
    unsigned = document(extra="\n  ")
    text = signed(unsigned)
    # The signer puts the signature last; here the signed white space stands behind it.
    start = text.index("<ds:Signature ")
    return text[: start - 3] + text[start : -len("</m:Envelope>")] + "\n  </m:Envelope>"


def _default_namespace() -> str:
    text = opening() + header() + wrapped(payload()) + "</m:Envelope>"
    return text.replace("<m:", "<").replace("</m:", "</").replace("xmlns:m=", "xmlns=")
