"""Invented, valid payloads of every message type: for demos, tests and measurements.

A payload depends on its arguments alone. ``person`` fixes whom it is about apart from
everything else, so that the messages of one story can be about one child.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial

from broker.core.samples import children, consents, notices, vacancy, youth_offending
from broker.core.samples.people import Dice, Person, household_member, involvement, person
from broker.core.samples.tree import Tree, render

TODAY = date(2026, 6, 1)
_Builder = Callable[[Dice, Person, date], list[Tree]]
_Filler = Callable[[Dice, date], Tree]


@dataclass(frozen=True, slots=True)
class _Sample:
    family: str
    build: _Builder
    # How it grows: what may be repeated without end, and the elements it stands after.
    fill: tuple[_Filler, ...] = ()
    inside: str = ""  # grow within this child instead of the root


def sample_types() -> tuple[str, ...]:
    """Return every message type that has samples."""
    return tuple(_SAMPLES)


def sample_payload(
    message_type: str,
    seed: int = 0,
    *,
    person_seed: int | None = None,
    size_bytes: int = 0,
    today: date = TODAY,
) -> bytes:
    """Return a valid payload in UTF-8; the same arguments give the same bytes.

    ``person_seed`` says whom it is about (default: as ``seed``). With ``size_bytes`` the
    payload is grown, by repeating what may be repeated, to at least that many bytes.

    Raises:
        KeyError: no such message type.
        ValueError: nothing in a payload of this type can be repeated.
    """
    sample = _SAMPLES[message_type]
    dice = Dice(f"{message_type}:{seed}")
    who = person(seed if person_seed is None else person_seed, today)
    parts = sample.build(dice, who, today)
    namespace = f"urn:fame:{sample.family}:1.0"
    missing = size_bytes - len(render((message_type, parts), namespace).encode())
    if missing > 0:
        parts = _grown(sample, parts, _filling(sample, dice, today, missing))
    return render((message_type, parts), namespace).encode()


def _filling(sample: _Sample, dice: Dice, today: date, missing: int) -> list[Tree]:
    if not sample.fill:
        raise ValueError("a payload of this type cannot grow")
    added: list[Tree] = []
    while missing > 0:
        tree = sample.fill[len(added) % len(sample.fill)](dice, today)
        added.append(tree)
        missing -= len(render(tree).encode())
    return added


def _grown(sample: _Sample, parts: Sequence[Tree], added: Sequence[Tree]) -> list[Tree]:
    """Return ``parts`` with each added tree after the last one of its name, or at the end."""
    if sample.inside:
        return [
            (name, _inserted(content, added)) if name == sample.inside else (name, content)
            for name, content in parts
        ]
    return _inserted(parts, added)


def _inserted(content: str | Sequence[Tree], added: Sequence[Tree]) -> list[Tree]:
    parts = [part for part in content if isinstance(part, tuple)]
    for name in dict.fromkeys(tree[0] for tree in added):
        places = [index for index, part in enumerate(parts) if part[0] == name]
        at = places[-1] + 1 if places else len(parts)
        parts[at:at] = [tree for tree in added if tree[0] == name]
    return parts


# -- one line each ---------------------------------------------------------------------------


def _published(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [vacancy.vacancy(dice, today, ref=vacancy.reference(dice))]


def _updated(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [vacancy.vacancy(dice, today, ref=vacancy.reference(dice), version=2)]


def _ended(reason: str, dice: Dice, _: Person, today: date) -> list[Tree]:
    return vacancy.ended(dice, today, reason)


def _snapshot(dice: Dice, _: Person, today: date) -> list[Tree]:
    listed = [vacancy.vacancy(dice, today, ref=f"GMBC-{number}") for number in (1, 2)]
    return [vacancy.employer(), ("TakenAt", f"{today.isoformat()}T06:00:00+01:00"), *listed]


def _another_vacancy(dice: Dice, today: date) -> Tree:
    return vacancy.vacancy(dice, today, ref=f"GMBC-{dice.number(10**9, 10**12)}")


def _feedback(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [
        ("ReportId", f"FB-{dice.number(1, 99_999)}"),
        ("Channel", "North East Jobs"),
        ("ReportedAt", f"{today.isoformat()}T07:15:00+01:00"),
        *(vacancy.feedback_item(dice) for _ in range(4)),
    ]


def _non_delivery(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [
        ("MessageId", f"01900000-0000-7000-8000-{dice.number(0, 10**12 - 1):012d}"),
        ("MessageType", "VacancyPublished"),
        ("Recipient", "ne-jobs-portal"),
        ("Outcome", "EXPIRED"),
        ("Reason", "recipient.not_collected"),
        ("At", f"{today.isoformat()}T08:00:00Z"),
        ("Attempts", str(dice.number(0, 9))),
    ]


def _clock_notice(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [
        ("MessageId", f"01900000-0000-7000-8000-{dice.number(0, 10**12 - 1):012d}"),
        ("MessageType", "Referral"),
        ("Sender", "hylton-school"),
        ("Recipient", "gateshead-csc"),
        ("Clock", "MASH-ACK"),
        ("State", dice.pick(("DUE", "OVERDUE", "ESCALATED"))),
        ("StartedAt", f"{today.isoformat()}T08:00:00Z"),
        ("InTimeBefore", f"{today.isoformat()}T16:00:00Z"),
        ("At", f"{today.isoformat()}T15:00:00Z"),
    ]


def _access_notice(dice: Dice, _: Person, today: date) -> list[Tree]:
    return [
        ("MessageId", f"01900000-0000-7000-8000-{dice.number(0, 10**12 - 1):012d}"),
        ("MessageType", "WhoElseResponse"),
        ("ShownBy", "regional-index"),
        ("ShownTo", "hylton-school"),
        ("SubjectRef", f"{dice.number(0, 10**12 - 1):032x}"),
        ("Purpose", "INDEX"),
        ("ReasonForAccess", dice.pick(("ASSESSMENT", "EMERGENCY"))),
        ("At", f"{today.isoformat()}T15:00:00Z"),
    ]


def _attachment(dice: Dice, _: date) -> Tree:
    return children.attachment(dice, 3000)


def _vacancy_attachment(dice: Dice, _: date) -> Tree:
    return vacancy.attachment(dice)


def _feedback_item(dice: Dice, _: date) -> Tree:
    return vacancy.feedback_item(dice)


def _involvement(dice: Dice, today: date) -> Tree:
    service = dice.pick(("EARLY_HELP", "SEND", "VCS", "UNIVERSAL_HEALTH"))
    return involvement(dice, today, "Involvement", service)


_HOME_AND_FILES: tuple[_Filler, ...] = (*(household_member,) * 4, _attachment)
_SAMPLES: Mapping[str, _Sample] = {
    "VacancyPublished": _Sample("vacancy", _published, (_vacancy_attachment,), "Vacancy"),
    "VacancyUpdated": _Sample("vacancy", _updated, (_vacancy_attachment,), "Vacancy"),
    "VacancyClosed": _Sample("vacancy", partial(_ended, "EARLY_CLOSE")),
    "VacancyWithdrawn": _Sample("vacancy", partial(_ended, "NOT_FILLING")),
    "VacancySnapshot": _Sample("vacancy", _snapshot, (_another_vacancy,)),
    "VacancyFeedbackReport": _Sample("vacancy", _feedback, (_feedback_item,)),
    "ChildIndexUpdate": _Sample("child-index", children.index_update, (_involvement,)),
    "InvolvementStarted": _Sample("child-index", children.involvement_started),
    "InvolvementEnded": _Sample("child-index", children.involvement_ended),
    "WhoElseQuery": _Sample("child-index", children.who_else_query),
    "WhoElseResponse": _Sample("child-index", children.who_else_response),
    "BrokeredContactRequest": _Sample("child-index", children.brokered_request),
    "BrokeredContactResult": _Sample("child-index", children.brokered_result),
    "Referral": _Sample("referral", children.referral, _HOME_AND_FILES),
    "ReferralAcknowledgement": _Sample("referral", children.acknowledgement),
    "ReferralOutcome": _Sample("referral", children.outcome),
    "YOTCheckRequest": _Sample("youth-offending", youth_offending.check_request),
    "YOTCheckResponse": _Sample("youth-offending", youth_offending.check_response),
    "InformationRequest": _Sample("youth-offending", youth_offending.information_request),
    "InformationResponse": _Sample(
        "youth-offending", youth_offending.information_response, _HOME_AND_FILES
    ),
    "InformationRefusal": _Sample("youth-offending", youth_offending.information_refusal),
    "PoliceNotification": _Sample("youth-justice", notices.police_notification),
    "CourtOutcome": _Sample("youth-justice", notices.court_outcome),
    "AssetPlusStageShare": _Sample("youth-justice", notices.stage_share),
    "CaseTransfer": _Sample("youth-justice", notices.case_transfer),
    "CaseTransferResponse": _Sample("youth-justice", notices.case_response),
    "HouseholdPlacementNotice": _Sample("household", notices.placement),
    "RecordTransferOffer": _Sample("record", notices.record_offer),
    "RecordTransferResponse": _Sample("record", notices.record_response),
    "RecordTransfer": _Sample("record", notices.record),
    "CorrectionNotice": _Sample("record", notices.correction),
    "PlanUpload": _Sample("health-alert", notices.plan_upload),
    "PlanEnd": _Sample("health-alert", notices.plan_end),
    "AttendanceAlert": _Sample("health-alert", notices.attendance),
    "ConsentRecorded": _Sample("consent", consents.recorded),
    "ConsentWithdrawn": _Sample("consent", consents.withdrawn),
    "ConsentNotice": _Sample("consent", consents.notice),
    "DisclosureDecision": _Sample("consent", consents.decision),
    "OverrideNotice": _Sample("consent", consents.override_notice),
    "NonDeliveryReport": _Sample("report", _non_delivery),
    "ClockNotice": _Sample("clock", _clock_notice),
    "AccessNotice": _Sample("access", _access_notice),
}
