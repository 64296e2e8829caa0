"""Bodies sealed to a recipient: who opens them, for which delivery, and what is no such text."""

import base64
import json
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from joserfc import jwe
from joserfc.jwk import ECKey
from jwcrypto.jwe import JWE
from jwcrypto.jwk import JWK

from broker.core.identity import AgencyId
from broker.edge.jwe import (
    ALGORITHM,
    BODY_BYTES_MAX,
    DELIVERY,
    ENCRYPTION,
    RECIPIENT,
    Unreadable,
    own_keys,
    recipient_key,
    seal,
    unseal,
)

COUNCIL, SCHOOL = AgencyId("sunderland-csc"), AgencyId("hylton-school")
BODY = b"<Envelope>\xc3\xa9</Envelope>"
DELIVERY_ID = "0198f3a0-0000-7000-8000-000000000001"
OTHER_ID = "0198f3a0-0000-7000-8000-000000000002"


def pem(key: object) -> bytes:
    private: bytes = key.private_bytes(  # type: ignore[attr-defined]  # every private key has it
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    return private


def p256() -> bytes:
    return pem(ec.generate_private_key(ec.SECP256R1()))


def header_of(text: bytes) -> dict[str, object]:
    said: dict[str, object] = json.loads(base64.urlsafe_b64decode(text.split(b".")[0] + b"=="))
    return said


CURVES: list[Callable[[], bytes]] = [
    p256,
    lambda: pem(ec.generate_private_key(ec.SECP384R1())),
    lambda: pem(ec.generate_private_key(ec.SECP521R1())),
    lambda: pem(x25519.X25519PrivateKey.generate()),
]


@pytest.mark.parametrize("make", CURVES, ids=["P-256", "P-384", "P-521", "X25519"])
def test_the_recipient_opens_what_was_sealed_to_it(make: Callable[[], bytes]) -> None:
    private = make()

    sealed = seal(BODY, recipient_key(private), COUNCIL, DELIVERY_ID)

    assert unseal(sealed, own_keys(COUNCIL, [private]), DELIVERY_ID) == BODY
    assert BODY not in sealed


@pytest.mark.parametrize("make", CURVES, ids=["P-256", "P-384", "P-521", "X25519"])
def test_a_jose_library_of_somebody_else_opens_it_and_seals_for_us(
    make: Callable[[], bytes],
) -> None:
    private = make()
    sealed = seal(BODY, recipient_key(private), COUNCIL, DELIVERY_ID)
    header = header_of(sealed)
    peer = JWK.from_pem(private)

    theirs = JWE(algs=[ALGORITHM, ENCRYPTION])
    theirs.deserialize(sealed.decode(), peer)
    back = JWE(BODY, json.dumps({k: v for k, v in header.items() if k != "epk"}))
    back.add_recipient(peer)

    assert theirs.payload == BODY
    opened = unseal(
        back.serialize(compact=True).encode(), own_keys(COUNCIL, [private]), DELIVERY_ID
    )
    assert opened == BODY


def test_the_header_names_key_recipient_and_delivery_and_no_more() -> None:
    key = recipient_key(p256())

    header = header_of(seal(BODY, key, COUNCIL, DELIVERY_ID))

    del header["epk"]
    assert header == {
        "alg": "ECDH-ES+A256KW",
        "enc": "A256GCM",
        "kid": key.key_id,
        "cty": "xml",
        DELIVERY: DELIVERY_ID,
        RECIPIENT: COUNCIL,
    }


def test_two_sealings_of_one_body_have_nothing_in_common() -> None:
    key = recipient_key(p256())

    first, second = (seal(BODY, key, COUNCIL, DELIVERY_ID).split(b".") for _ in range(2))

    assert all(one != other for one, other in zip(first, second, strict=True))


def test_during_rotation_either_key_opens() -> None:
    old, new = p256(), p256()
    keys = own_keys(COUNCIL, [old, new])

    for private in (old, new):
        sealed = seal(BODY, recipient_key(private), COUNCIL, DELIVERY_ID)
        assert unseal(sealed, keys, DELIVERY_ID) == BODY


def test_nobody_else_opens_it() -> None:
    sealed = seal(BODY, recipient_key(p256()), COUNCIL, DELIVERY_ID)

    with pytest.raises(Unreadable, match="another key"):
        unseal(sealed, own_keys(COUNCIL, [p256()]), DELIVERY_ID)


def test_a_body_cannot_be_moved_to_another_delivery_or_recipient() -> None:
    private = p256()
    sealed = seal(BODY, recipient_key(private), COUNCIL, DELIVERY_ID)

    with pytest.raises(Unreadable, match="another delivery"):
        unseal(sealed, own_keys(COUNCIL, [private]), OTHER_ID)
    with pytest.raises(Unreadable, match="another delivery"):
        unseal(sealed, own_keys(SCHOOL, [private]), DELIVERY_ID)


def test_any_change_is_noticed() -> None:
    private = p256()
    keys = own_keys(COUNCIL, [private])
    sealed = seal(BODY, recipient_key(private), COUNCIL, DELIVERY_ID)

    for position in range(0, len(sealed), 7):
        was = sealed[position : position + 1]
        now = b"A" if was != b"A" else b"B"
        changed = sealed[:position] + now + sealed[position + 1 :]
        # The last digit of a part may hold bits that say nothing.
        if sealed[position + 1 : position + 2] not in {b".", b""}:
            with pytest.raises(Unreadable):
                unseal(changed, keys, DELIVERY_ID)


@pytest.mark.parametrize(
    "text",
    [b"", b"x", b"....", b"a.b.c.d.e", b"\xff\xfe.\x00...", b"e30.e30.e30.e30.e30", b"{}", b"null"],
)
def test_what_is_no_jwe_is_unreadable(text: bytes) -> None:
    with pytest.raises(Unreadable):
        unseal(text, own_keys(COUNCIL, [p256()]), DELIVERY_ID)


@pytest.mark.parametrize(
    "changes",
    [
        {"alg": "ECDH-ES"},
        {"alg": "ECDH-ES+A128KW"},
        {"enc": "A128GCM"},
        {"enc": "A256CBC-HS512"},
        {"zip": "DEF"},
        {"crit": ["exp"], "exp": 1},
        {"jku": "https://attacker.example/keys"},
        {DELIVERY: None},
        {RECIPIENT: None},
    ],
    ids=str,
)
def test_another_profile_is_unreadable(changes: dict[str, object]) -> None:
    private = p256()
    key = ECKey.import_key(private)
    header = {
        "alg": ALGORITHM,
        "enc": ENCRYPTION,
        "kid": recipient_key(private).key_id,
        DELIVERY: DELIVERY_ID,
        RECIPIENT: COUNCIL,
    } | changes
    header = {name: value for name, value in header.items() if value is not None}
    lax = jwe.JWERegistry(
        algorithms=[
            "ECDH-ES",
            "ECDH-ES+A128KW",
            ALGORITHM,
            "A128GCM",
            "A256CBC-HS512",
            ENCRYPTION,
            "DEF",
        ],
        strict_check_header=False,
    )
    lax.check_header = lambda *_, **__: None  # type: ignore[method-assign]  # to make what is wrong
    text = jwe.encrypt_compact(header, BODY, key, registry=lax).encode()

    with pytest.raises(Unreadable):
        unseal(text, own_keys(COUNCIL, [private]), DELIVERY_ID)


def test_a_body_of_the_largest_size_travels_and_a_larger_one_does_not() -> None:
    private = p256()
    largest = bytes(BODY_BYTES_MAX)

    sealed = seal(largest, recipient_key(private), COUNCIL, DELIVERY_ID)

    assert unseal(sealed, own_keys(COUNCIL, [private]), DELIVERY_ID) == largest
    with pytest.raises(ValueError, match="larger"):
        seal(largest + b"x", recipient_key(private), COUNCIL, DELIVERY_ID)
    with pytest.raises(Unreadable, match="too large"):
        unseal(sealed + b"A" * 8192, own_keys(COUNCIL, [private]), DELIVERY_ID)


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
        ec.generate_private_key(ec.SECP256K1()),
    ],
    ids=["RSA", "Ed25519", "secp256k1"],
)
def test_keys_of_other_kinds_are_refused(key: object) -> None:
    with pytest.raises(ValueError, match="P-256"):
        recipient_key(pem(key))


def test_text_that_is_no_key_is_refused() -> None:
    with pytest.raises(ValueError, match="P-256"):
        recipient_key(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")


def test_a_worker_needs_a_private_key() -> None:
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    with pytest.raises(ValueError, match="private"):
        own_keys(COUNCIL, [text])
    with pytest.raises(ValueError, match="needs a key"):
        own_keys(COUNCIL, [])


def test_keys_are_not_shown() -> None:
    private = p256()

    shown = repr(own_keys(COUNCIL, [private])) + repr(recipient_key(private))

    assert "ECKey" not in shown
