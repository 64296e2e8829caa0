"""`fame protocol ls` and `show`: which sharing protocols there are, and what one says."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, Json, load_config, now, print_json, print_rows
from broker.cli.protocol.common import Protocols, Reference, find, register_of, state_of

if TYPE_CHECKING:
    from broker.core.sharing import Flow


def list_protocols(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """List the sharing protocols: what each is for and whether it is in force."""
    at = now()
    rows = [
        {
            "protocol": name,
            "tier": one.tier,
            "state": state_of(one, at),
            "purposes": sorted(one.purposes),
            "parties": len(one.parties),
            "flows": len(one.flows),
            "review": one.review_date.isoformat(),
            "title": one.title,
        }
        for name, one in sorted(register_of(protocols, config).protocols.items())
    ]
    if as_json:
        print_json(rows)
        return
    header = ("protocol", "tier", "state", "purposes", "parties", "flows", "title")
    print_rows(header, [[_cell(row[name]) for name in header] for row in rows])
    for file, fault in ({} if protocols else _left_out(config)).items():
        print(f"\n{file} cannot be used and is left out: {fault}")


def _left_out(config: Path | None) -> Mapping[str, str]:
    from broker.edge.registers import load_in_force

    return load_in_force(load_config(config).config.registers.protocols_dir).unusable


def _cell(value: object) -> str:
    return ",".join(value) or "-" if isinstance(value, list) else str(value)


def show(
    reference: Reference,
    recipient: Annotated[
        str, typer.Argument(help="With a sender's id before it: the rules between the two.")
    ] = "",
    at: Annotated[str, typer.Option(help="As of an instant, such as 2026-11-20T09:00:00Z.")] = "",
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show a protocol, with what passes and why; or the rules in force from one agency to another.

    The past is read from the policy log: what was in force then, and by whose signatures.
    """
    if recipient:
        _between(reference, recipient, at, protocols, config, as_json)
        return
    register = register_of(protocols, config)
    protocol = find(register, reference)
    if as_json:
        print_json({"protocol": protocol.reference, **protocol.terms})
        return
    print(f"{protocol.reference}  {protocol.title}")
    print(f"tier {protocol.tier}, {state_of(protocol, now())}, lead {protocol.lead}")
    print(f"review due {protocol.review_date:%d %B %Y}, lapses {protocol.lapses_on:%d %B %Y}")
    print(f"stands on {protocol.parent or 'nothing'}\n")
    rows = [
        (party.agency, party.role.lower(), party.capacity.lower()) for party in protocol.parties
    ]
    print_rows(("party", "role", "capacity"), rows)
    for code, statement in protocol.purposes.items():
        print(f"\npurpose {code}: {statement}")
    for flow in protocol.flows:
        _show_flow(flow)


def _show_flow(flow: "Flow") -> None:
    types = ", ".join("/".join(one) for one in flow.message_types)
    print(f"\nflow {flow.flow_id}: {flow.method['description']}")
    print(f"  {types}")
    print(f"  from {', '.join(flow.senders)} to {', '.join(flow.recipients)}")
    gateways = ", ".join(one.gateway_id for one in flow.gateways)
    print(f"  for {', '.join(sorted(flow.purposes))}, under {gateways}")
    sensitive = (
        ""
        if flow.consent == flow.sensitive_consent
        else f" ({flow.sensitive_consent} for sensitive services)"
    )
    kind = f", {flow.consent_kind}" if flow.asks_consent else ""
    print(f"  consent: {flow.consent}{sensitive}{kind}")
    for rule in flow.items:
        transform = "" if rule.transform == "NONE" else f" {rule.transform}"
        print(f"  {rule.include.lower():9}{transform} {rule.target}: {flow.necessity[rule.target]}")


def _between(
    sender: str,
    recipient: str,
    at: str,
    protocols: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show what may pass from ``sender`` to ``recipient`` at an instant, under which clause."""
    from broker.edge.registers import load_in_force

    instant = _instant(at)
    directory = protocols or load_config(config).config.registers.protocols_dir
    held = load_in_force(directory, instant)
    rows = [
        {
            "type": clause.message_type,
            "versions": sorted(clause.versions),
            "purposes": sorted(clause.purposes),
            "protocol": clause.protocol.reference,
            "clause": clause.clause_id,
            "consent": clause.consent,
            "gateways": [one.gateway_id for one in clause.gateways],
            "until": f"{clause.stands_until:%Y-%m-%d}",
            "digest": held.policy.rulings[clause.protocol.reference].digest,
        }
        for (one, other, _), clauses in sorted(held.register.index.items())
        if (one, other) == (sender, recipient)
        for clause in clauses
        if clause.stands_from <= instant < clause.stands_until
    ]
    if as_json:
        print_json({"at": instant, "register": held.register.digest, "rules": rows})
        return
    print(f"{sender} to {recipient} at {instant:%Y-%m-%dT%H:%M:%SZ}")
    print(f"register {held.register.digest}\n")
    header = ("type", "purposes", "protocol", "clause", "consent", "gateways", "until")
    print_rows(header, [[_cell(row[name]) for name in header] for row in rows])
    if not rows:
        print("nothing may pass")


def _instant(text: str) -> datetime:
    if not text:
        return now()
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError as error:
        rows = {"try": "write it such as 2026-11-20T09:00:00Z"}
        raise Failure(f"{text!r} is no instant", EXIT_USAGE, rows) from error
