"""`fame protocol`: list, show, lint and explain the sharing protocols."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_CHECK, EXIT_POLICY, EXIT_USAGE, Failure
from broker.cli.home import Config, Json, load_config, now, print_json, print_rows, read_input

if TYPE_CHECKING:
    from broker.core.explanation import Item, Step
    from broker.core.facts import DecisionFacts
    from broker.core.identity import AgencyId
    from broker.core.outcome import Decision
    from broker.core.protocol import Register, SharingProtocol
    from broker.core.schema import SchemaSet
    from broker.core.sharing import Flow

app = typer.Typer(rich_markup_mode=None)

Protocols = Annotated[
    Path | None,
    typer.Option("--protocols", help="Folder of the register; otherwise that of the broker."),
]
Reference = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="Id, or id@version, of a sharing protocol.")
]


def register_of(protocols: Path | None, config: Path | None) -> "Register":
    """Return the register in ``protocols``, or else that of the broker.

    Raises:
        Fault: it cannot be used.
        Failure: no broker is there.
    """
    from broker.edge.registers import load_register

    return load_register(protocols or load_config(config).config.registers.protocols_dir)


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


@app.command("ls")
def list_protocols(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """List the sharing protocols: what each is for and whether it is in force."""
    at = now()
    rows = [
        {
            "protocol": name,
            "tier": one.tier,
            "state": _state(one, at),
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


def _state(protocol: "SharingProtocol", at: Any) -> str:  # noqa: ANN401 - a datetime
    reason = protocol.standing(at)
    if reason is not None:
        return reason.value.removeprefix("policy.isp_").replace("_", " ")
    return "overdue" if at >= protocol.overdue_from else "in force"


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


@app.command()
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
    print(f"tier {protocol.tier}, {_state(protocol, now())}, lead {protocol.lead}")
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


@app.command("lint")
def lint_protocols(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """Look for what is wrong: unreachable flows, gateways that do not bear them, absent fields."""
    from broker.core.lint import ERROR, lint

    register = register_of(protocols, config)
    schemas = schemas_of(protocols, config)
    types = {
        key
        for protocol in register.protocols.values()
        for flow in protocol.flows
        for key in flow.message_types
    }
    known = {key: schemas.categories(*key) for key in types if key in schemas.catalogue.messages}
    findings = lint(register, known, now())
    if as_json:
        print_json(
            [
                {"severity": f.severity, "protocol": f.protocol, "flow": f.flow, "words": f.words}
                for f in findings
            ]
        )
    elif findings:
        rows = [(f.severity, f.protocol, f.flow or "-", f.words) for f in findings]
        print_rows(("severity", "protocol", "flow", ""), rows)
    else:
        print(f"{len(register.protocols)} sharing protocols, nothing found.")
    if any(finding.severity == ERROR for finding in findings):
        raise typer.Exit(EXIT_CHECK)


@app.command()
def explain(
    sender: Annotated[str, typer.Option("--from", help="Sender.")] = "",
    recipient: Annotated[str, typer.Option("--to", help="Recipient.")] = "",
    message_type: Annotated[str, typer.Option("--type", help="Message type.")] = "",
    purpose: Annotated[str, typer.Option(help="Purpose code.")] = "",
    version: Annotated[str, typer.Option(help="Version of the message type.")] = "1.0",
    field: Annotated[str, typer.Option(help="A path of the payload: does it pass, and why.")] = "",
    source: Annotated[
        Path | None, typer.Option("--in", help="Ask about the message in this file instead.")
    ] = None,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Explain a decision: each step, the clause, and the smallest lawful change.

    Without --in the message is a supposed one, complete and about nobody in particular.
    """
    from broker.core.decision import decide_facts
    from broker.core.explanation import flow_of, steps_of
    from broker.core.outcome import Refused

    register = register_of(protocols, config)
    schemas = schemas_of(protocols, config)
    if source is not None:
        answers = _from_file(read_input(source), register, schemas)
        answers = [one for one in answers if not recipient or one[1] == recipient]
    else:
        supposed = _supposed(sender, recipient, message_type, purpose, version)
        answers = [(*supposed, decide_facts(*supposed, register, (), now()))]
    refused = False
    shown = []
    for facts, asked, decision in answers:
        refused = refused or isinstance(decision, Refused)
        flow = flow_of(decision, register)
        item = _item(flow, field, facts, schemas)
        shown.append(_document(facts, asked, decision, steps_of(decision), item))
        if not as_json:
            _print_explanation(shown[-1])
    if as_json:
        print_json(shown)
    if refused:
        raise typer.Exit(EXIT_POLICY)


