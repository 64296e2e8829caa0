"""TLS as the broker wants it, and the client certificate where the application can see it.

uvicorn verifies client certificates and then keeps them to itself. `TlsProtocol` publishes
the leaf in ``scope["extensions"]["tls"]`` in the form of the ASGI TLS extension, so that
only this module changes when uvicorn does so itself. It also bounds what uvicorn leaves
unbounded (ASVS V15.2.2): the size of a request head, the time that a handshake, a head and
the reading of an answer may take, and connections on which nothing happens.
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, cast

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers; a Client-Cert header takes 3 KB
HEAD_S_MAX: Final = 10.0
HANDSHAKE_S_MAX: Final = 10.0
# A peer that reads nothing of 64 KB that long holds the rest of its answer in memory.
READING_S_MAX: Final = 30.0

# TLS 1.2 with forward secrecy and authenticated encryption only; the TLS 1.3 suites all have both.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"


def server_context(certificate: Path, key: Path, client_authorities: Path | None) -> ssl.SSLContext:
    """Return a context for TLS 1.2 and 1.3.

    A client certificate is asked for and not demanded: a peer with a token has none. One
    that is shown must chain to ``client_authorities`` (PEM), or the handshake fails.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    if client_authorities is not None:
        context.load_verify_locations(client_authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


class EventLoop(uvloop.Loop):
    """uvloop, with less patience for handshakes than the minute that is its default."""

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:  # noqa: ANN401
        """Listen as usual."""
        if options.get("ssl") is not None:
            options.setdefault("ssl_handshake_timeout", HANDSHAKE_S_MAX)
        return cast("asyncio.Server", await super().create_server(*args, **options))


class TlsProtocol(HttpToolsProtocol):
    """HTTP/1.1 with the client certificate in the scope, and with bounds.

    A connection over ``connections_max`` takes the place of the one that was idle longest.
    """

    connections_max: ClassVar[int] = 4096
    idle: ClassVar[dict["TlsProtocol", None]] = {}  # longest first

    _extensions: Mapping[str, Mapping[str, Any]] | None = None
    _head_bytes: int = 0
    _head_open: bool = True
    _head_timer: asyncio.TimerHandle | None = None
    _reading_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the verified leaf once for the whole connection."""
        super().connection_made(transport)
        self._extensions = _extensions(transport)
        self._await_head()
        self.idle[self] = None
        if len(self.connections) > self.connections_max:
            next(iter(self.idle)).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timers."""
        self.idle.pop(self, None)
        self._stop_timer()
        self._stop_reading_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a request head that grows without end."""
        self.idle.pop(self, None)
        if self._head_open:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._await_head()
        super().data_received(data)
        if self._head_open and self._head_bytes > HEAD_BYTES_MAX:
            self.transport.close()

    def on_message_begin(self) -> None:
        """Begin a request, with the certificate in its scope."""
        super().on_message_begin()
        if self._extensions is not None:
            self.scope["extensions"] = self._extensions  # type: ignore[typeddict-item]

    def on_headers_complete(self) -> None:
        """The head has come; the body is the application's to bound."""
        self._head_open = False
        self._stop_timer()
        written = sum(len(name) + len(value) + 4 for name, value in self.headers)  # ": ", CR LF
        if written > HEAD_BYTES_MAX:
            self.transport.close()
            return
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The next bytes begin the next head."""
        super().on_message_complete()
        self._head_open, self._head_bytes = True, 0

    def on_response_complete(self) -> None:
        """Nothing happens here until the next request."""
        super().on_response_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self.idle[self] = None

    def pause_writing(self) -> None:
        """The peer does not read its answer: it has a while to go on."""
        super().pause_writing()
        self._stop_reading_timer()
        self._reading_timer = self.loop.call_later(READING_S_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """The peer reads again."""
        super().resume_writing()
        self._stop_reading_timer()

    def shutdown(self) -> None:
        """Begin to end. An idle connection is cut.

        A peer that keeps it in a pool does not read, and would have us wait for its goodbye
        (TLS close_notify) as long as a stop may take.
        """
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        idle = cycle is None or cycle.response_complete
        if not self.transport.is_closing():  # the loop's transports must not be closed twice
            super().shutdown()
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _stop_reading_timer(self) -> None:
        if self._reading_timer is not None:
            self._reading_timer.cancel()
            self._reading_timer = None


def bounded(connections_max: int) -> type[TlsProtocol]:
    """Return the protocol of one server that keeps at most ``connections_max`` open."""
    return type("Bounded", (TlsProtocol,), {"connections_max": connections_max, "idle": {}})


def _extensions(transport: asyncio.Transport) -> Mapping[str, Mapping[str, Any]] | None:
    connection = transport.get_extra_info("ssl_object")
    if connection is None:
        return None
    chain: list[str] = []
    # A certificate that was not asked for was not verified either.
    if connection.context.verify_mode is not ssl.CERT_NONE:
        leaf = connection.getpeercert(binary_form=True)
        if leaf:
            chain.append(ssl.DER_cert_to_PEM_cert(leaf))
    return {"tls": {"client_cert_chain": chain, "tls_version": connection.version()}}
