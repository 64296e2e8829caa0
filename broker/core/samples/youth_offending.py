"""Sample checks of a youth offending team and requests for information."""

from datetime import date, timedelta

from broker.core.samples.children import instant
from broker.core.samples.people import (
    Dice,
    Person,
    carer,
    household_member,
    involvement,
    practitioner_parts,
    sensitive_involvement,
    sharing_basis,
    subject,
)
from broker.core.samples.tree import Tree

_YOT = ("Sunderland youth offending team", "sunderland-yot")
_CSC = ("Sunderland children's social care", "sunderland-csc")
_ITEMS = (
    "KNOWN", "STATUS", "WORKER", "PLAN_DATES", "PR_HOLDERS", "SCHOOL", "ATTENDANCE",
    "EXCLUSIONS", "SEND", "PREV_DISPOSALS", "HEALTH_INVOLVEMENT",
)  # fmt: skip


def check_request(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a youth offending team's check."""
    return [
        ("RequestId", f"YOT-{dice.number(1, 99_999)}"),
        ("CaseRef", f"CW-{dice.number(1, 99_999)}"),
        ("Stage", dice.pick(("OOCD", "PRE_SENTENCE", "ORDER_START", "ORDER_REVIEW"))),
        ("LegalGateway", "CDA-115"),
        sharing_basis(),
        subject(who, dice),
        who.address,
        ("ItemsRequested", [("Item", item) for item in dice.some(_ITEMS)]),
        ("Requester", practitioner_parts(dice, today, *_YOT)),
        ("DueBy", instant(today, 17, days=1)),
    ]


def check_response(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return an answer that holds something in every category; of health in one of three."""
    started = today - timedelta(days=dice.number(60, 400))
    return [
        ("RequestId", f"YOT-{dice.number(1, 99_999)}"),
        ("RespondedAt", instant(today, 14)),
        sharing_basis(),
        subject(who, dice),
        ("Responder", practitioner_parts(dice, today, *_CSC)),
        ("Known", "true"),
        ("Status", "CIN"),
        ("Worker", practitioner_parts(dice, today, *_CSC)),
        ("Plan", [("PlanType", "CIN"), ("StartedOn", started.isoformat())]),
        carer(dice, today, "ParentalResponsibilityHolder"),
        involvement(dice, today, "School", "SCHOOL"),
        _attendance(dice, today),
        ("Exclusions", [_exclusion(dice, today)] if dice.chance(40) else []),
        ("SEND", [("Support", "SEN_SUPPORT"), ("Need", "Speech and language.")]),
        ("PreviousDisposals", [disposal(dice, today)] if dice.chance(60) else []),
        *_health(dice, today),
    ]


def _health(dice: Dice, today: date) -> list[Tree]:
    """Return who in health works with the child, or, in two of three, that this is not told."""
    if dice.chance(67):
        return [("Refusal", [("Item", "HEALTH_INVOLVEMENT"), ("Reason", "NO_CONSENT")])]
    return [
        involvement(dice, today, "HealthInvolvement", "UNIVERSAL_HEALTH"),
        sensitive_involvement(dice, today),
    ]


def _attendance(dice: Dice, today: date) -> Tree:
    return (
        "Attendance",
        [
            ("Percent", f"{dice.number(50, 99)}.{dice.number(0, 9)}"),
            ("From", (today - timedelta(days=120)).isoformat()),
            ("Until", today.isoformat()),
        ],
    )


def _exclusion(dice: Dice, today: date) -> Tree:
    return (
        "Exclusion",
        [
            ("Kind", "FIXED_PERIOD"),
            ("From", (today - timedelta(days=dice.number(20, 100))).isoformat()),
            ("Days", str(dice.number(1, 5))),
            ("Reason", "Persistent disruptive behaviour."),
        ],
    )


def disposal(dice: Dice, today: date) -> Tree:
    """Return an earlier outcome on record."""
    return (
        "Disposal",
        [
            ("Kind", dice.pick(("COMMUNITY_RESOLUTION", "YOUTH_CAUTION"))),
            ("On", (today - timedelta(days=dice.number(90, 700))).isoformat()),
            ("Offence", dice.pick(("Criminal damage", "Theft from a shop"))),
            ("OffenceCode", "CJS-CD71039"),
        ],
    )


def information_request(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a request of children's social care to the police or a health trust."""
    return [
        ("RequestId", f"IR-{dice.number(1, 99_999)}"),
        ("ReferralId", f"HYL-{dice.number(1000, 9999)}"),
        ("LegalGateway", "CA89-47"),
        sharing_basis(),
        (
            "PublicTaskStatement",
            "Needed for an enquiry under Children Act 1989 s.47, a task in the public interest.",
        ),
        subject(who, dice),
        who.address,
        (
            "Question",
            "Is anybody there known to you? Does anything since January bear on safety?",
        ),
        ("ItemsRequested", [("Item", "INVOLVEMENT"), ("Item", "SAFEGUARDING")]),
        ("Requester", practitioner_parts(dice, today, *_CSC)),
        ("DueBy", instant(today, 17)),
    ]


def information_response(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return an answer that holds something in every category."""
    return [
        ("RequestId", f"IR-{dice.number(1, 99_999)}"),
        ("RespondedAt", instant(today, 15)),
        sharing_basis(),
        subject(who, dice),
        ("Responder", practitioner_parts(dice, today, "Northumbria Police", "northumbria-police")),
        ("Known", "true"),
        who.address,
        involvement(dice, today, "Involvement", "YOT"),
        *([sensitive_involvement(dice, today)] if dice.chance(30) else []),
        household_member(dice, today),
        event(dice, today),
        event(dice, today),
        ("Safeguarding", "Two calls to the address this year; the children were seen and well."),
        ("Health", "No health information is held."),
        ("Education", "Reported missing from school once, found within the hour."),
        ("Offending", "One community resolution, completed."),
        ("Opinion", "The calls came at weekends; a visit then may show more."),
    ]


def event(dice: Dice, today: date) -> Tree:
    """Return an event of the last year."""
    return (
        "Event",
        [
            ("On", (today - timedelta(days=dice.number(10, 360))).isoformat()),
            (
                "Description",
                "Officers attended after a neighbour's call about shouting; all calm on arrival.",
            ),
        ],
    )


def information_refusal(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a refusal that reveals nothing."""
    return [
        ("RequestId", f"IR-{dice.number(1, 99_999)}"),
        ("RefusedAt", instant(today, 15)),
        subject(who, dice),
        ("Reason", dice.pick(("NO_CONSENT", "NOT_HELD", "GATEWAY_CARVEOUT"))),
        ("Explanation", "The request cannot be answered on the ground given."),
        (
            "AppealContact",
            practitioner_parts(dice, today, "Wearside NHS Foundation Trust", "wearside-nhs"),
        ),
    ]
