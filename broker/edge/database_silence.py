"""A connection to PostgreSQL that is given up when the server says nothing for too long.

The server bounds what a statement may take, and the kernel finds out a peer that is gone. A
server that is held (by a disk, a debugger, a hypervisor) does neither: it keeps its
connections and never answers, and whoever waited for it would wait for ever.
"""

import time
from collections.abc import Generator
from typing import Any

import psycopg

GRACE_S = 2.0  # beyond what the server itself allows a statement


class Listened(psycopg.Connection[Any]):
    """A connection that waits for no answer longer than ``answer_s``; then it is closed."""

    answer_s = 60.0

    def wait(self, gen: Any, *args: Any, **options: Any) -> Any:  # noqa: ANN401 - the driver's
        """Wait as the driver does, but not for ever.

        Raises:
            psycopg.OperationalError: nothing came in time. What was asked may have been done.
        """
        return super().wait(self._in_time(gen), *args, **options)

    def _in_time(self, gen: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401 - the driver's
        until = time.monotonic() + self.answer_s
        try:
            awaited = next(gen)
            while True:
                ready = yield awaited
                if not ready and time.monotonic() >= until:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError("the server did not answer in time")
                awaited = gen.send(ready)
        except StopIteration as end:
            return end.value
