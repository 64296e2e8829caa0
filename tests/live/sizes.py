"""What a history is played against: a broker in one of its two sizes, and how to hurt it.

A size starts and ends processes and reads back what was kept. It knows nothing of what was
sent. `Embedded` is one process with SQLite; its transport is the outbox itself.
"""

import random
import re
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from sqlalchemy import create_engine, text

from broker.cli.init import make
from tests.live.harness import BrokerProcess
from tests.live.history import Entry, History, Kept, Outcome
from tests.live.workload import PUSHED

SETTLED_S = 40.0
RELOAD_S = 0.2
REVOKED_WITHIN_S = 2.0  # of a change of the register's files, on a machine that is busy
SETTINGS = f"""reload_s = {RELOAD_S}

[delivery]
attempts_max = 1000
backoff_s_first = 0.05
backoff_s_max = 0.5
timeout_s = 5.0
poll_s = 0.2
"""
# K13 and K14 lie on the way through Kafka.
EMBEDDED = (*(f"K{number}" for number in range(1, 13)), "K15", "K16", "K17")
SQLITE = 'url = "sqlite:///data/fame.db"'
STATUS = re.compile(r'(?m)^status = "(\w+)"')
OPEN = "SELECT count(*) FROM delivery WHERE state IN ('pending', 'available')"


class Size(Protocol):
    """A broker that clients can reach and a nemesis can hurt."""

    name: str
    state: Path
    points: Sequence[str]  # that a process of it passes
    settle_s: float  # left alone, it gets on with what is open at least this often

    def start(self) -> None:
        """Start what is not running, and wait for it."""
        ...

    def rig(self, point: str, nth: int) -> None:
        """Start a process anew, to die at the ``nth`` pass of a crash point."""
        ...

    def unrig(self) -> None:
        """End the process that was rigged, if it did not die; it stays down."""
        ...

    def disturb(self, chance: random.Random) -> str:
        """Hurt what the processes rest on; return what was done, or nothing if there is none."""
        ...

    def ports(self) -> Sequence[int]:
        """Return where clients find it now."""
        ...

    def kill(self, chance: random.Random) -> str:
        """End a process as a power cut would; return which."""
        ...

    def pause(self, chance: random.Random, seconds: float) -> str:
        """Hold a process for ``seconds``; return which."""
        ...

    def died(self) -> bool:
        """Whether a process has ended by itself, as it does at a crash point."""
        ...

    def open(self) -> int:
        """Return how many deliveries are open."""
        ...

    def read(self, history: History) -> History:
        """Return ``history`` with what was kept, and every place to be searched."""
        ...

    def stop(self) -> None:
        """End everything."""
        ...


def plain_state(folder: Path) -> Path:
    """Return a sandbox."""
    state = folder / "broker"
    make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
    return state


