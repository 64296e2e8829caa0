"""Legal gateways: the power or duty that a disclosure rests on, and what the statute leaves out.

A gateway is data (protocols/gateways.toml): from whom, to whom, for which purposes, from what
day, with its carve-outs. Law changes in the middle of a case, so every row has its dates.
"""

from dataclasses import dataclass
from datetime import datetime

from broker.core.agency import Agency, AgencyLookup
from broker.core.reasons import Reason
from broker.core.table import Table

ANY = "any"
STANDS_BESIDE = frozenset({"CONDITION", "BASIS"})  # a gateway: it has to be in force as well
KINDS = frozenset({"POWER", "DUTY", "GENERAL_DUTY", "AIM", "CONDITION", "BASIS", "PUBLICATION"})
FLAGS = frozenset(
    {
        "relevant_authority_115",
        "listed_16LA",
        "pcsc_specified",
        "health_or_social_care",
        "competent_authority_le",
    }
)
# What a statute refuses with: that it does not reach (ISP-4.3), or leaves out (ISP-4.4).
CARVE_OUT_REASONS = {
    reason.name: reason
    for reason in (
        Reason.GATEWAY_CARVEOUT,
        Reason.GATEWAY_PARTIES,
        Reason.RECIPIENT_NOT_RELEVANT_AUTHORITY,
    )
}


@dataclass(frozen=True, slots=True)
class Route:
    """Who may disclose to whom, as selectors (see `selectors`)."""

    senders: frozenset[str]
    recipients: frozenset[str]


@dataclass(frozen=True, slots=True)
class CarveOut:
    """What the statute leaves out: it bites when all that it names is so.

    Empty ``senders``, ``recipients`` or ``categories`` name nothing, and so hold for any.
    """

    senders: frozenset[str]
    recipients: frozenset[str]
    categories: frozenset[str]
    reason: Reason
    text: str


@dataclass(frozen=True, slots=True)
class Gateway:
    """One row of the register of legal gateways.

    In force from ``in_force_from`` (included; None: not commenced) to ``in_force_until``
    (excluded; None: no end is known). ``bears_flow`` is false for what cannot authorise a
    disclosure by itself: an aim, a data-protection condition, a spent power.

    What it demands in the message: with ``detriment_test``, the outcome of that test; with
    ``relevance_test``, that a practitioner considered the information relevant; with
    ``asks_consent_reason``, why consent was not obtained; with ``asks_public_task``, for which
    task, under which law, the sender asks.
    """

    gateway_id: str
    statute: str
    kind: str
    routes: tuple[Route, ...]
    purposes: frozenset[str]
    in_force_from: datetime | None
    in_force_until: datetime | None
    carve_outs: tuple[CarveOut, ...]
    bears_flow: bool
    detriment_test: bool
    relevance_test: bool
    asks_consent_reason: bool
    asks_public_task: bool
    recipient_refusal: Reason
    note: str
    source: str

    @property
    def asks_categories(self) -> bool:
        """Whether a carve-out depends on what the payload holds."""
        return any(carve_out.categories for carve_out in self.carve_outs)

    def in_force(self, now: datetime) -> bool:
        """Return whether the statute is in force at ``now``."""
        started = self.in_force_from is not None and self.in_force_from <= now
        return started and (self.in_force_until is None or now < self.in_force_until)

    @property
    def stands_beside(self) -> bool:
        """Whether it is a lawful basis or a condition, which a disclosure needs besides a power."""
        return self.kind in STANDS_BESIDE and not self.bears_flow

    def meant_for(self, sender: frozenset[str], recipient: frozenset[str]) -> bool:
        """Return whether a basis or condition is meant for these; without routes, for all."""
        return not self.routes or self.parties_refusal(sender, recipient) is None

    def serves(self, purpose: str) -> bool:
        """Return whether the statute serves ``purpose``."""
        return purpose in self.purposes or ANY in self.purposes

    def parties_refusal(self, sender: frozenset[str], recipient: frozenset[str]) -> Reason | None:
        """Return why the agencies with these selectors are not reached; None if they are."""
        # step 4, ISP-4.3: the route that reaches furthest says what is lacking.
        reason = Reason.GATEWAY_PARTIES
        for route in self.routes:
            if route.senders.isdisjoint(sender):
                continue
            if not route.recipients.isdisjoint(recipient):
                return None
            reason = self.recipient_refusal
        return reason

    def carved_out(
        self,
        sender: frozenset[str],
        recipient: frozenset[str],
        categories: frozenset[str] | None,
    ) -> CarveOut | None:
        """Return the first carve-out that bites.

        ``categories`` are the data categories the payload holds; None, when that is not known,
        counts as every category.
        """
        for carve_out in self.carve_outs:
            if carve_out.senders and carve_out.senders.isdisjoint(sender):
                continue
            if carve_out.recipients and carve_out.recipients.isdisjoint(recipient):
                continue
            held = carve_out.categories if categories is None else categories
            if carve_out.categories and carve_out.categories.isdisjoint(held):
                continue
            return carve_out
        return None


