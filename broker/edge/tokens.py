"""Bearer tokens: client credentials in, a short-lived signed access token out.

A client proves itself with a JWT that it signed (RFC 7523 §2.2, ``private_key_jwt``), once.
It gets a token of our own (RFC 9068), bound to its TLS certificate when it shows one
(RFC 8705). joserfc checks signatures and nothing else: what a JWT says is checked here.
"""

import base64
import binascii
import json
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey, RSAKey
from sqlalchemy import Connection, delete
from sqlalchemy.exc import IntegrityError

from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.ids import new_id
from broker.edge.peers import Certificate, Client, Directory, Peer
from broker.edge.tables import used_token

ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_S_MAX: Final = 300  # longest life of a client's assertion
SKEW_S: Final = 60
TOKEN_BYTES_MAX: Final = 8 * 1024  # a header and a few claims; decoding is bounded by it
JTI_CHARS_MAX: Final = 128
RSA_BITS_MIN: Final = 2048
CACHE_MAX: Final = 4096

_ACCESS_TYPE: Final = "at+jwt"  # RFC 9068 §2.1: not to be taken for a client's assertion
_ACCESS_ALGORITHM: Final = "ES256"
_SEGMENT = re.compile(r"[A-Za-z0-9_-]+")
_HEADER_MEMBERS: Final = frozenset({"alg", "typ", "kid"})

Key = ECKey | OKPKey | RSAKey
Claims = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Assertion:
    """A client's assertion that holds. It has not been marked as used."""

    client: Client
    jti: str
    expires_at: int  # seconds since 1970 UTC


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as it is handed to the client."""

    text: str
    lifetime_s: int
    agencies: frozenset[AgencyId]


class TokenKey:
    """The broker's own key for access tokens: ECDSA with P-256."""

    def __init__(self, private_key: EllipticCurvePrivateKey) -> None:
        if not isinstance(private_key.curve, SECP256R1):
            raise TypeError("the token key is an ECDSA key on P-256")
        self.private = ECKey.import_key(private_key)
        self.kid = str(self.private.thumbprint())


