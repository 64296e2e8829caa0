"""Client certificates over real TLS, and what becomes of a request head without an end."""

import base64
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from broker.core.agency import Agency, System
from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge import tls as tls_module
from broker.edge.peers import Certificate, Directory, Peer, Peers
from broker.edge.tls import HEAD_BYTES_MAX, server_context
from tests.contract.pki import NOT_AFTER, NOT_BEFORE, Authority, Leaf
from tests.contract.serving import serving, show_tls

SCHOOL = AgencyId("hylton-school")
COUNCIL = AgencyId("sunderland-csc")
NOW = NOT_BEFORE + timedelta(days=300)


@dataclass(frozen=True)
class World:
    port: int
    authority: Authority
    school: Leaf
    stranger: Leaf  # of an authority nobody asked

    def client(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self.authority.certificate))
        if leaf is not None:
            context.load_cert_chain(leaf.certificate, leaf.key)
        return context

    def get(self, leaf: Leaf | None = None, context: ssl.SSLContext | None = None) -> str:
        with urlopen(
            f"https://localhost:{self.port}/", context=context or self.client(leaf)
        ) as got:
            text: str = got.read().decode()
        return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("pki")
    authority = Authority(folder)
    server = authority.issue("server")
    context = server_context(server.certificate, server.key, authority.certificate)
    with serving(show_tls, context) as port:
        stranger = Authority(folder, "strangers").issue("stranger")
        yield World(port, authority, authority.issue("school"), stranger)


def pem(leaf: Leaf) -> str:
    return leaf.x509.public_bytes(Encoding.PEM).decode()


# -- the connection --------------------------------------------------------------------------


def test_the_verified_client_certificate_reaches_the_application(world: World) -> None:
    assert world.get(world.school) == pem(world.school)


def test_a_peer_without_a_certificate_is_let_in_to_show_a_token(world: World) -> None:
    assert world.get() == ""


def test_a_certificate_of_another_authority_ends_the_handshake(world: World) -> None:
    with pytest.raises(OSError, match=r"unknown ca|reset|closed|EOF"):
        world.get(world.stranger)


def test_tls_1_1_is_not_spoken(world: World) -> None:
    context = world.client()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    assert context.maximum_version is ssl.TLSVersion.MAXIMUM_SUPPORTED

    held = server_context(world.school.certificate, world.school.key, None)

    assert held.minimum_version is ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("suite", ["AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA256"])
def test_suites_without_forward_secrecy_or_authenticated_encryption_are_not_spoken(
    world: World, suite: str
) -> None:
    context = world.client()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)

    with pytest.raises(OSError, match=r"handshake|reset|alert|EOF"):
        world.get(context=context)


def test_without_authorities_no_client_certificate_is_asked_for(world: World) -> None:
    server = world.authority.issue("server")
    with serving(show_tls, server_context(server.certificate, server.key, None)) as port:
        url = f"https://localhost:{port}/"
        with urlopen(url, context=world.client(world.school)) as got:
            assert got.read() == b""


def test_without_tls_there_is_no_certificate_to_read() -> None:
    with serving(show_tls, None) as port, urlopen(f"http://127.0.0.1:{port}/") as got:
        assert got.read() == b"none"


# -- request heads ---------------------------------------------------------------------------


