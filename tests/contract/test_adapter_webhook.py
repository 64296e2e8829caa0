import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from http_message_signatures import (
    HTTPMessageVerifier,
    InvalidSignature,
    MappingKeyResolver,
)

from adapters.contract import Delivered, Delivery, Refused, RetryLater
from adapters.webhook import COVERED, RequestSigner, Webhook, algorithm_of, client_context
from broker.core.identity import AgencyId, MessageId
from broker.core.reasons import Reason
from tests.contract.pki import Authority, Leaf, PrivateKey
from tests.contract.sink import Answering, Asked, Sink, answer, sink

DELIVERY = Delivery(
    delivery_id="01938af0-1111-7000-8000-000000000001",
    recipient=AgencyId("sunderland-csc"),
    sender=AgencyId("hylton-school"),
    message_id=MessageId("01938af0-2222-7000-8000-000000000002"),
    message_type="Referral",
    body="<Envelope>Zoë</Envelope>".encode(),
    attempt=1,
    reduced=False,
    traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
)
UNREACHABLE = RetryLater(Reason.RECIPIENT_UNREACHABLE)
IN_DOUBT = replace(UNREACHABLE, in_doubt=True)


# The verifying library reads the clock itself, so these signatures are dated by it too.
def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - see above


class World:
    """One recipient with a certificate, one broker with a certificate and a signing key."""

    def __init__(self, directory: Path) -> None:
        self.ca = Authority(directory)
        self.other_ca = Authority(directory, "other CA")
        self.server = self.ca.issue("sink")
        self.client = self.ca.issue("broker-tls")
        self.signing = self.ca.issue("broker-signing")
        self.timeout_s = 5.0

    def tls(self, leaf: Leaf | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=self.ca.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
        leaf = leaf or self.server
        context.load_cert_chain(leaf.certificate, leaf.key)
        return context

    @asynccontextmanager
    async def webhook(self, url: str, key: PrivateKey | None = None) -> AsyncIterator[Webhook]:
        adapter = Webhook(
            url,
            client_context(self.ca.certificate, self.client.certificate, self.client.key),
            RequestSigner("broker-key", key or self.signing.private_key, now),
            timeout_s=self.timeout_s,
        )
        try:
            yield adapter
        finally:
            await adapter.aclose()

    @asynccontextmanager
    async def both(self, answering: Answering) -> AsyncIterator[tuple[Webhook, Sink]]:
        async with sink(self.tls(), answering) as served, self.webhook(served.url) as adapter:
            yield adapter, served


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pki")


@pytest.fixture
def world(directory: Path) -> World:
    return World(directory)


async def test_the_envelope_arrives_byte_for_byte_with_its_stable_headers(world: World) -> None:
    async with world.both(answer(204)) as (adapter, served):
        result = await adapter.deliver(DELIVERY)

    assert result == Delivered("http:204")
    (asked,) = served.asked
    assert asked.body == DELIVERY.body
    assert (asked.method, asked.target) == ("POST", "/inbox")
    assert asked.header("Fame-Delivery-Id") == DELIVERY.delivery_id
    assert asked.header("Fame-Message-Type") == "Referral"
    assert asked.header("Fame-Reduced") == "?0"
    assert asked.header("traceparent") == DELIVERY.traceparent
    assert asked.header("Content-Type") == "application/xml"


async def test_the_answer_200_202_and_409_all_mean_that_the_recipient_has_it(world: World) -> None:
    for status in (200, 202, 409):
        async with world.both(answer(status)) as (adapter, _served):
            assert await adapter.deliver(DELIVERY) == Delivered(f"http:{status}")


@pytest.mark.parametrize("status", [408, 425, 429, 503])
async def test_an_answer_that_may_pass_is_tried_again(world: World, status: int) -> None:
    async with world.both(answer(status)) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == UNREACHABLE


@pytest.mark.parametrize("status", [500, 502, 504, 507])
async def test_after_a_failure_with_the_message_in_hand_it_may_have_arrived(
    world: World, status: int
) -> None:
    async with world.both(answer(status)) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == IN_DOUBT


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 413, 415, 422])
async def test_an_answer_that_is_final_is_a_refusal(world: World, status: int) -> None:
    async with world.both(answer(status)) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == Refused(Reason.RECIPIENT_REFUSED)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), ("0", 0.0), ("soon", None), ("-5", None), ("9" * 40, 999_999_999.0)],
)
async def test_retry_after_in_seconds_is_passed_on(
    world: World, value: str, seconds: float | None
) -> None:
    async with world.both(answer(503, f"Retry-After: {value}\r\n")) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == replace(UNREACHABLE, after_s=seconds)


