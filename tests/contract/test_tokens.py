"""The token endpoint's checks, each met by one thing wrong with an assertion that else holds."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc import jws, jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from sqlalchemy import select

from broker.core.agency import Agency, System
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.ids import new_id
from broker.edge.peers import Certificate, Directory
from broker.edge.store import Store
from broker.edge.tables import used_token
from broker.edge.tokens import (
    ASSERTION_S_MAX,
    SKEW_S,
    TOKEN_BYTES_MAX,
    TokenKey,
    TokenService,
    _check_signature,
    mark_used,
)
from tests.contract.stores import open_store

NOW = datetime(2026, 11, 20, 9, tzinfo=UTC)
AT = int(NOW.timestamp())
ISSUER = "https://broker.example:8443"
ENDPOINT = "https://broker.example:8443/oauth/token"
SCHOOL = AgencyId("hylton-school")
COUNCIL = AgencyId("sunderland-csc")
LIFETIME_S = 300

EC_KEY = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
ED_KEY = OKPKey.import_key(ed25519.Ed25519PrivateKey.generate())
RSA_KEY = RSAKey.import_key(rsa.generate_private_key(65537, 2048))
OTHER_KEY = ECKey.import_key(ec.generate_private_key(ec.SECP256R1()))
TOKEN_KEY = TokenKey(ec.generate_private_key(ec.SECP256R1()))
CERTIFICATE = Certificate("ab" * 32, NOW - timedelta(days=1), NOW + timedelta(days=1))
OTHER_CERTIFICATE = replace(CERTIFICATE, fingerprint="cd" * 32)

Break = Callable[[dict[str, Any]], object]


def jwks(*keys: ECKey | OKPKey | RSAKey) -> dict[str, object]:
    return {"keys": [key.as_dict(private=False) for key in keys]}


def agency(agency_id: AgencyId, client_id: str, keys: dict[str, object]) -> Agency:
    system = System("sims", client_id=client_id, jwks=keys)
    return Agency(agency_id=agency_id, name=agency_id, type="SCHOOL", systems=(system,))


def directory(*agencies: Agency) -> Directory:
    register = SimpleNamespace(agencies={one.agency_id: one for one in agencies})
    return Directory(SimpleNamespace(current=register))


def service(*agencies: Agency) -> TokenService:
    held = agencies or (agency(SCHOOL, "school", jwks(EC_KEY, ED_KEY, RSA_KEY)),)
    return TokenService(directory(*held), TOKEN_KEY, ISSUER, LIFETIME_S)


def claims(**changed: object) -> dict[str, Any]:
    given: dict[str, Any] = {
        "iss": "school",
        "sub": "school",
        "aud": ENDPOINT,
        "exp": AT + 60,
        "iat": AT,
        "jti": "one",
    }
    return {name: value for name, value in (given | changed).items() if value is not None}


def signed(given: dict[str, Any], key: Any = EC_KEY, header: dict[str, Any] | None = None) -> str:
    header = header or {"alg": "ES256"}
    return jwt.encode(header, given, key, algorithms=[header["alg"]])


def segment(text: str | bytes) -> str:
    octets = text.encode() if isinstance(text, str) else text
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode()


def raw(header: str, payload: str) -> str:
    """A JWT signed over exactly this text, however odd, with the client's own key."""
    signing_input = f"{segment(header)}.{segment(payload)}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(signing_input.encode(), EC_KEY)
    return f"{signing_input}.{segment(signature)}"


def rejected(text: str, held: TokenService | None = None) -> str:
    with pytest.raises(Rejection) as caught:
        (held or service()).examine(text, NOW)
    assert caught.value.reason is Reason.UNAUTHENTICATED
    return caught.value.detail


# -- assertions that hold --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [(EC_KEY, "ES256"), (RSA_KEY, "PS256"), (ED_KEY, "Ed25519")],
    ids=["ES256", "PS256", "Ed25519"],
)
def test_an_assertion_by_a_registered_key_holds(key: Any, algorithm: str) -> None:
    assertion = service().examine(signed(claims(), key, {"alg": algorithm}), NOW)

    assert assertion.client.client_id == "school"
    assert assertion.client.agencies == {SCHOOL}


def test_eddsa_by_its_older_name_holds_for_an_ed25519_key() -> None:
    signing_input = f"{segment(json.dumps({'alg': 'EdDSA'}))}.{segment(json.dumps(claims()))}"
    signature = ED_KEY.private_key.sign(signing_input.encode())  # type: ignore[union-attr]

    service().examine(f"{signing_input}.{segment(signature)}", NOW)


