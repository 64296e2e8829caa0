"""Child processes of the tests, none of which outlives them."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path

POLL_S = 0.02
PORTS = range(20_000, 32_000)
TAIL_CHARACTERS = 3000


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, all different.

    They are below those that the kernel gives to connections: a service that is down for a
    while would find its own taken by somebody's connection.
    """
    ports: list[int] = []
    with ExitStack() as stack:
        while len(ports) < count:
            probe = stack.enter_context(closing(socket.socket()))
            port = secrets.choice(PORTS)
            with suppress(OSError):
                probe.bind(("127.0.0.1", port))
                ports.append(port)
    return ports


@dataclass(slots=True)
class Child:
    """A process in a session of its own, so that one signal ends whatever it started."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, command: Sequence[str], log: Path, user: Sequence[str] = ()) -> "Child":
        """Start ``command``; when the tests are killed with -9, the kernel ends it too.

        To the kernel, the parent is the thread: one that ends takes its children along.
        """
        assert threading.current_thread() is threading.main_thread()
        setpriv = shutil.which("setpriv")
        tied = [setpriv, *user, "--pdeathsig", "KILL"] if setpriv else []
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*tied, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return cls(process, log)

    def wait_logged(self, words: str, since: int, timeout_s: float) -> None:
        """Wait until the log has ``words`` behind byte ``since``."""
        until = time.monotonic() + timeout_s
        while words not in (text := self.log.read_bytes()[since:].decode(errors="replace")):
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended before {words!r}:\n{text[-TAIL_CHARACTERS:]}")
            if time.monotonic() > until:
                raise TimeoutError(f"no {words!r} in time:\n{text[-TAIL_CHARACTERS:]}")
            time.sleep(POLL_S)

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        if self.running:
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        self.process.wait()
