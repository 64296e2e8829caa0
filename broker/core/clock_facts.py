"""What a ledger entry says to the clocks: which start, and which are stopped.

The ledger holds it all: what was accepted under which clause, what was acknowledged, and which
message answers which. Nothing else is looked at, so clocks can be made again from it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import median
from typing import Any

from broker.core.clocks import LEVELS, WARNED, ClockRule, ClockState, Deadlines, deadlines
from broker.core.instant import from_millis
from broker.core.limits import OVERRIDE_ESCALATE_S, OVERRIDE_REVIEW_S
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted, RecipientVerdict
from broker.core.protocol import Register
from broker.core.rule import text_of
from broker.core.table import london_midnight
from broker.core.workdays import Term, Unit

REVIEWED = "REVIEWED"
# Not one that a flow may name: every such decision is reviewed, whatever was agreed.
OVERRIDE_REVIEW = ClockRule(
    clock_id="OVERRIDE-REVIEW",
    title="Review of a decision to share without consent",
    starts="ACCEPTED",
    within=Term(OVERRIDE_REVIEW_S // 3600, Unit.HOURS),
    stops=frozenset({REVIEWED}),
    escalate_after=Term(OVERRIDE_ESCALATE_S // 3600, Unit.HOURS),
    source="ISP-6.6",
)
_REVIEWS = ("override", "override-review")
SMALL = 5  # fewer than this are not told apart: a handful of referrals points at a family


@dataclass(frozen=True, slots=True)
class Started:
    """A clock that starts with a message for one recipient."""

    submission_id: str
    message_id: str
    sender: str
    recipient: str
    protocol: str
    clause: str
    rule: ClockRule
    at: datetime
    times: Deadlines


@dataclass(frozen=True, slots=True)
class Stopped:
    """Evidence that may stop clocks: a level, or a message of a type that answers.

    The clock's message is known by its submission, or by its sender and the sender's id.
    """

    by: str  # L2, L3, L4 or a message type
    recipient: str
    at: datetime
    submission_id: str | None = None
    sender: str | None = None
    message_id: str | None = None


def read_entry(entry: Mapping[str, Any], register: Register) -> Iterator[Started | Stopped]:
    """Yield what ``entry`` of the ledger says to the clocks."""
    if entry["kind"] == "submission":
        yield from _starts(entry, register)
        yield from _answers(entry)
    elif entry["kind"] == "evidence" and entry["level"] in LEVELS:
        yield Stopped(
            by=entry["level"],
            recipient=entry["recipient"],
            at=from_millis(entry["at"]),
            submission_id=entry["submission"],
        )
    elif entry["kind"] in _REVIEWS and entry.get("submission") is not None:
        yield _reviewed(entry)


def _reviewed(entry: Mapping[str, Any]) -> Started | Stopped:
    """Return that the review of a decision to share without consent is due, or was done."""
    agency, at = entry["agency"], from_millis(entry["at"])
    if entry["kind"] == "override-review":
        return Stopped(REVIEWED, agency, at, submission_id=entry["submission"])
    review_by = from_millis(entry["review_by"])
    escalated = review_by + timedelta(seconds=OVERRIDE_ESCALATE_S)
    return Started(
        submission_id=entry["submission"],
        message_id=entry["message_id"],
        sender=agency,
        recipient=agency,  # which reviews what it decided
        protocol=entry["protocol"],
        clause="",
        rule=OVERRIDE_REVIEW,
        at=at,
        times=Deadlines(review_by - (review_by - at) / WARNED, review_by, escalated),
    )


def stated_starts(
    message: ValidMessage, verdicts: Iterable[RecipientVerdict], register: Register
) -> dict[str, datetime]:
    """Return when the payload says that its clocks started, by the element that says so.

    Nothing is said of what is yet to come, nor of what a recipient is not shown.
    """
    found: dict[str, datetime] = {}
    for verdict in verdicts:
        decision = verdict.decision
        if not isinstance(decision, Permitted):
            continue
        for rule in register.clocks(f"{decision.protocol}@{decision.version}", decision.clause):
            said = _said(message, rule.element) if rule.element else None
            if said is not None and rule.element not in verdict.withheld:
                found[rule.element] = said
    return found


def _said(message: ValidMessage, element: str) -> datetime | None:
    text = text_of(message.payload, element)
    if not text:
        return None
    said = (
        datetime.fromisoformat(text) if "T" in text else london_midnight(date.fromisoformat(text))
    )
    return min(said.astimezone(UTC), message.header.created_at)


def _starts(entry: Mapping[str, Any], register: Register) -> Iterator[Started]:
    header = entry["header"]
    for decision in entry["decisions"]:
        if not decision["permitted"]:
            continue
        reference = f"{decision['protocol']}@{decision['version']}"
        for rule in register.clocks(reference, decision["clause"]):
            accepted = rule.starts == "ACCEPTED"
            at = from_millis(entry["received_at"] if accepted else header["created_at"])
            shown = rule.element not in decision["withheld"]
            if shown and rule.element in entry.get("stated", ()):
                at = from_millis(entry["stated"][rule.element])
            yield Started(
                submission_id=entry["submission"],
                message_id=header["message_id"],
                sender=header["sender"],
                recipient=decision["recipient"],
                protocol=reference,
                clause=decision["clause"],
                rule=rule,
                at=at,
                times=deadlines(rule, at, register.calendar),
            )


def _answers(entry: Mapping[str, Any]) -> Iterator[Stopped]:
    """Yield, for each recipient that may have it, that this message answers one of theirs."""
    header = entry["header"]
    if header["correlation_id"] is None:
        return
    for decision in entry["decisions"]:
        if decision["permitted"]:
            yield Stopped(
                by=header["type"],
                recipient=header["sender"],
                at=from_millis(entry["received_at"]),
                sender=decision["recipient"],
                message_id=header["correlation_id"],
            )


@dataclass(frozen=True, slots=True)
class Ran:
    """One clock as the figures see it: no message, no person, no sender."""

    clock_id: str
    recipient: str
    state: ClockState
    took_s: float | None  # from its start to what stopped it


def performance(clocks: Sequence[Ran]) -> list[dict[str, object]]:
    """Return for each clock and recipient how many ran and how many were met in time.

    Of fewer than `SMALL` nothing is said but that they are few. "*" stands for everybody.
    """
    groups: dict[tuple[str, str], list[Ran]] = {}
    for one in clocks:
        for name in ("*", one.recipient):
            groups.setdefault((one.clock_id, name), []).append(one)
    return [_figures(*key, group) for key, group in sorted(groups.items())]


def _figures(clock_id: str, recipient: str, group: Sequence[Ran]) -> dict[str, object]:
    told: dict[str, object] = {"clock": clock_id, "recipient": recipient}
    if len(group) < SMALL:
        return told | {"count": f"fewer than {SMALL}"}
    decided = [one for one in group if one.state not in (ClockState.RUNNING, ClockState.DUE)]
    met = sum(one.state is ClockState.MET for one in decided)
    took = [one.took_s for one in group if one.took_s is not None]
    return told | {
        "count": len(group),
        "open": sum(one.took_s is None for one in group),
        "on_time_percent": round(100 * met / len(decided)) if len(decided) >= SMALL else None,
        "median_hours": round(median(took) / 3600, 1) if len(took) >= SMALL else None,
    }