@pytest.mark.parametrize("seconds", [1, ASSERTION_S_MAX, ASSERTION_S_MAX + SKEW_S])
def test_an_assertion_may_live_up_to_five_minutes_and_the_skew(seconds: int) -> None:
    service().examine(signed(claims(exp=AT + seconds)), NOW)


def test_an_audience_list_with_this_endpoint_alone_holds() -> None:
    service().examine(signed(claims(aud=[ENDPOINT])), NOW)


# -- the header ------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["none", "None", "nOnE", ""])
def test_an_unsigned_assertion_is_rejected(algorithm: str) -> None:
    text = f"{segment(json.dumps({'alg': algorithm}))}.{segment(json.dumps(claims()))}"

    assert rejected(f"{text}.")
    assert rejected(f"{text}.{segment('x')}")


def test_hmac_with_the_public_key_as_its_secret_is_rejected() -> None:
    pem = RSA_KEY.public_key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    text = f"{segment(json.dumps({'alg': 'HS256'}))}.{segment(json.dumps(claims()))}"
    mac = hmac.HMAC(pem, hashes.SHA256())
    mac.update(text.encode())

    assert rejected(f"{text}.{segment(mac.finalize())}")


@pytest.mark.parametrize(
    "member",
    [
        {"jwk": EC_KEY.as_dict(private=False)},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"b64": False, "crit": ["b64"]},
        {"zip": "DEF"},
        {"cty": "JWT"},
    ],
    ids=lambda member: next(iter(member)),
)
def test_a_header_that_brings_a_key_or_a_rule_along_is_rejected(member: dict[str, Any]) -> None:
    header = json.dumps({"alg": "ES256", **member})

    assert "header" in rejected(raw(header, json.dumps(claims())))


@pytest.mark.parametrize("kid", ["../../etc/passwd", "' OR 1=1 --", "other"])
def test_a_kid_is_compared_and_used_for_nothing_else(kid: str) -> None:
    key = EC_KEY.as_dict(private=False) | {"kid": "registered"}
    held = service(agency(SCHOOL, "school", {"keys": [key]}))

    assert rejected(signed(claims(), EC_KEY, {"alg": "ES256", "kid": kid}), held)
    held.examine(signed(claims(), EC_KEY, {"alg": "ES256", "kid": "registered"}), NOW)


@pytest.mark.parametrize("algorithm", ["RS256", "PS384", "RS512"])
def test_an_algorithm_off_the_list_is_rejected_even_with_the_right_key(algorithm: str) -> None:
    assert rejected(signed(claims(), RSA_KEY, {"alg": algorithm}))


def test_a_key_is_not_used_with_the_algorithm_of_another_kind() -> None:
    held = service(agency(SCHOOL, "school", jwks(RSA_KEY)))

    assert rejected(signed(claims(), EC_KEY), held)


def test_a_signature_is_checked_with_the_algorithm_that_was_chosen_for_the_key() -> None:
    text = signed(claims(), RSA_KEY, {"alg": "PS256"})

    with pytest.raises(Rejection):
        _check_signature(text, RSA_KEY, "ES256")


# -- the signature ---------------------------------------------------------------------------


def test_another_key_is_rejected() -> None:
    assert "no registered key" in rejected(signed(claims(), OTHER_KEY))


def test_a_signature_of_zeros_is_rejected() -> None:
    head, payload, _ = signed(claims()).split(".")

    assert rejected(f"{head}.{payload}.{segment(bytes(64))}")


def test_a_changed_claim_is_rejected() -> None:
    head, _, signature = signed(claims()).split(".")

    assert rejected(f"{head}.{segment(json.dumps(claims(exp=AT + 61)))}.{signature}")


def test_a_weak_rsa_key_is_rejected_although_it_is_registered() -> None:
    with pytest.warns(SecurityWarning):
        weak = RSAKey.import_key(rsa.generate_private_key(65537, 1024))  # noqa: S505 - the point

    assert rejected(
        signed(claims(), weak, {"alg": "PS256"}), service(agency(SCHOOL, "school", jwks(weak)))
    )


def test_a_symmetric_key_in_the_register_is_good_for_nothing() -> None:
    secret = OctKey.import_key(b"0" * 32)
    held = service(agency(SCHOOL, "school", {"keys": [secret.as_dict(private=True)]}))

    assert rejected(signed(claims(), secret, {"alg": "HS256"}), held)


@pytest.mark.parametrize("first", [SCHOOL, COUNCIL])
def test_two_agencies_share_a_client_only_with_the_keys_that_both_registered(
    first: AgencyId,
) -> None:
    school = agency(SCHOOL, "shared", jwks(EC_KEY))
    council = agency(COUNCIL, "shared", jwks(EC_KEY, OTHER_KEY))
    pair = (school, council) if first == SCHOOL else (council, school)
    held, given = service(*pair), claims(iss="shared", sub="shared")

    assert held.examine(signed(given), NOW).client.agencies == {SCHOOL, COUNCIL}
    assert rejected(signed(given, OTHER_KEY), held)


