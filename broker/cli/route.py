"""`fame route`: the ways to the agencies: list, pause, resume, and how far each is behind."""

from typing import Annotated, Any

import typer

from broker.cli.client import ask, client
from broker.cli.home import Config, DryRun, Json, print_json, print_rows
from broker.cli.operator import BROKER

app = typer.Typer(rich_markup_mode=None)

Recipient = Annotated[str, typer.Argument(metavar="AGENCY", help="Whose route: fame route ls.")]


@app.command("ls")
def list_routes(config: Config = None, as_json: Json = False) -> None:
    """List every route: its adapter, its transport, whether it is paused, what waits."""
    columns = ("recipient", "adapter", "transport", "waiting", "given_up", "quarantined")
    rows = _ask("GET", "/operator/routes", config)["routes"]
    if as_json:
        print_json(rows)
        return
    print_rows(
        (*columns, "paused"),
        [[*(str(row[name]) for name in columns), row["paused_since"] or "-"] for row in rows],
    )


@app.command()
def lag(config: Config = None, as_json: Json = False) -> None:
    """Say what waits for each recipient: in the outbox, and in its topic."""
    columns = ("recipient", "waiting", "oldest_s", "behind")
    rows = _ask("GET", "/operator/routes/lag", config)["routes"]
    if as_json:
        print_json(rows)
        return
    print_rows(
        columns,
        [["-" if row[name] is None else str(row[name]) for name in columns] for row in rows],
    )


@app.command()
def pause(recipient: Recipient, config: Config = None, dry_run: DryRun = False) -> None:
    """Hand nothing over to an agency, on any node, until it is resumed; what comes waits."""
    _change(recipient, "pause", "paused", config, dry_run=dry_run)


@app.command()
def resume(recipient: Recipient, config: Config = None, dry_run: DryRun = False) -> None:
    """End a pause: what waits goes on its way."""
    _change(recipient, "resume", "resumed", config, dry_run=dry_run)


def _change(recipient: str, act: str, word: str, config: Config, *, dry_run: bool) -> None:
    if dry_run:
        print(f"The route to {recipient} would be {word}; it was not.")
        return
    done = _ask("POST", f"/operator/routes/{recipient}/{act}", config)["done"]
    print(f"The route to {recipient} is {word}{'' if done else ' already'}.")


def _ask(method: str, path: str, config: Config) -> dict[str, Any]:
    with client(config, BROKER) as made:
        return dict(ask(made, method, path).json())
