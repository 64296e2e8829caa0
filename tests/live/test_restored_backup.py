"""The folder of an embedded broker is lost, and an older copy of its database is put back.

What was accepted and handed over after the copy was made is in nobody's hands but the
agencies': their receipts show that it is gone, and they send it again.
"""

import json
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.live.checks import judge, mark_of
from tests.live.harness import client_context
from tests.live.history import Event, History, Kind
from tests.live.sinks import Webhook
from tests.live.sizes import Embedded, new_state, push_to
from tests.live.workload import COLLECTED, LINES, PUSHED, Mint, Recorder, Signed, kind_of

pytestmark = pytest.mark.live

TO_PUSHED, TO_COLLECTED = LINES[0], LINES[2]
NOTICED_S = 60.0
XML = {"content-type": "application/xml"}


class Answering(random.Random):
    """What the recipient's system goes by: whether it answers what it takes."""

    answers = True

    def random(self) -> float:
        return 1.0 if self.answers else 0.0


@dataclass(slots=True)
class World:
    """An embedded broker, who sends to it, and the two that receive."""

    state: Path
    hook: Webhook
    recorder: Recorder
    answering: Answering
    size: Embedded
    mint: Mint = field(init=False)
    count: int = 0

    def __post_init__(self) -> None:
        self.mint = Mint(self.state, random.Random())  # noqa: S311 - not a secret

    @property
    def database(self) -> Path:
        return self.state / "data" / "fame.db"

    def client(self, agency: str) -> httpx2.Client:
        (port,) = self.size.ports()
        context = client_context(self.state, agency)
        return httpx2.Client(verify=context, base_url=f"https://localhost:{port}", timeout=30)

    def make(self, to: str) -> Signed:
        line = TO_PUSHED if to == PUSHED else TO_COLLECTED
        self.count += 1  # a subject each: what waits holds up nothing else
        made = self.mint.make(line, self.count, 0)
        self.recorder.invented(made.sent)
        return made

    def send(self, message: Signed) -> httpx2.Response:
        sent = message.sent
        self._say(Kind.INVOKE, message)
        with self.client(sent.sender) as client:
            answer = client.post("/messages", content=message.envelope, headers=XML)
        self._say(kind_of(answer.status_code), message, answer.content, answer.status_code)
        assert answer.is_success, answer.text
        return answer

    def _say(self, kind: Kind, message: Signed, receipt: bytes = b"", status: int = 0) -> None:
        sent = message.sent
        event = Event(kind, sent.message_id, sent.mark, time.time(), receipt, status)
        self.recorder.said(event)

    def taken(self, message: Signed) -> list[str]:
        """Return under which delivery ids a message came, as often as it came."""
        found = list(self.recorder.taken)
        return [one.delivery_id for one in found if mark_of(one.body) == message.sent.mark]

    def collect(self) -> None:
        """Take everything out of the mailbox, once."""
        with self.client(COLLECTED) as client:
            for entry in client.get(f"/mailbox/{COLLECTED}").json()["deliveries"]:
                one = f"/mailbox/{COLLECTED}/{entry['delivery_id']}"
                got = client.get(one)
                assert got.is_success
                self.recorder.took(COLLECTED, entry["delivery_id"], got.content)
                client.post(f"{one}/acknowledgements", json={"level": "L3"})

    def fame(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        inherited = os.environ.items()  # noqa: TID251 - what a child process starts with
        env = {key: value for key, value in inherited if not key.startswith("FAME_")}
        env |= {"FAME_CONFIG": str(self.state)}
        if self.size.ports():
            (port,) = self.size.ports()
            env |= {"FAME_HTTP__PORT": str(port), "FAME_BROKER__URL": f"https://localhost:{port}"}
        command = [sys.executable, "-m", "broker", *arguments]
        return subprocess.run(
            command, env=env, capture_output=True, text=True, check=False, timeout=120
        )

    def history(self) -> History:
        recorder = self.recorder
        return self.size.read(
            History(sent=recorder.sent, events=recorder.events, taken=recorder.taken)
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    state, recorder, answering = new_state(tmp_path), Recorder(), Answering()
    with ExitStack() as stack:
        hook = stack.enter_context(Webhook(PUSHED, state, recorder, answering))
        push_to(state, hook.url)
        size = Embedded(state)
        stack.callback(size.stop)
        size.start()
        yield World(state, hook, recorder, answering, size)


def wait_for(what: Callable[[], object]) -> None:
    until = time.monotonic() + NOTICED_S
    while not what():
        assert time.monotonic() < until, "it did not come to pass"
        time.sleep(0.05)


def back_up(database: Path, copy: Path) -> None:
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def put_back(copy: Path, database: Path) -> None:
    for file in database.parent.glob(f"{database.name}*"):
        file.unlink()
    copy.rename(database)


def open_deliveries(database: Path) -> int:
    with closing(sqlite3.connect(database)) as conn:
        query = "SELECT count(*) FROM delivery WHERE closed_at IS NULL"
        (count,) = conn.execute(query).fetchone()
        return int(count)


def test_what_is_put_back_is_marked_and_what_was_lost_is_known_and_sent_again(
    world: World, tmp_path: Path
) -> None:
    # Before the copy: one handed over, one taken without an answer, one in the mailbox.
    done, hung, waits = (world.make(to) for to in (PUSHED, PUSHED, COLLECTED))
    first = {one.sent.message_id: world.send(one).content for one in (done, waits)}
    wait_for(lambda: open_deliveries(world.database) == 1)
    world.answering.answers = False
    first[hung.sent.message_id] = world.send(hung).content
    wait_for(lambda: world.taken(hung))
    back_up(world.database, tmp_path / "copy.db")
    # After it: these end, and two more come.
    world.answering.answers = True
    lost, unread = world.make(PUSHED), world.make(COLLECTED)
    world.collect()
    receipts = {one.sent.message_id: world.send(one).content for one in (lost, unread)}
    wait_for(lambda: open_deliveries(world.database) == 1)
    handed_over = {one.sent.message_id: world.taken(one) for one in (done, hung, waits, lost)}
    attempts = {key: list(came) for key, came in world.hook.attempts.items()}

    world.size.stop()
    put_back(tmp_path / "copy.db", world.database)

    for message_id, receipt in {**first, **receipts}.items():
        (tmp_path / f"{message_id}.xml").write_bytes(receipt)
    compared = ledger_check(world, *tmp_path.glob("*.xml"))
    alone = ledger_check(world)
    marked = world.fame("store", "restored", "--json")

    world.size.start()
    routes = json.loads(world.fame("route", "ls", "--json").stdout)
    repeated = {one.sent.message_id: world.send(one).content for one in (done, hung, waits)}
    again = {one.sent.message_id: world.send(one).content for one in (lost, unread)}
    held = {key: list(came) for key, came in world.hook.attempts.items()}
    for agency in (PUSHED, COLLECTED):
        assert world.fame("route", "resume", agency).returncode == 0
    world.collect()
    wait_for(lambda: open_deliveries(world.database) == 0)
    world.size.stop()
    after = ledger_check(world, *tmp_path.glob("*.xml"))
    history = world.history()

    # The copy is whole in itself; the receipts show what it has not, and nothing else.
    assert alone == {"entries": alone["entries"], "faults": []}
    for found in (compared, after):
        assert {fault["held"]["message_id"] for fault in found["faults"]} == receipts.keys()
    assert after["entries"] > max(fault["sequence"] for fault in compared["faults"])
    # Nothing leaves before an operator says so, and then it is marked.
    assert json.loads(marked.stdout) == {
        "deliveries": 2, "paused": [COLLECTED, PUSHED], "done": True
    }  # fmt: skip
    assert {row["recipient"] for row in routes if row["paused_since"]} == {COLLECTED, PUSHED}
    assert held == attempts
    (hung_id,) = set(world.taken(hung))
    assert world.hook.attempts[hung_id][len(attempts[hung_id])] > 1
    # What the copy has gets its receipt again; what it has not is a new message.
    assert repeated == first
    assert not again.items() & receipts.items()
    for one in (done, hung, waits):
        assert set(world.taken(one)) == set(handed_over[one.sent.message_id])
    assert len(set(world.taken(lost))) == 2
    assert len(world.taken(unread)) == 1
    # What the checks find is of that one alone: its first receipt, delivery and entry are gone.
    verdict = judge(history)
    assert verdict.red == {"duplicate", "receipts_differ", "unaudited"}, str(verdict)
    assert len(verdict.found["duplicate"]) == len(verdict.found["unaudited"]) == 1
    assert verdict.found["unaudited"][0].startswith(handed_over[lost.sent.message_id][0])


def ledger_check(world: World, *receipts: Path) -> dict[str, Any]:
    named = [argument for file in receipts for argument in ("--receipt", str(file))]
    done = world.fame("ledger", "check", *named, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == bool(found["faults"]), done.stderr
    return found
