import pytest
from hypothesis import given
from hypothesis import strategies as st
from stdnum.gb import nhs, upn

from broker.core.identifiers import (
    nhs_number_valid,
    nino_valid,
    uln_valid,
    upn_valid,
    uprn_valid,
)

DIGITS = "0123456789"
UPN_LETTERS = "ABCDEFGHJKLMNPQRTUVWXYZ"


@pytest.mark.parametrize("number", ["9434765919", "9990000018", "9990000026"])
def test_nhs_numbers_of_the_published_examples_are_valid(number: str) -> None:
    assert nhs_number_valid(number)


@pytest.mark.parametrize(
    "number",
    ["1234567890", "9434765918", "943476591", "94347659190", "943 476 5919", "", "९४३४७६५९१९"],
)
def test_what_is_no_nhs_number_is_not_valid(number: str) -> None:
    assert not nhs_number_valid(number)


@given(st.text(DIGITS, min_size=10, max_size=10))
def test_an_nhs_number_is_valid_when_another_library_says_so(number: str) -> None:
    assert nhs_number_valid(number) is nhs.is_valid(number)


def test_a_body_whose_check_digit_would_be_ten_has_no_valid_number() -> None:
    bodies = [f"999{number:06d}" for number in range(200)]
    without = [body for body in bodies if not any(nhs_number_valid(body + d) for d in DIGITS)]

    assert without
    assert not any(nhs.is_valid(body + digit) for body in without for digit in DIGITS)


@pytest.mark.parametrize("number", ["P391200025001", "N39120002501A"])
def test_permanent_and_temporary_pupil_numbers_are_valid(number: str) -> None:
    assert upn_valid(number)


@pytest.mark.parametrize(
    "number",
    ["Q391200025001", "N39120002501B", "I391200025001", "p391200025001", "P39120002500", ""],
)
def test_what_is_no_pupil_number_is_not_valid(number: str) -> None:
    assert not upn_valid(number)


@given(st.text(DIGITS, min_size=11, max_size=11), st.sampled_from(DIGITS + UPN_LETTERS))
def test_exactly_one_letter_makes_a_pupil_number_and_another_library_knows_which(
    digits: str, last: str
) -> None:
    fitting = [letter for letter in UPN_LETTERS if upn_valid(letter + digits + last)]

    assert fitting == [upn.calc_check_digit(digits + last)]


def test_a_learner_number_of_the_published_example_is_valid() -> None:
    assert uln_valid("9276308686")


@pytest.mark.parametrize("number", ["9276308687", "0276308686", "927630868", "", "92763O8686"])
def test_what_is_no_learner_number_is_not_valid(number: str) -> None:
    assert not uln_valid(number)


@pytest.mark.parametrize("number", ["1", "100000077407", "999999999999"])
def test_a_property_number_runs_from_one_to_twelve_nines(number: str) -> None:
    assert uprn_valid(number)


@pytest.mark.parametrize("number", ["0", "01", "1000000000000", "-1", "1.0", ""])
def test_nothing_else_is_a_property_number(number: str) -> None:
    assert not uprn_valid(number)


@pytest.mark.parametrize("number", ["AA123456A", "JW998877D"])
def test_a_national_insurance_number_has_letters_that_are_issued(number: str) -> None:
    assert nino_valid(number)


@pytest.mark.parametrize(
    "number",
    ["BG123456A", "GB123456A", "ZZ123456A", "DA123456A", "AO123456A", "AA123456E", "AA12345A"],
)
def test_prefixes_and_suffixes_that_are_not_issued_are_not_valid(number: str) -> None:
    assert not nino_valid(number)
