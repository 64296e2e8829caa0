"""When a consent holds; `test_decision` shows what follows from it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from broker.core.consent import (
    ALWAYS,
    GROUNDS,
    WHOLE,
    Consent,
    Disclosure,
    Reach,
    conflicts,
    consent_reach,
    consent_refusal,
    relied_on,
)
from broker.core.identity import AgencyId, SubjectRef
from broker.core.reasons import Reason
from tests.unit.policy_world import CAMHS, CONSENT, CSC, NOW

DISCLOSURE = Disclosure("GDPR_BASIS", "YJ", "Check", CSC)


def refusal(*held: Consent) -> Reason | None:
    return consent_refusal(held, DISCLOSURE, NOW)


def test_a_consent_holds_from_when_it_was_given_until_it_expires() -> None:
    assert CONSENT.holds(CONSENT.given_at)
    assert not CONSENT.holds(CONSENT.given_at - timedelta(microseconds=1))
    assert CONSENT.expires_at is not None
    assert not CONSENT.holds(CONSENT.expires_at)
    assert CONSENT.holds(CONSENT.expires_at - timedelta(microseconds=1))


@pytest.mark.parametrize("kind", ["SERVICE_AGREEMENT", "RETAIN_18_25"])
def test_agreement_to_something_else_is_no_consent_to_share(kind: str) -> None:
    assert not replace(CONSENT, kind=kind).holds(NOW)


def test_without_any_consent_there_is_none() -> None:
    reason = consent_refusal([], DISCLOSURE, NOW)

    assert reason is Reason.NO_CONSENT


@pytest.mark.parametrize(
    "doubtful",
    [
        replace(CONSENT, review_at=NOW),
        replace(CONSENT, form="NODDED"),
        replace(CONSENT, kind="BLANKET"),
        replace(CONSENT, status="PERHAPS"),
        replace(CONSENT, given_by="CARER_NO_PR"),
        replace(CONSENT, given_by="NONE"),
        replace(CONSENT, capacity="GILLICK_COMPETENT"),
        replace(CONSENT, capacity="UNSURE"),
    ],
)
def test_every_doubt_is_a_no(doubtful: Consent) -> None:
    assert refusal(replace(CONSENT, review_at=NOW + timedelta(microseconds=1))) is None
    assert refusal(doubtful) is Reason.NO_CONSENT


def test_a_status_nobody_knows_casts_doubt_on_a_consent_beside_it() -> None:
    assert refusal(CONSENT, replace(CONSENT, status="PERHAPS")) is Reason.NO_CONSENT


def test_records_of_two_people_are_no_consent_of_either() -> None:
    assert refusal(CONSENT, replace(CONSENT, subject=SubjectRef("cd34"))) is Reason.NO_CONSENT


@pytest.mark.parametrize("kind", ["SERVICE_AGREEMENT", "RETAIN_18_25"])
@pytest.mark.parametrize("status", ["REFUSED", "WITHDRAWN"])
def test_declining_something_else_takes_no_consent_away(kind: str, status: str) -> None:
    assert refusal(CONSENT, replace(CONSENT, kind=kind, status=status)) is None


@pytest.mark.parametrize("kind", ["SERVICE_AGREEMENT", "RETAIN_18_25"])
def test_agreeing_to_something_else_elsewhere_is_no_scope(kind: str) -> None:
    assert refusal(replace(CONSENT, kind=kind, recipients=frozenset({CAMHS}))) is Reason.NO_CONSENT


def test_what_is_relied_on_is_every_consent_that_carries_and_none_else() -> None:
    other = replace(CONSENT, consent_id="c-0")
    elsewhere = replace(CONSENT, consent_id="c-2", recipients=frozenset({CAMHS}))
    expired = replace(CONSENT, consent_id="c-3", expires_at=NOW)
    held = [CONSENT, other, elsewhere, expired]

    found = relied_on(held, DISCLOSURE, NOW)
    none = relied_on([expired], DISCLOSURE, NOW)

    assert (found, none) == (("c-0", "c-1"), ())


@pytest.mark.parametrize("asked", GROUNDS)
@pytest.mark.parametrize("given", GROUNDS)
def test_a_yes_counts_only_if_it_is_of_the_kind_that_is_asked(asked: str, given: str) -> None:
    disclosure = replace(DISCLOSURE, kind=asked)
    held = [replace(CONSENT, kind=given)]
    elsewhere = [replace(CONSENT, kind=given, recipients=frozenset({CAMHS}))]
    same = asked == given

    assert consent_refusal(held, disclosure, NOW) is (None if same else Reason.NO_CONSENT)
    assert bool(relied_on(held, disclosure, NOW)) is same
    reason = Reason.CONSENT_SCOPE if same else Reason.NO_CONSENT
    assert consent_refusal(elsewhere, disclosure, NOW) is reason


def test_what_is_relied_on_is_of_the_kind_that_is_asked() -> None:
    waiver = replace(CONSENT, consent_id="c-4", kind="CONFIDENTIALITY")

    assert relied_on([CONSENT, waiver], DISCLOSURE, NOW) == ("c-1",)


@pytest.mark.parametrize("status", ["REFUSED", "WITHDRAWN"])
@pytest.mark.parametrize("kind", GROUNDS)
def test_a_no_of_either_kind_outweighs_a_yes(status: str, kind: str) -> None:
    no = replace(CONSENT, consent_id="c-5", kind=kind, status=status)

    assert refusal(CONSENT, no) in (Reason.CONSENT_REFUSED, Reason.CONSENT_WITHDRAWN)


NO = replace(CONSENT, consent_id="c-9", status="REFUSED", recorded_by=CAMHS)


@pytest.mark.parametrize("status", ["REFUSED", "WITHDRAWN"])
def test_a_yes_and_a_no_to_the_same_disclosure_conflict(status: str) -> None:
    no = replace(NO, status=status)

    assert list(conflicts([CONSENT, no])) == [(CONSENT, no)]
    assert list(conflicts([no, CONSENT])) == [(CONSENT, no)]


@pytest.mark.parametrize(
    "other",
    [
        replace(NO, status="ACTIVE"),
        replace(NO, status="SUPERSEDED"),
        replace(NO, subject=SubjectRef("cd34")),
        replace(NO, kind="SERVICE_AGREEMENT"),
        replace(NO, purposes=frozenset({"EH"})),
        replace(NO, message_types=frozenset({"Other"})),
        replace(NO, recipients=frozenset({AgencyId("elsewhere")})),
    ],
)
def test_what_speaks_of_something_else_does_not_conflict(other: Consent) -> None:
    assert not list(conflicts([CONSENT, other]))
    assert not list(conflicts([NO, replace(NO, consent_id="c-8")]))


# -- consent to some categories of data --------------------------------------------------------


def part(*categories: str, **changed: Any) -> Consent:
    return replace(CONSENT, categories=frozenset(categories), **changed)


def reach(*held: Consent) -> Reach | Reason:
    return consent_reach(held, DISCLOSURE, NOW)


def test_a_consent_that_names_no_category_reaches_everything() -> None:
    assert reach(CONSENT) == WHOLE
    assert reach(CONSENT, part("education", consent_id="c-2")) == WHOLE
    assert WHOLE.covers("health")


def test_a_consent_reaches_the_categories_that_it_names_and_how_to_file_it() -> None:
    found = reach(part("education"), part("family", consent_id="c-2"))

    assert found == Reach(frozenset({"education", "family"}))
    assert isinstance(found, Reach)
    assert {one for one in (*ALWAYS, "education", "family", "health") if found.covers(one)} == {
        *ALWAYS,
        "education",
        "family",
    }
    assert not found.whole


@pytest.mark.parametrize("status", ["REFUSED", "WITHDRAWN"])
def test_a_no_to_a_category_outweighs_a_yes_for_that_category(status: str) -> None:
    no = part("health", "identity", consent_id="c-9", status=status, recorded_by=CAMHS)
    found = reach(CONSENT, no)

    assert isinstance(found, Reach)
    assert not found.whole
    assert [found.covers(one) for one in ("health", "identity", "education")] == [
        False,
        False,
        True,
    ]
    assert reach(part("health", "education"), no) == Reach(
        frozenset({"health", "education"}), frozenset({"health", "identity"})
    )


@pytest.mark.parametrize("status", ["REFUSED", "WITHDRAWN"])
def test_where_nothing_is_left_of_a_yes_it_is_a_no(status: str) -> None:
    no = part("health", "education", consent_id="c-9", status=status)
    reason = Reason(f"policy.consent_{status.lower()}")

    assert reach(part("health"), no) is reason
    assert reach(no) is reason
    assert reach(part("health"), replace(no, categories=frozenset())) is reason


def test_a_no_to_a_part_elsewhere_says_nothing_here() -> None:
    assert reach(CONSENT, part("health", status="REFUSED", purposes=frozenset({"CP"}))) == WHOLE
    assert reach(part("health", status="REFUSED", kind="SERVICE_AGREEMENT")) is Reason.NO_CONSENT


def test_a_part_of_doubtful_status_is_a_doubt_about_all() -> None:
    assert reach(CONSENT, part("health", status="PERHAPS")) is Reason.NO_CONSENT


def test_records_of_different_categories_do_not_contradict() -> None:
    health, education = part("health"), part("education", status="REFUSED", consent_id="c-9")

    assert list(conflicts([health, education])) == []
    for yes, no in (
        (health, part("health", "family", status="REFUSED")),
        (CONSENT, education),
        (health, replace(CONSENT, status="WITHDRAWN")),
    ):
        assert list(conflicts([yes, no])) == [(yes, no)]


def test_nothing_is_left_where_just_what_was_agreed_to_was_declined() -> None:
    health = frozenset({"health"})

    assert Reach(health, health).nothing
    assert not Reach(health | {"education"}, health).nothing
    assert not Reach(None, health).nothing
