"""A second opinion on every decision, written from the rule book and not from the code.

It knows no register, index or compiled clause: it goes through every flow of every sharing
protocol, and every gateway of each, straight from the tables of the files, notes every rule that
fails, and classifies at the end. It is slow and may be; it shares no code with broker.core.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

LONDON = ZoneInfo("Europe/London")
Table = Mapping[str, Any]
Tables = Mapping[str, Table]

# The order in which a clause is judged, by rule; where two rules fail, the earlier is told.
STEPS = {
    "ISP-3.2": 3,
    "ISP-3.3": 3,
    "ISP-3.4": 3,
    "ISP-3.5": 3,
    "ISP-3.13": 3,
    "ISP-4": 4,
    "ISP-4.6": 4,
    "ISP-5": 5,
    "ISP-6": 6,
    "ISP-7.1": 7,
    "ISP-8.2": 8,
    "ISP-9.4": 9,
}
ORDER = tuple(STEPS)
# How far a gateway came before it failed; the one that came furthest is told.
GATEWAY_DEPTH = {"ISP-4.2": 0, "ISP-4.3": 1, "ISP-4.4": 2}


@dataclass(frozen=True)
class Said:
    """What a message says, as a person would put it on paper."""

    sender: str
    recipient: str
    type: str = "Check"
    version: str = "1.0"
    purpose: str = "YJ"
    names_protocol: str | None = None
    names_gateway: str | None = None
    practitioner: tuple[str, str | None, str | None] | None = None  # role, clearance, level
    access_reason: str | None = None
    shielded: bool = False
    about_somebody: bool = True
    identifier: bool = False
    omission: str | None = None
    detriment: str | None = None
    relevant: bool | None = None
    public_task: bool = False
    conditions: tuple[str, ...] = ()
    consent_not_obtained: str | None = None
    parent_agreed: bool | None = None
    child_agreed: bool | None = None
    services: tuple[str | None, ...] = ()  # the ground of each sensitive service named
    elements: frozenset[str] = frozenset()  # the data items the payload holds
    taken: bool = True  # the recipient has said yes to the offer, where there is one
    again: bool = False  # permitted before; asked once more at the moment of disclosure


@dataclass(frozen=True)
class Verdict:
    """What was found: permitted under a clause and a gateway, or refused for a reason."""

    permitted: bool
    reason: str = ""
    step: int = 10
    protocol: str | None = None
    clause: str | None = None
    gateway: str | None = None
    strip_location: bool = False
    warnings: tuple[str, ...] = ()
    overridden: bool = False  # without the sender's decision to go on, it would not pass like this
    untold: frozenset[str] = frozenset()  # categories of data items that consent does not reach


@dataclass
class _Candidate:
    """One flow of one protocol with all that speaks against it."""

    protocol: Table
    flow: Table
    failures: dict[str, str] = field(default_factory=dict)  # rule to reason
    gateway: str | None = None

    @property
    def came(self) -> int:
        """How many rules it came through before the first that fails."""
        return next((n for n, rule in enumerate(ORDER) if rule in self.failures), len(ORDER))

    @property
    def name(self) -> str:
        return _name(self.protocol)


class Oracle:
    """The opinion on one partnership. ``elements`` gives the category of each data item."""

    def __init__(self, tables: Tables, categories: Mapping[str, str]) -> None:
        self.agencies = {t["id"]: t for name, t in tables.items() if name.startswith("agencies/")}
        self.protocols = [t for name, t in tables.items() if name.startswith("sharing/")]
        self.gateways = tables["gateways.toml"]["gateway"]
        self.purposes = {one["code"]: one for one in tables["purposes.toml"]["purpose"]}
        self.categories = categories

    def opinion(
        self, said: Said, consents: Sequence[Any], now: datetime, override: Any = None
    ) -> Verdict:
        """Return what the rule book makes of ``said`` at ``now``.

        ``override`` is a decision of the sender to share about this person without consent.
        """
        if (refusal := self._membership(said)) is not None:
            return refusal
        candidates = [
            candidate
            for protocol in sorted(self.protocols, key=lambda one: (one["id"], -one["version"]))
            if protocol["tier"] == 2
            for flow in protocol.get("flow", [])
            if self._reached(protocol, flow, said)
            for candidate in (*self._local(protocol, flow, said), _Candidate(protocol, flow))
        ]
        for one in candidates:
            self._examine(one, said, consents, now)
            if set(one.failures) & {"ISP-6"} and self._decided_to_go_on(one, said, override, now):
                del one.failures["ISP-6"]
        good = [one for one in candidates if not one.failures]
        if good:
            return self._permit(good[0], said, consents, now, override)
        if candidates:
            far = max(one.came for one in candidates)
            one = next(one for one in candidates if one.came == far)
            rule = ORDER[far]
            return Verdict(
                permitted=False,
                reason=one.failures[rule],
                step=STEPS[rule],
                protocol=one.name,
                clause=one.flow["id"],
            )
        return self._nothing_agreed(said)

    # -- steps 1 and 3 ---------------------------------------------------------------------

    def _membership(self, said: Said) -> Verdict | None:
        if said.recipient not in self.agencies:
            # A sender that is unknown comes to the same as one that is not active.
            return Verdict(permitted=False, reason="RECIPIENT_UNKNOWN", step=1)
        for name in (said.sender, said.recipient):
            if self.agencies.get(name, {"status": "unknown"}).get("status", "active") != "active":
                return Verdict(permitted=False, reason="AGENCY_SUSPENDED", step=1)
        return None

    def _between(self, protocol: Table, flow: Table, sender: str, recipient: str) -> bool:
        def party(name: str, barred: str, names: list[str]) -> bool:
            return any(
                one["agency"] == name
                and one["capacity"] != barred
                and (name in names or self.agencies[name]["type"] in names)
                for one in protocol["party"]
            )

        return (
            sender != recipient
            and party(sender, "RECEIVER", flow["from"])
            and party(recipient, "SENDER", flow["to"])
        )

    def _reached(self, protocol: Table, flow: Table, said: Said) -> bool:
        between = self._between(protocol, flow, said.sender, said.recipient)
        return between and said.type in _types(flow)

    def _local(self, protocol: Table, flow: Table, said: Said) -> list[_Candidate]:
        """What the two have agreed between them in the place of this flow (ISP-3.12)."""
        return [
            _Candidate(narrow, own)
            for narrow in self.protocols
            if narrow["tier"] == 3 and narrow["parent"] == _name(protocol)
            for own in narrow["flow"]
            if own["id"] == flow["id"] and self._reached(narrow, own, said)
        ]

    def _replaced(self, one: _Candidate, said: Said, now: datetime) -> bool:
        """Whether a local flow has begun, in whatever state it is now."""
        begun = [self._start(local.protocol) for local in self._local(one.protocol, one.flow, said)]
        return any(start is not None and start <= now for start in begun)

    def _nothing_agreed(self, said: Said) -> Verdict:
        def types(sender: str, recipient: str) -> set[str]:
            return {
                kind
                for protocol in self.protocols
                for flow in protocol.get("flow", [])
                if self._between(protocol, flow, sender, recipient)
                for kind in _types(flow)
            }

        if said.type in types(said.recipient, said.sender):
            reason = "DIRECTION"
        elif types(said.sender, said.recipient):
            reason = "TYPE_NOT_COVERED"
        else:
            reason = "NO_ISP"
        return Verdict(permitted=False, reason=reason, step=3)

    def _chain(self, protocol: Table) -> Iterator[Table]:
        yield protocol
        if "parent" in protocol and protocol["tier"] > 0:
            for one in self.protocols:
                if _name(one) == protocol["parent"]:
                    yield from self._chain(one)

    def _start(self, protocol: Table) -> datetime | None:
        """The first day, or the last signature; never while a signature lacks."""
        signed = {one["party"] for one in protocol.get("signatory", [])}
        if {one["agency"] for one in protocol["party"]} - signed:
            return None
        if protocol["status"] in ("DRAFT", "APPROVED"):
            return None
        days = [protocol["effective_from"], *(one["signed_on"] for one in protocol["signatory"])]
        return midnight(max(days))

    def _trouble(self, protocol: Table, now: datetime) -> str | None:
        if protocol["status"] == "SUSPENDED":
            return "ISP_SUSPENDED"
        if protocol["status"] == "TERMINATED":
            return "ISP_EXPIRED"
        start = self._start(protocol)
        if start is None or now < start:
            return "ISP_NOT_ACTIVE"
        if "last_day" in protocol and now >= midnight(protocol["last_day"] + timedelta(1)):
            return "ISP_EXPIRED"
        if now >= midnight(protocol["review_date"] + timedelta(90)):
            return "ISP_EXPIRED"
        for other in self.protocols:
            if other["id"] == protocol["id"] and other["version"] > protocol["version"]:
                begins = self._start(other)
                if begins is not None and now >= begins:
                    return "ISP_EXPIRED"
        return None

    # -- one clause against every rule -----------------------------------------------------

    def _examine(self, one: _Candidate, said: Said, consents: Sequence[Any], now: datetime) -> None:
        fails = one.failures
        self._covers(one, said, now)
        one.gateway, reason = self._gateway(one.flow, said, now)
        if one.gateway is None:
            fails["ISP-4"] = reason
        if (lack := self._beside(one.flow, said, now)) is not None:
            fails["ISP-4.6"] = lack
        if not said.again and not self._practitioner_good(one.flow.get("practitioner"), said):
            fails["ISP-5"] = "PRACTITIONER"
        if (lack := self._consent(one.flow, said, consents, now)) is not None:
            fails["ISP-6"] = lack
        late = said.omission == "NOT_YET_COMMENCED" and self._identifier_lacks(said, late=True)
        if (late or self._identifier_lacks(said)) and any(
            row["id"] == "CA04-16LC" and in_force(row, now) for row in self.gateways
        ):
            fails["ISP-7.1"] = "IDENTIFIER_MISSING"
        if said.shielded and one.flow.get("shielded") == "REFUSE":
            fails["ISP-8.2"] = "SHIELDED"
        if not said.again and _mandatory(one.flow) - said.elements:
            fails["ISP-9.4"] = "INCOMPLETE"

    def _covers(self, one: _Candidate, said: Said, now: datetime) -> None:
        fails = one.failures
        if said.names_protocol not in (None, one.protocol["id"], one.name):
            fails["ISP-3.2"] = "NO_ISP"
        if said.purpose not in one.flow["purposes"]:
            fails["ISP-3.3"] = "PURPOSE_NOT_COVERED"
        if f"{said.type}/{said.version}" not in one.flow["message_types"]:
            fails["ISP-3.4"] = "TYPE_NOT_COVERED"
        troubles = [self._trouble(protocol, now) for protocol in self._chain(one.protocol)]
        if troubles[0] is None and self._replaced(one, said, now):
            troubles[0] = "ISP_EXPIRED"
        if any(troubles):
            fails["ISP-3.5"] = next(trouble for trouble in troubles if trouble)
        if said.type == "RecordTransfer" and not (said.taken or said.again):
            fails["ISP-3.13"] = "NOT_TAKEN"

    # -- step 4 ----------------------------------------------------------------------------

    def _gateway(self, flow: Table, said: Said, now: datetime) -> tuple[str | None, str]:
        if said.detriment == "DETRIMENTAL":
            return None, "DETRIMENTAL"
        tried: list[tuple[int, str]] = []
        for name in flow["gateways"]:
            if said.names_gateway not in (None, name):
                continue
            row = next(row for row in self.gateways if row["id"] == name)
            rule, reason = self._row(row, said, now)
            if rule is None:
                return name, ""
            tried.append((GATEWAY_DEPTH[rule], reason))
        if not tried:
            return None, "GATEWAY_PARTIES"
        far = max(depth for depth, _ in tried)
        return None, next(reason for depth, reason in tried if depth == far)

    def _row(self, row: Table, said: Said, now: datetime) -> tuple[str | None, str]:
        if not in_force(row, now):
            return "ISP-4.2", "GATEWAY_NOT_EFFECTIVE"
        routes = row.get("route", [])
        from_here = [one for one in routes if self._named(said.sender, one["from"])]
        if not any(self._named(said.recipient, one["to"]) for one in from_here):
            other = row.get("recipient_refusal", "GATEWAY_PARTIES")
            return "ISP-4.3", other if from_here else "GATEWAY_PARTIES"
        if not {said.purpose, "any"} & set(row["purposes"]):
            return "ISP-4.3", "GATEWAY_PARTIES"
        if row.get("detriment_test") and said.detriment is None and not said.again:
            return "ISP-4.4", "GATEWAY_CARVEOUT"
        if row.get("relevance_test") and said.relevant is not True and not said.again:
            return "ISP-4.4", "GATEWAY_CARVEOUT"
        held = {self.categories[one] for one in said.elements if one in self.categories}
        for left_out in row.get("carve_out", []):
            if (
                self._named(said.sender, left_out.get("from") or ["any"])
                and self._named(said.recipient, left_out.get("to") or ["any"])
                and self._holds(left_out.get("categories"), held, said)
            ):
                return "ISP-4.4", left_out.get("reason", "GATEWAY_CARVEOUT")
        return None, ""

    def _beside(self, flow: Table, said: Said, now: datetime) -> str | None:
        """Whether the lawful bases and conditions that the flow names hold as well."""
        rows = {row["id"]: row for row in self.gateways}
        for row in (rows[name] for name in flow.get("conditions", [])):
            routes = row.get("route") or [{"from": ["any"], "to": ["any"]}]
            meant = any(
                self._named(said.sender, one["from"]) and self._named(said.recipient, one["to"])
                for one in routes
            )
            if row["kind"] not in ("CONDITION", "BASIS") or not meant:
                continue
            if not in_force(row, now):
                return "GATEWAY_NOT_EFFECTIVE"
            if row.get("asks_public_task") and not said.public_task and not said.again:
                return "PUBLIC_TASK_NOT_STATED"
        return None

    @staticmethod
    def _holds(categories: list[str] | None, held: set[str], said: Said) -> bool:
        if not categories:
            return True
        return not said.again and bool(held & set(categories))

    def _named(self, agency: str, names: list[str]) -> bool:
        """Whether a statute that names ``names`` means ``agency``."""
        table = self.agencies[agency]
        flags = table.get("flags", {})
        principal = self.agencies.get(flags.get("acting_for", ""), {}).get("flags", {})
        return any(
            name in ("any", table["type"])
            or (name.startswith("flag:") and bool(flags.get(name[5:])))
            or (name.startswith("acting_for:") and bool(principal.get(name[11:])))
            for name in names
        )

    # -- steps 5 to 8 ----------------------------------------------------------------------

    @staticmethod
    def _practitioner_good(rule: Table | None, said: Said) -> bool:
        if rule is None:
            return True
        if said.practitioner is None:
            return False
        role, clearance, level = said.practitioner
        levels = ["AAL1", "AAL2", "AAL3"]
        least = rule.get("authentication")
        strong = least is None or level in levels[levels.index(least) :]
        return (
            (role in rule.get("roles", [role]))
            and (clearance in rule.get("clearances", [clearance]))
            and strong
            and (said.access_reason is not None or not rule.get("reason_for_access", False))
        )

    def _model(self, flow: Table, said: Said) -> str:
        model: str = flow["consent"]
        return flow.get("sensitive_consent", model) if said.services else model

    def _consent(
        self, flow: Table, said: Said, consents: Sequence[Any], now: datetime
    ) -> str | None:
        model = self._model(flow, said)
        if model not in ("EXPLICIT_REQUIRED", "EXPLICIT_OR_HARM"):
            asks = any(
                row.get("asks_consent_reason")
                for row in self.gateways
                if row["id"] in flow.get("conditions", [])
            )
            told = said.consent_not_obtained or said.parent_agreed or said.child_agreed
            return None if told or said.again or not asks else "NO_CONSENT"
        kind = flow.get("consent_kind", "GDPR_BASIS")
        reason = consent_trouble(said, consents, now, kind)
        if reason is None or model == "EXPLICIT_REQUIRED":
            return reason
        if harm(said):
            return None
        # Asked again, it is not known whether harm was what opened the door before: only the
        # person's own no shuts it.
        return None if said.again and reason in ("NO_CONSENT", "CONSENT_SCOPE") else reason

    def _decided_to_go_on(self, one: _Candidate, said: Said, override: Any, now: datetime) -> bool:
        """Whether the sender decided to share just this without asking, on the power relied on.

        Who only has to say why consent was not obtained (ISP-6.5) has to say it all the same.
        """
        if override is None or not self._model(one.flow, said).startswith("EXPLICIT"):
            return False
        named = (
            (said.sender, {override.agency}),
            (said.recipient, override.recipients),
            (said.purpose, override.purposes),
            (said.type, override.message_types),
            (one.gateway, {override.gateway}),
        )
        lasts = not (now < override.recorded_at or override.until <= now)
        return lasts and all(what in listed for what, listed in named)

    def _identifier_lacks(self, said: Said, *, late: bool = False) -> bool:
        child = self.purposes.get(said.purpose, {}).get("child", False)
        told = said.identifier or (said.omission is not None and not late)
        return said.about_somebody and child and not told and not said.again

    # -- step 10 ---------------------------------------------------------------------------

    def _untold(
        self, flow: Table, said: Said, consents: Sequence[Any], now: datetime
    ) -> frozenset[str]:
        """The categories that the person's words leave out, where the sharing rests on them."""
        model, kind = self._model(flow, said), flow.get("consent_kind", "GDPR_BASIS")
        if model not in ("EXPLICIT_REQUIRED", "EXPLICIT_OR_HARM"):
            return frozenset()
        if model == "EXPLICIT_OR_HARM" and harm(said):
            return frozenset()
        if consent_trouble(said, consents, now, kind) is not None:
            return frozenset()
        about = speaking(said, consents)
        yes = [one for one in about if good(one, now, kind)]
        no = [one for one in about if one.status in ("REFUSED", "WITHDRAWN")]
        filing = ("administrative", "identity", "practitioner")
        return frozenset(
            category
            for category in self.categories.values()
            if any(category in one.categories for one in no)
            or not any(
                not one.categories or category in one.categories or category in filing
                for one in yes
            )
        )

    def _permit(
        self, one: _Candidate, said: Said, consents: Sequence[Any], now: datetime, override: Any
    ) -> Verdict:
        goes_on = self._decided_to_go_on(one, said, override, now)
        warnings = [
            "overdue"
            for protocol in self._chain(one.protocol)
            if protocol["status"] == "OVERDUE" or now >= midnight(protocol["review_date"])
        ]
        model = self._model(one.flow, said)
        if model == "INFORMED_ONLY":
            warnings.append("informed")
        partly = limited(one.flow, model, said, consents, now)
        if partly and not goes_on:
            warnings.append("partly")
        if model == "EXPLICIT_OR_HARM" and harm(said):
            warnings.append("harm")
        if said.shielded:
            warnings.append("unplaced")
        if self._identifier_lacks(said):
            warnings.append("identifier")
        needed = partly or self._consent(one.flow, said, consents, now) is not None
        if goes_on and needed:
            warnings.append("overridden")
        return Verdict(
            permitted=True,
            protocol=one.name,
            clause=one.flow["id"],
            gateway=one.gateway,
            strip_location=said.shielded,
            warnings=tuple(warnings),
            overridden=goes_on and needed,
            untold=frozenset() if goes_on else self._untold(one.flow, said, consents, now),
        )


