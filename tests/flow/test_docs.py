"""Every command of the pages is typed as it stands: a page that does not work is a fault."""

import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from broker.cli import run
from broker.cli.processes import Program, free_port, wait_for_port
from broker.config import child_environment

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("*/*.md")) if path.is_file()]
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND_S_MAX = 60
# Commands that have done their work when they say no.
SAYS_NO = {
    "fame doctor": {0, 1},
    "fame protocol explain": {0, 3},
    "fame protocol whatif": {0, 1},  # nothing has been decided yet
    "fame protocol drift": {0, 1},
    "fame protocol shadow": {0, 1},
}


def commands(page: Path) -> list[str]:
    lines = [line for block in BLOCK.findall(page.read_text()) for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


WITH_COMMANDS = [page for page in PAGES if commands(page)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that looks, to whoever types in it, like the checkout after `make demo`."""
    for name in ("schemas", "protocols"):
        (tmp_path / name).symlink_to(ROOT / name)
    assert run(["init", str(tmp_path / "fame-demo"), "--sandbox"]) == 0
    return tmp_path


@pytest.fixture
def environment() -> dict[str, str]:
    port = str(free_port())
    inherited = child_environment()
    inherited.pop("FAME_CONFIG", None)
    return {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}:{inherited['PATH']}",
        "FAME_HTTP__PORT": port,
        "FAME_BROKER__URL": f"https://localhost:{port}",
    }


def test_the_first_page_has_commands() -> None:
    assert ROOT / "README.md" in WITH_COMMANDS


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_the_commands_of_a_page_work_as_they_stand(
    page: Path, place: Path, environment: dict[str, str]
) -> None:
    with ExitStack() as running:
        for command in commands(page):
            if command.startswith(("make ", "fame demo")):
                continue  # test_house.py knows the targets; test_demo.py plays the demo
            if command.startswith("export "):
                name, _, value = command.removeprefix("export ").partition("=")
                environment[name] = value
            elif command.startswith("fame serve"):
                _serve(command, place, environment, running)
            else:
                _type(command, place, environment)


def _serve(command: str, place: Path, environment: Mapping[str, str], running: ExitStack) -> None:
    words = [str(place / word) if word.endswith(".toml") else word for word in command.split()[1:]]
    if _lacks_tls(place, words):
        return
    settings = {name: value for name, value in environment.items() if name.startswith("FAME_")}
    program = Program("fame serve", ["broker", *words], place / "serve.log", **settings)
    running.enter_context(program)
    wait_for_port(int(environment["FAME_HTTP__PORT"]), program)


def _lacks_tls(place: Path, words: list[str]) -> bool:
    """Whether the page's reader has to bring a certificate first, as the page says."""
    config = place / words[words.index("--config") + 1]
    return not (config.parent / "keys" / "tls.cert.pem").exists()


def _type(command: str, place: Path, environment: Mapping[str, str]) -> None:
    program = command.split(maxsplit=1)[0]
    if program != "fame" and shutil.which(program, path=environment["PATH"]) is None:
        pytest.skip(f"{program} is not installed")
    done = subprocess.run(
        ["bash", "-euc", command],
        cwd=place,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=COMMAND_S_MAX,
        check=False,
    )
    allowed = next((codes for start, codes in SAYS_NO.items() if command.startswith(start)), {0})
    assert done.returncode in allowed, f"$ {command}\n{done.stdout}{done.stderr}"
