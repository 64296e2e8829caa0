"""Who is at the other end of a connection, and for which agencies it may speak.

A peer shows a TLS client certificate or a bearer token. Either is looked up in the register
as it stands at this request, so that a revocation ends an open connection's rights at once.
"""

import base64
import binascii
import hashlib
import ipaddress
import re
import ssl
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Protocol

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.agency import AgencyLookup, System
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason

LEFT: Final = "left"  # the status of an agency that is no longer in the partnership

Scope = Mapping[str, Any]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 9440 §2.1: the DER certificate as a Structured Field byte sequence, and nothing else.
_CLIENT_CERT = re.compile(rb":([A-Za-z0-9+/]+={0,2}):")
_BEARER = re.compile(rb"[Bb]earer +([A-Za-z0-9._~+/-]+=*)")
_CLIENT_CERT_BYTES_MAX: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Peer:
    """A system that proved who it is. It may speak for ``agencies`` and nobody else."""

    agencies: frozenset[AgencyId]
    name: str  # fingerprint of its certificate, or id of its OAuth client: as records say it

    def require(self, agency: str) -> AgencyId:
        """Return ``agency`` as the peer's own.

        Raises:
            Rejection: the peer may not speak for it. The answer does not say whether
                such an agency exists.
        """
        if agency not in self.agencies:
            raise Rejection(Reason.FORBIDDEN)
        return AgencyId(agency)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What is needed of a client certificate whose chain was verified."""

    fingerprint: str  # SHA-256 of the DER form, lower-case hex
    valid_from: datetime
    valid_until: datetime

    @property
    def thumbprint(self) -> str:
        """The fingerprint as RFC 8705 §3.1 writes it (``x5t#S256``)."""
        digest = bytes.fromhex(self.fingerprint)
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


class Registers(Protocol):
    """Holds the register of the moment."""

    @property
    def current(self) -> "Agencies":
        """Return the snapshot in force."""
        ...


class Agencies(Protocol):
    """A register, as far as peers go."""

    @property
    def agencies(self) -> AgencyLookup:
        """Return every agency by id."""
        ...


@dataclass(frozen=True, slots=True)
class Client:
    """An OAuth client: the agencies it speaks for and its public keys (RFC 7517)."""

    client_id: str
    agencies: frozenset[AgencyId]
    jwks: tuple[Mapping[str, object], ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Index:
    by_fingerprint: Mapping[str, Peer]
    by_client: Mapping[str, Client]


class Directory:
    """Finds peers in the register. Indexed once for each snapshot."""

    def __init__(self, registers: Registers) -> None:
        self._registers = registers
        self._snapshot: Agencies | None = None
        self._index = _Index({}, {})

    def by_certificate(self, certificate: Certificate, now: datetime) -> Peer:
        """Return the system that ``certificate`` is registered for.

        Raises:
            Rejection: it is not registered, or not valid at ``now``.
        """
        if not certificate.valid_from <= now < certificate.valid_until:
            raise Rejection(Reason.UNAUTHENTICATED, "the client certificate is not valid now")
        peer = self._current().by_fingerprint.get(certificate.fingerprint)
        if peer is None:
            raise Rejection(Reason.UNAUTHENTICATED, "the client certificate is not registered")
        return peer

    def by_client_id(self, client_id: str) -> Client | None:
        """Return the OAuth client, or None when none is registered under this id."""
        return self._current().by_client.get(client_id)

    def _current(self) -> _Index:
        snapshot = self._registers.current
        if snapshot is not self._snapshot:
            self._index = _index(snapshot.agencies)
            self._snapshot = snapshot
        return self._index


def _index(agencies: AgencyLookup) -> _Index:
    """Index systems by certificate and client id; one system may serve several agencies."""
    prints: dict[str, set[AgencyId]] = {}
    clients: dict[str, dict[AgencyId, System]] = {}
    for agency_id, agency in agencies.items():
        if agency.status == LEFT:
            continue
        for system in agency.systems:
            for fingerprint in system.tls_fingerprints:
                prints.setdefault(fingerprint, set()).add(agency_id)
            if system.client_id is not None and system.jwks is not None:
                clients.setdefault(system.client_id, {})[agency_id] = system
    return _Index(
        {key: Peer(frozenset(held), key) for key, held in prints.items()},
        {key: _client(key, held) for key, held in clients.items()},
    )


def _client(client_id: str, held: Mapping[AgencyId, System]) -> Client:
    """Return the client whose keys are those that *every* agency it serves has registered.

    An agency could otherwise speak for another by registering a client id of that one's.
    """
    sets = [_keys(system) for system in held.values()]
    shared = tuple(key for key in sets[0] if all(key in other for other in sets[1:]))
    return Client(client_id, frozenset(held), shared)


def _keys(system: System) -> Sequence[Mapping[str, object]]:
    keys = system.jwks.get("keys") if system.jwks is not None else None
    return [key for key in keys if isinstance(key, Mapping)] if isinstance(keys, list) else []


class Tokens(Protocol):
    """Checks bearer tokens."""

    def peer_of(self, token: bytes, certificate: Certificate | None, now: datetime, /) -> Peer:
        """Return whom ``token`` stands for, or raise `Rejection`."""
        ...


class Peers:
    """Tells who a request comes from. ``proxies`` may pass on certificates (RFC 9440).

    With ``fingerprints`` a proxy must show one of these certificates, too: an address alone
    is whoever gets hold of it.
    """

    def __init__(
        self,
        directory: Directory,
        tokens: Tokens,
        proxies: Iterable[str] = (),
        fingerprints: Iterable[str] = (),
    ) -> None:
        self._directory = directory
        self._tokens = tokens
        self._proxies: tuple[Network, ...] = tuple(map(ipaddress.ip_network, proxies))
        self._fingerprints = frozenset(fingerprints)

    def identify(self, scope: Scope, now: datetime) -> Peer:
        """Return the peer of a request.

        A bearer token goes before a certificate, to which it may be bound.

        Raises:
            Rejection: nobody whom the register knows.
        """
        certificate = self.certificate(scope)
        authorization = _only(scope, b"authorization")
        if authorization is not None:
            bearer = _BEARER.fullmatch(authorization)
            if bearer is None:
                raise Rejection(Reason.UNAUTHENTICATED, "Authorization holds no bearer token")
            return self._tokens.peer_of(bearer[1], certificate, now)
        if certificate is None:
            raise Rejection(Reason.UNAUTHENTICATED, "neither a client certificate nor a token")
        return self._directory.by_certificate(certificate, now)

    def certificate(self, scope: Scope) -> Certificate | None:
        """Return the client certificate of the connection, or the one a proxy vouches for."""
        chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain")
        own = _read(chain[0]) if chain else None
        if self._proxies and self._from_proxy(scope, own):
            # Behind a proxy the connection's own certificate is the proxy's: never a peer's.
            passed_on = _only(scope, b"client-cert")
            return None if passed_on is None else _passed_on(passed_on)
        return own

    def _from_proxy(self, scope: Scope, own: Certificate | None) -> bool:
        client = scope.get("client")
        if client is None:
            return False
        if self._fingerprints and (own is None or own.fingerprint not in self._fingerprints):
            return False
        address = ipaddress.ip_address(client[0])
        return any(address in network for network in self._proxies)


def _only(scope: Scope, name: bytes) -> bytes | None:
    """Return the one header called ``name``. Two of them is an attempt to be two people."""
    values = [value for key, value in scope["headers"] if key == name]
    if len(values) > 1:
        raise Rejection(Reason.UNAUTHENTICATED, "a header about identity came more than once")
    return values[0] if values else None


def _passed_on(value: bytes) -> Certificate:
    found = _CLIENT_CERT.fullmatch(value)
    if found is None or len(value) > _CLIENT_CERT_BYTES_MAX:
        raise Rejection(Reason.UNAUTHENTICATED, "Client-Cert is not a byte sequence")
    try:
        der = base64.b64decode(found[1], validate=True)
        return _read(ssl.DER_cert_to_PEM_cert(der))
    except (binascii.Error, ValueError) as error:
        raise Rejection(Reason.UNAUTHENTICATED, "Client-Cert is not a certificate") from error


@lru_cache(maxsize=4096)
def _read(pem: str) -> Certificate:
    certificate = x509.load_pem_x509_certificate(pem.encode())
    der = certificate.public_bytes(Encoding.DER)
    return Certificate(
        hashlib.sha256(der).hexdigest(),
        certificate.not_valid_before_utc,
        certificate.not_valid_after_utc,
    )
