"""The signed webhook: the envelope is posted to the recipient's own HTTPS address.

The request is signed with the broker's key (RFC 9421, HTTP Message Signatures, over a
Content-Digest of RFC 9530), so a recipient behind a TLS-ending proxy can still prove who
called. Only the pinned certificate authority is trusted, no redirect is followed, and no
more than a few kilobytes of any answer are read.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path

import httpx2
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from http_message_signatures import HTTPMessageSigner, MappingKeyResolver, algorithms

from adapters.contract import Delivered, Delivery, Health, Refused, Result, RetryLater
from broker.core.reasons import Reason

ANSWER_BYTES_MAX = 16 * 1024  # an answer carries no information the broker wants
ANSWER_WAIT_S = 2.0  # for the rest of an answer whose status is known
SIGNATURE_LIFETIME = timedelta(minutes=5)
SIGNATURE_TAG = "fame-delivery"
COVERED = (
    "@method",
    "@target-uri",
    "content-type",
    "content-digest",
    "fame-attempt",
    "fame-delivery-id",
    "fame-message-id",
    "fame-message-type",
    "fame-recipient",
    "fame-reduced",
    "fame-sender",
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

CONNECT_S = 1.5  # each for TCP and TLS: the rules were asked before them
# Raised before a byte of the request has left.
NOT_SENT = (httpx2.ConnectError, httpx2.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class RequestSigner:
    """Signs requests with one key; ``key_id`` is its certificate's SHA-256 fingerprint."""

    key_id: str
    private_key: PrivateKey = field(repr=False)
    now: Callable[[], datetime]

    def sign(self, request: httpx2.Request, body: bytes) -> None:
        """Add Content-Digest, Signature-Input and Signature to ``request``."""
        created = self.now()
        keys = MappingKeyResolver(private_keys={self.key_id: self.private_key}, public_keys={})
        HTTPMessageSigner(
            signature_algorithm=algorithm_of(self.private_key.public_key()), key_resolver=keys
        ).sign(
            SignedRequest(request),
            key_id=self.key_id,
            created=created,
            expires=created + SIGNATURE_LIFETIME,
            label="fame",
            tag=SIGNATURE_TAG,
            covered_component_ids=COVERED,
            body=body,
        )


class SignedRequest:
    """A request as the signing library reads it: the URL as text."""

    def __init__(self, request: httpx2.Request) -> None:
        self.method = request.method
        self.url = str(request.url)
        self.headers = request.headers


def algorithm_of(key: object) -> type[algorithms.HTTPSignatureAlgorithm]:
    """Return the RFC 9421 §3.3 algorithm for a public key.

    Raises:
        ValueError: the key is neither RSA nor on P-256 or P-384.
    """
    if isinstance(key, rsa.RSAPublicKey):
        return algorithms.RSA_PSS_SHA512
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return algorithms.ECDSA_P256_SHA256
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1):
        return algorithms.ECDSA_P384_SHA384
    raise ValueError("HTTP message signatures need an RSA, P-256 or P-384 key")


