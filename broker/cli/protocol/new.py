"""`fame protocol new`: a first draft from a few answers, which lint has nothing against."""

from datetime import timedelta
from typing import Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, load_config, now
from broker.cli.protocol.common import Protocols


def new(
    protocol_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the new protocol.")],
    title: Annotated[str, typer.Option(prompt="What passes, in a sentence", help="Title.")],
    sender: Annotated[str, typer.Option("--from", prompt="Who sends", help="Agency.")],
    recipient: Annotated[str, typer.Option("--to", prompt="Who receives", help="Agency.")],
    message_type: Annotated[str, typer.Option("--type", prompt="Message type", help="Type.")],
    purpose: Annotated[str, typer.Option(prompt="Purpose code", help="Code.")],
    statement: Annotated[str, typer.Option(prompt="What for", help="The purpose in words.")],
    allow: Annotated[
        list[str], typer.Option(help="TARGET=WHY, such as category:identity='To know who'.")
    ],
    version: Annotated[str, typer.Option(help="Version of the message type.")] = "1.0",
    subject: Annotated[str, typer.Option(help="About whom: a subject category.")] = "CHILD",
    consent: Annotated[str, typer.Option(help="Consent model.")] = "NOT_REQUIRED",
    protocols: Protocols = None,
    config: Config = None,
) -> None:
    """Write a first draft of a sharing protocol: complete, and with no more than is asked for."""
    from broker.core.identity import AgencyId
    from broker.core.scaffold import Wish, gateway_for, parent_for, scaffold
    from broker.core.table import london_day
    from broker.edge.registers import load_register

    directory = protocols or load_config(config).config.registers.protocols_dir
    register = load_register(directory)
    for name in (sender, recipient):
        if name not in register.agencies:
            raise Failure(f"There is no agency {name!r}", EXIT_USAGE, {"try": "fame agency ls"})
    wish = Wish(
        protocol_id=protocol_id,
        title=title,
        sender=AgencyId(sender),
        recipient=AgencyId(recipient),
        message_type=message_type,
        version=version,
        purpose=purpose,
        statement=statement,
        items=dict(_item(one) for one in allow),
        subject=subject,
        consent=consent,
        begins=london_day(now()) + timedelta(days=1),
    )
    gateway, parent = gateway_for(wish, register, now()), parent_for(wish, register)
    if gateway is None or parent is None:
        missing = "legal gateway in force" if gateway is None else "community agreement"
        raise Failure(f"No {missing} carries {purpose} from {sender} to {recipient}", EXIT_USAGE)
    path = directory / "sharing" / f"{protocol_id}.v1.toml"
    if path.exists():
        raise Failure(f"{path.name} is there already", EXIT_USAGE, {"try": "choose another id"})
    path.write_text(scaffold(wish, gateway.gateway_id, parent), encoding="utf-8")
    try:
        load_register(directory)
    except Exception:
        path.unlink()  # a draft that cannot be read helps nobody
        raise
    print(f"wrote sharing/{path.name}, under {gateway.gateway_id} ({gateway.statute})")
    print(f"Next: read it; fame protocol lint; fame protocol test {protocol_id} --write")


def _item(text: str) -> tuple[str, str]:
    target, equals, why = text.partition("=")
    if not (target and equals and why):
        rows = {"try": "--allow category:identity='To know who it is about'"}
        raise Failure(f"{text!r} does not say what and why", EXIT_USAGE, rows)
    return target, why
