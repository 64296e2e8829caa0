"""`fame protocol drift`: what an agreement declares against what passed under it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import Failure
from broker.cli.home import Config, Json, print_json, print_rows, write_output
from broker.cli.protocol.common import Protocols, Reference, find, register_of, schemas_of
from broker.cli.protocol.drafts import Since, Until, day, decisions_on_record

if TYPE_CHECKING:
    from broker.core.drift import FlowDrift, Usage
    from broker.core.protocol import Register
    from broker.core.schema import SchemaSet
    from broker.core.sharing import SharingProtocol


def drift(
    reference: Reference,
    since: Since = "",
    until: Until = "",
    propose: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a tighter draft there.")
    ] = None,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what of an agreement nobody used in a period, and propose a tighter one."""
    from broker.core.drift import drift_of, tighter

    register, schemas = register_of(protocols, config), schemas_of(protocols, config)
    protocol = find(register, reference)
    usage, unknown = _usage(config, schemas, since, until)
    found = drift_of(protocol, usage, schemas)
    content = tighter(protocol, found)
    document: dict[str, Any] = {
        "protocol": protocol.reference,
        "not_known": unknown,
        "flows": [{**asdict(one), "unused": one.unused} for one in found],
        "volumes": _volumes(protocol, usage),
        "proposal": None,
    }
    if content is not None:
        text, narrower = _draft(content, protocol, register)
        document["proposal"] = {"narrower": narrower, "toml": text}
        if propose is not None:
            write_output(propose, text.encode())
    if as_json:
        print_json(document)
    else:
        _print(document, found, propose)


def _usage(
    config: Path | None, schemas: "SchemaSet", since: str, until: str
) -> "tuple[Usage, int]":
    from broker.core.drift import Usage
    from broker.core.recorded import Records
    from broker.edge.past import past_decisions

    usage, unknown = Usage(), 0
    period = day(since), day(until, last=True)
    with decisions_on_record(config) as conn:
        for one in past_decisions(conn, Records(schemas), *period):
            if one is None:
                unknown += 1
            else:
                usage.add(one)
    return usage, unknown


def _volumes(protocol: "SharingProtocol", usage: "Usage") -> list[dict[str, Any]]:
    return [
        {"flow": flow.flow_id, "from": sender, "to": recipient, "messages": count}
        for flow in protocol.flows
        for (sender, recipient), count in usage.flows[
            protocol.reference, flow.flow_id
        ].pairs.most_common()
    ]


def _draft(
    content: Any,  # noqa: ANN401 - a table of TOML
    protocol: "SharingProtocol",
    register: "Register",
) -> tuple[str, int]:
    """Return the draft as TOML, and in how many ways it is narrower; it is wider in none.

    Raises:
        Failure: it is.
    """
    import tomllib

    import tomlkit

    from broker.core.drafting import parse_draft, with_drafts
    from broker.core.widening import WIDER, compare

    text = tomlkit.dumps(content)
    draft = parse_draft(tomllib.loads(text), register, "proposal")
    before = parse_draft(protocol.terms, register, protocol.file)
    changes = compare(with_drafts(register, [before]), with_drafts(register, [draft]))
    if any(change.direction == WIDER for change in changes):
        raise Failure("What would be proposed is wider somewhere: it is not proposed")
    return text, len(changes)


def _print(document: dict[str, Any], found: "tuple[FlowDrift, ...]", propose: Path | None) -> None:
    print(f"{document['protocol']}:")
    if document["not_known"]:
        print(f"  {document['not_known']} decisions are too old or erased to be counted")
    for one in found:
        print(f"  flow {one.flow}: {one.messages} messages" + ("; not used" if one.unused else ""))
        for title, names in (
            ("types never sent", one.types),
            ("purposes never named", one.purposes),
            ("items never populated", one.paths),
        ):
            if names:
                print(f"    {title}: {', '.join(names)}")
    rows = [[str(value) for value in row.values()] for row in document["volumes"]]
    if rows:
        print_rows(("flow", "from", "to", "messages"), rows)
    proposal = document["proposal"]
    if proposal is None:
        print("Nothing tighter is proposed.")
    else:
        where = f", in {propose}" if propose else "; --propose FILE writes it"
        print(f"A tighter draft is narrower in {proposal['narrower']} ways, wider in none{where}.")
