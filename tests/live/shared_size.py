"""The size between the two: nodes that share PostgreSQL and deliver without Kafka."""

import random
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tests.live.harness import NOTHING, BrokerProcess
from tests.live.history import History
from tests.live.sizes import EMBEDDED, SETTLED_S, kept_in, still_open

NODES = ("n1", "n2")


@dataclass(slots=True)
class Shared:
    """Nodes `n1` and `n2`. ``environment``: what a node is started with besides."""

    state: Path
    url: str
    module: Sequence[str] = ("broker",)
    environment: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    running: dict[str, BrokerProcess] = field(default_factory=dict)
    name: str = "shared"
    points: Sequence[str] = EMBEDDED
    settle_s: float = SETTLED_S

    def start(self) -> None:
        """Start what does not run."""
        fresh = [name for name in NODES if not self._runs(name)]
        begun = {name: self._begin(name) for name in fresh}
        for process in begun.values():
            process.wait_ready()
        self.running |= begun

    def rig(self, point: str, nth: int) -> None:
        """Start the first node anew, to die at a crash point."""
        self.start()
        self._end("n1")
        process = self._begin("n1", f"{point}:{nth}")
        process.wait_ready()
        self.running["n1"] = process

    def unrig(self) -> None:
        """End the first node."""
        self._end("n1")

    def disturb(self, chance: random.Random) -> str:  # noqa: ARG002 - its database is the tests'
        """Do nothing."""
        return ""

    def ports(self) -> Sequence[int]:
        """Return the ports of the nodes that run."""
        return [process.port for process in list(self.running.values())]

    def kill(self, chance: random.Random) -> str:
        """Kill one node."""
        name = chance.choice(NODES)
        self._end(name)
        return name

    def pause(self, chance: random.Random, seconds: float) -> str:
        """Hold one node."""
        name = chance.choice(NODES)
        if process := self.running.get(name):
            process.signal(signal.SIGSTOP)
            time.sleep(seconds)
            process.signal(signal.SIGCONT)
        return name

    def died(self) -> bool:
        """Whether the first node ended by itself: it is the one that is rigged."""
        return not self._runs("n1")

    def open(self) -> int:
        """Return how many deliveries are open."""
        return still_open(self.url)

    def read(self, history: History) -> History:
        """Read the database and the log."""
        places = {file.name: file.read_bytes() for file in self.state.glob("*.log")}
        return replace(kept_in(self.url, history), places=places)

    def stop(self) -> None:
        """Kill the nodes."""
        for name in NODES:
            self._end(name)

    def _runs(self, name: str) -> bool:
        process = self.running.get(name)
        return process is not None and process.process.poll() is None

    def _begin(self, name: str, crash: str = "") -> BrokerProcess:
        own = {**self.environment.get(name, NOTHING), "FAME_STORE__URL": self.url}
        return BrokerProcess.start(self.state, crash=crash, module=self.module, environment=own)

    def _end(self, name: str) -> None:
        process = self.running.pop(name, None)
        if process is not None:
            process.kill()
