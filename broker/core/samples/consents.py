"""Sample messages about consent and about decisions to share without it."""

from datetime import date

from broker.core.samples.people import Dice, Person, subject
from broker.core.samples.tree import Tree

_FACTORS = ("MATURITY", "UNDERSTANDS_ISSUE", "UNDERSTANDS_RISKS", "KNOWS_ALTERNATIVES", "ADVISED")


def recorded(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a competent child's consent to early help, recorded by the school."""
    return [
        ("ConsentId", _id(dice)),
        subject(who, dice),
        ("Kind", "GDPR_BASIS"),
        ("Status", "ACTIVE"),
        ("GivenBy", "SUBJECT"),
        ("Capacity", "GILLICK_COMPETENT"),
        (
            "Assessment",
            [
                ("Assessor", "designated-safeguarding-lead"),
                ("AssessedAt", f"{today.isoformat()}T08:00:00Z"),
                *(("Factor", factor) for factor in _FACTORS),
            ],
        ),
        *_scope("EH", "Referral", "sunderland-csc"),
        ("Form", "EXPLICIT_WRITTEN"),
        ("Wording", "early-help-2026-1"),
        ("GivenAt", f"{today.isoformat()}T08:10:00Z"),
        ("ReviewAt", f"{today.year + 1}-01-31T00:00:00Z"),
    ]


def withdrawn(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return the withdrawal of a consent."""
    return [
        ("ConsentId", _id(dice)),
        subject(who, dice),
        ("WithdrawnBy", "SUBJECT"),
        ("WithdrawnAt", f"{today.isoformat()}T15:00:00Z"),
    ]


def notice(dice: Dice, _: Person, today: date) -> list[Tree]:
    """Return what the broker tells whoever received under a consent that was withdrawn."""
    return [
        ("ConsentId", _id(dice)),
        ("MessageId", _id(dice)),
        ("MessageType", "Referral"),
        ("Sender", "hylton-school"),
        ("At", f"{today.isoformat()}T15:00:01Z"),
        ("Effect", "FUTURE_SHARING_STOPPED"),
    ]


def decision(dice: Dice, who: Person, today: date) -> list[Tree]:
    """Return a decision of two practitioners to share without consent."""
    return [
        ("DecisionId", _id(dice)),
        subject(who, dice),
        ("Reason", "SIGNIFICANT_HARM"),
        ("Gateway", "CA04-10"),
        *_scope("EH", "Referral", "sunderland-csc"),
        ("ConsentNotObtained", "WOULD_PREJUDICE"),
        ("Necessity", "The child came to school hurt again; nobody else can act in time."),
        ("DetrimentTest", "NOT_DETRIMENTAL"),
        ("Consulted", "data-protection-officer"),
        ("DecidedBy", "P-4711"),
        ("Position", "designated-safeguarding-lead"),
        ("ApprovedBy", "P-0815"),
        ("ApproverPosition", "head-teacher"),
        ("MadeAt", f"{today.isoformat()}T08:20:00Z"),
        ("SubjectInformed", "false"),
        ("NotInformedReason", "It would put the child at risk."),
    ]


def override_notice(dice: Dice, _: Person, today: date) -> list[Tree]:
    """Return what the broker tells of a message that passed by such a decision."""
    return [
        ("DecisionId", _id(dice)),
        ("MessageId", _id(dice)),
        ("MessageType", "Referral"),
        ("Sender", "hylton-school"),
        ("Recipient", "sunderland-csc"),
        ("Reason", "SIGNIFICANT_HARM"),
        ("At", f"{today.isoformat()}T08:21:00Z"),
        ("ReviewBy", f"{today.isoformat()}T23:00:00Z"),
    ]


def _scope(purpose: str, message_type: str, recipient: str) -> list[Tree]:
    return [("Purpose", purpose), ("MessageType", message_type), ("Recipient", recipient)]


def _id(dice: Dice) -> str:
    return f"0190c0de-0000-7000-8000-{dice.number(0, 10**12 - 1):012d}"
