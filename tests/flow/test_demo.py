"""The demo: what it shows, how long it takes, and that it leaves nothing behind."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from broker.cli import run
from broker.config import child_environment

STORIES_S_MAX = 60.0  # it takes 6 s; a busy machine may take longer


def play(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "broker", "demo", "--dir", str(folder), *more],
        capture_output=True,
        text=True,
        env=child_environment(COLUMNS="200", NO_COLOR="1"),
        timeout=150,
        check=False,
    )


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of running processes that name ``folder``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if any(str(folder).encode() in word for word in words):
            found.append(b" ".join(words).decode())
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("demo") / "state"
    done = play(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_eight_stories_are_played_in_a_short_time(played: tuple[Path, str]) -> None:
    said = re.search(r"Eight stories in ([\d.]+) s", played[1])

    assert said is not None
    assert float(said[1]) <= STORIES_S_MAX
    assert [int(number) for number in re.findall(r"^ +(\d) ", played[1], re.MULTILINE)] == [
        1, 2, 3, 4, 5, 6, 7, 8,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("sunderland-csc answers", "delivered"),
        ("northumbria-police answers", "delivered", "withheld: "),
        ("hylton-school", "no answer"),
        ("the same referral twice", "first receipt", "byte for byte"),
        ("one letter is changed", "rejected", "sender.signature.digest_mismatch"),
        ("refers a child to the police", "refused", "policy.no_isp"),
        ("smallest lawful change", "agree a sharing"),
        ("refers to sunderland-csc", "delivered", "untouched"),
        ("refers to gateshead-csc", "in its mailbox", "withheld: "),
        ("which is down", "tried again", "recipient.unreachable"),
        ("the portal is up again", "delivered", "attempt "),
        ("gateshead-csc: early help", "refused", "policy.no_consent"),
        ("refers again", "in its mailbox", "by that consent"),
        ("takes it back", "stopped", "policy.consent_withdrawn"),
        ("naming that decision", "in its mailbox", "without consent"),
        ("told at once", "delivered", "OverrideNotice"),
        ("has to review it", "due", "by "),
    ],
    ids=lambda words: words[0],
)
def test_each_story_shows_what_came_of_it(played: tuple[Path, str], words: tuple[str, ...]) -> None:
    lines = played[1].splitlines()

    assert [line for line in lines if all(word in line for word in words)], played[1]


def test_nothing_is_left_running(played: tuple[Path, str]) -> None:
    assert processes_of(played[0]) == []


def test_no_process_of_the_demo_failed_on_the_way(played: tuple[Path, str]) -> None:
    logs = sorted((played[0] / "logs").glob("*.log"))

    assert len(logs) == 4
    assert not [log.name for log in logs if "Traceback" in log.read_text()]


def test_the_demo_does_not_begin_on_top_of_another(played: tuple[Path, str]) -> None:
    assert run(["demo", "--dir", str(played[0])]) == 2


def test_reset_removes_a_sandbox_and_nothing_else(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "letter.txt").write_text("keep me")

    assert run(["demo", "--dir", str(precious), "--reset"]) == 2
    assert run(["init", str(tmp_path / "live")]) == 0
    assert run(["demo", "--dir", str(tmp_path / "live"), "--reset"]) == 2

    assert (precious / "letter.txt").read_text() == "keep me"
    assert (tmp_path / "live" / "keys" / "kek.key").exists()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_kept_running_it_stops_when_it_is_told_to(tmp_path: Path, ending: signal.Signals) -> None:
    folder = tmp_path / "state"
    # A shell starts what it runs in the background with Ctrl-C ignored, and children inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(
        [sys.executable, "-m", "broker", "demo", "--dir", str(folder), "--keep-running"],
        stdout=subprocess.PIPE,
        text=True,
        env=child_environment(PYTHONUNBUFFERED="1"),
    )
    signal.signal(signal.SIGINT, inherited)
    with demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "Ctrl-C stops" in line:
                break
        running = processes_of(folder)
        demo.send_signal(ending)
        demo.wait(60)

    assert len(running) == 5  # the demo, the broker and three case systems
    assert demo.returncode == 0
    deadline = time.monotonic() + 30
    while processes_of(folder) and time.monotonic() < deadline:
        pass
    assert processes_of(folder) == []
