"""TLS as the broker wants it, and the client certificate where the application can see it.

uvicorn verifies client certificates and then keeps them to itself. `TlsProtocol` publishes
the leaf in ``scope["extensions"]["tls"]`` in the form of the ASGI TLS extension, so that
only this module changes when uvicorn does so itself. It also bounds what uvicorn leaves
unbounded: the size of a request head and the time one may take (ASVS V15.2.2).
"""

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

HEAD_BYTES_MAX: Final = 32 * 1024  # request line and headers; a Client-Cert header takes 3 KB
HEAD_S_MAX: Final = 10.0

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


class TlsProtocol(HttpToolsProtocol):
    """HTTP/1.1 with the client certificate in the scope, and a bounded request head."""

    _extensions: Mapping[str, Mapping[str, Any]] | None = None
    _head_bytes: int = 0
    _head_open: bool = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the verified leaf once for the whole connection."""
        super().connection_made(transport)
        self._extensions = _extensions(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Refuse a request head that grows without end."""
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

    def shutdown(self) -> None:
        """Begin to end. An idle connection is cut.

        A peer that keeps it in a pool does not read, and would have us wait for its goodbye
        (TLS close_notify) as long as a stop may take.
        """
        cycle = cast("RequestResponseCycle | None", self.cycle)  # none before the first request
        idle = cycle is None or cycle.response_complete
        super().shutdown()
        if idle and not self.transport.get_write_buffer_size():
            self.transport.abort()

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S_MAX, self.transport.close)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


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
