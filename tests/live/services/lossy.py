"""A connection to a PostgreSQL that is cut at the worst moment."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

COMMIT = b"COMMIT"


class LossyProxy:
    """Forwards to a server; when armed, it cuts the line once a commit was made but not told."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.armed = threading.Event()
        self.cut = threading.Event()
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._lines: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                self._lines += [client, server]
                thread = threading.Thread(target=self._carry, args=(client, server), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while self._pass_on(client, server):
                pass
        client.close()
        server.close()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> bool:
        """Carry what there is; False once the line is at its end."""
        for ready in select.select([client, server], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return False
            if ready is client and self.armed.is_set() and COMMIT in data:
                self.armed.clear()
                server.sendall(data)
                server.recv(65536)  # it is committed, and nobody hears of it
                self.cut.set()
                return False
            (server if ready is client else client).sendall(data)
        return True

    def close(self) -> None:
        """Cut every line."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for line in self._lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)


@contextlib.contextmanager
def lossy(server: tuple[str, int]) -> Iterator[LossyProxy]:
    """Run a proxy before ``server``."""
    proxy = LossyProxy(server)
    try:
        yield proxy
    finally:
        proxy.close()
