"""Samples are valid, invented, the same every time, and as large as asked."""

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.core.identifiers import nhs_number_valid
from broker.core.samples import sample_payload, sample_types
from broker.core.samples.people import Dice, person
from broker.core.samples.tree import render
from broker.core.schema import SchemaSet
from broker.edge.schemas import load_schemas

SCHEMAS: SchemaSet = load_schemas(Path(__file__).parents[2] / "schemas")
TYPES = sample_types()
GROWING = (
    "VacancyPublished", "VacancyUpdated", "VacancySnapshot", "VacancyFeedbackReport",
    "ChildIndexUpdate", "Referral", "InformationResponse",
)  # fmt: skip
NUMBERS = re.compile(rb"<NHSNumber>([0-9]+)<")


def valid(message_type: str, payload: bytes) -> bool:
    SCHEMAS.validate(message_type, "1.0", etree.fromstring(payload))
    return True


def test_every_message_type_of_the_catalogue_has_samples() -> None:
    assert {name for name, _ in SCHEMAS.catalogue.messages} == set(TYPES)


@settings(max_examples=150)
@given(st.sampled_from(TYPES), st.integers(0, 2**40))
def test_a_sample_of_any_seed_is_valid(message_type: str, seed: int) -> None:
    assert valid(message_type, sample_payload(message_type, seed))


@given(st.sampled_from(TYPES), st.integers(0, 2**40))
def test_nobody_in_a_sample_has_a_number_that_is_ever_issued(message_type: str, seed: int) -> None:
    for number in NUMBERS.findall(sample_payload(message_type, seed)):
        assert number.startswith(b"999")
        assert nhs_number_valid(number.decode())


@pytest.mark.parametrize("message_type", TYPES)
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(message_type: str) -> None:
    assert sample_payload(message_type, 5) == sample_payload(message_type, 5)
    assert len({sample_payload(message_type, seed) for seed in range(20)}) > 5


def test_a_sample_of_today_is_the_sample_of_every_day_to_come() -> None:
    # What a demonstration or a measurement was made with can be made again.
    assert sample_payload("VacancyClosed", 1) == (
        b'<VacancyClosed xmlns="urn:fame:vacancy:1.0"><Employer><Name>Gateshead Council</Name>'
        b"<Code>E08000037</Code><LogoUrl>https://jobs.gateshead.example/logo.svg</LogoUrl>"
        b"</Employer><VacancyRef>GMBC-42543</VacancyRef><Version>2</Version>"
        b"<EndedAt>2026-06-01T16:30:00+01:00</EndedAt><Reason>EARLY_CLOSE</Reason></VacancyClosed>"
    )


@pytest.mark.parametrize("message_type", ["Referral", "VacancyPublished"])
def test_the_usual_messages_are_of_the_usual_size(message_type: str) -> None:
    assert 3000 <= len(sample_payload(message_type, 1)) <= 6000


@pytest.mark.parametrize("message_type", GROWING)
@pytest.mark.parametrize("size", [100, 10_000, 100_000])
def test_a_sample_grows_to_the_size_asked_and_stays_valid(message_type: str, size: int) -> None:
    payload = sample_payload(message_type, 3, size_bytes=size)

    assert len(payload) >= size
    assert len(payload) <= max(size + 6000, 7000)
    assert valid(message_type, payload)


def test_a_sample_that_has_nothing_to_repeat_does_not_grow() -> None:
    assert len(sample_payload("VacancyClosed", 1, size_bytes=10)) > 10
    with pytest.raises(ValueError, match="cannot grow"):
        sample_payload("VacancyClosed", 1, size_bytes=10_000)


def test_one_person_may_be_in_all_the_messages_of_a_story() -> None:
    about_somebody = [t for t in TYPES if SCHEMAS.entry(t, "1.0").subject_path]
    who = person(7, date(2026, 6, 1))
    for seed, message_type in enumerate(about_somebody):
        payload = etree.fromstring(sample_payload(message_type, seed, person_seed=7))
        named = tuple(
            payload.findtext(f"{{*}}Subject/{{*}}{name}") for name in ("UPN", "NHSNumber")
        )
        # Health knows a child by the NHS number, which may be left out elsewhere.
        assert named in {(who.upn, who.nhs_number), (who.upn, None), (None, who.nhs_number)}


def test_dates_follow_the_day_given() -> None:
    payload = sample_payload("Referral", 1, today=date(2027, 3, 4))

    assert b"<SignedOn>2027-03-04<" in payload
    assert valid("Referral", payload)


def test_a_sample_of_no_known_type_is_an_error() -> None:
    with pytest.raises(KeyError):
        sample_payload("Gossip")


@given(st.integers(0, 10**6))
def test_children_are_of_school_age_and_adults_are_grown_up(seed: int) -> None:
    today = date(2026, 6, 1)

    child, adult = person(seed, today), person(seed, today, adult=True)

    assert 5 * 365 < (today - child.birth_date).days < 18 * 365
    assert 25 * 365 < (today - adult.birth_date).days < 62 * 365


@given(st.text(max_size=20), st.lists(st.integers(), min_size=1, max_size=9, unique=True))
def test_some_options_are_at_least_one_and_keep_their_order(seed: str, options: list[int]) -> None:
    chosen = Dice(seed).some(options)

    assert chosen
    assert [one for one in options if one in chosen] == chosen


def test_markup_in_a_value_stays_a_value() -> None:
    assert render(("A", [("B", "<&>")]), "urn:x") == '<A xmlns="urn:x"><B>&lt;&amp;&gt;</B></A>'
