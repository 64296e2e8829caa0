"""Sharing protocols as the parties signed them: who, what for, on what basis, which flows.

Tier 0 is the memorandum by which an agency joins, tier 1 the community agreement of a group,
tier 2 the sharing protocol for a purpose: only its flows let a message pass (domain §5.1).
Tier 3 is a local flow, by which some parties of one narrow it between them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from broker.core.clocks import ClockRule
from broker.core.consent import GDPR_BASIS, GROUNDS
from broker.core.gateway import Gateway
from broker.core.identity import AgencyId
from broker.core.outcome import FieldRule
from broker.core.reasons import Reason
from broker.core.table import Table, london_midnight

REVIEW_GRACE_DAYS = 90  # after the review date, still enforceable, with a warning (ISP-3.8)
PURPOSE_TIER = 2
LOCAL_TIER = 3

UNSIGNED_STATES = frozenset({"DRAFT", "APPROVED"})
# One party stops a protocol (ISP-3.11), and with it all that stands on it (ISP-3.9); what is lost
# of the policy log stops every one (ISP-3.14).
STOPPED_STATES = {"SUSPENDED": Reason.ISP_SUSPENDED, "TERMINATED": Reason.ISP_EXPIRED}
STATES = UNSIGNED_STATES | STOPPED_STATES.keys() | {"ACTIVE", "OVERDUE"}
BEGINNING_OF_TIME = datetime.min.replace(tzinfo=UTC)
END_OF_TIME = datetime.max.replace(tzinfo=UTC)
CONSENT_MODELS = frozenset(
    {"NOT_REQUIRED", "INFORMED_ONLY", "EXPLICIT_REQUIRED", "EXPLICIT_OR_HARM", "NOT_APPLICABLE"}
)
EXPLICIT_MODELS = frozenset({"EXPLICIT_REQUIRED", "EXPLICIT_OR_HARM"})
INCLUDES = frozenset({"MANDATORY", "ALLOWED", "FORBIDDEN"})
TRANSFORMS = frozenset({"NONE", "MASK", "GENERALISE", "HASH"})
AUTHENTICATION = ("AAL1", "AAL2", "AAL3")
CATEGORY = "category:"


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The names a sharing protocol may use; ``lists`` are the code lists of the partnership."""

    agencies: Mapping[AgencyId, str]  # id to type
    gateways: Mapping[str, Gateway]
    purposes: frozenset[str]
    lists: Mapping[str, frozenset[str]]
    clocks: Mapping[str, ClockRule] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Party:
    """An agency bound by a sharing protocol, and whether it may send, receive or both."""

    agency: AgencyId
    role: str
    capacity: str

    @property
    def sends(self) -> bool:
        """Whether the party may send."""
        return self.capacity != "RECEIVER"

    @property
    def receives(self) -> bool:
        """Whether the party may receive."""
        return self.capacity != "SENDER"


@dataclass(frozen=True, slots=True)
class Signatory:
    """Who signed for a party, and from when that counts."""

    party: AgencyId
    name: str
    position: str
    signed_from: datetime
    signature_ref: str


@dataclass(frozen=True, slots=True)
class PractitionerRule:
    """What the message must say of the person behind it. Empty: not asked."""

    roles: frozenset[str] = frozenset()
    clearances: frozenset[str] = frozenset()
    authentication: str = ""  # the least of AAL1, AAL2, AAL3
    reason_for_access: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """One line of what may pass: message types from some parties to others, and which items.

    ``senders`` and ``recipients`` are agency ids, or agency types that stand for every party
    of that type.
    """

    flow_id: str
    message_types: tuple[tuple[str, str], ...]  # type, version
    senders: tuple[str, ...]
    recipients: tuple[str, ...]
    purposes: frozenset[str]
    gateways: tuple[Gateway, ...]
    conditions: tuple[Gateway, ...]
    consent: str
    sensitive_consent: str  # asked instead when the payload names a sensitive service
    consent_kind: str  # which ground it is that explicit consent gives; the other never will do
    items: tuple[FieldRule, ...]
    necessity: Mapping[str, str]  # target to text
    practitioner: PractitionerRule | None
    refuses_shielded: bool  # otherwise address and location are removed for a shielded person
    method: Mapping[str, str]
    clocks: tuple[ClockRule, ...] = ()

    @property
    def asks_consent(self) -> bool:
        """Whether some messages pass only with explicit consent."""
        return bool(EXPLICIT_MODELS & {self.consent, self.sensitive_consent})