# -- the form --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mangle",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text + "!",
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(".", "=.", 1),
        lambda text: text + ".",
        lambda text: text + "." + text,
        lambda text: ".".join(text.split(".")[:2]),
        lambda _text: "",
        lambda text: "é" + text,
    ],
)
def test_text_that_is_not_exactly_three_segments_of_base64url_is_rejected(
    mangle: Callable[[str], str],
) -> None:
    assert rejected(mangle(signed(claims())))


def test_the_form_is_ours_to_judge_and_not_the_decoders() -> None:
    assert "base64url" in rejected(signed(claims()) + "==")


def test_a_token_over_the_limit_is_rejected_unread() -> None:
    padding = "x" * TOKEN_BYTES_MAX

    assert "size" in rejected(signed(claims(padding=padding)))


def test_a_deeply_nested_payload_is_rejected() -> None:
    nested = "[" * 2900 + "]" * 2900

    assert rejected(raw('{"alg":"ES256"}', f'{{"a":{nested}}}'))


@pytest.mark.parametrize("payload", ["[]", '"text"', "1", "", "{", "\xff"])
def test_a_payload_that_is_no_object_is_rejected(payload: str) -> None:
    assert rejected(raw('{"alg":"ES256"}', payload))


def test_a_claim_that_occurs_twice_is_rejected() -> None:
    twice = json.dumps(claims())[:-1] + f', "exp": {AT + 60}}}'

    assert rejected(raw('{"alg":"ES256"}', twice))


def test_a_header_member_that_occurs_twice_is_rejected() -> None:
    assert rejected(raw('{"alg":"none","alg":"ES256"}', json.dumps(claims())))


@pytest.mark.parametrize(
    "written", ["NaN", "Infinity", "-Infinity", '"9999999999"', "true", "1e12", "1.5", "null", "{}"]
)
def test_an_expiry_that_is_not_a_whole_number_is_rejected(written: str) -> None:
    payload = json.dumps(claims(exp="@")).replace('"@"', written)

    assert rejected(raw('{"alg":"ES256"}', payload))


# -- the claims ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"exp": None},
        {"exp": AT},
        {"exp": AT - 1},
        {"exp": AT + ASSERTION_S_MAX + SKEW_S + 1},
        {"iat": AT + SKEW_S + 1},
        {"nbf": AT + SKEW_S + 1},
        {"iat": "now"},
        {"nbf": True},
        {"aud": None},
        {"aud": ISSUER},
        {"aud": ENDPOINT + "/"},
        {"aud": [ENDPOINT, "https://other.example"]},
        {"aud": []},
        {"iss": None},
        {"iss": "council"},
        {"sub": None},
        {"sub": "nobody"},
        {"sub": 1},
        {"sub": ["school"]},
        {"jti": None},
        {"jti": ""},
        {"jti": "x" * 129},
        {"jti": 7},
    ],
    ids=str,
)
def test_a_claim_that_is_missing_or_wrong_is_rejected(changed: dict[str, Any]) -> None:
    assert rejected(signed(claims(**changed)))


def test_an_access_token_does_not_pass_for_an_assertion() -> None:
    held = service()
    issued = held.issue(held.examine(signed(claims()), NOW), "", None, NOW)

    assert rejected(issued.text, held)


# -- once ------------------------------------------------------------------------------------


@pytest.fixture
async def store(url: str) -> AsyncIterator[Store]:
    opened = open_store(url)
    yield opened
    await opened.close()


async def use(store: Store, text: str, at: datetime = NOW) -> None:
    assertion = service().examine(text, at)
    await store.write(lambda conn, _ledger: mark_used(conn, assertion, at))


async def test_an_assertion_is_good_once(store: Store) -> None:
    await use(store, signed(claims()))

    with pytest.raises(Rejection) as caught:
        await use(store, signed(claims()))

    assert caught.value.reason is Reason.UNAUTHENTICATED


async def test_of_many_uses_at_once_one_counts(store: Store) -> None:
    text = signed(claims())

    results = await asyncio.gather(*(use(store, text) for _ in range(20)), return_exceptions=True)

    assert [type(result) for result in results].count(type(None)) == 1
    assert sum(isinstance(result, Rejection) for result in results) == 19


async def test_ids_of_assertions_are_forgotten_only_after_they_have_expired(store: Store) -> None:
    await use(store, signed(claims(jti="old")))
    later = NOW + timedelta(seconds=60 + SKEW_S + 1)

    await use(store, signed(claims(jti="new", exp=AT + 180, iat=None)), later)

    held = await store.read(lambda conn: conn.execute(select(used_token.c.jti)).scalars().all())
    assert held == ["new"]


