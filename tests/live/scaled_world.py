"""A scaled-out broker as processes: `fame serve` and `fame deliver` with a real Kafka between.

One agency takes files, through its topic; what is dropped for it is counted by delivery id.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine, NullPool, create_engine

from broker.cli.init import make
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, Practitioner
from broker.core.samples import sample_payload
from broker.core.signing import (
    SigningKey,
    build_envelope,
    load_signing_key,
    sign_envelope,
)
from broker.edge.ids import new_id
from tests.bench.bench_http import Flow
from tests.live.kafka_world import BROKER, PASSWORD, SUNDERLAND, TOPICS, World
from tests.live.scaled_judge import Sender

FLOW = Flow("hylton-school", "sims", SUNDERLAND, "Referral", "CP")
WORKER_S = 60.0

# Quick enough for a test, and with the proportions of the defaults: an attempt is over well
# before its lease is.
SETTINGS = """
[delivery]
transport = "kafka"
lease_s = {lease_s}
timeout_s = 1.5
poll_s = 0.2
backoff_s_first = 0.2
attempts_max = {attempts_max}

[kafka]
bootstrap = "{bootstrap}"
ca_file = "{ca_file}"
request_s = 2.0
send_s = 8.0
session_s = {session_s}
watch_s = 0.3
lane_max = {lane_max}
"""


@dataclass(frozen=True, slots=True)
class Scaled:
    """The folder that all processes share, and the topics that are its own."""

    state: Path
    drops: Path
    kafka: World
    engine: Engine

    def sender(self, count: int) -> Sender:
        """Return the school's system with ``count`` signed messages to send."""
        folder = self.state / "agencies" / FLOW.sender
        key = load_signing_key(
            (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
        )
        sent = dict(referral(key, person) for person in range(1, count + 1))
        return Sender(self.state, FLOW.sender, sent)

    @property
    def dropped(self) -> list[Path]:
        """What lies in the agency's folder."""
        return sorted((self.drops / SUNDERLAND).glob("*.xml"))


def referral(key: SigningKey, person: int) -> tuple[str, bytes]:
    """Return a signed referral of the ``person``-th child, and its id."""
    message_id = MessageId(new_id())
    header = Header(
        message_id=message_id,
        message_type=FLOW.message_type,
        schema_version="1.0",
        sender=AgencyId(FLOW.sender),
        system=FLOW.system,
        recipients=(Address(agency_id=SUNDERLAND),),
        purpose=FLOW.purpose,
        created_at=datetime.now(UTC),  # noqa: TID251 - a sender stamps its messages
        practitioner=Practitioner("practitioner-1", "CASE_WORKER", "DBS enhanced", "AAL2"),
        reason_for_access="ASSESSMENT",
    )
    payload = sample_payload(FLOW.message_type, person, person_seed=person)
    return message_id, sign_envelope(build_envelope(header, payload), key)


def new_sandbox(place: Path) -> Path:
    """Return a sandbox of its own, to be copied for each test."""
    state = place / "broker"
    make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
    return state


def make_scaled(  # noqa: PLR0913 - the settings that tests turn
    sandbox: Path,
    place: Path,
    world: World,
    *,
    lease_s: float = 4.0,
    attempts_max: int = 12,
    session_s: float = 6.0,
    lane_max: int = 64,
    bootstrap: str = "",
    url: str = "",
) -> Scaled:
    """Copy ``sandbox`` and have it deliver through the topics of ``world``.

    It keeps its messages at ``url``, or else in an SQLite file that all processes share.
    """
    state = place / "broker"
    shutil.copytree(sandbox, state)
    drops = state / "data" / "drops"
    (drops / SUNDERLAND).mkdir(parents=True)
    agency = state / "protocols" / "agencies" / f"{SUNDERLAND}.toml"
    text = agency.read_text(encoding="utf-8")
    route = f'adapter = "file_drop"\nsettings = {{ directory = "{SUNDERLAND}" }}'
    assert 'adapter = "mailbox"' in text
    agency.write_text(text.replace('adapter = "mailbox"', route), encoding="utf-8")
    access = world.cluster.access
    embedded = f"sqlite:///{state / 'data' / 'fame.db'}"
    chosen = (state / "fame.toml").read_text(encoding="utf-8")
    assert 'url = "sqlite:///data/fame.db"' in chosen
    chosen = chosen.replace('url = "sqlite:///data/fame.db"', f'url = "{url or embedded}"')
    (state / "fame.toml").write_text(chosen, encoding="utf-8")
    with (state / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write(
            SETTINGS.format(
                lease_s=lease_s,
                attempts_max=attempts_max,
                bootstrap=bootstrap or access.bootstrap,
                ca_file=access.ca_file,
                session_s=session_s,
                lane_max=lane_max,
            )
        )
    (state / "topics.toml").write_text(TOPICS.format(prefix=world.topics.prefix), encoding="utf-8")
    secrets = state / "keys" / "kafka"
    secrets.mkdir()
    for principal in (BROKER, f"fame-deliver-{SUNDERLAND}"):
        (secrets / f"{principal}.password").write_text(PASSWORD, encoding="utf-8")
    return Scaled(state, drops, world, create_engine(url or embedded, poolclass=NullPool))


@dataclass(slots=True)
class WorkerProcess:
    """A `fame deliver` of its own session."""

    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        state: Path,
        agency: str = SUNDERLAND,
        *,
        crash: str = "",
        module: Sequence[str] = ("broker",),
        **settings: str,
    ) -> "WorkerProcess":
        """Start a worker, or ``module`` as one; do not wait for it."""
        inherited = os.environ.items()  # noqa: TID251 - what a child process starts with
        environment = {k: v for k, v in inherited if not k.startswith("FAME_")}
        environment |= settings | ({"FAME_CRASH": crash} if crash else {})
        log = state / f"worker.{time.monotonic_ns()}.log"
        command = ["deliver", "--agency", agency, "--config", str(state / "fame.toml")]
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *module, *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        return cls(process, log)

    def wait_logged(self, text: str, timeout_s: float = WORKER_S) -> None:
        """Wait until the worker has said ``text``."""
        until = time.monotonic() + timeout_s
        while text not in self.log.read_text(encoding="utf-8"):
            said = self.log.read_text(encoding="utf-8")
            assert self.process.poll() is None, said
            assert time.monotonic() < until, said
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a power cut would."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        """End it politely; return its exit code."""
        self.process.terminate()
        return self.process.wait(timeout=30)


@contextmanager
def working(
    state: Path, *, crash: str = "", module: Sequence[str] = ("broker",), **settings: str
) -> Iterator[WorkerProcess]:
    """Run a worker for the time of a block; it never outlives it."""
    worker = WorkerProcess.start(state, crash=crash, module=module, **settings)
    try:
        yield worker
    finally:
        worker.kill()


def wait_for(what: Callable[[], object], timeout_s: float = 60.0) -> None:
    """Wait until ``what``, a function, says yes."""
    until = time.monotonic() + timeout_s
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.1)