def new_state(folder: Path) -> Path:
    """Return a sandbox that reloads its register and retries deliveries quickly."""
    state = plain_state(folder)
    with (state / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write(SETTINGS)
    return state


def push_to(state: Path, url: str) -> None:
    """Have the deliveries of `PUSHED` posted to ``url``."""
    agency = state / "protocols" / "agencies" / f"{PUSHED}.toml"
    written = agency.read_text(encoding="utf-8")
    route = f'adapter = "webhook"\nsettings = {{ url = "{url}" }}'
    assert 'adapter = "mailbox"' in written
    replaced(agency, written.replace('adapter = "mailbox"', route))


def put_status(state: Path, what: str, status: str) -> str:
    """Set the status of an agency; return the one before."""
    file = state / "protocols" / "agencies" / f"{what}.toml"
    written = file.read_text(encoding="utf-8")
    before = STATUS.search(written)
    assert before is not None
    replaced(file, STATUS.sub(f'status = "{status}"', written, count=1))
    return before.group(1)


def replaced(file: Path, content: str) -> None:
    """Replace a file at one stroke, as an administrator should."""
    fresh = file.with_suffix(".new")
    fresh.write_text(content, encoding="utf-8")
    fresh.replace(file)


@dataclass(slots=True)
class Embedded:
    """One process, SQLite. ``module``: what to run instead of the broker as it is."""

    state: Path
    module: Sequence[str] = ("broker",)
    prefix: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    broker: BrokerProcess | None = None
    name: str = "sqlite"
    points: Sequence[str] = EMBEDDED
    settle_s: float = SETTLED_S

    def start(self) -> None:
        """Start the broker, unless it runs."""
        if self.broker is None or self.died():
            self._start("")

    def rig(self, point: str, nth: int) -> None:
        """Start the broker anew; it may die on its way already."""
        self.stop()
        self._start(f"{point}:{nth}")

    def unrig(self) -> None:
        """End the broker."""
        self.stop()

    def disturb(self, chance: random.Random) -> str:  # noqa: ARG002 - there is nothing
        """Do nothing: it rests on its disk alone."""
        return ""

    def _start(self, crash: str) -> None:
        broker = BrokerProcess.start(
            self.state,
            crash=crash,
            module=self.module,
            prefix=self.prefix,
            environment=self.environment,
        )
        broker.wait_ready()
        self.broker = broker

    def ports(self) -> Sequence[int]:
        """Return the one port, or none while the process is down."""
        broker = self.broker
        return () if broker is None else (broker.port,)

    def kill(self, chance: random.Random) -> str:  # noqa: ARG002 - there is one to choose from
        """Kill the broker."""
        broker, self.broker = self.broker, None
        if broker is not None:
            broker.kill()
        return "serve"

    def pause(self, chance: random.Random, seconds: float) -> str:  # noqa: ARG002 - the same
        """Hold the broker."""
        if self.broker is not None:
            self.broker.signal(signal.SIGSTOP)
            time.sleep(seconds)
            self.broker.signal(signal.SIGCONT)
        return "serve"

    def died(self) -> bool:
        """Whether the broker ended by itself."""
        return self.broker is not None and self.broker.process.poll() is not None

    def open(self) -> int:
        """Return how many deliveries are open."""
        return still_open(self._url)

    def read(self, history: History) -> History:
        """Read the database, its files and the log."""
        files = [*(self.state / "data").glob("fame.db*"), *self.state.glob("*.log")]
        places = {file.name: file.read_bytes() for file in files}
        return replace(kept_in(self._url, history), places=places)

    def stop(self) -> None:
        """Kill the broker, if it runs."""
        self.kill(random.Random())  # noqa: S311 - nothing is chosen

    @property
    def _url(self) -> str:
        return f"sqlite:///file:{self.state / 'data' / 'fame.db'}?mode=ro&uri=true"


@dataclass(slots=True)
class OnPostgres(Embedded):
    """One process, PostgreSQL at ``url``; see `use_postgres`."""

    url: str = ""
    name: str = "postgres"

    @property
    def _url(self) -> str:
        return self.url


def use_postgres(state: Path, url: str) -> None:
    """Have the broker of ``state`` keep its messages at ``url``."""
    file = state / "fame.toml"
    written = file.read_text(encoding="utf-8")
    assert SQLITE in written
    chosen = f'url = "{url.replace("+psycopg", "")}"'
    replaced(file, written.replace(SQLITE, chosen))


def still_open(url: str) -> int:
    """Return how many deliveries are open in the database at ``url``."""
    engine = create_engine(url)
    try:
        with engine.connect() as conn:
            return int(conn.execute(text(OPEN)).scalar_one())
    finally:
        engine.dispose()


def kept_in(url: str, history: History) -> History:
    """Return ``history`` with the rows of the database at ``url``."""
    engine = create_engine(url)
    try:
        with engine.connect() as conn:
            return replace(
                history,
                kept=[
                    Kept(*row)
                    for row in conn.execute(
                        text("SELECT id, message_id, sender, ledger_seq FROM message")
                    )
                ],
                outcomes=[
                    Outcome(*row)
                    for row in conn.execute(
                        text(
                            "SELECT delivery.id, message_id, recipient, state FROM delivery"
                            " JOIN message ON message.id = delivery.message"
                        )
                    )
                ],
                ledger=[
                    Entry(seq, bytes(leaf), bytes(entry))
                    for seq, leaf, entry in conn.execute(
                        text("SELECT seq, leaf, entry FROM ledger ORDER BY seq")
                    )
                ],
            )
    finally:
        engine.dispose()
