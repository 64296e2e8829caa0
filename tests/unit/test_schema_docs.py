"""What readers are shown is all there, says what is enforced, and is text, not markup."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from lxml import etree
from lxml import html as lxml_html

from broker.core.rules import RULES
from broker.core.samples import sample_payload, sample_types
from broker.core.schema import SchemaSet
from broker.core.schema_docs import Message, Page, html, make_page, markdown
from broker.core.schema_model import Declaration
from broker.edge.schemas import load_schemas


@cache
def schemas() -> SchemaSet:
    return load_schemas(Path(__file__).parents[2] / "schemas")


@cache
def page(*message_types: str) -> Page:
    messages = [
        Message(
            facts=(("Pattern", schemas().entry(t, "1.0").pattern),),
            root=schemas().model(t, "1.0"),
            samples=tuple(sample_payload(t, seed) for seed in range(3)),
        )
        for t in message_types
    ]
    return make_page("A <title>", "Words & more.", messages)


def named(root: Declaration) -> set[str]:
    return {one.name for one in root.walk()} - {root.name}


@pytest.mark.parametrize("message_type", sample_types())
def test_every_element_is_described_in_both_forms(message_type: str) -> None:
    built = page(message_type)
    shown = {row.name for section in (*built.messages, *built.parts) for row in section.rows}

    assert shown == named(schemas().model(message_type, "1.0"))
    for text in (markdown(built), html(built)):
        for name in shown:
            assert f"`{name}`" in text or f"<code>{name}</code>" in text


def test_a_part_used_in_several_places_is_described_once() -> None:
    built = page("Referral", "ReferralOutcome")

    assert [part.name for part in built.parts].count("PersonName") == 1
    assert "Referral" not in [part.name for part in built.parts]
    subject = next(row for row in built.messages[0].rows if row.name == "Subject")
    assert subject.part == "PersonIdentity"
    assert not [row for row in built.messages[0].rows if row.name == "FamilyName"]


def test_within_a_part_an_element_shows_the_category_it_states_itself() -> None:
    name = next(part for part in page("Referral").parts if part.name == "PersonName")

    assert {row.category for row in name.rows} == {"identity"}
    spoken_to = next(row for row in page("Referral").messages[0].rows if row.name == "SpokenTo")
    assert spoken_to.category == "practitioner, with all below"


def test_how_often_is_told_in_one_form() -> None:
    times = {row.name: row.times for row in page("Referral").messages[0].rows}
    parts = {row.name: row.times for part in page("Referral").parts for row in part.rows}

    assert times["ReferralId"] == "1"
    assert times["RiskOpinion"] == "0..1"
    assert times["HouseholdMember"] == "0..*"
    assert times["RiskFactor"] == "0..3"
    assert times["BirthDate"] == "1, or its alternative"
    assert parts["Line"] == "2..5, or its alternative"


def test_code_lists_rules_and_examples_are_shown() -> None:
    text = markdown(page("Referral"))

    assert "SAFEGUARDING (Protection from harm)" in text
    assert f"- `Consent`: {RULES['Consent'].sentence}" in text
    assert "`0191 498 0" in text
    assert "LOW, MEDIUM, HIGH" in text


def test_a_long_list_is_not_written_out_and_a_long_example_is_cut() -> None:
    root = schemas().model("InvolvementEnded", "1.0")
    long = replace(root.children[0], values=tuple((f"V{n}", "") for n in range(41)))
    built = make_page("T", "", [Message(facts=(), root=replace(root, children=(long,)))])

    assert "V1" not in markdown(built)
    example = next(
        row for row in page("Referral").messages[0].rows if row.name == "ReasonIfNo"
    ).example
    assert example.endswith("…")
    assert len(example) == 61


def test_the_html_is_well_formed_needs_nothing_else_and_links_to_what_is_there() -> None:
    text = html(page("Referral"))
    root = lxml_html.fromstring(text)

    tags = {one.tag for one in root.iter("*")}
    assert tags.isdisjoint({"script", "link", "img", "iframe", "object"})
    assert not any(one.get("src") for one in root.iter("*"))
    ids = {one.get("id") for one in root.iter("*")}
    assert {link.get("href", "").removeprefix("#") for link in root.iter("a")} <= ids
    assert root.get("lang") == "en"
    assert all(head.get("scope") == "col" for head in root.iter("th"))


def test_words_are_text_and_never_markup() -> None:
    root = schemas().model("InvolvementEnded", "1.0")
    evil = replace(
        root.children[0],
        documentation="<script>alert(1)</script> a|b",
        values=(("<b>", "<i>"),),
    )
    built = make_page("<x>", "<y>", [Message((("L", "<z>"),), replace(root, children=(evil,)))])

    text = html(built)
    for piece in ("<script", "<x>", "<y>", "<z>", "<b>", "<i>"):
        assert piece not in text
    assert "a\\|b" in markdown(built)


def test_a_document_without_samples_rules_or_parts_is_described_too() -> None:
    root = schemas().document_models["Evidence"]
    plain = replace(root, children=tuple(one for one in root.children if not one.values)[:3])

    built = make_page("Evidence", "", [Message(facts=(), root=plain)])

    assert built.parts == ()
    assert "Beyond the schema" not in html(built) + markdown(built)
    assert "A sample" not in html(built)


def test_a_page_without_simple_types_has_no_list_of_them() -> None:
    root = schemas().document_models["Evidence"]
    only = next(one for one in root.children if one.name == "@version")

    text = html(make_page("T", "", [Message(facts=(), root=replace(root, children=(only,)))]))

    assert "What a value looks like" not in text


def test_the_sample_is_the_message_itself() -> None:
    sample = page("WhoElseQuery").messages[0].sample

    shown, sent = etree.fromstring(sample), etree.fromstring(sample_payload("WhoElseQuery", 0))
    texts = [(one.text or "").strip() for one in shown.iter()]
    assert texts == [(one.text or "") for one in sent.iter()]
