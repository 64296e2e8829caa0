"""When a consent holds; `test_decision` shows what follows from it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from broker.core.consent import consent_refusal
from broker.core.reasons import Reason
from tests.unit.policy_world import CONSENT, CSC, NOW


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
    reason = consent_refusal([], purpose="YJ", message_type="Check", recipient=CSC, now=NOW)

    assert reason is Reason.NO_CONSENT
