import pytest
from lxml import etree

from broker.core.errors import Rejection
from broker.core.reasons import Reason
from broker.core.subject import read_subject, subject_key

NAME = (
    "<Name><GivenName>Zoë</GivenName><GivenName>Ann</GivenName>"
    "<FamilyName>O'Brien</FamilyName></Name>"
)
BORN = "<BirthDate>2011-05-06</BirthDate>"
NUMBER = "<NHSNumber>9990000018</NHSNumber>"
OMITTED = "<OmissionReason>UNKNOWN_DELAY</OmissionReason>"
PUPIL = "<UPN>P391200025001</UPN>"


def person(*parts: str) -> etree._Element:
    return etree.fromstring(f'<Subject xmlns="urn:x">{"".join(parts)}</Subject>')


def test_the_nhs_number_comes_first() -> None:
    subject = read_subject(person(NAME, BORN, NUMBER, PUPIL))

    assert subject.key == "nhs:9990000018"
    assert subject.nhs_number == "9990000018"
    assert subject.omission_reason is None


def test_then_the_pupil_number() -> None:
    subject = read_subject(person(NAME, BORN, OMITTED, PUPIL))

    assert subject.key == "upn:P391200025001"
    assert subject.nhs_number is None
    assert subject.omission_reason == "UNKNOWN_DELAY"


def test_then_first_forename_surname_and_date_of_birth() -> None:
    assert read_subject(person(NAME, BORN, OMITTED)).key == "name:o'brien|zoë|2011-05-06"


@pytest.mark.parametrize(
    "family_name", ["O'BRIEN", "O'Brien ", " o'brien", "O\uff07Brien", "\uff2f'Brien"]
)
def test_a_name_is_the_same_however_it_is_typed(family_name: str) -> None:
    named = f"<Name><GivenName>Zoe\u0308</GivenName><FamilyName>{family_name}</FamilyName></Name>"

    key = read_subject(person(named, BORN, OMITTED)).key

    assert key == "name:o'brien|zoë|2011-05-06"


def test_folding_a_letter_with_marks_gives_one_spelling() -> None:
    # Case folding takes the first apart, so that it must be composed once more.
    first, second = (
        read_subject(person(f"<Name><FamilyName>{name}</FamilyName></Name>", BORN)).key
        for name in ("\u0390", "\u03b9\u0308\u0301")
    )

    assert first == second


def test_an_unborn_child_is_known_by_the_expected_day() -> None:
    expected = "<ExpectedDeliveryDate>2026-09-01</ExpectedDeliveryDate>"

    assert read_subject(person(NAME, expected, OMITTED)).key == "name:o'brien|zoë|2026-09-01"


def test_an_estimated_age_is_no_part_of_the_key_since_it_changes() -> None:
    assert read_subject(person(NAME, "<EstimatedAge>9</EstimatedAge>")).key == "name:o'brien|zoë|"


def test_a_subject_does_not_show_itself() -> None:
    subject = read_subject(person(NAME, BORN, NUMBER))

    assert "999" not in repr(subject)
    assert "brien" not in repr(subject)


def test_a_person_named_outside_a_message_is_the_one_named_inside() -> None:
    assert subject_key(nhs_number="9434765919", upn="ignored") == "nhs:9434765919"
    assert subject_key(upn="P391200025001", given_name="x").startswith("upn:")
    named = subject_key(family_name="  MÜLLER ", given_name="Zoë", birth_date="2011-05-02")
    assert named == "name:müller|zoë|2011-05-02"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"nhs_number": "9434765918"}, Reason.IDENTIFIER_INVALID),
        ({"upn": "B801200001001"}, Reason.IDENTIFIER_INVALID),
        ({}, Reason.REQUEST_INVALID),
        ({"family_name": "A", "given_name": "B"}, Reason.REQUEST_INVALID),
        ({"family_name": "A", "birth_date": "2011-05-02"}, Reason.REQUEST_INVALID),
        ({"given_name": "A", "birth_date": "2011-05-02"}, Reason.REQUEST_INVALID),
    ],
)
def test_nobody_is_guessed(given: dict[str, str], reason: Reason) -> None:
    with pytest.raises(Rejection) as refused:
        subject_key(**given)

    assert refused.value.reason is reason
    assert not set(given.values()) & set(str(refused.value).split())
