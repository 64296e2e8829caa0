"""Setting up on a machine that lacks something: one clear line, with the cure."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SETUP = Path(__file__).parents[2] / ".ci" / "setup"
TOOLS = ("sh", "id", "rm", "env")


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A folder of programs with almost nothing in it."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    return programs


def program(path: Path, *lines: str) -> None:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def set_up(programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SETUP), "requirements.lock"],
        cwd=programs.parent,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=False,
    )


def python_without_venv(programs: Path) -> None:
    refuse = 'case "$*" in *ensurepip*) exit 1;; esac'
    program(programs / "python3", refuse, f'exec {sys.executable} "$@"')


def test_without_python_it_says_which_one_is_needed(bare: Path) -> None:
    done = set_up(bare)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer is needed" in done.stderr


def test_an_older_python_is_not_enough(bare: Path) -> None:
    program(bare / "python3", "exit 1")

    assert "Python 3.11 or newer is needed" in set_up(bare).stderr


def test_without_venv_and_without_apt_it_names_the_package(bare: Path) -> None:
    python_without_venv(bare)

    done = set_up(bare)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert f"python{sys.version_info.major}.{sys.version_info.minor}-venv" in done.stderr


def test_without_venv_it_asks_apt_and_then_names_the_package(bare: Path) -> None:
    python_without_venv(bare)
    program(bare / "apt-get", f'echo "$@" >> {bare.parent}/asked', "exit 100")
    program(bare / "sudo", 'shift; exec "$@"')

    done = set_up(bare)

    assert (bare.parent / "asked").read_text().startswith("update")
    assert "-venv" in done.stderr
    assert done.returncode == 1
    assert not (bare.parent / ".venv").exists()
