"""Real servers on loopback: uvicorn with the broker's own protocol class, in a thread."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from ssl import SSLContext
from typing import Any

import uvicorn

from broker.edge.tls import TlsProtocol

App = Callable[..., Awaitable[None]]


@contextmanager
def serving(app: App, context: SSLContext | None) -> Iterator[int]:
    """Serve ``app`` and yield the port."""
    config = uvicorn.Config(
        app,
        http=TlsProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    started = threading.Event()
    startup = server.startup

    async def announced(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = announced  # type: ignore[method-assign]
    thread.start()
    assert started.wait(10)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(10)


async def show_tls(scope: MutableMapping[str, Any], _receive: object, send: Any) -> None:
    """Answer with the chain that the protocol published, PEM after PEM."""
    tls = scope.get("extensions", {}).get("tls")
    body = b"none" if tls is None else "".join(tls["client_cert_chain"]).encode()
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})