def _supposed(
    sender: str, recipient: str, message_type: str, purpose: str, version: str
) -> "tuple[DecisionFacts, AgencyId]":
    from broker.core.facts import DecisionFacts
    from broker.core.identity import AgencyId
    from broker.core.message import Practitioner

    if not (sender and recipient and message_type and purpose):
        rows = {"try": "give --from, --to, --type and --purpose, or a message with --in"}
        raise Failure("What is asked about is not known", EXIT_USAGE, rows)
    facts = DecisionFacts(
        AgencyId(sender),
        message_type,
        version,
        purpose,
        practitioner=Practitioner("supposed", "PRACTITIONER", None, "AAL3"),
        reason_for_access="ASSESSMENT",
        has_subject=True,
        has_identifier=True,
        detriment="NOT_DETRIMENTAL",
        consent_reason="NOT_REASONABLE",
        categories=frozenset(),
    )
    return facts, AgencyId(recipient)


def _from_file(
    raw: bytes, register: "Register", schemas: "SchemaSet"
) -> "list[tuple[DecisionFacts, AgencyId, Decision]]":
    """Return the decision on a message for each recipient; its signature is not checked."""
    from broker.core.decision import decide
    from broker.core.envelope import PAYLOAD, parse, read_header
    from broker.core.facts import facts_of
    from broker.core.message import ValidMessage, VerifiedMessage

    root = parse(raw)
    header = read_header(root)
    payload = next(iter(next(iter(root.iter(PAYLOAD)))))
    schemas.validate(header.message_type, header.schema_version, payload)
    subject = schemas.subject(header.message_type, header.schema_version, payload)
    verified = VerifiedMessage(raw, raw, root, header, b"", "", "")
    message = ValidMessage(verified, header, payload, subject, schemas.digest)
    return [
        (
            facts_of(message),
            recipient,
            decide(message, recipient, register, (), now(), schemas=schemas),
        )
        for address in header.recipients
        for recipient in register.resolve(address)
    ]


def _item(
    flow: "Flow | None", field: str, facts: "DecisionFacts", schemas: "SchemaSet"
) -> "Item | None":
    from broker.core.explanation import item_of

    if not field or flow is None:
        return None
    return item_of(flow, field, schemas.categories(facts.message_type, facts.schema_version))


def _document(
    facts: "DecisionFacts",
    recipient: "AgencyId",
    decision: "Decision",
    steps: "tuple[Step, ...]",
    item: "Item | None",
) -> dict[str, Any]:
    from broker.core.outcome import Refused

    document: dict[str, Any] = {
        "from": facts.sender,
        "to": recipient,
        "type": facts.message_type,
        "purpose": facts.purpose,
    }
    if isinstance(decision, Refused):
        document |= {
            "decision": "refused",
            "reason": decision.reason.value,
            "step": decision.step,
            "change": decision.change,
        }
    else:
        document |= {
            "decision": "permitted",
            "gateway": decision.gateway,
            "warnings": decision.warnings,
        }
    document["protocol"], document["clause"] = decision.protocol, decision.clause
    document["steps"] = [
        {"number": s.number, "title": s.title, "outcome": s.outcome, "words": s.words}
        for s in steps
    ]
    if item is not None:
        document["field"] = {
            "path": item.path,
            "category": item.category,
            "action": item.action,
            "rules": [f"{rule.include} {rule.target}" for rule in item.rules],
            "necessity": item.necessity,
        }
    return document


def _print_explanation(document: dict[str, Any]) -> None:
    asked = f"{document['type']} from {document['from']} to {document['to']}"
    print(f"{document['decision'].upper()}: {asked} for {document['purpose']}")
    for step in document["steps"]:
        words = f": {step['words']}" if step["words"] else ""
        print(f"  {step['number']:2} {step['outcome']:11} {step['title']}{words}")
    if document["decision"] == "refused":
        print(f"reason: {document['reason']}")
        print(f"smallest lawful change: {document['change']}")
    if document["clause"]:
        print(f"clause: {document['protocol']}, flow {document['clause']}")
    if "field" in document:
        item = document["field"]
        print(f"field {item['path']} ({item['category'] or 'in no schema'}): {item['action']}")
        print(f"  {'; '.join(item['rules']) or 'no rule'}: {item['necessity']}")
