"""Sample messages of the child index and of referrals."""

import base64
import hashlib
from datetime import date, datetime, time, timedelta, timezone

from broker.core.samples.people import (
    Dice,
    Person,
    address_parts,
    carer,
    household_member,
    involvement,
    name_parts,
    person,
    phone,
    practitioner_parts,
    sensitive_involvement,
    sharing_basis,
    subject,
)
from broker.core.samples.tree import Tree

_BST = timezone(timedelta(hours=1))


def instant(today: date, hour: int, days: int = 0) -> str:
    """Return an instant on British summer time."""
    return datetime.combine(today + timedelta(days=days), time(hour, 30), _BST).isoformat()


def attachment(dice: Dice, size: int) -> Tree:
    """Return a file of ``size`` bytes inside the message."""
    content = hashlib.shake_256(str(dice.number(0, 10**9)).encode()).digest(size)
    return (
        "Attachment",
        [
            ("Name", "Chronology.pdf"),
            ("MediaType", "application/pdf"),
            ("Content", base64.b64encode(content).decode()),
            ("Sha256", hashlib.sha256(content).hexdigest()),
        ],
    )


def referral(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a school's referral to children's social care, about 5 KB."""
    return [
        ("ReferralId", f"HYL-{dice.number(1000, 9999)}"),
        ("ReferralType", "SAFEGUARDING"),
        ("SubmittedAt", instant(today, 15)),
        _telephone_call(dice, today),
        ("ImmediateRisk", "false"),
        ("RiskOpinion", [("Level", "MEDIUM"), ("Reasoning", "Two absences and a changed manner.")]),
        sharing_basis(),
        (
            "Referrer",
            [
                ("Contact", practitioner_parts(dice, today, "Hylton Academy", "hylton-school")),
                ("Mobile", "07700 900142"),
                ("RelationshipToChild", "Designated safeguarding lead at the child's school"),
            ],
        ),
        (
            "Consent",
            [
                ("ParentAware", "true"),
                ("ParentConsent", "false"),
                ("ChildAware", "true"),
                ("ChildConsent", "true"),
                (
                    "ReasonIfNo",
                    "The parent was told and disagrees; the school judged that it must share.",
                ),
            ],
        ),
        subject(who, dice),
        _child(dice, who, today),
        household_member(dice, today),
        (
            "Professional",
            [
                ("Role", "SCHOOL_NURSE"),
                (
                    "Contact",
                    practitioner_parts(dice, today, "Wearside 0-19 service", "wearside-nhs"),
                ),
            ],
        ),
        _prior_involvement(dice),
        ("Assessment", [("Done", "NO")]),
        _reason(today),
        (
            "SignedBy",
            [
                ("Name", name_parts(person(dice.number(10_000, 19_999), today, adult=True))),
                ("SignedOn", today.isoformat()),
                ("DiscussedWithManager", "true"),
            ],
        ),
    ]


def _telephone_call(dice: Dice, today: date) -> Tree:
    answered = person(dice.number(10_000, 19_999), today, adult=True)
    return (
        "ConfirmsTelephoneReferral",
        [("At", instant(today, 11)), ("SpokenTo", name_parts(answered))],
    )


def _child(dice: Dice, who: Person, today: date) -> Tree:
    return (
        "Child",
        [
            ("Ethnicity", dice.pick(("W1", "A2", "B2", "M9", "NS"))),
            ("FirstLanguage", dice.pick(("English", "Polski", "বাংলা"))),
            ("InterpreterNeeded", "false"),
            ("HomeAddress", who.address[1]),
            ("PreviousAddress", address_parts(dice)),
            ("Phone", phone(dice)),
            ("Disability", [("Disabled", "false")]),
            ("SEND", "Support in school for speech and language."),
            involvement(dice, today, "School", "SCHOOL"),
            involvement(dice, today, "GP", "GP"),
        ],
    )


def _prior_involvement(dice: Dice) -> Tree:
    services = (
        "ChildrensSocialCare", "CAMHS", "SEND", "EducationWelfare", "SpecialistHealth",
        "AdultServices", "YouthJustice", "PoliceProbation", "Housing", "Other",
    )  # fmt: skip
    answers = ("YES", "NO", "NOT_KNOWN")
    return ("PriorInvolvement", [(service, dice.pick(answers)) for service in services])


def _reason(today: date) -> Tree:
    return (
        "Reason",
        [
            (
                "WorriesAndImpact",
                (
                    "The child has come to school without a coat or lunch on six days this month "
                    "and falls asleep in lessons. Staff who know the child well describe a child "
                    "who used to be lively and now avoids talk of home."
                ),
            ),
            ("HarmLikely", "Neglect of basic care if nothing changes in the household."),
            (
                "Disclosure",
                [
                    ("By", "The child"),
                    ("On", (today - timedelta(days=3)).isoformat()),
                    ("Account", "“Nobody gets up in the morning, so I get my sister ready.”"),
                ],
            ),
            (
                "WorkingWell",
                "Attendance was good until spring; an aunt collects the children on Fridays.",
            ),
            ("SupportTried", "Breakfast club since April, and two meetings with the parent."),
            (
                "AnalysisOfRisk",
                "A pattern of some weeks, not of a single day; the parent may need support too.",
            ),
            ("RiskFactor", "PARENTAL_MENTAL_HEALTH"),
            ("CategoryOfAbuse", "NEG"),
        ],
    )


def acknowledgement(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the receiving team's acknowledgement."""
    return [
        ("ReferralId", f"HYL-{dice.number(1000, 9999)}"),
        subject(who, dice),
        ("ReceivedAt", instant(today, 16)),
        (
            "ReceivingTeam",
            [
                ("Name", "Integrated contact and referral team"),
                ("Phone", phone(dice)),
                ("OutOfHoursPhone", phone(dice)),
                ("Email", "icrt@sunderland-csc.example"),
            ],
        ),
        ("DecisionDueBy", instant(today, 16, days=1)),
    ]


def outcome(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the decision on a referral."""
    team = "Sunderland children's social care"
    return [
        ("ReferralId", f"HYL-{dice.number(1000, 9999)}"),
        subject(who, dice),
        ("DecidedAt", instant(today, 12, days=1)),
        ("Decision", dice.pick(("S17", "EARLY_HELP", "S47"))),
        ("Reason", "The worries are recent and specific, and the family accepts a visit."),
        ("AllocatedWorker", practitioner_parts(dice, today, team, "sunderland-csc")),
        (
            "FeedbackToReferrer",
            "A social worker visits this week; please go on with the breakfast club.",
        ),
    ]


def index_update(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return what a council supplies to the index."""
    sensitive = [sensitive_involvement(dice, today)] if dice.chance(40) else []
    return [
        ("UpdateId", f"CIU-{dice.number(1, 99_999)}"),
        ("Obligation", "MUST"),
        ("SourceAgency", "sunderland-csc"),
        ("AsOf", today.isoformat()),
        sharing_basis(),
        subject(who, dice),
        ("AddressStatus", "CURRENT"),
        who.address,
        carer(dice, today, "Carer"),
        carer(dice, today, "Carer"),
        involvement(dice, today, "Education", "SCHOOL"),
        involvement(dice, today, "PrimaryMedical", "GP"),
        involvement(dice, today, "Involvement", "CSC_CIN"),
        *sensitive,
        (
            "LeadProfessional",
            practitioner_parts(dice, today, "Sunderland children's social care", "sunderland-csc"),
        ),
        ("CAF", [("Exists", "false")]),
        ("Shielding", [("Shielded", "false")]),
        ("ResponsibleAuthority", "E08000024"),
        ("RetentionState", "LIVE"),
    ]


def involvement_started(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a new involvement; one in four is of a sensitive service."""
    service = dice.pick(("CSC_CIN", "YOT", "VCS", "SEND"))
    ordinary = involvement(dice, today, "Involvement", service)
    return [
        ("InvolvementId", f"INV-{dice.number(1, 99_999)}"),
        sharing_basis(),
        subject(who, dice),
        sensitive_involvement(dice, today) if dice.chance(25) else ordinary,
    ]


def involvement_ended(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the end of an involvement."""
    return [
        ("InvolvementId", f"INV-{dice.number(1, 99_999)}"),
        subject(who, dice),
        ("EndedOn", today.isoformat()),
        ("EndReason", dice.pick(("CASE_CLOSED", "TRANSFERRED", "MOVED_AWAY"))),
    ]


def who_else_query(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a health visitor's question to the index."""
    return [
        ("QueryId", f"WEQ-{dice.number(1, 99_999)}"),
        ("ReasonForAccess", dice.pick(("NEW_INVOLVEMENT", "ASSESSMENT", "REFERRAL_DECISION"))),
        ("OwnInvolvementRef", f"SYS1-{dice.number(1, 99_999)}"),
        sharing_basis(),
        subject(who, dice),
        (
            "Requester",
            practitioner_parts(dice, today, "Wearside NHS Foundation Trust", "wearside-nhs"),
        ),
        ("DueBy", instant(today, 17)),
    ]


def who_else_response(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the answer of the index, with a match in three of four."""
    if dice.chance(25):
        told: list[Tree] = [("MatchStatus", dice.pick(("NO_MATCH", "MULTIPLE", "MATCH_SHIELDED")))]
    else:
        services = dice.some(("SCHOOL", "CSC_CIN", "YOT", "UNIVERSAL_HEALTH", "VCS"))
        told = [
            ("MatchStatus", "MATCH"),
            *(involvement(dice, today, "Involvement", service) for service in services),
            ("CAF", [("Exists", "true")]),
            (
                "LeadProfessional",
                practitioner_parts(dice, today, "Hylton Academy", "hylton-school"),
            ),
        ]
    brokered = told[0][1] == "MATCH" and dice.chance(50)
    return [
        ("QueryId", f"WEQ-{dice.number(1, 99_999)}"),
        ("RespondedAt", instant(today, 10)),
        subject(who, dice),
        *told,
        ("BrokeredContactAvailable", "true" if brokered else "false"),
    ]


def brokered_request(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a request to be put in touch."""
    return [
        ("RequestId", f"BCR-{dice.number(1, 99_999)}"),
        ("QueryId", f"WEQ-{dice.number(1, 99_999)}"),
        ("ReasonForAccess", "ASSESSMENT"),
        ("Reason", "We plan support at home and do not want to work across one another."),
        sharing_basis(),
        subject(who, dice),
        (
            "Requester",
            practitioner_parts(dice, today, "Wearside NHS Foundation Trust", "wearside-nhs"),
        ),
        ("DueBy", instant(today, 17, days=2)),
    ]


def brokered_result(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the outcome of a request to be put in touch."""
    head: list[Tree] = [
        ("RequestId", f"BCR-{dice.number(1, 99_999)}"),
        subject(who, dice),
        ("DecidedAt", instant(today, 14, days=1)),
    ]
    if dice.chance(40):
        return [*head, ("Outcome", "DECLINED")]
    contact = practitioner_parts(dice, today, "Wearside NHS Foundation Trust", "wearside-nhs")
    return [*head, ("Outcome", "ACCEPTED"), ("Contact", contact)]
