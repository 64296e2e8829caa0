"""Start programs of this project as processes of their own, and leave none behind."""

import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from broker.cli.failure import EXIT_UNAVAILABLE, Failure
from broker.config import child_environment

READY_S = 10.0
STOP_S = 5.0
POLL_S = 0.02


def free_port() -> int:
    """Return a port on the loopback that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def wait_for_port(port: int, process: "Program", seconds: float = READY_S) -> None:
    """Return when somebody listens on ``port``.

    Raises:
        Failure: ``process`` ended instead, or it took too long.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), POLL_S).close()
        except OSError:
            if process.ended:
                break
            time.sleep(POLL_S)
        else:
            return
    raise process.failure()


class Program:
    """A running ``python -m MODULE``; its output goes to a file. A context that ends it."""

    def __init__(self, name: str, arguments: Sequence[str], log: Path, **env: str) -> None:
        self.name = name
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=child_environment(**env),
                start_new_session=True,  # Ctrl-C is for us; we end it in our own order
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it is not running any more."""
        return self._process.poll() is not None

    @property
    def exit_code(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    def failure(self) -> Failure:
        """Return what to tell when it did not do what it was started for."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").splitlines()
        rows = {"where": str(self._log), "why": "\n".join(lines[-5:])}
        return Failure(f"{self.name} did not start", EXIT_UNAVAILABLE, rows)

    def end(self) -> None:
        """Ask it to end, without waiting."""
        self._process.terminate()

    def stop(self) -> None:
        """Have it ended; when it does not end by itself, by force."""
        self.end()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
