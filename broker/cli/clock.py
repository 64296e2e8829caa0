"""`fame clock`: what is due, what is overdue, and how the partnership keeps its times."""

from typing import Annotated, Any

import typer

from broker.cli.client import ask, client
from broker.cli.home import Config, Json, print_json, print_rows
from broker.cli.operator import BROKER, PAGE
from broker.core.clocks import ClockState

app = typer.Typer(rich_markup_mode=None)


@app.command("ls")
def list_clocks(
    state: Annotated[
        ClockState | None, typer.Option(help="Only clocks in this state; otherwise the open ones.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=PAGE, help="How many at most.")] = PAGE,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List clocks, those that run out first first."""
    params = {"limit": str(limit)} | ({} if state is None else {"state": state.value})
    with client(config, BROKER) as made:
        found = ask(made, "GET", "/operator/clocks", params=params).json()["clocks"]
    columns = ("state", "clock", "overdue_from", "recipient", "sender", "message")
    _show(found, columns, as_json=as_json)


@app.command()
def show(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="The broker's id of it.")],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show the clocks of one message: when each is due, and what stopped it."""
    with client(config, BROKER) as made:
        found = ask(made, "GET", f"/operator/clocks/{message}").json()["clocks"]
    if as_json:
        print_json(found)
        return
    for one in found:
        for label, value in one.items():
            print(f"{label:16} {'-' if value is None else value}")
        print()


@app.command()
def performance(config: Config = None, as_json: Json = False) -> None:
    """Show how many clocks ran and how many were met in time; small numbers are not told."""
    with client(config, BROKER) as made:
        found = ask(made, "GET", "/operator/clocks/performance").json()["performance"]
    columns = ("clock", "recipient", "count", "open", "on_time_percent", "median_hours")
    _show(found, columns, as_json=as_json)


def _show(found: list[dict[str, Any]], columns: tuple[str, ...], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(columns, [[_cell(one.get(column)) for column in columns] for one in found])


def _cell(value: object) -> str:
    return "-" if value is None else str(value)