def talk(port: int, *parts: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        try:
            for part in parts:
                connection.sendall(part)
            answer = b""
            while part := connection.recv(65536):
                answer += part
        except ConnectionError:
            return b""
    return answer


@pytest.mark.parametrize("filler", [b"x-a: " + b"a" * 4000 + b"\r\n", b"x: y\r\n" * 600])
def test_a_request_head_over_the_limit_is_hung_up_on(filler: bytes) -> None:
    flood = b"GET / HTTP/1.1\r\nhost: a\r\n" + filler * (HEAD_BYTES_MAX // len(filler) + 1)
    with serving(show_tls, None) as port:
        assert talk(port, flood) == b""
        assert talk(port, flood + b"\r\n") == b""


def test_a_request_line_over_the_limit_is_hung_up_on() -> None:
    with serving(show_tls, None) as port:
        assert talk(port, b"GET /" + b"a" * (HEAD_BYTES_MAX + 1)) == b""


def test_a_request_head_within_the_limit_is_read() -> None:
    head = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-a: " + b"a" * (
        HEAD_BYTES_MAX - 200
    )
    with serving(show_tls, None) as port:
        assert talk(port, head, b"\r\n\r\n").startswith(b"HTTP/1.1 200")


def test_a_body_does_not_count_as_head() -> None:
    request = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000\r\n\r\n" + b"b" * 100_000
    last = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with serving(show_tls, None) as port:
        assert talk(port, request, request, last).count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n"])
def test_a_request_head_that_does_not_come_in_time_is_hung_up_on(
    sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls_module, "HEAD_S_MAX", 0.2)

    with serving(show_tls, None) as port:
        assert talk(port, sent) == b""


def test_a_connection_that_is_closing_does_not_disturb_the_end(world: World) -> None:
    """Its peer has its answer and does not say goodbye."""
    server = world.authority.issue("server")
    context = server_context(server.certificate, server.key, world.authority.certificate)

    with ExitStack() as stack, serving(show_tls, context) as port:
        plain = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        client = world.client().wrap_socket(plain, server_hostname="localhost")
        connection = stack.enter_context(client)
        connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert connection.recv(1000)
    # What goes wrong in the server's thread while it ends is a fault of this test.


LONG = b"a" * 20_000_000


def asked(port: int) -> socket.socket:
    """Ask for an answer longer than what the kernel keeps for either side."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=30)
    connection.sendall(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
    return connection


def test_whoever_does_not_read_the_answer_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "READING_S_MAX", 0.3)
    gone = threading.Event()

    async def tell_long(_scope: object, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": LONG, "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    with serving(tell_long, None) as port, asked(port) as connection:
        assert gone.wait(20)
        got = 0
        with suppress(ConnectionError):
            while part := connection.recv(1_000_000):
                got += len(part)
    assert got < len(LONG)


def test_whoever_reads_the_answer_slowly_gets_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls_module, "READING_S_MAX", 2.0)

    async def tell_long(_scope: object, _receive: object, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for start in range(0, len(LONG), 1_000_000):
            part = LONG[start : start + 1_000_000]
            await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with serving(tell_long, None) as port, asked(port) as connection:
        began, got = time.monotonic(), 0
        while part := connection.recv(1_000_000):
            got += len(part)
            time.sleep(0.05 if time.monotonic() - began < 3 else 0)
    assert got > len(LONG)


# -- who it is -------------------------------------------------------------------------------


def directory(*fingerprints: str, status: str = "active", **more: AgencyId) -> Directory:
    systems = (System("sims", tls_fingerprints=frozenset(fingerprints)),)
    agencies = {
        name: Agency(name, name, "SCHOOL", systems=systems, status=status)
        for name in (SCHOOL, *more.values())
    }
    return Directory(SimpleNamespace(current=SimpleNamespace(agencies=agencies)))


def certificate(leaf: Leaf) -> Certificate:
    return Certificate(leaf.fingerprint, NOT_BEFORE, NOT_AFTER)


class NoTokens:
    def peer_of(self, _token: bytes, _certificate: object, _now: object) -> Peer:
        raise Rejection(Reason.UNAUTHENTICATED, "token")


def scope(
    leaf: Leaf | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
    client: str = "10.0.0.1",
) -> dict[str, Any]:
    chain = [] if leaf is None else [pem(leaf)]
    return {
        "headers": list(headers),
        "client": (client, 4711),
        "extensions": {"tls": {"client_cert_chain": chain}},
    }


def identified(held: Directory, given: dict[str, Any], *proxies: str) -> Peer | str:
    try:
        return Peers(held, NoTokens(), proxies).identify(given, NOW)
    except Rejection as error:
        return f"{error.reason.value}: {error.detail}"


def test_a_registered_certificate_speaks_for_its_agency_alone(world: World) -> None:
    peer = identified(directory(world.school.fingerprint), scope(world.school))

    assert isinstance(peer, Peer)
    assert peer.agencies == {SCHOOL}
    assert peer.name == world.school.fingerprint
    with pytest.raises(Rejection) as caught:
        peer.require(COUNCIL)
    assert caught.value.reason is Reason.FORBIDDEN
    assert peer.require(SCHOOL) == SCHOOL


def test_one_system_may_be_registered_by_several_agencies(world: World) -> None:
    peer = identified(directory(world.school.fingerprint, other=COUNCIL), scope(world.school))

    assert isinstance(peer, Peer)
    assert peer.agencies == {SCHOOL, COUNCIL}


def test_a_certificate_that_is_not_registered_is_nobody(world: World) -> None:
    assert "not registered" in str(identified(directory(), scope(world.school)))


def test_no_certificate_and_no_token_is_nobody(world: World) -> None:
    assert "neither" in str(identified(directory(world.school.fingerprint), scope()))


def test_a_proxy_shows_its_certificate_where_that_is_asked_for(world: World) -> None:
    passed_on = b":" + base64.b64encode(world.school.x509.public_bytes(Encoding.DER)) + b":"
    proxy = world.authority.issue("proxy")
    peers = Peers(
        directory(world.school.fingerprint),
        NoTokens(),
        ["10.0.0.0/8"],
        [proxy.fingerprint],
    )

    def told(leaf: Leaf | None, client: str) -> Peer | str:
        given = scope(leaf, ((b"client-cert", passed_on),), client)
        try:
            return peers.identify(given, NOW)
        except Rejection as error:
            return error.detail

    assert isinstance(told(proxy, "10.0.0.1"), Peer)
    assert "neither" in str(told(None, "10.0.0.1"))
    assert "not registered" in str(told(world.stranger, "10.0.0.1"))
    assert "not registered" in str(told(proxy, "192.0.2.1"))


@pytest.mark.parametrize("at", [NOT_BEFORE - timedelta(seconds=1), NOT_AFTER])
def test_a_certificate_is_looked_at_again_on_an_open_connection(world: World, at: Any) -> None:
    held = directory(world.school.fingerprint)

    with pytest.raises(Rejection, match="not valid now"):
        held.by_certificate(certificate(world.school), at)


def test_an_agency_that_has_left_has_no_systems(world: World) -> None:
    held = directory(world.school.fingerprint, status="left")

    assert "not registered" in str(identified(held, scope(world.school)))


def test_a_new_register_counts_from_the_next_request(world: World) -> None:
    systems = (System("sims", tls_fingerprints=frozenset({world.school.fingerprint})),)
    agency = Agency(SCHOOL, "school", "SCHOOL", systems=systems)
    holder = SimpleNamespace(current=SimpleNamespace(agencies={SCHOOL: agency}))
    held = Directory(holder)
    assert isinstance(identified(held, scope(world.school)), Peer)

    holder.current = SimpleNamespace(agencies={})

    assert "not registered" in str(identified(held, scope(world.school)))


@pytest.mark.parametrize("value", [b"Basic YTpi", b"Bearer", b"Bearer a b", b"", b"token"])
def test_an_authorization_that_is_no_bearer_token_is_nobody(world: World, value: bytes) -> None:
    held = directory(world.school.fingerprint)

    given = scope(world.school, ((b"authorization", value),))

    assert "bearer" in str(identified(held, given))


def test_a_token_goes_before_a_certificate(world: World) -> None:
    given = scope(world.school, ((b"authorization", b"Bearer abc"),))

    assert identified(directory(world.school.fingerprint), given) == "sender.unauthenticated: token"


def test_two_authorizations_are_nobody(world: World) -> None:
    given = scope(world.school, ((b"authorization", b"Bearer a"), (b"authorization", b"Bearer b")))

    assert "more than once" in str(identified(directory(world.school.fingerprint), given))


# -- behind a proxy (RFC 9440) ---------------------------------------------------------------


def passed_on(leaf: Leaf) -> tuple[bytes, bytes]:
    body = "".join(pem(leaf).splitlines()[1:-1])
    return b"client-cert", f":{body}:".encode()


def test_a_configured_proxy_passes_a_certificate_on(world: World) -> None:
    held = directory(world.school.fingerprint)

    peer = identified(held, scope(headers=(passed_on(world.school),)), "10.0.0.0/24")

    assert isinstance(peer, Peer)
    assert peer.agencies == {SCHOOL}


def test_from_anywhere_else_the_header_says_nothing(world: World) -> None:
    held = directory(world.school.fingerprint)
    given = scope(headers=(passed_on(world.school),), client="10.0.1.1")

    assert "neither" in str(identified(held, given, "10.0.0.0/24"))
    assert "neither" in str(identified(held, given))


def test_the_proxys_own_certificate_is_nobodys(world: World) -> None:
    held = directory(world.school.fingerprint)

    assert "neither" in str(identified(held, scope(world.school), "10.0.0.0/24"))


@pytest.mark.parametrize(
    "value", [b"", b":", b"::", b"MIIB", b":MIIB:", b":MI IB:", b":MIIB", b":MIIB:;a=1", b":!:"]
)
def test_a_header_that_is_not_exactly_one_certificate_is_nobody(world: World, value: bytes) -> None:
    held = directory(world.school.fingerprint)

    given = scope(headers=((b"client-cert", value),))

    assert "Client-Cert" in str(identified(held, given, "10.0.0.0/24"))


def test_two_certificates_are_nobody(world: World) -> None:
    held = directory(world.school.fingerprint)
    twice = (passed_on(world.school), passed_on(world.school))

    assert "more than once" in str(identified(held, scope(headers=twice), "10.0.0.0/24"))
