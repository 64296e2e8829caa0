"""Who may give which consent, line by line; and that every other pair may not."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from broker.core.capacity import CAPACITIES, FACTORS, GIVERS, Assessment, may_give
from broker.core.consent import KINDS
from tests.unit.policy_world import NOW

ASSESSMENT = Assessment("social-worker", NOW, frozenset(FACTORS))
MAY = {
    ("SUBJECT", "ADULT"),
    ("SUBJECT", "16_17_PRESUMED"),
    ("SUBJECT", "GILLICK_COMPETENT"),
    ("PR_HOLDER", "GILLICK_NOT_COMPETENT"),
    ("ATTORNEY", "MCA_LACKS"),
    ("DEPUTY", "MCA_LACKS"),
}


@pytest.mark.parametrize("given_by", [*GIVERS, "AUNT"])
@pytest.mark.parametrize("capacity", [*CAPACITIES, "UNSURE"])
def test_only_those_speak_for_a_person_whom_the_law_lets(given_by: str, capacity: str) -> None:
    for kind in ("GDPR_BASIS", "CONFIDENTIALITY", "SERVICE_AGREEMENT"):
        assert may_give(kind, given_by, capacity, ASSESSMENT, NOW) is ((given_by, capacity) in MAY)


def test_only_the_young_person_has_a_record_kept_after_18() -> None:
    may = {
        pair
        for pair in product(GIVERS, CAPACITIES)
        if may_give("RETAIN_18_25", *pair, ASSESSMENT, NOW)
    }

    assert may == {("SUBJECT", "ADULT"), ("SUBJECT", "16_17_PRESUMED")}


@pytest.mark.parametrize(
    "assessment",
    [
        None,
        replace(ASSESSMENT, assessor=""),
        replace(ASSESSMENT, at=NOW + timedelta(microseconds=1)),
        *(replace(ASSESSMENT, factors=frozenset(FACTORS) - {factor}) for factor in FACTORS),
    ],
)
@pytest.mark.parametrize(
    "pair", [("SUBJECT", "GILLICK_COMPETENT"), ("PR_HOLDER", "GILLICK_NOT_COMPETENT")]
)
def test_competence_below_16_was_assessed_whole_and_before(
    assessment: Assessment | None, pair: tuple[str, str]
) -> None:
    assert may_give("GDPR_BASIS", *pair, ASSESSMENT, NOW)
    assert not may_give("GDPR_BASIS", *pair, assessment, NOW)


def test_an_adult_is_not_assessed() -> None:
    assert all(may_give(kind, "SUBJECT", "ADULT", None, NOW) for kind in KINDS)
