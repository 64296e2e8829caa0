"""`fame inbox`: the mailbox of an agency that collects its messages."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.client import ask, client
from broker.cli.home import AgencyOption, Config, DryRun, Json, print_json, print_rows, write_output

app = typer.Typer(rich_markup_mode=None)

PAGE = 100

Delivery = Annotated[str, typer.Argument(metavar="DELIVERY", help="Delivery id: fame inbox ls.")]


class Acknowledged(StrEnum):
    """What a recipient can say of a message that it has."""

    READ = "L3"
    DEALT_WITH = "L4"


@app.command("ls")
def list_deliveries(agency: AgencyOption, config: Config = None, as_json: Json = False) -> None:
    """List what lies ready, oldest first."""
    entries: list[dict[str, object]] = []
    with client(config, agency) as made:
        after: dict[str, str] = {}
        while True:
            params = {"limit": str(PAGE), **after}
            page = ask(made, "GET", f"/mailbox/{agency}", params=params).json()["deliveries"]
            entries += page
            if len(page) < PAGE:
                break
            after = {"after": page[-1]["delivery_id"]}
    if as_json:
        print_json(entries)
        return
    columns = ("delivery_id", "message_type", "sender", "state", "level", "received_at")
    print_rows(columns, [[str(entry.get(column, "")) for column in columns] for entry in entries])


@app.command()
def get(
    delivery: Delivery,
    agency: AgencyOption,
    out: Annotated[Path, typer.Option(help="File; - is standard output.")] = Path("-"),
    config: Config = None,
) -> None:
    """Read one message: the envelope as it was sent or, where fields were withheld, reduced."""
    with client(config, agency) as made:
        answer = ask(made, "GET", f"/mailbox/{agency}/{delivery}")
    write_output(out, answer.content)


@app.command()
def ack(
    delivery: Delivery,
    agency: AgencyOption,
    level: Annotated[
        Acknowledged, typer.Option(help="L3: a person read it; L4: it was dealt with.")
    ] = Acknowledged.READ,
    code: Annotated[str | None, typer.Option(help="What came of it, as a code.")] = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Acknowledge a message that was read; the sender sees it."""
    if dry_run:
        print(f"{delivery} would be acknowledged at {level}; it was not.")
        return
    given = {"level": level} | ({} if code is None else {"code": code})
    path = f"/mailbox/{agency}/{delivery}/acknowledgements"
    with client(config, agency) as made:
        headers = {"content-type": "application/json"}
        answer = ask(made, "POST", path, json=given, headers=headers).json()
    if as_json:
        print_json(answer)
    else:
        print(f"Acknowledged {delivery} at {level}.")