# -- access tokens ---------------------------------------------------------------------------


def issued(held: TokenService, certificate: Certificate | None = None, scope: str = "") -> bytes:
    assertion = held.examine(signed(claims()), NOW)
    return held.issue(assertion, scope, certificate, NOW).text.encode()


def turned_away(
    held: TokenService, token: bytes, certificate: Certificate | None = None, at: datetime = NOW
) -> bool:
    with pytest.raises(Rejection) as caught:
        held.peer_of(token, certificate, at)
    return caught.value.reason is Reason.UNAUTHENTICATED


def test_a_token_stands_for_the_agencies_of_its_client() -> None:
    held = service()

    peer = held.peer_of(issued(held), None, NOW)

    assert peer.agencies == {SCHOOL}
    assert peer.name == "school"


def test_a_token_may_be_asked_for_fewer_agencies_and_never_for_others() -> None:
    both = (agency(SCHOOL, "school", jwks(EC_KEY)), agency(COUNCIL, "school", jwks(EC_KEY)))
    held = service(*both)

    assert held.peer_of(issued(held, scope=SCHOOL), None, NOW).agencies == {SCHOOL}
    with pytest.raises(Rejection) as caught:
        issued(held, scope=f"{SCHOOL} northumbria-police")
    assert caught.value.reason is Reason.FORBIDDEN


def test_a_token_ends_at_its_last_second_also_when_it_was_seen_before() -> None:
    held = service()
    token = issued(held)
    end = NOW + timedelta(seconds=LIFETIME_S)

    held.peer_of(token, None, end - timedelta(seconds=1))
    assert turned_away(held, token, at=end)


def test_a_bound_token_is_good_only_with_its_certificate() -> None:
    held = service()
    token = issued(held, CERTIFICATE)

    held.peer_of(token, CERTIFICATE, NOW)
    assert turned_away(held, token)
    assert turned_away(held, token, OTHER_CERTIFICATE)


def test_a_token_is_worth_no_more_than_the_register_allows_now() -> None:
    holder = SimpleNamespace(
        current=SimpleNamespace(
            agencies={name: agency(name, "school", jwks(EC_KEY)) for name in (SCHOOL, COUNCIL)}
        )
    )
    held = TokenService(Directory(holder), TOKEN_KEY, ISSUER, LIFETIME_S)
    token = issued(held)
    assert held.peer_of(token, None, NOW).agencies == {SCHOOL, COUNCIL}

    holder.current = SimpleNamespace(agencies={SCHOOL: agency(SCHOOL, "school", jwks(EC_KEY))})

    assert held.peer_of(token, None, NOW).agencies == {SCHOOL}


def test_a_client_that_is_struck_off_has_no_token_any_more() -> None:
    holder = SimpleNamespace(
        current=SimpleNamespace(agencies={SCHOOL: agency(SCHOOL, "school", jwks(EC_KEY))})
    )
    held = TokenService(Directory(holder), TOKEN_KEY, ISSUER, LIFETIME_S)
    token = issued(held)
    held.peer_of(token, None, NOW)

    holder.current = SimpleNamespace(agencies={})

    assert turned_away(held, token)


def own(key: Any = TOKEN_KEY.private, typ: str = "at+jwt", **changed: object) -> bytes:
    given = {
        "iss": ISSUER,
        "aud": ISSUER,
        "sub": "school",
        "scope": SCHOOL,
        "exp": AT + 60,
        "jti": new_id(),
    } | changed
    return jwt.encode({"alg": "ES256", "typ": typ}, given, key, algorithms=["ES256"]).encode()


def test_a_token_in_the_form_of_ours_is_taken() -> None:
    service().peer_of(own(), None, NOW)


@pytest.mark.parametrize(
    "changed",
    [
        {"key": OTHER_KEY},
        {"key": EC_KEY},
        {"typ": "JWT"},
        {"iss": "https://evil.example"},
        {"aud": "https://evil.example"},
        {"aud": [ISSUER]},
        {"exp": AT + LIFETIME_S + SKEW_S + 1},
        {"exp": "soon"},
        {"sub": "nobody"},
    ],
    ids=range(9),
)
def test_a_token_that_is_not_ours_in_every_part_is_turned_away(changed: dict[str, Any]) -> None:
    assert turned_away(service(), own(**changed))


def test_a_token_that_is_no_jwt_is_turned_away() -> None:
    assert turned_away(service(), b"opaque")


def test_the_brokers_key_is_on_p_256() -> None:
    with pytest.raises(TypeError):
        TokenKey(ec.generate_private_key(ec.SECP384R1()))