class TokenService:
    """Issues and checks the tokens of one broker.

    ``issuer`` is the broker's URL; ``endpoint`` is that of the token endpoint, the only
    audience that a client's assertion may name.
    """

    def __init__(self, directory: Directory, key: TokenKey, issuer: str, lifetime_s: int) -> None:
        self._directory = directory
        self._key = key
        self._issuer = issuer
        self._lifetime_s = lifetime_s
        self._checked: OrderedDict[bytes, Claims] = OrderedDict()
        self.endpoint = issuer.rstrip("/") + "/oauth/token"

    # -- what a client proves ------------------------------------------------------------

    def examine(self, text: str, now: datetime) -> Assertion:
        """Return the assertion in ``text``, signed by a registered client for this endpoint.

        Raises:
            Rejection: any part of it does not hold.
        """
        header, claims = _unpacked(text)
        client_id = claims.get("sub")
        client = self._directory.by_client_id(client_id) if isinstance(client_id, str) else None
        if client is None or claims.get("iss") != client.client_id:
            raise _rejected("the client is not registered")
        _verified(text, header, client)
        expires_at = _instants(claims, now, ASSERTION_S_MAX)
        if claims.get("aud") not in (self.endpoint, [self.endpoint]):
            raise _rejected("the audience is not this token endpoint")
        jti = claims.get("jti")
        if not isinstance(jti, str) or not 1 <= len(jti) <= JTI_CHARS_MAX:
            raise _rejected("jti is missing or too long")
        return Assertion(client, jti, expires_at)

    # -- what a client gets --------------------------------------------------------------

    def issue(
        self, assertion: Assertion, scope: str, certificate: Certificate | None, now: datetime
    ) -> AccessToken:
        """Return a token for the agencies in ``scope`` (blank: all that the client may).

        Raises:
            Rejection: the client may not speak for one of them.
        """
        allowed = assertion.client.agencies
        asked = frozenset(map(AgencyId, scope.split())) or allowed
        if not asked <= allowed:
            raise Rejection(Reason.FORBIDDEN, "the client may not speak for an agency in scope")
        issued_at = int(now.timestamp())
        claims: dict[str, object] = {
            "iss": self._issuer,
            "aud": self._issuer,
            "sub": assertion.client.client_id,
            "client_id": assertion.client.client_id,
            "scope": " ".join(sorted(asked)),
            "iat": issued_at,
            "exp": issued_at + self._lifetime_s,
            "jti": new_id(),
        }
        if certificate is not None:
            claims["cnf"] = {"x5t#S256": certificate.thumbprint}
        header = {"alg": _ACCESS_ALGORITHM, "typ": _ACCESS_TYPE, "kid": self._key.kid}
        text = jwt.encode(header, claims, self._key.private, algorithms=[_ACCESS_ALGORITHM])
        return AccessToken(text, self._lifetime_s, asked)

    # -- what a bearer shows -------------------------------------------------------------

    def peer_of(self, token: bytes, certificate: Certificate | None, now: datetime) -> Peer:
        """Return the peer that ``token`` stands for.

        The register is asked each time: a client that was struck off has no token.

        Raises:
            Rejection: the token is not ours, not good now, or bound to another certificate.
        """
        claims = self._checked.get(token)
        if claims is None:
            claims = self._own(token)
            self._checked[token] = claims
            if len(self._checked) > CACHE_MAX:
                self._checked.popitem(last=False)
        _instants(claims, now, self._lifetime_s)
        bound = claims.get("cnf", {}).get("x5t#S256")
        if bound is not None and (certificate is None or certificate.thumbprint != bound):
            raise _rejected("the token is bound to another client certificate")
        client = self._directory.by_client_id(claims["sub"])
        if client is None:
            raise _rejected("the client is not registered")
        asked = frozenset(map(AgencyId, claims["scope"].split()))
        return Peer(asked & client.agencies, client.client_id)

    def _own(self, token: bytes) -> Claims:
        text = token.decode("ascii")
        header, claims = _unpacked(text)
        if header.get("alg") != _ACCESS_ALGORITHM or header.get("typ") != _ACCESS_TYPE:
            raise _rejected("it is not an access token of this broker")
        _check_signature(text, self._key.private, _ACCESS_ALGORITHM)
        if claims.get("iss") != self._issuer or claims.get("aud") != self._issuer:
            raise _rejected("it is not an access token of this broker")
        return claims


def mark_used(conn: Connection, assertion: Assertion, now: datetime) -> None:
    """Record that ``assertion`` was used, and forget those that have run out.

    Raises:
        Rejection: it was used before.
    """
    horizon = int((now.timestamp() - SKEW_S) * 1000)
    conn.execute(delete(used_token).where(used_token.c.expires_at < horizon))
    try:
        conn.execute(
            used_token.insert().values(
                issuer=assertion.client.client_id,
                jti=assertion.jti,
                expires_at=assertion.expires_at * 1000,
            )
        )
    except IntegrityError as error:
        raise _rejected("the assertion was used before") from error


def _rejected(detail: str) -> Rejection:
    return Rejection(Reason.UNAUTHENTICATED, detail)


