"""Sample notifications, notices and transfers: police, court, housing, records, health alerts."""

from datetime import date, timedelta

from broker.core.samples.children import instant
from broker.core.samples.people import (
    Dice,
    Person,
    address_parts,
    carer,
    involvement,
    name_parts,
    person,
    phone,
    practitioner_parts,
    sensitive_involvement,
    subject,
)
from broker.core.samples.tree import Tree, flag

_POLICE = ("Northumbria Police", "northumbria-police")
_COURT = ("Wearside Youth Court", "wearside-youth-court")
_YOT = ("Sunderland youth offending team", "sunderland-yot")
_OTHER_YOT = ("Gateshead youth offending team", "gateshead-yot")
_HOUSING = ("Gateshead Council, housing", "gateshead-housing")
_CSC = ("Sunderland children's social care", "sunderland-csc")
_OTHER_CSC = ("Gateshead children's social care", "gateshead-csc")
_SECURE = "wear-bridge-secure"
_SCHOOL = "Hylton Bridge Academy"
_OFFENCES = (("CJS-CD71039", "Criminal damage"), ("CJS-TH68010", "Theft from a shop"))


def police_notification(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return what the police tell of a child on the day of the disposal."""
    adult = person(dice.number(20_000, 99_999), today, adult=True)
    role: Tree = ("Role", "PARENT_OR_GUARDIAN")
    contact: Tree = ("Contact", practitioner_parts(dice, today, *_POLICE))
    return [
        ("NotificationId", f"PENY-{dice.number(1, 99_999)}"),
        ("ForceCode", "10"),
        ("CustodyRef", f"10NU/{dice.number(1, 99_999)}/26"),
        ("PNCID", f"26/{dice.number(1, 999_999)}X"),
        ("Event", dice.pick(("YOUTH_CAUTION", "COMMUNITY_RESOLUTION", "CHARGE"))),
        ("EventAt", instant(today, 9)),
        ("NotifyBy", instant(today, 9, days=1)),
        subject(who, dice),
        ("Ethnicity", dice.pick(("W1", "A2", "B2", "M9", "NS"))),
        who.address,
        ("HomeArea", "E08000024"),
        ("Phone", phone(dice)),
        ("SchoolName", _SCHOOL),
        carer(dice, today, "ParentOrGuardian"),
        ("AppropriateAdult", [("Name", name_parts(adult)), role, ("Phone", phone(dice))]),
        _alleged(dice, today),
        *([("RiskMarker", "EXPLOITATION")] if dice.chance(30) else []),
        ("Vulnerability", "SPEECH_AND_LANGUAGE"),
        ("VictimContact", flag(dice.chance(50))),
        ("Officer", [contact, ("CollarNumber", str(dice.number(1000, 9999)))]),
    ]


def _alleged(dice: Dice, today: date) -> Tree:
    code, words = dice.pick(_OFFENCES)
    return (
        "Offence",
        [
            ("OffenceCode", code),
            ("Description", words),
            ("CommittedOn", (today - timedelta(days=dice.number(1, 20))).isoformat()),
            ("Place", "A shop in Gateshead"),
            ("Admitted", "true"),
        ],
    )


def court_outcome(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return what a youth court decided, with a report it asks for."""
    code, words = dice.pick(_OFFENCES)
    due = today + timedelta(days=dice.number(14, 21))
    result: list[Tree] = [
        ("OffenceCode", code),
        ("Description", words),
        ("Plea", "GUILTY"),
        ("Finding", "GUILTY"),
        *([("Sentence", "REFERRAL_ORDER"), ("Months", "6")] if dice.chance(60) else []),
    ]
    return [
        ("CaseURN", f"10NU{dice.number(1_000_000, 9_999_999)}26"),
        ("CourtName", _COURT[0]),
        ("HearingDate", today.isoformat()),
        subject(who, dice),
        ("Result", result),
        ("RemandStatus", "CONDITIONAL_BAIL"),
        ("NextHearing", [("CourtName", _COURT[0]), ("At", instant(due, 10, days=1))]),
        ("ReportRequest", [("Kind", "PRE_SENTENCE"), ("DueBy", due.isoformat())]),
        ("Contact", practitioner_parts(dice, today, *_COURT)),
    ]


def stage_share(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the custody stage of an assessment with the education plan."""
    return [
        ("YOT", _YOT[1]),
        ("Stage", "CUSTODY"),
        subject(who, dice),
        _document(dice, "ASSETPLUS"),
        _document(dice, "EDUCATION_PLAN"),
        ("Recipient", _SECURE),
        ("JWPDeadline", instant(today, 17, days=10)),
        ("Contact", practitioner_parts(dice, today, *_YOT)),
    ]


def _document(dice: Dice, kind: str) -> Tree:
    digest = f"{dice.number(0, 2**60):016x}" * 4
    return (
        "Document",
        [("Kind", kind), ("DocRef", f"AP-{dice.number(1, 99_999)}"), ("Sha256", digest)],
    )


def case_transfer(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a case that moves from Sunderland to Gateshead."""
    started = today - timedelta(days=dice.number(20, 90))
    dates: list[Tree] = [
        ("StartedOn", started.isoformat()),
        ("EndedOn", (started + timedelta(days=182)).isoformat()),
    ]
    return [
        ("TransferId", f"CT-{dice.number(1, 99_999)}"),
        ("OriginatingYOT", _YOT[1]),
        ("OriginatingPersonId", f"CW-{dice.number(1, 99_999)}"),
        ("TargetYOT", _OTHER_YOT[1]),
        subject(who, dice),
        who.address,
        ("Order", [("Sentence", "REFERRAL_ORDER"), *dates]),
        ("EffectiveFrom", (today + timedelta(days=7)).isoformat()),
        ("CaretakingOnly", flag(dice.chance(30))),
        ("Contact", practitioner_parts(dice, today, *_YOT)),
    ]


def case_response(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the answer of the other team; one in three declines."""
    return [
        ("TransferId", f"CT-{dice.number(1, 99_999)}"),
        ("RespondedAt", instant(today, 14)),
        subject(who, dice),
        *_decision(dice, "The child still lives in Sunderland during the week."),
        ("Contact", practitioner_parts(dice, today, *_OTHER_YOT)),
    ]


def _decision(dice: Dice, why_not: str) -> list[Tree]:
    if dice.chance(33):
        return [("Decision", "DECLINED"), ("DeclineReason", why_not)]
    return [("Decision", "ACCEPTED")]


def placement(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the notice of a household with one child; the applicant is the person given."""
    offered = today - timedelta(days=dice.number(0, 20))
    due = offered + timedelta(days=14)
    child = person(dice.number(20_000, 99_999), today)
    return [
        ("NoticeId", f"S208-{dice.number(1, 99_999)}"),
        ("PlacedBy", _HOUSING[1]),
        ("Function", dice.pick(("S188", "S193"))),
        ("AvailableOn", offered.isoformat()),
        ("NoticeBy", due.isoformat()),
        ("GivenOn", today.isoformat()),
        ("Late", flag(today > due)),
        subject(who, dice),
        ("Others", [("Number", "1"), ("Description", "Child of school age")]),
        ("Address", address_parts(dice)),
        ("MovedFrom", address_parts(dice)),
        (
            "Child",
            [
                ("Name", name_parts(child)),
                ("BirthDate", child.birth_date.isoformat()),
                ("SchoolName", _SCHOOL),
                ("GPName", "Millfield Medical Group"),
            ],
        ),
        *([("RiskMarker", "CHILD_PROTECTION")] if dice.chance(30) else []),
        ("HousingOfficer", practitioner_parts(dice, today, *_HOUSING)),
    ]


def record_offer(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the offer of a record to another authority."""
    return [
        ("TransferId", f"RT-{dice.number(1, 99_999)}"),
        ("FromAuthority", _CSC[1]),
        ("ToAuthority", _OTHER_CSC[1]),
        subject(who, dice),
        ("MovedOn", (today - timedelta(days=3)).isoformat()),
        ("Shielded", flag(dice.chance(10))),
        ("PlanType", dice.pick(("CPP", "CIN"))),
        ("Contact", practitioner_parts(dice, today, *_CSC)),
    ]


def record_response(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the answer to an offer; one in three declines."""
    decision = _decision(dice, "The stay is for the holidays only.")
    taken: list[Tree] = [("ResponsibleFrom", today.isoformat()), ("ShieldSet", "false")]
    return [
        ("TransferId", f"RT-{dice.number(1, 99_999)}"),
        ("RespondedAt", instant(today, 11)),
        subject(who, dice),
        *decision,
        *(taken if len(decision) == 1 else []),
        ("Contact", practitioner_parts(dice, today, *_OTHER_CSC)),
    ]


def record(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the record of a child who moved."""
    started = today - timedelta(days=dice.number(30, 300))
    return [
        ("TransferId", f"RT-{dice.number(1, 99_999)}"),
        subject(who, dice),
        ("Shielded", "false"),
        who.address,
        ("Plan", [("PlanType", "CPP"), ("StartedOn", started.isoformat())]),
        involvement(dice, today, "Involvement", "SCHOOL"),
        *([sensitive_involvement(dice, today)] if dice.chance(30) else []),
        ("Summary", "Neglect, improving since spring; the aunt is the one the child trusts."),
        ("Contact", practitioner_parts(dice, today, *_CSC)),
    ]


def correction(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a notice that a date of birth was wrong."""
    message = f"01900000-0000-7000-8000-{dice.number(0, 10**12 - 1):012d}"
    return [
        ("CorrectionId", f"COR-{dice.number(1, 99_999)}"),
        ("CorrectedMessage", message),
        ("CorrectedAt", instant(today, 10)),
        subject(who, dice),
        ("Correction", [("Path", "Subject/BirthDate"), ("Action", "CHANGED")]),
        ("ReplacedBy", f"{message[:-1]}0"),
        ("Contact", practitioner_parts(dice, today, *_CSC)),
    ]


def _flagged(who: Person) -> Tree:
    return (
        "Subject",
        [("NHSNumber", who.nhs_number), ("BirthDate", who.birth_date.isoformat())],
    )


def plan_upload(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the flag of a child with a plan."""
    return [
        _flagged(who),
        ("PlanType", dice.pick(("CPP", "LAC"))),
        ("StartedOn", (today - timedelta(days=dice.number(10, 300))).isoformat()),
        ("LACode", "E08000024"),
        ("TeamName", "Children's assessment team"),
        ("Phone", phone(dice)),
        ("OutOfHoursPhone", phone(dice)),
    ]


def plan_end(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the end of a flag."""
    ended = today - timedelta(days=dice.number(0, 30))
    return [
        _flagged(who),
        ("PlanType", dice.pick(("CPP", "LAC"))),
        ("EndedOn", ended.isoformat()),
        ("EndReason", "The review ended the plan"),
    ]


def attendance(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a visit to unscheduled care."""
    return [
        _flagged(who),
        ("AttendedAt", instant(today, dice.number(0, 23))),
        ("SettingODS", "RX999"),
        ("SettingType", dice.pick(("EMERGENCY_DEPARTMENT", "WALK_IN_CENTRE"))),
        ("AccessorRole", "Emergency nurse practitioner"),
    ]