@dataclass(frozen=True, slots=True)
class SharingProtocol:
    """An agreement in one version. Two versions of one id are two of these.

    ``in_force_from`` is None until every party has signed; ``in_force_until`` is the first
    instant no longer in force, None when no end was agreed.
    """

    protocol_id: str
    version: int
    title: str
    tier: int
    parent: str | None
    status: str
    in_force_from: datetime | None
    in_force_until: datetime | None
    review_date: date
    lead: AgencyId
    parties: tuple[Party, ...]
    signatories: tuple[Signatory, ...]
    purposes: Mapping[str, str]  # code to statement
    flows: tuple[Flow, ...]
    terms: Mapping[str, object]
    file: str

    @property
    def reference(self) -> str:
        """The name with its version, as a message may cite it."""
        return f"{self.protocol_id}@{self.version}"

    def standing(self, now: datetime) -> Reason | None:
        """Return why nothing may pass under this protocol at ``now``; None if it may."""
        # step 3, ISP-3.5: from its first day to its last; before ISP-3.11 is met it has no first.
        if self.status in STOPPED_STATES:
            return STOPPED_STATES[self.status]
        if now < self.stands_from:
            return Reason.ISP_NOT_ACTIVE
        return Reason.ISP_EXPIRED if now >= self.stands_until else None

    @property
    def stands_from(self) -> datetime:
        """The first instant at which something may pass; the end of time if none."""
        if self.in_force_from is None or self.status in STOPPED_STATES:
            return END_OF_TIME
        return self.in_force_from

    @property
    def stands_until(self) -> datetime:
        """The first instant at which nothing may pass any more."""
        return min(self.in_force_until or END_OF_TIME, london_midnight(self.lapses_on))

    @property
    def lapses_on(self) -> date:
        """The first day on which the review is too long overdue for anything to pass."""
        return self.review_date + timedelta(days=REVIEW_GRACE_DAYS)

    @property
    def overdue_from(self) -> datetime:
        """The first instant at which its review is due."""
        if self.status == "OVERDUE":
            return BEGINNING_OF_TIME
        return london_midnight(self.review_date)


# What each block of terms must say, in the words people look for (domain §5.2).
_TERMS: Mapping[str, tuple[str, ...]] = {
    "transparency": ("privacy_notice", "informed", "explanation"),
    "security": ("transport", "signature", "encryption", "clearance", "authentication"),
    "retention": ("period", "trigger", "disposal", "broker_payload"),
    "data_quality": ("match_threshold", "correction_route"),
    "rights": ("access", "rectification", "objection", "contact"),
    "breach": ("notify_lead_within", "notify_regulator_within", "contact"),
    "complaints": ("route", "acknowledge_within"),
    "termination": ("notice", "return_or_delete"),
}


_METHOD = ("description", "frequency", "method", "max_latency")


