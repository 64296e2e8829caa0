"""Run a real broker process: start it, wait for it, kill it."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

READY_S = 60.0  # machines that run tests are busy
NOTHING: Mapping[str, str] = {}


def free_port() -> int:
    """Return a port that was free a moment ago."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(slots=True)
class BrokerProcess:
    """A `fame serve` of its own session, so that one signal ends whatever it started."""

    state: Path
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(
        cls,
        state: Path,
        *,
        crash: str = "",
        module: Sequence[str] = ("broker",),
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] = NOTHING,
    ) -> "BrokerProcess":
        """Start a broker on the state directory; do not wait for it.

        ``prefix`` is a command that runs it, such as strace; ``module`` another module than
        the broker's own, with its first arguments.
        """
        port = free_port()
        inherited = os.environ.items()  # noqa: TID251 - what a child process starts with
        own = {k: v for k, v in inherited if not k.startswith("FAME_")} | {**environment}
        own |= {"FAME_HTTP__PORT": str(port)} | ({"FAME_CRASH": crash} if crash else {})
        serve = ["serve", "--config", str(state / "fame.toml")]
        log = (state / "broker.log").open("ab")
        with log:
            process = subprocess.Popen(
                [*prefix, sys.executable, "-m", *module, *serve],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=own,
                start_new_session=True,
            )
        return cls(state, port, process)

    def wait_ready(self) -> bool:
        """Wait until the broker answers /readyz; False when it died before."""
        context = client_context(self.state, "gateshead-hr")
        until = time.monotonic() + READY_S
        with httpx2.Client(verify=context, timeout=2) as client:
            while time.monotonic() < until and self.process.poll() is None:
                try:
                    if client.get(f"https://localhost:{self.port}/readyz").is_success:
                        return True
                except httpx2.TransportError:
                    time.sleep(0.02)
        if self.process.poll() is None:
            self.kill()
            raise TimeoutError(f"the broker was not ready within {READY_S} s")
        return False

    def signal(self, number: int) -> None:
        """Send it and whatever it started a signal."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it politely; return its exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(timeout=15)


@contextmanager
def running(
    state: Path, *, crash: str = "", environment: Mapping[str, str] = NOTHING
) -> Iterator[BrokerProcess]:
    """Run a broker on ``state`` for the time of a block; it never outlives it."""
    broker = BrokerProcess.start(state, crash=crash, environment=environment)
    try:
        broker.wait_ready()
        yield broker
    finally:
        broker.kill()


def client_context(state: Path, agency: str) -> ssl.SSLContext:
    """Return the TLS side of ``agency``'s system: its certificate, and the sandbox's authority."""
    context = ssl.create_default_context(cafile=str(state / "ca" / "ca.cert.pem"))
    folder = state / "agencies" / agency
    context.load_cert_chain(folder / "tls.cert.pem", folder / "tls.key.pem")
    return context