def client_context(ca: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts ``ca`` alone and presents the broker's own certificate."""
    context = ssl.create_default_context(cafile=str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(str(certificate), str(key))
    return context


class Webhook:
    """An `Adapter` that posts to one address over mutual TLS."""

    def __init__(
        self, url: str, tls: ssl.SSLContext, signer: RequestSigner, *, timeout_s: float = 10.0
    ) -> None:
        """Make one; nothing is connected yet.

        Raises:
            ValueError: ``url`` is not an https URL with a host, or carries credentials.
        """
        self._url = httpx2.URL(url)
        if self._url.scheme != "https" or not self._url.host or self._url.userinfo:
            raise ValueError("a webhook needs an https URL without credentials in it")
        self._signer = signer
        self._client = httpx2.AsyncClient(
            verify=tls,
            follow_redirects=False,
            trust_env=False,  # no proxy or certificate named by the environment
            timeout=httpx2.Timeout(timeout_s, connect=CONNECT_S),
            # How many there are at once is the lanes' to bound: to wait here used up attempts.
            limits=httpx2.Limits(keepalive_expiry=30.0),
        )

    async def deliver(self, delivery: Delivery) -> Result:
        """Post the envelope and judge by the status alone."""
        request = self._request(delivery)
        try:
            answer = await self._client.send(request, stream=True)
        except NOT_SENT:
            return RetryLater(Reason.RECIPIENT_UNREACHABLE)
        except httpx2.TransportError:
            # It was sent, as a whole or in part, and nobody says what became of it.
            return RetryLater(Reason.RECIPIENT_UNREACHABLE, in_doubt=True)
        try:
            return _judge(answer.status_code, answer.headers.get("retry-after"), self._signer.now())
        finally:
            await _discard(answer)

    async def check(self) -> Health:
        """Say whether the address answers HTTPS at all, whatever it answers."""
        try:
            answer = await self._client.send(
                self._client.build_request("HEAD", self._url), stream=True
            )
        except httpx2.TransportError as error:
            return Health(ok=False, detail=type(error).__name__)
        await answer.aclose()
        return Health(ok=True)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    def _request(self, delivery: Delivery) -> httpx2.Request:
        request = self._client.build_request(
            "POST",
            self._url,
            content=delivery.body,
            headers={
                "Accept-Encoding": "identity",  # so that no answer unpacks to gigabytes
                "Content-Type": "application/xml",
                "Fame-Attempt": str(delivery.attempt),
                "Fame-Delivery-Id": delivery.delivery_id,
                "Fame-Message-Id": delivery.message_id,
                "Fame-Message-Type": delivery.message_type,
                "Fame-Recipient": delivery.recipient,
                "Fame-Reduced": "?1" if delivery.reduced else "?0",  # RFC 9651 booleans
                "Fame-Sender": delivery.sender,
                "traceparent": delivery.traceparent,
            },
        )
        self._signer.sign(request, delivery.body)
        return request


def _judge(status: int, retry_after: str | None, now: datetime) -> Result:
    """Return what an HTTP status says of the delivery. The body has no say."""
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Delivered(f"http:{status}")
    if status == HTTPStatus.CONFLICT:
        # The recipient knows this delivery id: an attempt before this one arrived.
        return Delivered(f"http:{status}")
    if status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS):
        return RetryLater(Reason.RECIPIENT_UNREACHABLE, _seconds(retry_after, now))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Only "unavailable" says that it was not taken: others come from systems, or from
        # gateways before them, that failed with the message in their hands.
        return RetryLater(
            Reason.RECIPIENT_UNREACHABLE,
            _seconds(retry_after, now),
            in_doubt=status != HTTPStatus.SERVICE_UNAVAILABLE,
        )
    if status >= HTTPStatus.BAD_REQUEST:
        return Refused(Reason.RECIPIENT_REFUSED)
    # A redirect would carry the message to an address nobody registered. The recipient can
    # mend its address, so it is tried again, at the registered one.
    return RetryLater(Reason.RECIPIENT_ANSWER)


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Return Retry-After (RFC 9110 §10.2.3) in seconds; None when absent or not readable."""
    if retry_after is None:
        return None
    if retry_after.isascii() and retry_after.isdigit():
        return float(retry_after[:9])
    try:
        at = parsedate_to_datetime(retry_after)
    except (ValueError, TypeError):
        return None
    aware = at if at.tzinfo else at.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())


async def _discard(answer: httpx2.Response) -> None:
    """Read a short answer to its end, so that the connection can be used again, or drop it."""
    with contextlib.suppress(httpx2.TransportError, TimeoutError):
        async with asyncio.timeout(ANSWER_WAIT_S):
            read = 0
            async for chunk in answer.aiter_raw(ANSWER_BYTES_MAX):
                read += len(chunk)
                if read > ANSWER_BYTES_MAX:
                    break
    await answer.aclose()
