"""`fame protocol`: the sharing protocols, a module for each command or two.

A module imports what it needs inside its command, so that none pays for the others.
"""

from collections.abc import Callable

import typer

from broker.cli.protocol.acts import (
    activate,
    designate,
    resume,
    sign,
    suspend,
    terminate,
    withdraw,
)
from broker.cli.protocol.diff import diff
from broker.cli.protocol.drift import drift
from broker.cli.protocol.explain import explain
from broker.cli.protocol.forecast import forecast
from broker.cli.protocol.lint import lint_protocols
from broker.cli.protocol.log import log
from broker.cli.protocol.new import new
from broker.cli.protocol.render import render
from broker.cli.protocol.restore import restore
from broker.cli.protocol.shadow import app as shadow_app
from broker.cli.protocol.show import list_protocols, show
from broker.cli.protocol.trying import coverage, try_examples
from broker.cli.protocol.whatif import whatif

# In the order of the help: what is typed, and what it runs.
COMMANDS: dict[str, Callable[..., None]] = {
    "ls": list_protocols,
    "show": show,
    "new": new,
    "lint": lint_protocols,
    "explain": explain,
    "diff": diff,
    "whatif": whatif,
    "forecast": forecast,
    "drift": drift,
    "test": try_examples,
    "coverage": coverage,
    "render": render,
    "sign": sign,
    "activate": activate,
    "suspend": suspend,
    "resume": resume,
    "terminate": terminate,
    "designate": designate,
    "withdraw": withdraw,
    "log": log,
    "restore": restore,
}

app = typer.Typer(rich_markup_mode=None)
for name, command in COMMANDS.items():
    app.command(name)(command)
app.add_typer(shadow_app, name="shadow")