async def test_retry_after_as_a_date_is_passed_on(world: World) -> None:
    at = (now() + timedelta(seconds=600)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    async with world.both(answer(429, f"Retry-After: {at}\r\n")) as (adapter, _served):
        result = await adapter.deliver(DELIVERY)

    assert isinstance(result, RetryLater)
    assert result.after_s == pytest.approx(600, abs=10)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(world: World, status: int) -> None:
    async with sink(world.tls(), answer(204)) as trap:
        away = answer(status, f"Location: {trap.url}\r\n")
        async with world.both(away) as (adapter, _served):
            assert await adapter.deliver(DELIVERY) == RetryLater(Reason.RECIPIENT_ANSWER)

    assert trap.asked == []


async def test_a_huge_answer_is_read_no_further_than_the_cap(world: World) -> None:
    sent = 0

    async def gigabytes(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 X\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with world.both(gigabytes) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == Delivered("http:200")

    assert sent < 20_000_000  # what the sockets' buffers took


async def test_an_answer_that_drips_does_not_hold_the_attempt_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("adapters.webhook.ANSWER_WAIT_S", 0.05)
    never = asyncio.Event()

    async def drip(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 202 X\r\nContent-Length: 100\r\n\r\nx")
        await never.wait()

    async with world.both(drip) as (adapter, _served):
        began = time.monotonic()
        assert await adapter.deliver(DELIVERY) == Delivered("http:202")
        assert time.monotonic() - began < 3


async def test_a_system_that_hangs_is_tried_again_after_the_timeout(world: World) -> None:
    world.timeout_s = 0.1
    never = asyncio.Event()

    async def hang(_asked: Asked, _writer: asyncio.StreamWriter) -> None:
        await never.wait()

    async with world.both(hang) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == IN_DOUBT


async def test_a_system_that_is_slow_to_be_reached_gets_nothing_that_was_decided_long_ago(
    world: World,
) -> None:
    world.timeout_s = 30.0
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # TCP connects, TLS is not answered
        async with world.webhook(f"https://localhost:{deaf.getsockname()[1]}/") as adapter:
            began = time.monotonic()
            assert await adapter.deliver(DELIVERY) == RetryLater(Reason.RECIPIENT_UNREACHABLE)
            assert time.monotonic() - began < 5


async def test_a_slow_system_does_not_make_one_delivery_wait_for_another(world: World) -> None:
    there, all_there = 0, asyncio.Event()

    async def once_all_are_there(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal there
        there += 1
        if there == 20:
            all_there.set()
        await all_there.wait()
        await answer(204)(asked, writer)

    async with world.both(once_all_are_there) as (adapter, _served):
        results = await asyncio.gather(*(adapter.deliver(DELIVERY) for _ in range(20)))
        assert results == [Delivered("http:204")] * 20


async def test_an_attempt_that_is_cancelled_leaves_the_adapter_usable(world: World) -> None:
    first = True

    async def hang_once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal first
        if first:
            first = False
            await asyncio.Event().wait()
        await answer(204)(asked, writer)

    async with world.both(hang_once) as (adapter, served):
        attempt = asyncio.create_task(adapter.deliver(DELIVERY))
        await served.came.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt

        assert await adapter.deliver(replace(DELIVERY, attempt=2)) == Delivered("http:204")


async def test_what_is_not_http_is_tried_again(world: World) -> None:
    async def nonsense(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
        writer.transport.abort()

    async with world.both(nonsense) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == IN_DOUBT


async def test_a_certificate_of_another_authority_gets_nothing(world: World) -> None:
    forged = world.other_ca.issue("forged")
    async with sink(world.tls(forged), answer(204)) as served, world.webhook(served.url) as adapter:
        assert await adapter.deliver(DELIVERY) == UNREACHABLE

    assert served.asked == []


async def test_a_certificate_for_another_name_gets_nothing(world: World) -> None:
    async with sink(world.tls(), answer(204)) as served:
        elsewhere = served.url.replace("localhost", "127.0.0.2")
        async with world.webhook(elsewhere) as adapter:
            assert await adapter.deliver(DELIVERY) == UNREACHABLE

    assert served.asked == []


async def test_a_closed_port_is_tried_again(world: World) -> None:
    async with sink(world.tls(), answer(204)) as served:
        pass
    async with world.webhook(served.url) as adapter:
        assert await adapter.deliver(DELIVERY) == UNREACHABLE
        assert not (await adapter.check()).ok


async def test_check_asks_without_handing_anything_over(world: World) -> None:
    async with world.both(answer(405)) as (adapter, served):
        assert (await adapter.check()).ok

    assert [asked.body for asked in served.asked] == [b""]


async def test_a_proxy_named_by_the_environment_is_not_used(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")

    async with world.both(answer(204)) as (adapter, _served):
        assert await adapter.deliver(DELIVERY) == Delivered("http:204")


@pytest.mark.parametrize(
    "url",
    ["http://localhost/inbox", "ftp://localhost/", "https:///inbox", "https://a:b@localhost/", "x"],
)
async def test_only_a_plain_https_address_is_taken(world: World, url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        async with world.webhook(url):
            pass


def verifier(world: World, key: PrivateKey | None = None) -> HTTPMessageVerifier:
    public = (key or world.signing.private_key).public_key()
    return HTTPMessageVerifier(
        signature_algorithm=algorithm_of(public),
        key_resolver=MappingKeyResolver(public_keys={"broker-key": public}, private_keys={}),
    )


class Wire:
    """A request from the wire, as the verifying library reads it."""

    def __init__(self, asked: Asked, url: str) -> None:
        self.method, self.url, self.headers = asked.method, url, dict(asked.headers)


async def signed_request(world: World, key: PrivateKey | None = None) -> tuple[Wire, bytes]:
    async with sink(world.tls(), answer(204)) as served, world.webhook(served.url, key) as adapter:
        await adapter.deliver(DELIVERY)
    return Wire(served.asked[0], served.url), served.asked[0].body


@pytest.mark.parametrize(
    "make",
    [
        lambda: ec.generate_private_key(ec.SECP256R1()),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: rsa.generate_private_key(65537, 2048),
    ],
    ids=["P-256", "P-384", "RSA-2048"],
)
async def test_the_request_signature_verifies_with_the_brokers_key(
    world: World, make: Callable[[], PrivateKey]
) -> None:
    key = make()
    request, body = await signed_request(world, key)

    verifier(world, key).verify(
        request, body=body, expect_tag="fame-delivery", require_components=COVERED
    )


@pytest.mark.parametrize(
    "header",
    [
        "content-digest",
        "content-type",
        "fame-attempt",
        "fame-delivery-id",
        "fame-message-id",
        "fame-message-type",
        "fame-recipient",
        "fame-reduced",
        "fame-sender",
    ],
)
async def test_a_changed_header_breaks_the_request_signature(world: World, header: str) -> None:
    request, body = await signed_request(world)
    request.headers[header] = "sha-256=:" + "A" * 43 + "=:" if header == "content-digest" else "x"

    with pytest.raises(InvalidSignature):
        verifier(world).verify(request, body=body)


async def test_another_address_or_method_breaks_the_request_signature(world: World) -> None:
    for name, value in (("url", "https://localhost/elsewhere"), ("method", "PUT")):
        request, body = await signed_request(world)
        setattr(request, name, value)

        with pytest.raises(InvalidSignature):
            verifier(world).verify(request, body=body)


async def test_a_changed_body_breaks_the_request_signature(world: World) -> None:
    request, body = await signed_request(world)

    with pytest.raises(InvalidSignature):
        verifier(world).verify(request, body=body.replace(b"<", b"< ", 1))


async def test_the_signature_names_its_age_so_that_an_old_request_can_be_refused(
    world: World,
) -> None:
    request, _body = await signed_request(world)

    (result,) = verifier(world).verify(request)
    assert int(result.parameters["expires"]) - int(result.parameters["created"]) == 300


def test_a_key_of_another_kind_does_not_sign_requests() -> None:
    with pytest.raises(ValueError, match="P-256"):
        algorithm_of(ec.generate_private_key(ec.SECP521R1()).public_key())


def test_neither_key_nor_body_is_in_a_representation(world: World) -> None:
    signer = RequestSigner("k", world.signing.private_key, now)

    assert "PrivateKey" not in repr(signer)
    assert "Zo" not in repr(DELIVERY)
