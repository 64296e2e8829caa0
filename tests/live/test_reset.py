"""A TLS client whose broker dies: before the handshake, and after it."""

import gc
import socket
import ssl
import struct
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contract.pki import Authority

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
NOTICED_S = 30.0


def test_a_connection_that_is_reset_before_the_handshake_is_no_fault_of_a_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        came = threading.Thread(target=_reset, args=(server,))
        came.start()
        client = socket.create_connection(server.getsockname())
        came.join()
        _wait_reset(client)
        with pytest.raises(ConnectionResetError):
            ssl.create_default_context().wrap_socket(client, server_hostname="localhost")

    gc.collect()  # what is left open is told of here, and would be a fault


def test_what_a_client_leaves_open_after_the_handshake_is_told_of(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf = authority.issue("localhost")
    as_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    as_server.load_cert_chain(leaf.certificate, leaf.key)
    as_client = ssl.create_default_context(cafile=str(authority.certificate))
    with socket.create_server(("127.0.0.1", 0)) as server:
        came = threading.Thread(target=_reset, args=(server, as_server))
        came.start()
        plain = socket.create_connection(server.getsockname())
        held = [as_client.wrap_socket(plain, server_hostname="localhost")]
        came.join()
        _wait_reset(held[0])
        with suppress(ConnectionResetError):  # OpenSSL makes an end of it
            held[0].recv()

        with pytest.warns(ResourceWarning, match="unclosed <tests.sockets.ClosedWhenReset"):
            _let_go(held)


def _reset(server: socket.socket, context: ssl.SSLContext | None = None) -> None:
    connection, _ = server.accept()
    if context is not None:
        connection = context.wrap_socket(connection, server_side=True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    connection.close()


def _let_go(held: list[ssl.SSLSocket]) -> None:
    held.clear()
    gc.collect()


def _wait_reset(client: socket.socket) -> None:
    until = time.monotonic() + NOTICED_S
    while not _is_reset(client):
        assert time.monotonic() < until


def _is_reset(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return True
    return False