def midnight(day: date) -> datetime:
    """The instant a day begins in London."""
    return datetime(day.year, day.month, day.day, tzinfo=LONDON).astimezone(UTC)


def in_force(row: Table, now: datetime) -> bool:
    """Whether a statute has commenced and not ended, in London's days."""
    if "in_force_from" not in row:
        return False
    today = now.astimezone(LONDON).date()
    return bool(row["in_force_from"] <= today <= row.get("last_day", date.max))


def harm(said: Said) -> bool:
    """Whether a ground of harm is stated, for the whole or for each sensitive service."""
    whole = "DPA-S1-18" in said.conditions and said.consent_not_obtained is not None
    each = bool(said.services) and all(ground == "SIGNIFICANT_HARM" for ground in said.services)
    return whole or each


def good(one: Any, now: datetime, kind: str) -> bool:
    """Whether this is a yes of this kind that counts at this moment."""
    begun = one.given_at <= now
    ended = one.expires_at is not None and one.expires_at <= now
    explicit = one.form in ("EXPLICIT_WRITTEN", "EXPLICIT_VERBAL", "EXPLICIT_ELECTRONIC")
    asked_again = one.review_at <= now
    if one.status != "ACTIVE" or one.kind != kind or not explicit or asked_again:
        return False
    return begun and not ended and rightly_given(one)


