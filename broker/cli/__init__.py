"""The `fame` command: a module per noun, imported only when its noun is typed.

``fame --help`` imports neither the web framework nor the database, so it answers at once.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from broker import __version__
from broker.cli.failure import Failure, from_error, show_failure
from broker.core.errors import BrokerError

# noun: (module below broker.cli, what it is for). A module has `command` or `app`.
NOUNS = {
    "init": ("init", "make a broker's folder: keys, configuration, sandbox agencies"),
    "demo": ("demo", "play a partnership on this machine: eight stories, a result table"),
    "serve": ("serve", "run the broker"),
    "deliver": ("deliver", "run the worker of one agency behind its Kafka topic"),
    "doctor": ("doctor", "look for what is wrong or soon will be, with the next step"),
    "config": ("config_cmd", "show settings and where each came from"),
    "agency": ("agency", "agencies of the partnership"),
    "cert": ("cert", "certificates: issue in the sandbox, show, check"),
    "protocol": ("protocol", "sharing protocols: list, show, lint, explain"),
    "schema": ("schema", "message types: list, check, documentation"),
    "topics": ("topics", "Kafka topics: compare a cluster with the data, and make it so"),
    "message": ("message", "sign, send, show, trace and replay messages"),
    "inbox": ("inbox", "an agency's mailbox: list, get, acknowledge"),
    "dlq": ("dlq", "deliveries given up: list, show, retry, discard"),
    "consent": ("consent", "what people said of sharing about them: record, withdraw, show"),
    "route": ("route", "routes to agencies: list, pause, resume, lag"),
    "override": ("override", "decisions to share without consent: list, review, rate"),
    "clock": ("clock", "statutory clocks: what is due and overdue, and the figures"),
    "store": ("store", "what is kept: erase what is over; after a backup was put back"),
    "ledger": ("ledger", "the record: whether it is whole, and still all of it"),
    "sample": ("sample", "synthetic messages: make, tamper, storm"),
    "bench": ("bench", "measure this machine with a broker of its own, briefly"),
    "reasons": ("reasons", "every code the broker gives, with cause and cure"),
}


def main() -> None:
    """Run `fame` with this process's arguments and exit with its code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run `fame` and return its exit code (`broker.cli.failure` names them)."""
    application = _application(arguments[0] if arguments else "")
    try:
        application(args=list(arguments), prog_name="fame")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    except Failure as failure:
        return show_failure(failure)
    except BrokerError as error:
        return show_failure(from_error(error))
    return 0


def _application(noun: str) -> typer.Typer:
    application = typer.Typer(
        name="fame",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    application.callback(help=_HELP)(_root)
    for name, (module, help_line) in NOUNS.items():
        if name != noun:
            application.command(name, help=help_line)(_not_loaded)
            continue
        loaded = import_module(f"broker.cli.{module}")
        if hasattr(loaded, "app"):
            application.add_typer(loaded.app, name=name, help=help_line, no_args_is_help=True)
        else:
            application.command(name)(loaded.command)
    return application


_HELP = """Multi-agency information sharing by enforced agreement.

Exit codes: 0 done, 1 a check failed, 2 usage, 3 refused by policy,
4 signature or schema, 5 unavailable.
"""


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fame {__version__}")
        raise typer.Exit


def _root(
    *,
    _version: bool = typer.Option(
        False, "--version", callback=_show_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def _not_loaded() -> None:
    """Stand for a noun in the list of commands; only the noun that was typed is imported."""
