"""`fame protocol ls` and `show`: which sharing protocols there are, and what one says."""

from typing import TYPE_CHECKING

from broker.cli.home import Config, Json, now, print_json, print_rows
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


def _cell(value: object) -> str:
    return ",".join(value) or "-" if isinstance(value, list) else str(value)


def show(
    reference: Reference, protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """Show one: its parties, purposes and every flow, with what passes and why."""
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
    print(f"  consent: {flow.consent}{sensitive}")
    for rule in flow.items:
        transform = "" if rule.transform == "NONE" else f" {rule.transform}"
        print(f"  {rule.include.lower():9}{transform} {rule.target}: {flow.necessity[rule.target]}")
