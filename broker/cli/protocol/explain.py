"""`fame protocol explain`: why a message passes or not, step by step."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_POLICY, EXIT_USAGE, Failure
from broker.cli.home import Config, Json, now, print_json, read_input
from broker.cli.protocol.common import Protocols, register_of, schemas_of

if TYPE_CHECKING:
    from broker.core.explanation import Item, Step
    from broker.core.facts import DecisionFacts
    from broker.core.identity import AgencyId
    from broker.core.outcome import Decision
    from broker.core.protocol import Register
    from broker.core.schema import SchemaSet
    from broker.core.sharing import Flow


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
    taken: Annotated[
        bool, typer.Option("--taken", help="With --in: as if its recipients had taken the offer.")
    ] = False,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Explain a decision: each step, the clause, and the smallest lawful change.

    Without --in the message is a supposed one, complete and about nobody in particular.
    """
    from broker.core.decision import decide_facts
    from broker.core.explanation import flow_of, steps_of, texts_of
    from broker.core.outcome import Refused

    register = register_of(protocols, config)
    schemas = schemas_of(protocols, config)
    if source is not None:
        answers = _from_file(read_input(source), register, schemas, taken=taken)
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
        texts = texts_of(decision, register)
        for step in shown[-1]["steps"]:
            step["text"] = texts.get(step["number"], "")
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
        relevant=True,
        public_task=True,
        consent_reason="NOT_REASONABLE",
        categories=frozenset(),
    )
    return facts, AgencyId(recipient)


def _from_file(
    raw: bytes, register: "Register", schemas: "SchemaSet", *, taken: bool
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
            decide(message, recipient, register, (), now(), schemas=schemas, taken=taken),
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
        if step["text"]:
            print(f"                 agreed: {step['text']}")
    if document["decision"] == "refused":
        print(f"reason: {document['reason']}")
        print(f"smallest lawful change: {document['change']}")
    if document["clause"]:
        print(f"clause: {document['protocol']}, flow {document['clause']}")
    if "field" in document:
        item = document["field"]
        print(f"field {item['path']} ({item['category'] or 'in no schema'}): {item['action']}")
        print(f"  {'; '.join(item['rules']) or 'no rule'}: {item['necessity']}")
