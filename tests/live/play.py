"""One history from beginning to end: clients, recipients, a nemesis, the drain, the verdict."""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from tests.live.checks import Verdict, judge, mark_of
from tests.live.history import Ban, History, Kind
from tests.live.sinks import Reader, Readers, Webhook
from tests.live.sizes import REVOKED_WITHIN_S, Size, push_to, put_status
from tests.live.workload import (
    COLLECTED,
    LINES,
    PUSHED,
    SENDERS,
    Calls,
    Mint,
    Recorder,
    Stream,
)

SUBJECTS = 2
ACTS = ("kill", "point", "pause", "disturb", "down", "up")
WEIGHTS = (50, 25, 10, 10, 5, 5)
LANDED_S = 0.5  # what was sent before a kill lies in a socket until its recipient has a turn
STOPPABLE = ("hylton-school", COLLECTED, PUSHED)


@dataclass(frozen=True, slots=True)
class Played:
    """A finished history, what was found, and how much it was."""

    seed: int
    history: History
    verdict: Verdict
    acts: Counter[str]

    def totals(self) -> Counter[str]:
        """Return what can be added up over many histories."""
        history = self.history
        effects = Counter((mark_of(one.body), one.recipient) for one in history.taken)
        return self.acts + Counter(
            {
                "messages": len({event.mark for event in history.events}),
                "requests": len(history.of_kind(Kind.INVOKE)),
                "unknown": len(history.of_kind(Kind.INFO)),
                "acknowledged": len({event.mark for event in history.of_kind(Kind.OK)}),
                "refused": len({event.mark for event in history.of_kind(Kind.FAIL)}),
                "effects": len(effects),
                "marked duplicates": sum(count - 1 for count in effects.values()),
                "ledger entries": len(history.ledger),
            }
        )


@dataclass(slots=True)
class Stage:
    """A size with its clients and recipients at work; a nemesis acts on it."""

    size: Size
    chance: random.Random
    recorder: Recorder = field(default_factory=Recorder)
    calls: Calls = field(default_factory=Calls)
    bans: list[Ban] = field(default_factory=list)
    acts: Counter[str] = field(default_factory=Counter)
    clients: list[Stream] = field(default_factory=list)

    def kill(self) -> None:
        """Kill a process of the size and start it again."""
        self.acts[f"kill {self.size.kill(self.chance)}"] += 1
        self.acts["kills"] += 1
        self.size.start()

    def wait_asked_again(self, times: int, within_s: float = 60.0) -> None:
        """Wait until clients have sent so many messages again that had been accepted."""
        until = time.monotonic() + within_s
        while self._asked_again() < times and time.monotonic() < until:
            time.sleep(0.05)

    def _asked_again(self) -> int:
        accepted: set[bytes] = set()
        again = 0
        for event in list(self.recorder.events):
            if event.kind is Kind.OK:
                accepted.add(event.mark)
            again += event.kind is Kind.INVOKE and event.mark in accepted
        return again

    def crash_at(self, point: str, nth: int, within_s: float = 20.0) -> bool:
        """Have a process die at a named point; False: it did not come by there in time.

        It stays down, or is killed: whoever asked starts it again.
        """
        self.size.rig(point, nth)
        until = time.monotonic() + within_s
        while not self.size.died() and time.monotonic() < until:
            time.sleep(0.02)
        died = self.size.died()
        self.acts["kills"] += 1  # at the point, or here
        self.acts[f"kill {point}" if died else f"{point} not reached"] += 1
        self.size.unrig()
        return died

    @contextmanager
    def stopped(self, what: str, *, down: bool) -> Iterator[None]:
        """Have the agency ``what`` suspended for a block: nothing from it or to it passes.

        ``down``: the broker learns of it at its start, and not one delivery may be late.
        Else it learns of it while it runs, and has a moment.
        """
        if down and self.size.ports():
            self.size.stop()
            time.sleep(LANDED_S)
            self.acts["kills"] += 1
        before = put_status(self.size.state, what, "suspended")
        since = time.time() + (0.0 if down else REVOKED_WITHIN_S)
        if down:
            self.size.start()
        yield
        how = "suspended while down" if down else "suspended"
        self.bans.append(Ban(what, since, time.time(), how))
        put_status(self.size.state, what, before)
        self.acts[f"stopped {what}"] += 1

    def streams(self, subjects: int, pause_s: float) -> list[Stream]:
        """Return a client for each line and subject."""
        mint = Mint(self.size.state, random.Random(self.chance.random()))  # noqa: S311
        return [
            Stream(
                line,
                subject,
                mint,
                self.recorder,
                random.Random(self.chance.random()),  # noqa: S311 - repeatable
                self.size.ports,
                self.calls,
                pause_s,
            )
            for line in LINES
            for subject in range(1, subjects + 1)
        ]


