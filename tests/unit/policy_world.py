"""A partnership in which everything is permitted, to be changed in one place at a time."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any

from lxml import etree

from broker.core.assembly import build_register
from broker.core.consent import Consent
from broker.core.decision import decide_facts
from broker.core.facts import DecisionFacts
from broker.core.identity import AgencyId, MessageId, SubjectRef
from broker.core.message import Header, Practitioner, Subject, ValidMessage, VerifiedMessage
from broker.core.outcome import Decision, Permitted
from broker.core.override import Override
from broker.core.protocol import Register

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
YOT, CSC, CAMHS, CHARITY, POLICE = (
    AgencyId(name) for name in ("yot", "csc", "camhs", "charity", "police")
)
Tables = dict[str, dict[str, Any]]

PRACTITIONER = Practitioner("worker-1", "YOT_OFFICER", "DBS_ENHANCED", "AAL2")
FACTS = DecisionFacts(
    sender=YOT,
    message_type="Check",
    schema_version="1.0",
    purpose="YJ",
    practitioner=PRACTITIONER,
    reason_for_access="ASSESSMENT",
    has_subject=True,
    has_identifier=True,
    detriment="NOT_DETRIMENTAL",
    consent_reason="NOT_REASONABLE",
    categories=frozenset({"identity"}),
    paths=frozenset({"Subject", "Subject/Name", "Question"}),
)
CONSENT = Consent(
    consent_id="c-1",
    subject=SubjectRef("ab12"),
    kind="GDPR_BASIS",
    status="ACTIVE",
    purposes=frozenset({"YJ"}),
    message_types=frozenset({"Check"}),
    recipients=frozenset({CSC}),
    form="EXPLICIT_WRITTEN",
    given_at=datetime(2026, 5, 1, tzinfo=UTC),
    given_by="SUBJECT",
    capacity="16_17_PRESUMED",
    wording="share-3",
    recorded_by=YOT,
    recorded_at=datetime(2026, 5, 1, tzinfo=UTC),
    review_at=datetime(2027, 5, 1, tzinfo=UTC),
    expires_at=datetime(2026, 7, 1, tzinfo=UTC),
)

SHARING = "sharing/checks.v1.toml"


def _agency(name: str, kind: str, **flags: object) -> dict[str, Any]:
    return {
        "id": name,
        "name": name.title(),
        "type": kind,
        "areas": ["E08000024"],
        "flags": flags,
        "contact": [{"role": "duty-desk", "name": "Desk"}],
        "system": [{"system_id": "system"}],
    }


def _terms() -> dict[str, Any]:
    blocks = {
        "transparency": ("privacy_notice", "informed", "explanation"),
        "security": ("transport", "signature", "encryption", "clearance", "authentication"),
        "retention": ("period", "trigger", "disposal", "broker_payload"),
        "data_quality": ("match_threshold", "correction_route"),
        "rights": ("access", "rectification", "objection", "contact"),
        "breach": ("notify_lead_within", "notify_regulator_within", "contact"),
        "complaints": ("route", "acknowledge_within"),
        "termination": ("notice", "return_or_delete"),
    }
    return {name: dict.fromkeys(keys, "as agreed") for name, keys in blocks.items()}


def _parties(*names: str) -> dict[str, Any]:
    return {
        "party": [{"agency": name, "role": "CONTROLLER", "capacity": "BOTH"} for name in names],
        "signatory": [
            {
                "party": name,
                "name": "Somebody",
                "position": "Head",
                "signed_on": date(2025, 12, 1),
                "signature_ref": "S-1",
            }
            for name in names
        ],
    }


def _framework(name: str, tier: int, **more: object) -> dict[str, Any]:
    return {
        "id": name,
        "version": 1,
        "title": name.title(),
        "tier": tier,
        "instrument": "ISP",
        "status": "ACTIVE",
        "effective_from": date(2026, 1, 1),
        "review_date": date(2027, 1, 1),
        "lead_organisation": "csc",
        **_parties("yot", "csc", "camhs", "charity", "police"),
        **more,
    }


def _flow() -> dict[str, Any]:
    return {
        "id": "check",
        "description": "A team asks",
        "message_types": ["Check/1.0"],
        "from": ["YOT"],
        "to": ["csc"],
        "purposes": ["YJ"],
        "gateways": ["CDA-115"],
        "conditions": ["DPA-S1-18"],
        "consent": "NOT_REQUIRED",
        "frequency": "When needed",
        "method": "Broker",
        "max_latency": "Minutes",
        "practitioner": {
            "roles": ["YOT_OFFICER"],
            "clearances": ["DBS_ENHANCED"],
            "authentication": "AAL2",
            "reason_for_access": True,
        },
        "item": [
            {"targets": ["category:identity"], "include": "ALLOWED", "necessity": "To know who"},
            {"targets": ["Question"], "include": "MANDATORY", "necessity": "To answer"},
            {"targets": ["category:health"], "include": "FORBIDDEN", "necessity": "Not needed"},
        ],
    }


def _protocol() -> dict[str, Any]:
    return {
        **_framework("checks", 2),
        "parent": "community@1",
        **_parties("yot", "csc"),
        "subject_categories": ["CHILD"],
        "controller_model": "SEPARATE",
        "onward_sharing": "PROHIBITED",
        "dpia_ref": "D-1",
        "risk_score": "LOW",
        "secondary_use": "None",
        "automated_decision": "None",
        "purpose": [{"code": "YJ", "statement": "To assess", "benefits": "In time"}],
        "lawful_basis": [{"article_6": "6(1)(e)", "condition": "None", "gateways": ["CDA-115"]}],
        **_terms(),
        "flow": [_flow()],
    }


def _gateway(name: str, **more: object) -> dict[str, Any]:
    return {
        "id": name,
        "statute": f"Statute {name}",
        "kind": "POWER",
        "purposes": ["YJ"],
        "in_force_from": date(2020, 1, 1),
        "source": "the statute book",
        "route": [{"from": ["any"], "to": ["any"]}],
        **more,
    }


def _bare(name: str, **more: object) -> dict[str, Any]:
    gateway = {**_gateway(name), "kind": "CONDITION", "bears_flow": False, **more}
    del gateway["route"]
    return gateway


WORLD: Tables = {
    "code-lists.toml": {
        "list": [
            {"name": name, "list_version": "1", "source": "us", "values": values.split()}
            for name, values in (
                ("AgencyType", "YOT LA_CSC NHS_MH VCS POLICE"),
                ("DataCategory", "identity health address location safeguarding"),
                ("SubjectCategory", "CHILD"),
                ("Capability", "QUERIES_INDEX"),
            )
        ]
    },
    "purposes.toml": {
        "purpose": [
            {"code": code, "title": code, "description": code, "child": child}
            for code, child in (("YJ", True), ("CP", True), ("JOBS", False))
        ]
    },
    "gateways.toml": {
        "gateway": [
            _gateway(
                "CDA-115",
                recipient_refusal="RECIPIENT_NOT_RELEVANT_AUTHORITY",
                route=[
                    {
                        "from": ["any"],
                        "to": ["flag:relevant_authority_115", "acting_for:relevant_authority_115"],
                    }
                ],
            ),
            _bare("CA04-16LC"),
            _bare("DPA-S1-18", asks_consent_reason=True),
        ]
    },
    "agencies/yot.toml": _agency("yot", "YOT", relevant_authority_115=True),
    "agencies/csc.toml": _agency(
        "csc", "LA_CSC", relevant_authority_115=True, health_or_social_care=True
    ),
    "agencies/camhs.toml": _agency("camhs", "NHS_MH", health_or_social_care=True),
    "agencies/charity.toml": _agency("charity", "VCS"),
    "agencies/police.toml": _agency("police", "POLICE", relevant_authority_115=True),
    "sharing/memorandum.v1.toml": _framework("memorandum", 0),
    "sharing/community.v1.toml": _framework("community", 1, parent="memorandum@1"),
    SHARING: _protocol(),
}

Change = Callable[[Tables], None]


def files(*changes: Change) -> Tables:
    """Return the files of the world after ``changes``."""
    tables = copy.deepcopy(WORLD)
    for change in changes:
        change(tables)
    return tables


def register(*changes: Change) -> Register:
    """Return the register of the world after ``changes``."""
    return build_register(files(*changes), {}, {})


@cache
def plain() -> Register:
    """Return the register of the world as it is."""
    return register()


def flow(**values: object) -> Change:
    """Return a change to the flow; a value of None takes the key away."""
    return lambda tables: _update(tables[SHARING]["flow"][0], values)


def protocol(**values: object) -> Change:
    """Return a change to the sharing protocol."""
    return lambda tables: _update(tables[SHARING], values)


def table(file: str, **values: object) -> Change:
    """Return a change to a file."""
    return lambda tables: _update(tables[file], values)


def gateway(number: int = 0, **values: object) -> Change:
    """Return a change to a gateway."""
    return lambda tables: _update(tables["gateways.toml"]["gateway"][number], values)


def more_gateways(*gateways: Mapping[str, Any]) -> Change:
    """Return a change that adds gateways."""
    return lambda tables: tables["gateways.toml"]["gateway"].extend(gateways)


def new_gateway(name: str, **more: object) -> dict[str, Any]:
    """Return the table of a gateway that reaches everybody."""
    return _gateway(name, **more)


def amendment(version: int, **values: object) -> Change:
    """Return a change that adds a version of the sharing protocol."""

    def change(tables: Tables) -> None:
        later = copy.deepcopy(tables[SHARING])
        _update(later, {"version": version, **values})
        tables[f"sharing/checks.v{version}.toml"] = later

    return change


def _update(target: dict[str, Any], values: Mapping[str, object]) -> None:
    for key, value in values.items():
        if value is None:
            target.pop(key, None)
        else:
            target[key] = value


def decided(
    *changes: Change,
    consents: tuple[Consent, ...] = (),
    now: datetime = NOW,
    recipient: AgencyId = CSC,
    override: Override | None = None,
    **facts: Any,
) -> Decision:
    """Return the decision in the world after ``changes``, on these facts."""
    held = register(*changes) if changes else plain()
    asked = replace(FACTS, **facts)
    return decide_facts(asked, recipient, held, consents, now, override=override)


def permitted(**facts: Any) -> Permitted:
    """Return the decision, which is to permit."""
    decision = decided(**facts)
    assert isinstance(decision, Permitted)
    return decision


def message(payload: str, subject: Subject | None = None, **header: Any) -> ValidMessage:
    """Return a valid message around ``payload``; nothing checked it."""
    element = etree.fromstring(payload)
    envelope = etree.fromstring(
        '<Envelope xmlns="urn:fame:envelope:1.0"><Header><MessageId>1</MessageId></Header>'
        "<Payload/></Envelope>"
    )
    values: dict[str, Any] = {
        "message_id": MessageId("0190b0a0-0000-7000-8000-000000000001"),
        "message_type": "Check",
        "schema_version": "1.0",
        "sender": YOT,
        "system": "system",
        "recipients": (),
        "purpose": "YJ",
        "created_at": NOW,
        "practitioner": PRACTITIONER,
        "reason_for_access": "ASSESSMENT",
        **header,
    }
    made = Header(**values)
    verified = VerifiedMessage(b"", b"", envelope, made, b"\x01" * 32, "ab" * 32, "rsa-sha256")
    return ValidMessage(verified, made, element, subject, "")
