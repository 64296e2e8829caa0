"""`fame demo`: a partnership on this machine, each part a process of its own; eight stories."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import consent_stories, init, stories
from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import DEMO, load_config, now
from broker.cli.processes import Program, free_port, wait_for_port
from broker.cli.stories import Line, Stage

ANSWERING = ("sunderland-csc", "northumbria-police")
PORTAL = "ne-jobs-portal"
WIDTH = 130

DELIVERY = """
# A demo has no time to wait as long as a partnership does.
[delivery]
backoff_s_first = 0.2
poll_s = 0.2
"""


def command(
    folder: Annotated[Path, typer.Option("--dir", help="Folder for the demo's state.")] = DEMO,
    reset: Annotated[bool, typer.Option("--reset", help="Begin with a new folder.")] = False,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave everything running until Ctrl-C.")
    ] = False,
) -> None:
    """Play eight stories with a broker and three case systems, and show what came of each."""
    began = time.monotonic()
    _prepare(folder, reset=reset)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what was started, as Ctrl-C
    with ExitStack() as stack:
        partnership = Partnership(folder, stack)
        stage = stack.enter_context(closing(Stage(folder)))
        lines = [line for story in partnership.stories() for line in story(stage)]
        _show(lines, time.monotonic() - began)
        if keep_running:
            _wait(folder, partnership.port)
        partnership.end()
    print(f"Nothing is left running. What happened is in {folder}/.")


class Partnership:
    """The broker and the case systems, each a process of its own that ends with ``stack``."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.port = free_port()
        self._folder = folder
        self._stack = stack
        self._programs: list[Program] = []
        self._ports = {agency: free_port() for agency in (*ANSWERING, PORTAL)}
        init.make(folder, sandbox=True, port=self.port, at=now())
        with (folder / "fame.toml").open("a", encoding="utf-8") as settings:
            settings.write(DELIVERY)
        for agency, port in self._ports.items():
            _set_route(folder, agency, port)
        (folder / "logs").mkdir()
        serve = ["broker", "serve", "--config", str(folder / "fame.toml")]
        started = [self._start("broker", serve, self.port)]
        started += [self._case_system(agency) for agency in ANSWERING]
        for ready in started:
            ready()

    def end(self) -> None:
        """Ask all of them to end at once: each holds connections that another waits for."""
        for program in self._programs:
            program.end()

    def stories(self) -> Iterator[Callable[[Stage], Iterator[Line]]]:
        """Yield the stories in their order."""
        yield stories.checks
        yield stories.duplicates
        yield stories.tampering
        yield stories.no_agreement
        yield stories.minimised
        yield lambda stage: stories.outage(stage, self.start_portal)
        yield consent_stories.consent
        yield consent_stories.override

    def start_portal(self) -> None:
        """Bring up the portal, which was down."""
        self._case_system(PORTAL)()

    def _case_system(self, agency: str) -> Callable[[], None]:
        arguments = ["adapters.case_system", str(self._folder), agency, str(self._ports[agency])]
        return self._start(agency, arguments, self._ports[agency])

    def _start(self, name: str, arguments: list[str], port: int) -> Callable[[], None]:
        """Start a program and return what waits until it listens."""
        program = Program(name, arguments, self._folder / "logs" / f"{name}.log")
        self._stack.enter_context(program)
        self._programs.append(program)
        return partial(wait_for_port, port, program)


def _prepare(folder: Path, *, reset: bool) -> None:
    """Make room for a new sandbox; only another sandbox is ever removed."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    rows = {"where": str(folder), "try": "fame demo --reset begins anew; --dir names another place"}
    if not reset:
        raise Failure("There is a demo already", EXIT_USAGE, rows)
    if not (folder / "fame.toml").is_file() or not load_config(folder).config.broker.sandbox:
        rows = {"where": str(folder), "try": "name another place with --dir"}
        raise Failure("That is no sandbox, so it is not removed", EXIT_USAGE, rows)
    shutil.rmtree(folder)


def _set_route(folder: Path, agency: str, port: int) -> None:
    """Have an agency's messages posted to its own system instead of kept in its mailbox."""
    path = folder / "protocols" / "agencies" / f"{agency}.toml"
    url = f"https://localhost:{port}/deliveries"
    webhook = f'adapter = "webhook"\nsettings = {{ url = "{url}" }}'
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('adapter = "mailbox"', webhook), encoding="utf-8")


def _show(lines: list[Line], seconds: float) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colours = {"rejected": "red", "refused": "red"}
    colours |= dict.fromkeys(("no answer", "tried again", "stopped"), "yellow")
    table = Table(
        box=box.SIMPLE_HEAD, title=f"Eight stories in {seconds:.1f} s", title_justify="left"
    )
    for heading in ("", "what was tried", "what came of it", "why"):
        table.add_column(heading, overflow="fold")
    before = 0
    for line in lines:
        number = str(line.story) if line.story != before else ""
        outcome = Text(line.outcome, colours.get(line.outcome, "green"))
        table.add_row(number, Text(line.what), outcome, Text(line.why))
        before = line.story
    console = Console()
    if not console.is_terminal:  # into a file or a pipe: nobody's window is too narrow
        console = Console(width=max(console.width, WIDTH))
    console.print(table)


def _wait(folder: Path, port: int) -> None:
    try:
        print(f"The broker listens on https://localhost:{port}; try, in another terminal:")
        print(f"  fame inbox ls --agency gateshead-csc --config {folder}")
        print("Ctrl-C stops everything.", flush=True)
        signal.pause()
    except KeyboardInterrupt:
        print()