@contextmanager
def staged(
    size: Size,
    seed: int,
    *,
    subjects: int = SUBJECTS,
    pause_s: float = 0.0,
    settle_s: float = 0.0,
) -> Iterator[Stage]:
    """Raise the curtain: recipients listen, the size runs, clients send until it is enough.

    At the end of the block everything is left to settle; then `finish` judges.
    """
    chance = random.Random(seed)  # noqa: S311 - repeatable
    stage = Stage(size, chance)
    hook = Webhook(PUSHED, size.state, stage.recorder, random.Random(chance.random()))  # noqa: S311
    agencies = sorted({COLLECTED, *SENDERS})
    readers = [Reader(agency, size.state, stage.recorder, size.ports) for agency in agencies]
    with ExitStack() as stack:
        stack.enter_context(hook)
        push_to(size.state, hook.url)
        stack.callback(size.stop)
        size.start()
        stack.enter_context(Readers(readers))
        stage.clients = stage.streams(subjects, pause_s)
        threads = [threading.Thread(target=one.run, daemon=True) for one in stage.clients]
        for thread in threads:
            thread.start()
        stack.callback(stage.calls.off.set)
        yield stage
        size.start()
        stage.calls.enough.set()
        settle(size, threads, settle_s or size.settle_s)


def settle(size: Size, threads: Sequence[threading.Thread], settle_s: float) -> None:
    """Wait for the clients' end and for every delivery's, as long as there is progress."""
    until = time.monotonic() + settle_s
    for thread in threads:
        thread.join(max(0.1, until - time.monotonic()))
    until = time.monotonic() + settle_s
    left = size.open()
    while left and time.monotonic() < until:
        time.sleep(0.05)
        now = size.open()
        if now < left:
            left, until = now, time.monotonic() + settle_s


def finish(stage: Stage, seed: int) -> Played:
    """Read what was kept and judge the whole."""
    recorder = stage.recorder
    history = stage.size.read(
        History(sent=recorder.sent, events=recorder.events, taken=recorder.taken, bans=stage.bans)
    )
    return Played(seed, history, judge(history), stage.acts)


def nemesis(stage: Stage, kills: int) -> None:
    """Hurt the size until it was killed ``kills`` times, at moments and points of chance."""
    chance = stage.chance
    while stage.acts["kills"] < kills:
        time.sleep(chance.uniform(0.05, 0.6))
        match chance.choices(ACTS, WEIGHTS)[0]:
            case "kill":
                stage.kill()
            case "point":
                stage.crash_at(chance.choice(stage.size.points), chance.randint(1, 12), 5.0)
                stage.size.start()
            case "pause":
                stage.acts[f"pause {stage.size.pause(chance, chance.uniform(0.1, 1.5))}"] += 1
            case "disturb":
                if done := stage.size.disturb(chance):
                    stage.acts[done] += 1
            case "down":
                with stage.stopped(chance.choice(STOPPABLE), down=True):
                    time.sleep(chance.uniform(0.2, 1.0))
            case _:
                with stage.stopped(chance.choice(STOPPABLE), down=False):
                    time.sleep(REVOKED_WITHIN_S + 1.0)


def play(size: Size, seed: int, kills: int) -> Played:
    """Play one seeded history with ``kills`` kills."""
    with staged(size, seed, pause_s=0.01) as stage:
        nemesis(stage, kills)
    return finish(stage, seed)
