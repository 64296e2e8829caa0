"""The pseudonym of a person."""

import hashlib
import hmac

from broker.core.pseudonym import subject_ref

KEY = bytes(range(32))


def test_the_same_person_has_the_same_pseudonym() -> None:
    assert subject_ref(KEY, "nhs:9990000018") == subject_ref(KEY, "nhs:9990000018")


def test_two_people_have_two() -> None:
    assert subject_ref(KEY, "nhs:9990000018") != subject_ref(KEY, "nhs:9990000026")


def test_another_partnership_has_another_pseudonym_for_the_same_person() -> None:
    assert subject_ref(KEY, "nhs:9990000018") != subject_ref(bytes(32), "nhs:9990000018")


def test_a_pseudonym_is_32_hexadecimal_digits_of_an_hmac() -> None:
    expected = hmac.new(KEY, b"fame:subject:1\0Zo\xc3\xab", hashlib.sha256).hexdigest()

    assert subject_ref(KEY, "Zoë") == expected[:32]
