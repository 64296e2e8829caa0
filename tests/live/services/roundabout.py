"""A way to a cluster on which answers get lost: requests arrive, what comes back may not."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class LossyWay:
    """Carries bytes from each port to another one, and drops the answers while ``losing``."""

    def __init__(self, ports: Mapping[int, int]) -> None:
        self._ports = ports
        self.losing = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    @contextmanager
    def open(self) -> Iterator["LossyWay"]:
        """Carry until the block ends."""
        self._thread.start()
        running = asyncio.run_coroutine_threadsafe(self._serve(), self._loop)
        servers = running.result()
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(self._end(servers), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _serve(self) -> list[asyncio.Server]:
        return [
            await asyncio.start_server(self._carrier(to), "127.0.0.1", port)
            for port, to in self._ports.items()
        ]

    async def _end(self, servers: list[asyncio.Server]) -> None:
        for server in servers:
            server.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _carrier(self, to: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - a callback
        async def carry(client: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            node, there = await asyncio.open_connection("127.0.0.1", to)
            ways = (
                asyncio.create_task(self._pour(client, there, losable=False)),
                asyncio.create_task(self._pour(node, back, losable=True)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
                for writer in (there, back):
                    writer.transport.abort()

        return carry

    async def _pour(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, losable: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while content := await source.read(65536):
                if losable and self.losing.is_set():
                    continue
                sink.write(content)
                await sink.drain()
