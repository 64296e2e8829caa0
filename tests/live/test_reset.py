"""A TLS client whose broker dies between the connection and the handshake."""

import gc
import socket
import ssl
import struct
import threading
import time

import pytest

AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
NOTICED_S = 30.0


def test_a_connection_that_is_reset_before_the_handshake_is_no_fault_of_a_client() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        came = threading.Thread(target=_reset, args=(server,))
        came.start()
        client = socket.create_connection(server.getsockname())
        came.join()
        until = time.monotonic() + NOTICED_S
        while not _is_reset(client):
            assert time.monotonic() < until
        with pytest.raises(ConnectionResetError):
            ssl.create_default_context().wrap_socket(client, server_hostname="localhost")

    gc.collect()  # what is left open is told of here, and would be a fault


def _reset(server: socket.socket) -> None:
    connection, _ = server.accept()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
    connection.close()


def _is_reset(client: socket.socket) -> bool:
    try:
        client.getpeername()
    except OSError:
        return True
    return False