def _unpacked(text: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return header and claims of a JWT in strict form, before any key is chosen.

    Libraries are lenient here: padding, stray characters, names that occur twice (the last
    wins) and NaN pass through most of them.
    """
    segments = text.split(".")
    if len(text) > TOKEN_BYTES_MAX or len(segments) != 3:  # noqa: PLR2004 - RFC 7515 §7.1
        raise _rejected("it is not a signed JWT of acceptable size")
    if not all(map(_SEGMENT.fullmatch, segments)):
        raise _rejected("a segment is not base64url without padding")
    header, claims = _object(segments[0]), _object(segments[1])
    # jwk, jku, x5u and x5c would bring a key along, crit, b64 and zip change the rules.
    if not set(header) <= _HEADER_MEMBERS:
        raise _rejected("the header has a member that is not alg, typ or kid")
    return header, claims


def _object(segment: str) -> dict[str, Any]:
    try:
        octets = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        found = json.loads(
            octets.decode("utf-8"), object_pairs_hook=_once_each, parse_constant=_no_constant
        )
    except (binascii.Error, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _rejected("a segment is not a JSON object") from error
    if not isinstance(found, dict):
        raise _rejected("a segment is not a JSON object")
    return found


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice")
    return found


def _no_constant(_name: str) -> None:
    raise ValueError("not a JSON number")


def _instants(claims: Claims, now: datetime, lifetime_s_max: int) -> int:
    """Return ``exp`` after checking exp, iat and nbf against ``now``.

    Skew is granted to instants that a client's clock set and must be near ours, not to the
    end of a life.
    """
    instant = now.timestamp()
    expires_at = claims.get("exp")
    # bool is a subclass of int; a text or a fraction is no NumericDate that we would send.
    if type(expires_at) is not int:
        raise _rejected("exp is missing or not a whole number")
    if not instant < expires_at <= instant + lifetime_s_max + SKEW_S:
        raise _rejected("it has expired, or lives too long")
    for name in ("iat", "nbf"):
        begins_at = claims.get(name, 0)
        if type(begins_at) is not int or begins_at > instant + SKEW_S:
            raise _rejected(f"{name} is in the future or not a whole number")
    return expires_at


def _verified(text: str, header: Mapping[str, Any], client: Client) -> None:
    """Check a client's signature with the one of its registered keys that fits ``alg``.

    The key decides which algorithm it is good for, never the token.
    """
    kid = header.get("kid")
    for jwk in client.jwks:
        if kid is not None and jwk.get("kid") is not None and jwk["kid"] != kid:
            continue
        key, algorithms = _usable(jwk)
        if key is None or header.get("alg") not in algorithms:
            continue
        try:
            _check_signature(text, key, header["alg"])
        except Rejection:
            continue
        return
    raise _rejected("no registered key of the client verifies it")


def _usable(jwk: Mapping[str, object]) -> tuple[Key | None, tuple[str, ...]]:
    """Return a registered key and its algorithms; a weak or unknown kind is good for none."""
    held: dict[str, Any] = dict(jwk)
    kind = (held.get("kty"), held.get("crv"))
    try:
        if kind == ("EC", "P-256"):
            return ECKey.import_key(held), ("ES256",)
        if kind == ("OKP", "Ed25519"):
            return OKPKey.import_key(held), ("EdDSA", "Ed25519")
        if kind == ("RSA", None) and _rsa_bits(held) >= RSA_BITS_MIN:
            return RSAKey.import_key(held), ("PS256",)
    except (JoseError, ValueError, TypeError, KeyError):
        return None, ()
    return None, ()


def _rsa_bits(jwk: Mapping[str, Any]) -> int:
    modulus = base64.urlsafe_b64decode(jwk["n"] + "==")
    return int.from_bytes(modulus, "big").bit_length()


class _Registry(jws.JWSRegistry):
    """joserfc's algorithms, where EdDSA (RFC 8037) may be used because the key is Ed25519."""

    def get_alg(self, name: str) -> Any:  # noqa: ANN401 - as joserfc declares it
        if self.allowed is None or name not in self.allowed:
            raise _rejected("the algorithm is not allowed")
        return self.algorithms[name]


def _check_signature(text: str, key: Key, algorithm: str) -> None:
    try:
        jws.deserialize_compact(text, key, registry=_Registry(algorithms=[algorithm]))
    except (JoseError, ValueError, TypeError) as error:
        raise _rejected("the signature does not verify") from error