def parse_protocol(table: Table, vocabulary: Vocabulary) -> SharingProtocol:
    """Return the sharing protocol of one file.

    Raises:
        Mistake: the file is not complete, or names what does not exist.
    """
    tier = table.number("tier", 0)
    if tier > LOCAL_TIER:
        cure = "write 0 (memorandum), 1 (community), 2 (purpose) or 3 (local flow)"
        raise table.mistake("tier", cure)
    parties = tuple(_party(item, vocabulary) for item in table.tables("party"))
    signed = table.tables("signatory", optional=True)
    signatories = tuple(_signatory(item, parties) for item in signed)
    status = table.choice("status", STATES)
    protocol = SharingProtocol(
        protocol_id=table.identifier("id"),
        version=table.number("version", 1),
        title=table.text("title"),
        tier=tier,
        parent=table.text("parent") if tier else None,
        status=status,
        in_force_from=_in_force_from(table, status, parties, signatories),
        in_force_until=table.day_ends("last_day"),
        review_date=table.day("review_date"),
        lead=_agency(table, "lead_organisation", vocabulary),
        parties=parties,
        signatories=signatories,
        purposes=_purposes(table, tier, vocabulary),
        flows=_flows(table, tier, parties, vocabulary),
        terms=_terms(table, tier, vocabulary),
        file=table.file,
    )
    table.close()
    return protocol


def _party(table: Table, vocabulary: Vocabulary) -> Party:
    party = Party(
        _agency(table, "agency", vocabulary),
        table.choice("role", {"CONTROLLER", "JOINT", "PROCESSOR"}),
        table.choice("capacity", {"SENDER", "RECEIVER", "BOTH"}),
    )
    table.close()
    return party


def _agency(table: Table, key: str, vocabulary: Vocabulary) -> AgencyId:
    return AgencyId(table.choice(key, vocabulary.agencies))


def _signatory(table: Table, parties: tuple[Party, ...]) -> Signatory:
    signatory = Signatory(
        AgencyId(table.choice("party", {party.agency for party in parties})),
        table.text("name"),
        table.text("position"),
        london_midnight(table.day("signed_on")),
        table.text("signature_ref"),
    )
    table.close()
    return signatory


def _in_force_from(
    table: Table, status: str, parties: tuple[Party, ...], signatories: tuple[Signatory, ...]
) -> datetime | None:
    """Return the later of the agreed first day and of when it was signed (ISP-3.5).

    ``activated_at`` comes from the policy log, where every signature is checked.
    """
    first = london_midnight(table.day("effective_from"))
    if table.has("activated_at"):
        return max(first, table.instant("activated_at"))
    unsigned = {party.agency for party in parties} - {one.party for one in signatories}
    if status in UNSIGNED_STATES or unsigned:
        return None
    return max(first, *(one.signed_from for one in signatories))


def _purposes(table: Table, tier: int, vocabulary: Vocabulary) -> Mapping[str, str]:
    purposes = {}
    for item in table.tables("purpose", optional=tier < PURPOSE_TIER):
        purposes[item.choice("code", vocabulary.purposes)] = item.text("statement")
        item.text("benefits")
        item.close()
    return purposes


def _terms(table: Table, tier: int, vocabulary: Vocabulary) -> Mapping[str, object]:
    """Check that every block of terms is there and complete; they are kept as written."""
    light = tier != PURPOSE_TIER  # a local flow has the terms of the one above it
    lists = vocabulary.lists
    table.choice("instrument", {"ISP", "DDA", "JCA", "DPA"})
    if not light:
        table.choices("subject_categories", lists["SubjectCategory"])
        table.choice("controller_model", {"SEPARATE", "JOINT"})
        table.choice("onward_sharing", {"PROHIBITED", "WITH_PERMISSION", "LISTED"})
        for key in ("dpia_ref", "risk_score", "secondary_use", "automated_decision"):
            table.text(key)
    for basis in table.tables("lawful_basis", optional=light):
        basis.text("article_6")
        basis.text("condition")
        basis.choices("gateways", vocabulary.gateways)
        basis.close()
    for name, keys in _TERMS.items():
        block = table.table(name, optional=light)
        if block.content or not light:
            for key in keys:
                block.text(key)
            block.close()
    return table.content


