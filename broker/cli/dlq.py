"""`fame dlq`: deliveries that were given up, for the broker's operators."""

from typing import Annotated

import typer

from broker.cli.client import client
from broker.cli.failure import Failure
from broker.cli.home import Config, DryRun, Json, print_json, print_rows
from broker.cli.operator import BROKER, dead_letters, discard_delivery, replay_delivery
from broker.core.outcome import DiscardCause

app = typer.Typer(rich_markup_mode=None)

Delivery = Annotated[str, typer.Argument(metavar="DELIVERY", help="Delivery id: fame dlq ls.")]


@app.command("ls")
def list_letters(config: Config = None, as_json: Json = False) -> None:
    """List what was given up and that nobody has dealt with."""
    with client(config, BROKER) as made:
        letters = list(dead_letters(made))
    if as_json:
        print_json(letters)
        return
    known = ("delivery_id", "recipient", "message_type", "sender")
    columns = (*known, "attempts", "in_doubt", "reason")
    print_rows(columns, [[str(letter.get(column, "")) for column in columns] for letter in letters])


@app.command()
def show(delivery: Delivery, config: Config = None, as_json: Json = False) -> None:
    """Show one delivery that was given up."""
    with client(config, BROKER) as made:
        found = next((one for one in dead_letters(made) if one["delivery_id"] == delivery), None)
    if found is None:
        raise Failure("No such delivery was given up", rows={"try": "fame dlq ls"})
    if as_json:
        print_json(found)
        return
    for label, value in found.items():
        print(f"{label:16} {value}")


@app.command()
def retry(delivery: Delivery, config: Config = None, dry_run: DryRun = False) -> None:
    """Put a delivery back into the queue."""
    if dry_run:
        print(f"{delivery} would be put back into the queue; it was not.")
        return
    with client(config, BROKER) as made:
        replay_delivery(made, delivery)
    print(f"Put {delivery} back into the queue.")


@app.command()
def discard(
    delivery: Delivery,
    why: Annotated[DiscardCause, typer.Option(help="Goes into the ledger for good.")],
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Let a delivery go: it stays undelivered, and the ledger says who decided so and why."""
    if dry_run:
        print(f"{delivery} would be let go; it was not.")
        return
    with client(config, BROKER) as made:
        discard_delivery(made, delivery, why)
    print(f"Let {delivery} go.")
