"""Who may give which consent for a person: the rules of domain §5.3, each as one line of a table.

From 16 a person is presumed able to decide (Family Law Reform Act 1969 s.8; Mental Capacity
Act 2005 s.1). Below 16 a child who is Gillick competent decides alone, and that was assessed
for this very decision; one who is not is spoken for by a holder of parental responsibility.
For an adult who lacks capacity an attorney or a deputy speaks. A carer without parental
responsibility never does.
"""

from dataclasses import dataclass
from datetime import datetime

SUBJECT = "SUBJECT"
GIVERS = ("SUBJECT", "PR_HOLDER", "CARER_NO_PR", "ATTORNEY", "DEPUTY", "NONE")
CAPACITIES = (
    "ADULT",
    "16_17_PRESUMED",
    "GILLICK_COMPETENT",
    "GILLICK_NOT_COMPETENT",
    "MCA_LACKS",
)
# What an assessment of Gillick competence looks at.
FACTORS = ("MATURITY", "UNDERSTANDS_ISSUE", "UNDERSTANDS_RISKS", "KNOWS_ALTERNATIVES", "ADVISED")
ASSESSED = frozenset({"GILLICK_COMPETENT", "GILLICK_NOT_COMPETENT"})

_GIVES = frozenset(
    {
        ("SUBJECT", "ADULT"),
        ("SUBJECT", "16_17_PRESUMED"),
        ("SUBJECT", "GILLICK_COMPETENT"),
        ("PR_HOLDER", "GILLICK_NOT_COMPETENT"),
        ("ATTORNEY", "MCA_LACKS"),
        ("DEPUTY", "MCA_LACKS"),
    }
)
# Keeping a record from 18 to 25 is agreed to by the young person, nobody else.
_GIVES_RETENTION = frozenset({("SUBJECT", "ADULT"), ("SUBJECT", "16_17_PRESUMED")})


@dataclass(frozen=True, slots=True)
class Assessment:
    """An assessment of Gillick competence for one decision; ``assessor`` is a role, no name."""

    assessor: str
    at: datetime
    factors: frozenset[str]

    def complete(self, given_at: datetime) -> bool:
        """Return whether it looked at every factor, before the consent that rests on it."""
        return bool(self.assessor) and self.factors.issuperset(FACTORS) and self.at <= given_at


def may_give(
    kind: str, given_by: str, capacity: str, assessment: Assessment | None, given_at: datetime
) -> bool:
    """Return whether whoever gave this kind of consent was the one to give it.

    Codes that are not known are a doubt, and so a no.
    """
    if (given_by, capacity) not in (_GIVES_RETENTION if kind == "RETAIN_18_25" else _GIVES):
        return False
    if capacity not in ASSESSED:
        return True
    return assessment is not None and assessment.complete(given_at)
