"""Answers as ASGI sends them, with the headers that every answer carries."""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from broker.core.reasons import Reason
from broker.core.receipt import receipt_json
from broker.edge.problems import Problem, render
from broker.edge.telemetry import Trace

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Header = tuple[bytes, bytes]

XML: Final = b"application/xml"
JSON: Final = b"application/json"

# Nothing the broker says may be kept by a cache or be rendered as a page (ASVS V14.3.2).
SECURITY: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_TLS_ONLY: Final[Header] = (b"strict-transport-security", b"max-age=31536000")


class GoneError(Exception):
    """The peer hung up: there is nobody to answer."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status, media type and bytes of one answer."""

    status: int
    media_type: bytes
    body: bytes = field(repr=False)
    headers: Sequence[Header] = ()


def common_headers(scope: Mapping[str, Any], trace: Trace) -> list[Header]:
    """Return the headers that every answer carries; the caller's ids are repeated to it."""
    headers = [*SECURITY, (b"traceparent", trace.traceparent.encode())]
    if scope["scheme"] == "https":
        headers.append(_TLS_ONLY)
    if trace.request_id:
        headers.append((b"x-request-id", trace.request_id))
    if trace.correlation_id:
        headers.append((b"x-correlation-id", trace.correlation_id))
    return headers


def problem_reply(problem: Problem, accept: bytes, headers: Sequence[Header] = ()) -> Reply:
    """Return ``problem`` as an answer."""
    media_type, body = render(problem, accept)
    extra = list(headers)
    if problem.retry_after_s is not None:
        extra.append((b"retry-after", str(problem.retry_after_s).encode()))
    if problem.reason is Reason.UNAUTHENTICATED:
        extra.append((b"www-authenticate", b'Bearer realm="fame"'))
    return Reply(problem.status, media_type, body, extra)


async def send_reply(scope: Scope, send: Send, reply: Reply, trace: Trace) -> None:
    """Send ``reply`` whole."""
    headers = common_headers(scope, trace)
    headers += (
        (b"content-type", reply.media_type),
        (b"content-length", str(len(reply.body)).encode()),
        *reply.headers,
    )
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


def header(scope: Mapping[str, Any], name: bytes) -> bytes:
    """Return the value of the first header called ``name``, or nothing."""
    for key, value in scope["headers"]:
        if key == name:
            found: bytes = value
            return found
    return b""


def receipt_members(receipt: bytes) -> dict[str, object]:
    """Return a signed receipt or evidence as JSON: to read, and under ``signed`` to verify."""
    return {"receipt": receipt_json(receipt), "signed": b64encode(receipt).decode()}
