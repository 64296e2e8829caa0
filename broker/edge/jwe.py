"""Bodies on their way through Kafka: encrypted to the recipient agency (JWE, RFC 7516).

ECDH-ES+A256KW and A256GCM, on P-256, P-384, P-521 or X25519. Whoever runs the cluster has
neither key, so he can neither read a body nor move it to another delivery: delivery and
recipient are in the protected header, which the ciphertext is bound to. He can still keep
a record back, or show it twice; the outbox answers the one, the delivery id the other.
Who wrote a record is not proved by its encryption but by the signature inside it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from joserfc.registry import HeaderParameter

from broker.core.identity import AgencyId
from broker.core.limits import LIMITS

ALGORITHM: Final = "ECDH-ES+A256KW"
ENCRYPTION: Final = "A256GCM"
CURVES: Final = frozenset({"P-256", "P-384", "P-521", "X25519"})
CONTENT_TYPE: Final = "xml"  # RFC 7516 §4.1.12: "application/" is left out
DELIVERY: Final = "urn:fame:delivery"
RECIPIENT: Final = "urn:fame:recipient"
_HEADER = frozenset({"alg", "enc", "kid", "cty", "epk", DELIVERY, RECIPIENT})
# A reduced envelope carries digests and can be larger than what the sender sent.
BODY_BYTES_MAX: Final = LIMITS.body_bytes_max * 5 // 4
_TEXT_BYTES_MAX = BODY_BYTES_MAX * 4 // 3 + 4096

Key = ECKey | OKPKey


class Unreadable(ValueError):
    """A text does not open for this delivery with these keys. The words say no more."""


class _Registry(jwe.JWERegistry):
    # joserfc opens nothing above 64 KiB unless told.
    max_ciphertext_length = _TEXT_BYTES_MAX


_REGISTRY = _Registry(
    header_registry={
        DELIVERY: HeaderParameter("delivery id", "str", required=True),
        RECIPIENT: HeaderParameter("agency id", "str", required=True),
    },
    algorithms=[ALGORITHM, ENCRYPTION],
)


@dataclass(frozen=True, slots=True)
class RecipientKey:
    """The public key to which an agency wants its deliveries encrypted."""

    key_id: str  # RFC 7638 thumbprint
    key: Key = field(repr=False)


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """The private keys of the agency that a worker works for, by key id: rotation is overlap."""

    recipient: AgencyId
    keys: Mapping[str, Key] = field(repr=False)


def recipient_key(pem: bytes) -> RecipientKey:
    """Return the public key in ``pem``; of a private key only the public half is kept.

    Raises:
        ValueError: it is no key on one of `CURVES`.
    """
    key = _key(pem)
    public = type(key).import_key(key.as_dict(private=False))
    return RecipientKey(public.thumbprint(), public)


def own_keys(recipient: AgencyId, pems: Iterable[bytes]) -> OwnKeys:
    """Return the private keys in ``pems``, of which any may be the one in use.

    Raises:
        ValueError: there is none, or one is no private key on one of `CURVES`.
    """
    keys = {}
    for pem in pems:
        key = _key(pem)
        if not key.is_private:
            raise ValueError("this is a public key; a worker needs its private half")
        keys[key.thumbprint()] = key
    if not keys:
        raise ValueError("a worker needs a key to open its deliveries")
    return OwnKeys(recipient, keys)


def seal(body: bytes, to: RecipientKey, recipient: AgencyId, delivery_id: str) -> bytes:
    """Return ``body`` as a compact JWE that only ``recipient`` opens, for this delivery only.

    Raises:
        ValueError: it has more than `BODY_BYTES_MAX` bytes.
    """
    if len(body) > BODY_BYTES_MAX:
        raise ValueError("the body is larger than what a record carries")
    header = {
        "alg": ALGORITHM,
        "enc": ENCRYPTION,
        "kid": to.key_id,
        "cty": CONTENT_TYPE,
        DELIVERY: delivery_id,
        RECIPIENT: recipient,
    }
    return jwe.encrypt_compact(header, body, to.key, registry=_REGISTRY).encode("ascii")


def unseal(text: bytes, keys: OwnKeys, delivery_id: str) -> bytes:
    """Return the body that was sealed for this delivery to the owner of ``keys``.

    Raises:
        Unreadable: it was changed, was made for another delivery, recipient or key, or is
            not a JWE of the one profile.
    """
    if len(text) > _TEXT_BYTES_MAX:
        raise Unreadable("too large")
    try:
        opened = jwe.decrypt_compact(
            text, lambda found: _named(keys, found.headers()), registry=_REGISTRY
        )
    except Unreadable:
        raise
    except (JoseError, ValueError, TypeError, KeyError):
        # joserfc lets errors of Python pass for some malformed texts.
        raise Unreadable("it does not open with the keys of the recipient") from None
    if not opened.protected.keys() <= _HEADER:
        raise Unreadable("its header says more than ours do")
    bound_to = (opened.protected.get(DELIVERY), opened.protected.get(RECIPIENT))
    if opened.plaintext is None or bound_to != (delivery_id, keys.recipient):
        raise Unreadable("it was made for another delivery")
    return opened.plaintext


def _named(keys: OwnKeys, header: Mapping[str, object]) -> Key:
    key = keys.keys.get(str(header.get("kid")))
    if key is None:
        raise Unreadable("it was encrypted to another key")
    return key


def _key(pem: bytes) -> Key:
    for kind in (ECKey, OKPKey):
        try:
            key = kind.import_key(pem)
        except (JoseError, ValueError, TypeError, AttributeError):
            continue
        if key.curve_name in CURVES:
            return key
    raise ValueError(f"a key on one of {', '.join(sorted(CURVES))} is needed, in PEM")
