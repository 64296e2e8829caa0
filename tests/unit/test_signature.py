from dataclasses import replace
from datetime import timedelta

import pytest
from lxml import etree

from broker.core.agency import RegisteredKey
from broker.core.envelope import parse, receive
from broker.core.errors import Rejection
from broker.core.limits import LIMITS
from broker.core.reasons import Reason
from broker.core.signature import DSIG, Verified, Verifier, verify_root
from tests.unit.signing_world import LAX, NOW, SENDER_KEYS, VERIFIERS, key
from tests.vectors.documents import document
from tests.vectors.signer import ECDSA_SHA256, Recipe, signature, signed

BEFORE = timedelta(days=1)
each_verifier = pytest.mark.parametrize("verifier", VERIFIERS.values(), ids=VERIFIERS)


def verify(text: str, verifier: Verifier, *keys: RegisteredKey) -> Verified:
    return verifier.verify(receive(text.encode(), LIMITS, LAX), keys or SENDER_KEYS, NOW)


def reason(text: str, verifier: Verifier, *keys: RegisteredKey) -> Reason:
    with pytest.raises(Rejection) as caught:
        verify(text, verifier, *keys)
    return caught.value.reason


@each_verifier
def test_a_verified_message_is_the_canonical_document_without_its_signature(
    verifier: Verifier,
) -> None:
    verified = verify(signed(document()), verifier)

    assert verified.signed == document().encode()
    assert verified.signer == key("sender-rsa").fingerprint
    assert verified.algorithm == "rsa-sha256"


@each_verifier
def test_without_keys_nothing_verifies(verifier: Verifier) -> None:
    received = receive(signed(document()).encode(), LIMITS, LAX)

    with pytest.raises(Rejection) as caught:
        verifier.verify(received, (), NOW)

    assert caught.value.reason is Reason.SIGNATURE_INVALID


@each_verifier
def test_either_of_two_overlapping_certificates_is_good(verifier: Verifier) -> None:
    old, new = key("sender-rsa"), key("sender-p256")

    by_old = verify(signed(document()), verifier, old, new)
    by_new = verify(signed(document(), Recipe("sender-p256", ECDSA_SHA256)), verifier, old, new)

    assert (by_old.signer, by_new.signer) == (old.fingerprint, new.fingerprint)


@each_verifier
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"valid_from": NOW + BEFORE}, Reason.CERTIFICATE_NOT_VALID),
        ({"valid_until": NOW}, Reason.CERTIFICATE_NOT_VALID),
        ({"revoked_at": NOW}, Reason.CERTIFICATE_REVOKED),
    ],
)
def test_a_registered_period_or_revocation_holds_whatever_the_certificate_says(
    verifier: Verifier, change: dict[str, object], expected: Reason
) -> None:
    changed = replace(key("sender-rsa"), **change)  # type: ignore[arg-type]

    assert reason(signed(document()), verifier, changed) is expected


@each_verifier
def test_a_key_that_is_not_good_is_no_hindrance_when_a_good_one_signed(verifier: Verifier) -> None:
    revoked = replace(key("sender-rsa"), revoked_at=NOW)

    assert verify(signed(document()), verifier, revoked, key("sender-rsa"))


@each_verifier
def test_a_forger_learns_nothing_of_keys_that_are_not_good(verifier: Verifier) -> None:
    forged = signed(document(), Recipe("stranger-rsa"))

    assert reason(forged, verifier, key("sender-expired")) is Reason.SIGNATURE_INVALID


@each_verifier
def test_the_signature_is_checked_before_the_digest(verifier: Verifier) -> None:
    forged = signed(document(), Recipe("stranger-rsa")).replace(">10<", ">9999<")

    assert reason(forged, verifier) is Reason.SIGNATURE_INVALID


@each_verifier
def test_a_document_without_signature_is_told_so(verifier: Verifier) -> None:
    received = replace(
        receive(signed(document()).encode(), LIMITS, LAX), root=parse(document().encode())
    )

    with pytest.raises(Rejection) as caught:
        verifier.verify(received, SENDER_KEYS, NOW)

    assert caught.value.reason is Reason.SIGNATURE_MISSING


@pytest.mark.parametrize("text", [signature(document(), Recipe()), f'<Signature xmlns="{DSIG}"/>'])
def test_a_signature_that_is_the_root_signs_no_document(text: str) -> None:
    with pytest.raises(Rejection) as caught:
        verify_root(parse(text.encode()), SENDER_KEYS, NOW)

    assert caught.value.reason is Reason.SIGNATURE_PROFILE


def test_a_comment_put_in_later_is_not_among_what_was_signed() -> None:
    text = signed(document()).replace("sunderland-csc", "sunderland<!-- -->-csc")

    assert verify_root(parse(text.encode()), SENDER_KEYS, NOW).signed == document().encode()


@pytest.mark.parametrize("text", ["<r>a b</r>", "<r></r>", "<r>\n</r>"])
def test_text_around_the_only_child_is_signed_too(text: str) -> None:
    sign = signature(text, Recipe())
    middle = 4 if " " in text else 3
    whole = text[:middle] + sign + text[middle:]

    assert verify_root(parse(whole.encode()), SENDER_KEYS, NOW).signed == text.encode()


def test_text_behind_the_signature_joins_the_text_before_it() -> None:
    text = "<r><a></a>b c</r>"
    whole = text[:11] + signature(text, Recipe()) + text[11:]

    assert verify_root(parse(whole.encode()), SENDER_KEYS, NOW).signed == text.encode()


def test_the_signature_is_gone_from_the_tree_that_was_verified() -> None:
    root = parse(signed(document()).encode())

    verify_root(root, SENDER_KEYS, NOW)

    assert etree.tostring(root, method="c14n", exclusive=True) == document().encode()


def test_signxml_has_signed_the_root_that_was_received() -> None:
    # Two parts that disagree on what the document is must never be taken for one.
    received = receive(signed(document(root_id="m1"), Recipe(uri="#m1")).encode(), LIMITS, LAX)
    other = receive(signed(document()).encode(), LIMITS, LAX)

    with pytest.raises(Rejection) as caught:
        VERIFIERS["signxml"].verify(replace(received, root=other.root), SENDER_KEYS, NOW)

    assert caught.value.reason is Reason.SIGNATURE_PROFILE
