"""The TLS sockets of clients of tests."""

import ssl


class ClosedWhenReset(ssl.SSLSocket):
    """A TLS socket that is not left open when its connection was reset before the handshake.

    A broker that is killed does that to clients. The constructor of CPython then raises while
    nobody has the socket yet who could close it.
    """

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive; the constructor does it to learn whether somebody is there."""
        try:
            return super().recv(buflen, flags)
        except ConnectionResetError:
            self.close()
            raise