def _flows(
    table: Table, tier: int, parties: tuple[Party, ...], vocabulary: Vocabulary
) -> tuple[Flow, ...]:
    if tier < PURPOSE_TIER:
        return ()
    own = frozenset(item.text("code") for item in table.tables("purpose"))
    flows = tuple(_flow(item, own, parties, vocabulary) for item in table.tables("flow"))
    names = [flow.flow_id for flow in flows]
    if len(set(names)) != len(names):
        raise table.mistake("flow", "give every flow an id of its own")
    return flows


def _flow(
    table: Table, purposes: frozenset[str], parties: tuple[Party, ...], vocabulary: Vocabulary
) -> Flow:
    gateways = vocabulary.gateways
    bearing = [name for name, gateway in gateways.items() if gateway.bears_flow]
    attached = [name for name, gateway in gateways.items() if not gateway.bears_flow]
    types = vocabulary.agencies
    senders = {party.agency: types[party.agency] for party in parties if party.sends}
    takers = {party.agency: types[party.agency] for party in parties if party.receives}
    items, necessity = _items(table, vocabulary)
    flow = Flow(
        flow_id=table.identifier("id"),
        message_types=tuple(_type(table, text) for text in table.texts("message_types")),
        senders=table.choices("from", {*senders, *senders.values()}),
        recipients=table.choices("to", {*takers, *takers.values()}),
        purposes=frozenset(table.choices("purposes", purposes)),
        gateways=tuple(gateways[name] for name in table.choices("gateways", bearing)),
        conditions=tuple(gateways[name] for name in table.choices("conditions", attached, ())),
        consent=(consent := table.choice("consent", CONSENT_MODELS)),
        sensitive_consent=table.choice("sensitive_consent", CONSENT_MODELS, consent),
        consent_kind=table.choice("consent_kind", GROUNDS, GDPR_BASIS),
        items=items,
        necessity=necessity,
        practitioner=_practitioner(table),
        refuses_shielded=table.choice("shielded", {"STRIP", "REFUSE"}, "STRIP") == "REFUSE",
        method={key: table.text(key) for key in _METHOD},
        clocks=tuple(
            vocabulary.clocks[name] for name in table.choices("clocks", vocabulary.clocks, ())
        ),
    )
    table.close()
    return flow


def _type(table: Table, text: str) -> tuple[str, str]:
    name, slash, version = text.partition("/")
    if not (name and slash and version):
        raise table.mistake("message_types", 'write type and version, such as "Referral/1.0"')
    return name, version


def _items(table: Table, vocabulary: Vocabulary) -> tuple[tuple[FieldRule, ...], Mapping[str, str]]:
    """Return the rules of the data items, and why each is necessary."""
    categories = {f"{CATEGORY}{name}" for name in vocabulary.lists["DataCategory"]}
    rules: list[FieldRule] = []
    necessity: dict[str, str] = {}
    for item in table.tables("item"):
        include = item.choice("include", INCLUDES)
        transform = item.choice("transform", TRANSFORMS, "NONE")
        why = item.text("necessity")
        for target in item.texts("targets"):
            if target.startswith(CATEGORY) and target not in categories:
                item.choices("targets", categories)
            if include == "MANDATORY" and target.startswith(CATEGORY):
                raise item.mistake("include", "MANDATORY names a path, not a category")
            if target in necessity:
                raise item.mistake("targets", f"{target} has a rule in this flow already")
            rules.append(FieldRule(target, include, transform))
            necessity[target] = why
        item.close()
    return tuple(rules), necessity


def _practitioner(table: Table) -> PractitionerRule | None:
    if not table.has("practitioner"):
        return None
    block = table.table("practitioner")
    rule = PractitionerRule(
        roles=frozenset(block.texts("roles", ())),
        clearances=frozenset(block.texts("clearances", ())),
        authentication=block.choice("authentication", AUTHENTICATION, ""),
        reason_for_access=block.flag("reason_for_access", default=False),
    )
    block.close()
    return rule
