"""What the commands of `fame protocol` share: which register, which schemas, which protocol."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import load_config

if TYPE_CHECKING:
    from broker.core.protocol import Register, SharingProtocol
    from broker.core.schema import SchemaSet

Protocols = Annotated[
    Path | None,
    typer.Option("--protocols", help="Folder of the register; otherwise that of the broker."),
]
Reference = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="Id, or id@version, of a sharing protocol.")
]


def register_of(protocols: Path | None, config: Path | None) -> "Register":
    """Return the register that the files in ``protocols`` describe, or else that in force.

    Raises:
        Fault: it cannot be used.
        Failure: no broker is there.
    """
    from broker.edge.registers import load_in_force, load_register

    if protocols is not None:
        return load_register(protocols)
    return load_in_force(load_config(config).config.registers.protocols_dir).register


def schemas_of(protocols: Path | None, config: Path | None) -> "SchemaSet":
    """Return the schemas of the broker, or those beside ``protocols``.

    Raises:
        Fault: they cannot be used.
        Failure: no broker is there.
    """
    from broker.edge.schemas import load_schemas

    beside = protocols.absolute().parent / "schemas" if protocols else None
    if beside is not None and beside.is_dir():
        return load_schemas(beside)
    return load_schemas(load_config(config).config.registers.schemas_dir)


def known_types(
    register: "Register", schemas: "SchemaSet"
) -> dict[tuple[str, str], Mapping[str, str]]:
    """Return the data categories of the message types that the flows name and that are there."""
    types = {
        key
        for protocol in register.protocols.values()
        for flow in protocol.flows
        for key in flow.message_types
    }
    return {key: schemas.categories(*key) for key in types if key in schemas.catalogue.messages}


def find(register: "Register", reference: str) -> "SharingProtocol":
    """Return the protocol of that reference; of a bare id, the newest version.

    Raises:
        Failure: there is none.
    """
    found = [
        one for one in register.protocols.values() if reference in (one.protocol_id, one.reference)
    ]
    if not found:
        rows = {"try": f"name one of: {', '.join(sorted(register.protocols))}"}
        raise Failure(f"There is no sharing protocol {reference!r}", EXIT_USAGE, rows)
    return max(found, key=lambda one: one.version)


def state_of(protocol: "SharingProtocol", at: datetime) -> str:
    """Return in one or two words how ``protocol`` stands at ``at``."""
    reason = protocol.standing(at)
    if reason is not None:
        return reason.value.removeprefix("policy.isp_").replace("_", " ")
    return "overdue" if at >= protocol.overdue_from else "in force"
