"""The text of a first draft of a sharing protocol: complete, lawful as far as data can say, narrow.

It allows what is asked for and no more. Everything else in it is what a partnership usually
agrees, for the parties to read and change.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.protocol import Register
from broker.core.sharing import PURPOSE_TIER

REVIEW_AFTER = timedelta(days=365)
_TERMS: Mapping[str, Mapping[str, str]] = {
    "transparency": {
        "privacy_notice": "https://{lead}.example/privacy",
        "informed": "YES",
        "explanation": "The person is told when the information is first collected.",
    },
    "security": {
        "transport": "TLS 1.3, both sides authenticated",
        "signature": "XML signature over the whole envelope",
        "encryption": "AES-256-GCM at rest, a key for each message",
        "clearance": "As each party's own policy asks",
        "authentication": "AAL2 or better",
    },
    "retention": {
        "period": "As each controller's own schedule says",
        "trigger": "Closure of the case",
        "disposal": "Secure deletion by each controller",
        "broker_payload": "30 days after delivery",
    },
    "data_quality": {
        "match_threshold": "NHS number, or name with date of birth and postcode",
        "correction_route": "The controller that supplied the item corrects it",
    },
    "rights": {
        "access": "Either controller answers for what it holds",
        "rectification": "To the controller that supplied the item",
        "objection": "To the controller that sent the message",
        "contact": "dpo@{lead}.example",
    },
    "breach": {
        "notify_lead_within": "24 hours",
        "notify_regulator_within": "72 hours (UK GDPR Art. 33)",
        "contact": "dpo@{lead}.example",
    },
    "complaints": {
        "route": "complaints@{lead}.example, then the Information Commissioner",
        "acknowledge_within": "30 days (DPA 2018 s.164A)",
    },
    "termination": {
        "notice": "90 days in writing to the lead organisation",
        "return_or_delete": "Each controller keeps its own record; nothing is returned",
    },
}


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants to agree. ``items`` are targets with why each is necessary."""

    protocol_id: str
    title: str
    sender: AgencyId
    recipient: AgencyId
    message_type: str
    version: str
    purpose: str
    statement: str
    items: Mapping[str, str]
    subject: str
    consent: str
    begins: date


def gateway_for(wish: Wish, register: Register, now: datetime) -> Gateway | None:
    """Return the first power in force that carries what is wished."""
    sender, recipient = register.selectors[wish.sender], register.selectors[wish.recipient]
    for gateway in register.gateways.values():
        if (
            gateway.bears_flow
            and gateway.in_force(now)
            and gateway.serves(wish.purpose)
            and gateway.parties_refusal(sender, recipient) is None
            and gateway.carved_out(sender, recipient, frozenset()) is None
        ):
            return gateway
    return None


def parent_for(wish: Wish, register: Register) -> str | None:
    """Return the newest community agreement that binds both."""
    wanted = {wish.sender, wish.recipient}
    found = [
        one
        for one in register.protocols.values()
        if one.tier == PURPOSE_TIER - 1 and wanted <= {party.agency for party in one.parties}
    ]
    return max(found, key=lambda one: one.version).reference if found else None


def scaffold(wish: Wish, gateway: str, parent: str) -> str:
    """Return the file of the draft."""
    head = {
        "id": wish.protocol_id,
        "version": 1,
        "title": wish.title,
        "tier": PURPOSE_TIER,
        "parent": parent,
        "instrument": "DDA",
        "status": "DRAFT",
        "effective_from": wish.begins,
        "review_date": wish.begins + REVIEW_AFTER,
        "lead_organisation": wish.sender,
        "subject_categories": [wish.subject],
        "controller_model": "SEPARATE",
        "onward_sharing": "PROHIBITED",
        "dpia_ref": "To be done before signing",
        "risk_score": "Not yet assessed",
        "secondary_use": "None",
        "automated_decision": "None: a person decides",
    }
    parties = [
        ("[[party]]", {"agency": name, "role": "CONTROLLER", "capacity": capacity})
        for name, capacity in ((wish.sender, "SENDER"), (wish.recipient, "RECEIVER"))
    ]
    benefits = "The recipient knows what it needs, in time."
    purpose = {"code": wish.purpose, "statement": wish.statement, "benefits": benefits}
    basis = {
        "article_6": "6(1)(e) public task",
        "condition": "DPA 2018 Sch. 1 para. 6 (statutory purposes), where the data are sensitive",
        "gateways": [gateway],
    }
    terms = [
        (f"[{name}]", {key: words.format(lead=wish.sender) for key, words in block.items()})
        for name, block in _TERMS.items()
    ]
    tables: list[tuple[str, Mapping[str, object]]] = [
        ("", head),
        *parties,
        ("[[purpose]]", purpose),
        ("[[lawful_basis]]", basis),
        *terms,
        ("[[flow]]", _flow(wish, gateway)),
        *_items(wish),
    ]
    return "\n".join(_table(heading, content) for heading, content in tables)


def _flow(wish: Wish, gateway: str) -> Mapping[str, object]:
    return {
        "id": "send",
        "description": wish.title,
        "message_types": [f"{wish.message_type}/{wish.version}"],
        "from": [wish.sender],
        "to": [wish.recipient],
        "purposes": [wish.purpose],
        "gateways": [gateway],
        "consent": wish.consent,
        "frequency": "When needed",
        "method": "Broker, signed XML",
        "max_latency": "1 day",
    }


def _items(wish: Wish) -> Sequence[tuple[str, Mapping[str, object]]]:
    return [
        ("[[flow.item]]", {"targets": [target], "include": "ALLOWED", "necessity": why})
        for target, why in wish.items.items()
    ]


def _table(heading: str, content: Mapping[str, object]) -> str:
    lines = [heading] if heading else []
    lines += [f"{key} = {_value(value)}" for key, value in content.items()]
    return "\n".join((*lines, ""))


def _value(value: object) -> str:
    return value.isoformat() if isinstance(value, date) else json.dumps(value, ensure_ascii=False)
