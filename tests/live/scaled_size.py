"""The scaled-out size: two nodes, PostgreSQL, a Kafka of three, and a worker for one agency."""

import random
import signal
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self
from uuid import uuid4

import psycopg

from tests.live.harness import BrokerProcess
from tests.live.history import History
from tests.live.kafka_world import BROKER, PASSWORD, TOPICS, make_world
from tests.live.scaled_world import WorkerProcess
from tests.live.services.kafka import KafkaCluster, start_cluster
from tests.live.services.postgres import Postgres, start_server
from tests.live.sizes import RELOAD_S, kept_in, still_open, use_postgres
from tests.live.workload import PUSHED

SCALED = (*(f"K{number}" for number in range(1, 18)),)
WORKERS_OWN = frozenset({"K15", "K16", "K17"})
SETTINGS = """reload_s = {reload_s}

[delivery]
transport = "kafka"
attempts_max = 1000
backoff_s_first = 0.05
backoff_s_max = 0.5
lease_s = 6.0
timeout_s = 3.0
poll_s = 0.2

[kafka]
bootstrap = "{bootstrap}"
ca_file = "{ca_file}"
request_s = 2.0
send_s = 8.0
session_s = 6.0
watch_s = 0.3
"""
TURN = 0x46414D45_0001  # the lock by which the nodes write in turn
TABLES = (
    "SELECT relname FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"  # a partition is one
)

Process = BrokerProcess | WorkerProcess


def new_scaled(state: Path, postgres: Postgres, kafka: KafkaCluster) -> str:
    """Have the sandbox in ``state`` use the services; return its database's URL."""
    url = postgres.database(f"soak_{uuid4().hex}")
    world = make_world(kafka, TOPICS + f"[agency.{PUSHED}]\n")
    access = kafka.access
    given = SETTINGS.format(reload_s=RELOAD_S, bootstrap=access.bootstrap, ca_file=access.ca_file)
    use_postgres(state, url)
    with (state / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write(given)
    topics = TOPICS.format(prefix=world.topics.prefix) + f"[agency.{PUSHED}]\n"
    (state / "topics.toml").write_text(topics, encoding="utf-8")
    secrets = state / "keys" / "kafka"
    secrets.mkdir()
    for principal in (BROKER, f"fame-deliver-{PUSHED}"):
        (secrets / f"{principal}.password").write_text(PASSWORD, encoding="utf-8")
    return url


@dataclass(slots=True)
class ScaledOut:
    """Nodes `n1` and `n2`, and the worker; each is killed, paused and started by itself."""

    state: Path
    kafka: KafkaCluster
    postgres: Postgres
    url: str
    records: Path  # below it lie the segments of the Kafka nodes
    running: dict[str, Process] = field(default_factory=dict)
    rigged: str = ""
    name: str = "scaled"
    points: Sequence[str] = SCALED
    settle_s: float = 60.0

    def start(self) -> None:
        """Start what does not run, the services first."""
        self.kafka.heal()
        fresh = [name for name in ("n1", "n2", "worker") if not self._runs(name)]
        begun = {name: self._begin(name) for name in fresh}
        for process in begun.values():
            if isinstance(process, BrokerProcess):
                process.wait_ready()
        self.running |= begun

    def ports(self) -> Sequence[int]:
        """Return the ports of the nodes that run."""
        return [p.port for p in list(self.running.values()) if isinstance(p, BrokerProcess)]

    def rig(self, point: str, nth: int) -> None:
        """Start a node, or the worker, anew, to die at a crash point."""
        self.start()
        self.rigged = "worker" if point in WORKERS_OWN else "n1"
        self._end(self.rigged)
        process = self._begin(self.rigged, f"{point}:{nth}")
        if isinstance(process, BrokerProcess):
            process.wait_ready()
        self.running[self.rigged] = process

    def unrig(self) -> None:
        """End the rigged process."""
        self._end(self.rigged)
        self.rigged = ""

    def kill(self, chance: random.Random) -> str:
        """Kill one process."""
        name = chance.choice(("n1", "n2", "worker"))
        self._end(name)
        return name

    def pause(self, chance: random.Random, seconds: float) -> str:
        """Hold one process; now and then for longer than its lease and its session."""
        name = chance.choice(("n1", "n2", "worker"))
        process = self.running.get(name)
        if process is not None:
            process.signal(signal.SIGSTOP)
            time.sleep(seconds if chance.random() < 0.7 else 8.0)
            process.signal(signal.SIGCONT)
        return name

    def disturb(self, chance: random.Random) -> str:
        """Restart the database in the middle of it, have nobody write, or hurt a Kafka node."""
        node = chance.choice((1, 2, 3))
        match chance.choice(("database", "turn", "kill", "hold")):
            case "database":
                self.postgres.restart_immediate()
                return "database restarted"
            case "turn":
                with psycopg.connect(self.url.replace("+psycopg", "")) as conn:
                    conn.execute("SELECT pg_advisory_xact_lock(%s)", (TURN,))
                    time.sleep(chance.uniform(1.0, 9.0))
                return "turn to write held"
            case "kill":
                self.kafka.kill(node)
                time.sleep(chance.uniform(0.5, 3.0))
                self.kafka.heal()
                return "kafka node killed"
            case _:
                self.kafka.pause(node)
                time.sleep(chance.uniform(1.0, 6.0))
                self.kafka.resume(node)
                return "kafka node held"

    def died(self) -> bool:
        """Whether the rigged process, or any, ended by itself."""
        names = [self.rigged] if self.rigged else list(self.running)
        return any(not self._runs(name) for name in names)

    def open(self) -> int:
        """Return how many deliveries are open."""
        return still_open(self.url)

    def read(self, history: History) -> History:
        """Read the database, row by row and as bytes, the logs, and the Kafka nodes' files."""
        places = {file.name: file.read_bytes() for file in self.state.glob("*.log")}
        for segment in self.records.rglob("*.log"):
            places[segment.relative_to(self.records).as_posix()] = segment.read_bytes()
        with psycopg.connect(self.url.replace("+psycopg", "")) as conn:
            for (table,) in conn.execute(TABLES).fetchall():
                with conn.cursor().copy(
                    f'COPY "{table}" TO STDOUT (FORMAT binary)'.encode()
                ) as rows:
                    places[table] = b"".join(bytes(row) for row in rows)
        return replace(kept_in(self.url, history), places=places)

    def stop(self) -> None:
        """Kill every process; the services go on."""
        for name in list(self.running):
            self._end(name)

    def _runs(self, name: str) -> bool:
        process = self.running.get(name)
        return process is not None and process.process.poll() is None

    def _begin(self, name: str, crash: str = "") -> Process:
        if name == "worker":
            return WorkerProcess.start(self.state, PUSHED, crash=crash)
        return BrokerProcess.start(self.state, crash=crash)

    def _end(self, name: str) -> None:
        process = self.running.pop(name, None)
        if process is not None:
            process.kill()


class Services:
    """A PostgreSQL and a Kafka of three for many histories."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for name in ("kafka", "postgres"):
            (self._folder / name).mkdir()
        self._kafka = start_cluster(self._folder / "kafka")
        self._stack.callback(self._kafka.stop)
        self._postgres = start_server(self._folder / "postgres")
        self._stack.callback(self._postgres.stop)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def size(self, state: Path) -> ScaledOut:
        """Return a size on these services, for a plain sandbox in ``state``."""
        url = new_scaled(state, self._postgres, self._kafka)
        return ScaledOut(state, self._kafka, self._postgres, url, self._folder / "kafka")
