"""No content of a message makes the examination open a file or a socket."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.examine_packs import BEGIN, END
from tests.live.tools import require

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[2]
WATCHED = (
    "open,openat,openat2,creat,socket,connect,sendto,stat,newfstatat,statx,access,faccessat2,"
    "readlink,execve,fork,vfork,clone3"
)


def calls_while_examining(tmp_path: Path, *arguments: str) -> list[str]:
    """Return the watched system calls between the two marks."""
    log = tmp_path / "strace.log"
    command = [
        require("strace"),
        "-f",
        "-qq",
        "-s",
        "200",
        "-o",
        str(log),
        "-e",
        f"trace={WATCHED},write",
    ]
    child = [sys.executable, "-m", "tests.live.examine_packs", *arguments]
    done = subprocess.run(
        [*command, *child], cwd=ROOT, capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr.decode()
    lines = log.read_text(errors="replace").splitlines()
    begin, end = (_index(lines, mark) for mark in (BEGIN, END))
    return [line for line in lines[begin + 1 : end] if " write(" not in line]


def _index(lines: list[str], mark: bytes) -> int:
    text = mark.decode().strip()
    return next(number for number, line in enumerate(lines) if text in line)


def test_nothing_is_opened_while_hostile_messages_are_examined(tmp_path: Path) -> None:
    assert calls_while_examining(tmp_path) == []


def test_the_watcher_sees_a_file_that_is_opened(tmp_path: Path) -> None:
    calls = calls_while_examining(tmp_path, "leak")

    assert len(calls) == 1
    assert "/etc/hostname" in calls[0]