def speaking(said: Said, consents: Sequence[Any]) -> list[Any]:
    """The records that speak of sharing just this."""
    return [
        one
        for one in consents
        if one.kind in ("GDPR_BASIS", "CONFIDENTIALITY")  # of the others, a no says nothing of this
        and said.purpose in one.purposes
        and said.type in one.message_types
        and said.recipient in one.recipients
    ]


def consent_trouble(
    said: Said, consents: Sequence[Any], now: datetime, kind: str = "GDPR_BASIS"
) -> str | None:
    """Why the consents on record do not carry a disclosure that rests on ``kind`` of consent."""
    about = speaking(said, consents)
    noes = [one for one in about if one.status in ("REFUSED", "WITHDRAWN")]
    yes = [one for one in about if good(one, now, kind)]
    declined = {category for one in noes for category in one.categories}
    agreed = {category for one in yes for category in one.categories}
    some = any(not one.categories for one in yes) or bool(agreed - declined)
    # A no to all of it always counts; a no to a part only where nothing else is left.
    counting = [one for one in noes if not (one.categories and some)]
    for status in ("WITHDRAWN", "REFUSED"):
        if any(one.status == status and not one.categories for one in counting):
            return f"CONSENT_{status}"
    for status in ("WITHDRAWN", "REFUSED"):
        if any(one.status == status for one in counting):
            return f"CONSENT_{status}"
    if some:
        return None
    # Agreement to a service, or to a record being kept, says nothing of sharing, either way.
    return "CONSENT_SCOPE" if any(good(one, now, kind) for one in consents) else "NO_CONSENT"