def selectors(agency: Agency, agencies: AgencyLookup) -> frozenset[str]:
    """Return every way a gateway can name ``agency``.

    ``any``; its type; ``flag:NAME`` for each flag it holds; ``acting_for:NAME`` for each flag
    of the agency it acts for (Crime and Disorder Act 1998 s.115(1): a person acting on behalf
    of a relevant authority).
    """
    found = {ANY, agency.type} | {f"flag:{name}" for name in _held(agency)}
    principal = agencies.get(agency.flags.acting_for) if agency.flags.acting_for else None
    if principal is not None:
        found |= {f"acting_for:{name}" for name in _held(principal)}
    return frozenset(found)


def _held(agency: Agency) -> set[str]:
    return {name for name in FLAGS if getattr(agency.flags, name)}


def parse_gateway(
    table: Table, *, purposes: frozenset[str], types: frozenset[str], categories: frozenset[str]
) -> Gateway:
    """Return the gateway of one ``[[gateway]]`` table.

    Raises:
        Mistake: the table is not complete, or says something that is not known.
    """
    named = types | {ANY} | {f"{way}:{flag}" for way in ("flag", "acting_for") for flag in FLAGS}
    gateway = Gateway(
        gateway_id=table.text("id"),
        statute=table.text("statute"),
        kind=table.choice("kind", KINDS),
        routes=tuple(_route(route, named) for route in table.tables("route", optional=True)),
        purposes=frozenset(table.choices("purposes", purposes | {ANY}, ())),
        in_force_from=table.day_begins("in_force_from"),
        in_force_until=table.day_ends("last_day"),
        carve_outs=tuple(
            _carve_out(item, named, categories) for item in table.tables("carve_out", optional=True)
        ),
        bears_flow=table.flag("bears_flow", default=True),
        detriment_test=table.flag("detriment_test", default=False),
        relevance_test=table.flag("relevance_test", default=False),
        asks_public_task=table.flag("asks_public_task", default=False),
        asks_consent_reason=table.flag("asks_consent_reason", default=False),
        recipient_refusal=CARVE_OUT_REASONS[
            table.choice("recipient_refusal", CARVE_OUT_REASONS, "GATEWAY_PARTIES")
        ],
        note=table.text("note", ""),
        source=table.text("source"),
    )
    table.close()
    if gateway.bears_flow and not (gateway.routes and gateway.purposes):
        raise table.mistake("route", "a gateway that bears a flow needs a route and purposes")
    return gateway


def _route(table: Table, named: frozenset[str]) -> Route:
    route = Route(
        frozenset(table.choices("from", named)),
        frozenset(table.choices("to", named)),
    )
    table.close()
    return route


def _carve_out(table: Table, named: frozenset[str], categories: frozenset[str]) -> CarveOut:
    carve_out = CarveOut(
        senders=frozenset(table.choices("from", named, ())),
        recipients=frozenset(table.choices("to", named, ())),
        categories=frozenset(table.choices("categories", categories, ())),
        reason=CARVE_OUT_REASONS[table.choice("reason", CARVE_OUT_REASONS, "GATEWAY_CARVEOUT")],
        text=table.text("text"),
    )
    table.close()
    if not (carve_out.senders or carve_out.recipients or carve_out.categories):
        raise table.mistake("text", "say what is carved out: from, to or categories")
    return carve_out
