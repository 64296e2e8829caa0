"""Generated partnerships and messages for the oracle: seeded, so that a case can be had again.

A partnership is made of tables as its files would hold them, most of it agreeable, so that a
good part of the messages passes. Times are taken from the edges of the days that matter.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from xml.sax.saxutils import escape

from broker.core.capacity import Assessment
from broker.core.consent import Consent
from broker.core.facts import DecisionFacts
from broker.core.identity import AgencyId, SubjectRef
from broker.core.message import Practitioner, Subject, ValidMessage
from broker.core.override import Override
from tests.unit import oracle
from tests.unit.oracle import Said
from tests.unit.policy_world import CONSENT, SHARING, Tables, files, message

ELEMENTS = {"Question": "administrative", "Clinic": "health", "Home": "address", "Risk": "risk"}
AGENCIES = ("yot", "csc", "camhs", "charity", "police")
TYPES = {"yot": "YOT", "csc": "LA_CSC", "camhs": "NHS_MH", "charity": "VCS", "police": "POLICE"}
PURPOSES = ("YJ", "CP", "JOBS")
KINDS = ("Check", "Reply", "RecordTransfer")
MODELS = ("NOT_REQUIRED", "INFORMED_ONLY", "EXPLICIT_REQUIRED", "EXPLICIT_OR_HARM")
GIVERS = ("SUBJECT", "PR_HOLDER", "CARER_NO_PR", "ATTORNEY", "DEPUTY", "NONE")
RIGHTLY = (
    ("SUBJECT", "ADULT"),
    ("SUBJECT", "16_17_PRESUMED"),
    ("SUBJECT", "GILLICK_COMPETENT"),
    ("PR_HOLDER", "GILLICK_NOT_COMPETENT"),
    ("ATTORNEY", "MCA_LACKS"),
)
FACTORS = ("MATURITY", "UNDERSTANDS_ISSUE", "UNDERSTANDS_RISKS", "KNOWS_ALTERNATIVES", "ADVISED")
FLAGS = ("relevant_authority_115", "pcsc_specified", "health_or_social_care")
BASE = date(2026, 3, 20)  # near the change of the clocks, which is on 29 March
NOT_LOCAL = (  # what a local agreement takes from the one above it
    "subject_categories", "controller_model", "onward_sharing", "dpia_ref", "risk_score",
    "secondary_use", "automated_decision",
)  # fmt: skip
EDGES = (timedelta(0), timedelta(milliseconds=1), timedelta(microseconds=1), timedelta(hours=1))


@dataclass(frozen=True)
class Case:
    """A question to both: the partnership, what the message says, the consents and the time."""

    seed: int
    number: int
    tables: Tables
    said: Said
    consents: tuple[Consent, ...]
    now: datetime
    override: Override | None = None


class Chance(random.Random):
    """Chance that is the same in every run. ``calm``: how often the usual is taken unasked.

    What lies deep in the procedure is only reached by what is usual in nearly every respect.
    """

    calm = 0.0


def cases(seed: int, count: int) -> Iterator[Case]:
    """Yield ``count`` cases in one generated partnership."""
    chance = Chance(seed)
    chance.calm = chance.choice((0.0, 0.7, 0.95))
    tables = _partnership(chance)
    times = _times(tables)
    for number in range(count):
        chance.calm = chance.choice((0.0, 0.7, 0.95))
        said = _said(chance, tables)
        now = _time(chance, times)
        consents = _consents(chance, said, now)
        yield Case(seed, number, tables, said, consents, now, _override(chance, said, now))


def _mostly(chance: Chance, usual: Any, *other: Any, often: float = 0.85) -> Any:
    calm = chance.random() < chance.calm
    return usual if calm or chance.random() < often else chance.choice(other)


def _rarely(chance: Chance, often: float) -> bool:
    return chance.random() >= chance.calm and chance.random() < often


def _some(chance: Chance, values: tuple[str, ...], least: int = 1) -> list[str]:
    return chance.sample(values, chance.randint(least, len(values)))


def _day(chance: Chance) -> date:
    return BASE + timedelta(days=chance.randint(-12, 12))


def _partnership(chance: Chance) -> Tables:
    tables = files()
    tables["code-lists.toml"]["list"][1]["values"] += ["administrative", "risk"]
    for name in AGENCIES:
        table = tables[f"agencies/{name}.toml"]
        table["flags"] = {flag: chance.random() < 0.6 for flag in FLAGS}
        if chance.random() < 0.3:
            table["flags"]["acting_for"] = chance.choice(AGENCIES)
        table["status"] = _mostly(chance, "active", "suspended", "left", often=0.95)
    tables["gateways.toml"]["gateway"] = _gateways(chance)
    checks = tables.pop(SHARING)
    for tier, name, parent in ((0, "memorandum", None), (1, "community", "memorandum@1")):
        key = f"sharing/{name}.v1.toml"
        tables[key] = {**tables[key], **_life(chance, tables[key], calm=0.97), "tier": tier}
        if parent is not None:
            tables[key]["parent"] = parent
    for name in ("alpha", "beta")[: chance.randint(1, 2)]:
        for version in range(1, chance.choice((1, 1, 2, 3)) + 1):
            made = _protocol(chance, checks, name, version)
            tables[f"sharing/{name}.v{version}.toml"] = made
            if chance.random() < 0.25:
                local = f"{name}{version}-local"
                tables[f"sharing/{local}.v1.toml"] = _local(chance, made, local)
    return tables


def _local(chance: Chance, above: dict[str, Any], name: str) -> dict[str, Any]:
    """Return an agreement of two parties under ``above`` that narrows one of its flows or more."""
    table = {key: value for key, value in above.items() if key not in NOT_LOCAL}
    table |= {"id": name, "version": 1, "tier": 3}
    table["parent"] = f"{above['id']}@{above['version']}"
    table |= _life(chance, table, calm=0.7)
    table.pop("last_day", None)
    flows = chance.sample(above["flow"], chance.randint(1, len(above["flow"])))
    return table | {"flow": [_narrowed(chance, flow) for flow in flows]}


def _narrowed(chance: Chance, flow: dict[str, Any]) -> dict[str, Any]:
    strict = MODELS.index("EXPLICIT_REQUIRED")
    narrow = {
        **flow,
        "message_types": sorted(chance.sample(flow["message_types"], 1)),
        "from": chance.sample(flow["from"], 1),
        "to": chance.sample(flow["to"], chance.randint(1, len(flow["to"]))),
        "purposes": chance.sample(flow["purposes"], chance.randint(1, len(flow["purposes"]))),
    }
    if chance.random() < 0.4:
        narrow["consent"] = narrow["sensitive_consent"] = MODELS[strict]
    if chance.random() < 0.3:
        narrow["shielded"] = "REFUSE"
    if chance.random() < 0.3:
        narrow["gateways"] = flow["gateways"][:1]  # another first one may carry what this does not
    return narrow


def _gateways(chance: Chance) -> list[dict[str, Any]]:
    rows = [_gateway(chance, f"G-{number}") for number in range(3)]
    identifier = {
        "id": "CA04-16LC", "statute": "s.16LC", "kind": "DUTY", "purposes": ["any"],
        "bears_flow": False, "source": "us",
    }  # fmt: skip
    if chance.random() < 0.7:
        identifier["in_force_from"] = _day(chance)
    condition = {
        "id": "DPA-S1-18", "statute": "para. 18", "kind": "CONDITION", "purposes": ["YJ"],
        "bears_flow": False, "asks_consent_reason": True, "in_force_from": date(2018, 5, 25),
        "source": "us",
    }  # fmt: skip
    basis = {
        "id": "BASIS", "statute": "Annex 1", "kind": "BASIS", "purposes": ["any"],
        "bears_flow": False, "asks_public_task": chance.random() < 0.5, "source": "us",
    }  # fmt: skip
    if not _rarely(chance, 0.1):
        basis["in_force_from"] = _mostly(chance, date(2026, 2, 5), _day(chance))
    if chance.random() < 0.4:
        basis["route"] = [{"from": ["any"], "to": chance.sample(sorted(TYPES.values()), 3)}]
    return [*rows, identifier, condition, basis]


def _gateway(chance: Chance, name: str) -> dict[str, Any]:
    ways = (*TYPES.values(), *(f"flag:{flag}" for flag in FLAGS))
    ways += tuple(f"acting_for:{flag}" for flag in FLAGS)
    row: dict[str, Any] = {
        "id": name,
        "statute": name,
        "kind": "POWER",
        "purposes": _mostly(chance, ["any"], ["YJ"], ["YJ", "CP"], often=0.5),
        "source": "us",
        "route": [
            {
                side: _mostly(chance, ["any"], chance.sample(ways, 2), often=0.6)
                for side in ("from", "to")
            }
            for _ in range(chance.randint(1, 2))
        ],
        "detriment_test": chance.random() < 0.2,
        "relevance_test": chance.random() < 0.1,
        "recipient_refusal": _mostly(
            chance, "GATEWAY_PARTIES", "RECIPIENT_NOT_RELEVANT_AUTHORITY", often=0.5
        ),
    }
    if not _rarely(chance, 0.1):
        row["in_force_from"] = _mostly(chance, date(2020, 1, 1), _day(chance), often=0.6)
    if _rarely(chance, 0.15):
        row["last_day"] = _day(chance)
    if chance.random() < 0.4:
        row["carve_out"] = [_carve_out(chance, ways) for _ in range(chance.randint(1, 2))]
    return row


def _carve_out(chance: Chance, ways: tuple[str, ...]) -> dict[str, Any]:
    parts: dict[str, list[str]] = {
        "from": chance.sample(ways, 1),
        "to": chance.sample(ways, 1),
        "categories": _some(chance, ("health", "address", "risk")),
    }
    kept = chance.sample(sorted(parts), chance.randint(1, 3))
    reasons = ("GATEWAY_CARVEOUT", "GATEWAY_PARTIES", "RECIPIENT_NOT_RELEVANT_AUTHORITY")
    carve_out = {"text": "left out", "reason": chance.choice(reasons)}
    return carve_out | {key: parts[key] for key in kept}


def _life(chance: Chance, table: dict[str, Any], calm: float = 0.9) -> dict[str, Any]:
    """Return the days and the state of an agreement."""
    life: dict[str, Any] = {
        "status": _mostly(
            chance, "ACTIVE", "DRAFT", "APPROVED", "SUSPENDED", "OVERDUE", "TERMINATED", often=calm
        ),
        "effective_from": _mostly(chance, date(2026, 1, 1), _day(chance), often=calm),
        "review_date": _mostly(
            chance, date(2027, 1, 1), _day(chance), _day(chance) - timedelta(90), often=calm
        ),
    }
    if _rarely(chance, 1 - calm):
        life["last_day"] = _day(chance)
    signatures = [dict(one) for one in table["signatory"]]
    if _rarely(chance, 1 - calm):
        chance.choice(signatures)["signed_on"] = _day(chance)
    if _rarely(chance, 0.03):
        signatures.pop()
    return life | {"signatory": signatures}


def _protocol(chance: Chance, basis: dict[str, Any], name: str, version: int) -> dict[str, Any]:
    parties = _some(chance, AGENCIES, 3)
    table = {
        **basis,
        "party": [
            {
                "agency": one,
                "role": "CONTROLLER",
                "capacity": _mostly(chance, "BOTH", "SENDER", "RECEIVER", often=0.9),
            }
            for one in parties
        ],
        "signatory": [{**basis["signatory"][0], "party": one} for one in parties],
        "id": name,
        "version": version,
        "purpose": [{"code": one, "statement": "s", "benefits": "b"} for one in PURPOSES],
        "lawful_basis": [{**basis["lawful_basis"][0], "gateways": ["G-0", "G-1", "G-2"]}],
    }
    table |= _life(chance, table)
    if version > 1:
        table["effective_from"] = _day(chance)
    senders = [p["agency"] for p in table["party"] if p["capacity"] != "RECEIVER"]
    takers = [p["agency"] for p in table["party"] if p["capacity"] != "SENDER"]
    if not (senders and takers):
        table["party"][0]["capacity"] = "BOTH"
        senders, takers = senders or parties[:1], takers or parties[:1]
    flows = [_flow(chance, f"f{one}", senders, takers) for one in range(chance.randint(1, 3))]
    return table | {"flow": flows}


def _flow(chance: Chance, name: str, senders: list[str], takers: list[str]) -> dict[str, Any]:
    def named(agencies: list[str]) -> list[str]:
        found = chance.sample(agencies, chance.randint(1, len(agencies)))
        return [TYPES[one] if chance.random() < 0.4 else one for one in found]

    flow = {
        "id": name,
        "message_types": chance.sample(
            ["Check/1.0", "Check/1.0", "Check/1.1", "Reply/1.0", "RecordTransfer/1.0"],
            chance.randint(1, 3),
        ),
        "from": named(senders),
        "to": named(takers),
        "purposes": _some(chance, PURPOSES),
        "gateways": chance.sample(["G-0", "G-1", "G-2"], chance.randint(1, 3)),
        "conditions": chance.sample(["CA04-16LC", "DPA-S1-18", "BASIS"], chance.choice((1, 1, 2))),
        "consent": chance.choice((*MODELS, *MODELS, "NOT_APPLICABLE")),
        "sensitive_consent": chance.choice(MODELS),
        "consent_kind": _mostly(chance, "GDPR_BASIS", "CONFIDENTIALITY"),
        "shielded": _mostly(chance, "STRIP", "REFUSE", often=0.7),
        "item": [{"targets": ["category:risk"], "include": "ALLOWED", "necessity": "n"}],
        **dict.fromkeys(("description", "frequency", "method", "max_latency"), "as agreed"),
    }
    flow["message_types"] = sorted(set(flow["message_types"]))
    if chance.random() < 0.5:
        item = {"targets": ["Question"], "include": "MANDATORY", "necessity": "n"}
        flow["item"].append(item)
    if chance.random() < 0.5:
        flow["practitioner"] = _practitioner_rule(chance)
    return flow


def _practitioner_rule(chance: Chance) -> dict[str, Any]:
    rule: dict[str, Any] = {"reason_for_access": chance.random() < 0.4}
    if chance.random() < 0.6:
        rule["roles"] = _mostly(chance, ["OFFICER"], ["OFFICER", "NURSE"], ["NURSE"])
    if chance.random() < 0.4:
        rule["clearances"] = _mostly(chance, ["DBS"], ["SC"])
    if chance.random() < 0.6:
        rule["authentication"] = chance.choice(("AAL1", "AAL2", "AAL3"))
    return rule


def _times(tables: Tables) -> list[datetime]:
    """Return the first instants of every day that the tables name, and what follows from it."""
    days: set[date] = set()
    rows = [*tables["gateways.toml"]["gateway"]]
    for name, table in tables.items():
        if name.startswith("sharing/"):
            rows += [table, *table["signatory"]]
            days.add(table["review_date"] + timedelta(90))
    for row in rows:
        days |= {value for value in row.values() if isinstance(value, date)}
        if "last_day" in row:
            days.add(row["last_day"] + timedelta(1))
    return sorted(oracle.midnight(day) for day in days if abs((day - BASE).days) < 130)


def _time(chance: Chance, times: list[datetime]) -> datetime:
    usual = datetime(2026, 3, 20, 12, tzinfo=UTC) + timedelta(days=chance.randint(-3, 14))
    if not times or chance.random() < 0.4:
        return usual
    return chance.choice(times) + chance.choice(EDGES) * chance.choice((-1, 1))


def _said(chance: Chance, tables: Tables) -> Said:
    pair, kind, purpose = _pair(chance, tables)
    grounds = ("SIGNIFICANT_HARM", "EXPLICIT_CONSENT", None)
    return Said(
        sender=pair[0],
        recipient=pair[1],
        type=kind,
        version=_mostly(chance, "1.0", "1.1", often=0.9),
        purpose=_mostly(chance, purpose, *PURPOSES, "OTHER", often=0.6),
        names_protocol=_mostly(chance, None, "alpha", "beta", "alpha@1", "beta@2", "gone"),
        names_gateway=_mostly(chance, None, "G-0", "G-1", "G-2", "G-9"),
        practitioner=_mostly(
            chance,
            (
                _mostly(chance, "OFFICER", "NURSE"),
                _mostly(chance, "DBS", "SC", None),
                _mostly(chance, "AAL3", "AAL2", "AAL1", None, "AAL9", often=0.6),
            ),
            None,
        ),
        access_reason=_mostly(chance, "ASSESSMENT", None),
        shielded=_rarely(chance, 0.15),
        about_somebody=chance.random() < 0.85,
        identifier=chance.random() < 0.7,
        omission=_mostly(chance, None, "UNKNOWN_DELAY", "NOT_YET_COMMENCED", often=0.7),
        detriment=_mostly(chance, "NOT_DETRIMENTAL", None, None, None, "DETRIMENTAL", often=0.7),
        relevant=chance.choice((True, True, True, False, None)),
        public_task=not _rarely(chance, 0.3),
        conditions=tuple(
            chance.sample(["DPA-S1-18", "DPA-S1-6", "DPA-S1-10"], chance.randint(0, 2))
        ),
        consent_not_obtained=_mostly(chance, None, "CANNOT_GIVE", "WOULD_PREJUDICE", often=0.6),
        parent_agreed=chance.choice((None, True, False)),
        child_agreed=chance.choice((None, True, False, False)),
        services=tuple(chance.choices(grounds, (6, 2, 1), k=chance.choice((0, 0, 0, 1, 2)))),
        elements=frozenset(_some(chance, tuple(ELEMENTS), 0)),
        taken=not _rarely(chance, 0.5),
        again=chance.random() < 0.15,
    )


def _pair(chance: Chance, tables: Tables) -> tuple[tuple[str, str], str, str]:
    """Return a sender and a recipient of some flow, now and then the other way round or any two."""
    protocols = [table for name, table in sorted(tables.items()) if table.get("flow")]
    protocol = chance.choice(protocols)
    flow = chance.choice(protocol["flow"])
    kind = _mostly(chance, chance.choice(flow["message_types"]).split("/")[0], *KINDS, "Other")

    def meant(names: list[str], barred: str) -> list[str]:
        parties = [p["agency"] for p in protocol["party"] if p["capacity"] != barred]
        return [one for one in parties if {one, TYPES[one]} & set(names)]

    senders, takers = meant(flow["from"], "RECEIVER"), meant(flow["to"], "SENDER")
    pairs = [(one, other) for one in senders for other in takers if one != other]
    pair = chance.choice(pairs or [("yot", "csc")])
    strangers = chance.choice((*AGENCIES, "nobody")), chance.choice((*AGENCIES, "nobody"))
    return _mostly(chance, pair, pair[::-1], strangers), kind, chance.choice(flow["purposes"])


def _consents(chance: Chance, said: Said, now: datetime) -> tuple[Consent, ...]:
    def instant() -> datetime:
        return now + chance.choice((-1, 0, 1)) * chance.choice(EDGES[:3])

    def one(number: int) -> Consent:
        early = now - timedelta(days=30)
        given_by, capacity = chance.choice(RIGHTLY)
        return replace(
            CONSENT,
            consent_id=f"c-{number}",
            subject=SubjectRef("ab12"),
            kind=_mostly(
                chance, "GDPR_BASIS", "CONFIDENTIALITY", "SERVICE_AGREEMENT", "RETAIN_18_25"
            ),
            status=_mostly(chance, "ACTIVE", "REFUSED", "WITHDRAWN", "EXPIRED", "SUPERSEDED"),
            purposes=frozenset(_mostly(chance, [said.purpose], ["YJ"], ["CP", "JOBS"])),
            message_types=frozenset(_mostly(chance, [said.type], ["Check"], ["Reply"])),
            recipients=frozenset({AgencyId(_mostly(chance, said.recipient, *AGENCIES))}),
            form=_mostly(
                chance, "EXPLICIT_WRITTEN", "EXPLICIT_VERBAL", "EXPLICIT_ELECTRONIC", "IMPLIED"
            ),
            given_at=_mostly(chance, early, instant()),
            expires_at=_mostly(chance, None, instant(), often=0.6),
            review_at=_mostly(chance, now + timedelta(days=30), instant()),
            given_by=_mostly(chance, given_by, *GIVERS),
            capacity=capacity,
            categories=frozenset(
                () if chance.random() < 0.6 else _some(chance, tuple(ELEMENTS.values()))
            ),
            assessment=_mostly(chance, _assessment(chance, early), None),
        )

    return tuple(one(number) for number in range(chance.choice((0, 1, 1, 1, 2, 3))))


def _override(chance: Chance, said: Said, now: datetime) -> Override | None:
    """Return a decision to go on without consent, most often one that reaches the message."""
    if chance.random() < 0.6:
        return None
    early, late = now - timedelta(hours=1), now + timedelta(hours=1)
    return Override(
        override_id="o-1",
        subject=SubjectRef("ab12"),
        agency=AgencyId(_mostly(chance, said.sender, *AGENCIES, often=0.95)),
        reason="SIGNIFICANT_HARM",
        gateway=chance.choice(("G-0", "G-1", "G-2")),
        purposes=frozenset(_mostly(chance, [said.purpose], PURPOSES, ["OTHER"], often=0.9)),
        message_types=frozenset(_mostly(chance, [said.type], KINDS, ["Other"], often=0.9)),
        recipients=frozenset({AgencyId(_mostly(chance, said.recipient, *AGENCIES, often=0.9))}),
        decided_by="d1",
        approved_by="a1",
        made_at=early,
        recorded_at=_mostly(chance, early, now, now + EDGES[2], often=0.8),
        until=_mostly(chance, late, now, now + EDGES[2], often=0.8),
        review_by=late,
    )


def _assessment(chance: Chance, at: datetime) -> Assessment:
    missed = _mostly(chance, "", *FACTORS)
    when = at + _mostly(chance, -1, 0, 1) * EDGES[1]
    return Assessment("SOCIAL_WORKER", when, frozenset(FACTORS) - {missed})


# -- the same case in the broker's own terms ---------------------------------------------------


def as_message(said: Said) -> ValidMessage:
    """Return the message that says so, as the broker would have it after examination."""
    person = said.practitioner
    subject = None
    if said.about_somebody:
        nhs_number = "9990000018" if said.identifier else None
        subject = Subject("key", nhs_number=nhs_number, omission_reason=said.omission)
    return message(
        _payload(said),
        subject,
        sender=AgencyId(said.sender),
        message_type=said.type,
        schema_version=said.version,
        purpose=said.purpose,
        protocol=said.names_protocol,
        gateway=said.names_gateway,
        practitioner=None if person is None else Practitioner("worker-1", *person),
        reason_for_access=said.access_reason,
        shielded=said.shielded,
    )


def as_facts(said: Said) -> DecisionFacts:
    """Return what is still known of it at disclosure, where the payload is not looked at."""
    return DecisionFacts(
        sender=AgencyId(said.sender),
        message_type=said.type,
        schema_version=said.version,
        purpose=said.purpose,
        protocol=said.names_protocol,
        gateway=said.names_gateway,
        shielded=said.shielded,
        has_subject=said.about_somebody,
        detriment=said.detriment,
        relevant=said.relevant is True,
        public_task=said.public_task,
        harm=oracle.harm(said),
        sensitive=bool(said.services),
        settled=True,
    )


def _payload(said: Said) -> str:
    basis = _element("RelevanceConsidered", _truth(said.relevant))
    basis += "".join(f"<Condition>{one}</Condition>" for one in said.conditions)
    basis += _element("ConsentNotObtained", said.consent_not_obtained)
    basis += _element("DetrimentTest", said.detriment)
    agreed = _element("ParentConsent", _truth(said.parent_agreed))
    agreed += _element("ChildConsent", _truth(said.child_agreed))
    services = "".join(
        f"<SensitiveInvolvement>{_element('Ground', ground)}</SensitiveInvolvement>"
        for ground in said.services
    )
    task = "<PublicTaskStatement>task</PublicTaskStatement>" if said.public_task else ""
    items = "".join(f"<{name}>?</{name}>" for name in sorted(said.elements))
    return (
        f'<Check xmlns="urn:x"><SharingBasis>{basis}</SharingBasis>'
        f"<Consent>{agreed}</Consent>{services}{items}{task}</Check>"
    )


def _element(name: str, value: str | None) -> str:
    return "" if value is None else f"<{name}>{escape(value)}</{name}>"


def _truth(value: bool | None) -> str | None:  # noqa: FBT001 - three answers: yes, no, none
    return None if value is None else str(value).lower()