def limited(flow: Table, model: str, said: Said, consents: Sequence[Any], now: datetime) -> bool:
    """Whether it passes on consent that leaves something out, be it in the message or not."""
    kind = flow.get("consent_kind", "GDPR_BASIS")
    if model == "EXPLICIT_OR_HARM" and harm(said):
        return False
    if not model.startswith("EXPLICIT") or consent_trouble(said, consents, now, kind) is not None:
        return False
    about = speaking(said, consents)
    every = any(good(one, now, kind) and not one.categories for one in about)
    noes = [one for one in about if one.status in ("REFUSED", "WITHDRAWN")]
    return not every or any(one.categories for one in noes)


def rightly_given(consent: Any) -> bool:
    """Whether the one who gave it may give it (domain 5.3), at that moment."""
    who, able = consent.given_by, consent.capacity
    if able in ("ADULT", "16_17_PRESUMED"):
        return bool(who == "SUBJECT")
    if able == "MCA_LACKS":
        return who in ("ATTORNEY", "DEPUTY")
    right = {"GILLICK_COMPETENT": "SUBJECT", "GILLICK_NOT_COMPETENT": "PR_HOLDER"}.get(able)
    looked_at = {
        "MATURITY",
        "UNDERSTANDS_ISSUE",
        "UNDERSTANDS_RISKS",
        "KNOWS_ALTERNATIVES",
        "ADVISED",
    }
    assessed = consent.assessment
    thorough = assessed is not None and looked_at <= assessed.factors and assessed.assessor
    return bool(who == right and thorough and assessed.at <= consent.given_at)


def _name(protocol: Table) -> str:
    return f"{protocol['id']}@{protocol['version']}"


def _types(flow: Table) -> set[str]:
    return {text.split("/")[0] for text in flow["message_types"]}


def _mandatory(flow: Table) -> set[str]:
    items = [item for item in flow["item"] if item["include"] == "MANDATORY"]
    return {target for item in items for target in item["targets"]}
