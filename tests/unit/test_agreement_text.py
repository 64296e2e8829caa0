from dataclasses import replace
from datetime import date, datetime
from html.parser import HTMLParser

import pytest

from broker.core.agreement_html import agreement_html
from broker.core.agreement_text import Agreement, Grid, agreement_text
from broker.core.identity import AgencyId
from broker.core.table import london_day, london_midnight
from broker.edge.registers import load_register
from tests.unit.policy_world import (
    NOW,
    ROOT,
    SHARING,
    Change,
    Tables,
    flow,
    plain,
    protocol,
    register,
)
from tests.unit.test_clocks import CLOCK

DIGEST = "ab" * 32


def text(*changes: Change, reference: str = "checks@1") -> Agreement:
    held = register(*changes)
    return agreement_text(held.protocols[reference], held, DIGEST, NOW)


def grid(agreement: Agreement, section: str) -> list[tuple[str, ...]]:
    (found,) = (one for one in agreement.sections if one.title == section)
    return [row for block in found.blocks if isinstance(block, Grid) for row in block.rows]


def test_a_lead_that_is_not_registered_is_called_by_its_id() -> None:
    held = register()
    led = replace(held.protocols["checks@1"], lead=AgencyId("gone"))

    short = {row[0]: row[1] for row in grid(agreement_text(led, held, DIGEST, NOW), "In short")}
    assert short["Lead"] == "gone"


def test_the_text_says_who_what_why_and_until_when() -> None:
    agreement = text(protocol(last_day=date(2026, 12, 31)))

    assert agreement.title == "Checks"
    assert agreement.subtitle == "Sharing protocol checks, version 1"
    short = {row[0]: row[1] for row in grid(agreement, "In short")}
    assert short["State"] == "in force on 1 June 2026"
    assert short["In force from"] == "1 January 2026"
    assert short["Last day"] == "31 December 2026"
    assert short["SHA-256 of what is signed"] == DIGEST
    assert short["Lead"] == "Csc (csc)"
    assert grid(agreement, "Who takes part")[0] == (
        "Yot",
        "yot",
        "controller",
        "sends and receives",
    )
    assert grid(agreement, "What it is for") == [("YJ", "To assess", "In time")]
    assert grid(agreement, "On what legal basis") == [("6(1)(e)", "None", "CDA-115")]
    assert grid(agreement, "Who may send what to whom") == [("check", "A team asks", "Yot", "Csc")]
    assert grid(agreement, "Signatures")[0] == ("yot", "Somebody", "Head", "1 December 2025", "S-1")


def test_each_flow_says_what_passes_and_why() -> None:
    rows = grid(text(), "Flow check")

    assert ("Under", "Statute CDA-115 (CDA-115); Statute DPA-S1-18 (DPA-S1-18)") in rows
    assert ("Every item of category identity", "May pass", "To know who") in rows
    assert ("Question", "Always", "To answer") in rows
    assert ("Every item of category health", "Never", "Not needed") in rows


@pytest.mark.parametrize(
    ("starts", "words"),
    [
        ({"starts": "ACCEPTED"}, "acknowledged within 1 working day, from its acceptance"),
        (
            {"starts": "CREATED"},
            "acknowledged within 1 working day, from the making of the message",
        ),
        (
            {"starts": "STATED", "element": "EventAt"},
            "acknowledged within 1 working day, from what the message states as EventAt",
        ),
    ],
)
def test_a_flow_says_what_its_clocks_ask(starts: dict[str, str], words: str) -> None:
    def timed(tables: Tables) -> None:
        tables["clocks.toml"] = {"clock": [{**CLOCK, **starts}]}
        tables[SHARING]["flow"][0]["clocks"] = ["ACK"]

    assert ("Clocks", words) in grid(text(timed), "Flow check")
    assert "Clocks" not in [row[0] for row in grid(text(), "Flow check")]


def test_what_a_flow_changes_is_said() -> None:
    item = {"targets": ["A/B"], "include": "ALLOWED", "transform": "MASK", "necessity": "To see"}
    rows = grid(
        text(
            flow(
                item=[item],
                practitioner=None,
                shielded="REFUSE",
                consent="EXPLICIT_REQUIRED",
                sensitive_consent="EXPLICIT_OR_HARM",
            )
        ),
        "Flow check",
    )

    assert ("A / B", "May pass, shown as ***", "To see") in rows
    assert ("Practitioner", "not asked") in rows
    assert ("A shielded person", "a message about one is refused") in rows
    assert "Consent, sensitive services" in {row[0] for row in rows}


def test_a_framework_has_no_flows_and_says_so() -> None:
    agreement = text(reference="memorandum@1")

    assert [one.title for one in agreement.sections] == [
        "In short",
        "Who takes part",
        "Who may send what to whom",
        "Signatures",
    ]


def test_a_draft_is_not_in_force_and_shows_who_has_not_signed() -> None:
    def unsigned(tables: Tables) -> None:
        del tables["sharing/checks.v1.toml"]["signatory"][1]

    agreement = text(protocol(status="DRAFT", subject_categories=["CHILD"]), unsigned)

    short = {row[0]: row[1] for row in grid(agreement, "In short")}
    assert short["State"] == "not in force on 1 June 2026"
    assert short["In force from"] == "not yet"
    assert short["Last day"] == "no end agreed"
    assert grid(agreement, "Signatures")[1] == ("csc", "not signed", "", "", "")
    assert ("About whom", "Child") in grid(agreement, "General terms")


class Checker(HTMLParser):
    """Counts what a screen reader needs, and knows whether every element is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def count(checker: Checker, tag: str) -> int:
    return sum(one == tag for one, _ in checker.seen)


@pytest.mark.parametrize("reference", ["ne-yot-checks@1", "ne-memorandum@1"])
def test_the_page_can_be_read_by_a_screen_reader(reference: str) -> None:
    held = load_register(ROOT / "protocols")
    checker = Checker()
    checker.feed(agreement_html(agreement_text(held.protocols[reference], held, DIGEST, NOW)))

    assert checker.open == []
    assert ("html", {"lang": "en-GB"}) in checker.seen
    assert count(checker, "h1") == count(checker, "main") == count(checker, "title") == 1
    assert count(checker, "caption") == count(checker, "table") > 1
    scopes = [attributes.get("scope") for tag, attributes in checker.seen if tag == "th"]
    assert set(scopes) == {"col", "row"}
    targets = {attributes["id"] for _, attributes in checker.seen if "id" in attributes}
    links = [str(attributes["href"]) for tag, attributes in checker.seen if tag == "a"]
    assert all(link.removeprefix("#") in targets for link in links)
    assert not {"script", "link", "img"} & {tag for tag, _ in checker.seen}


def test_words_of_an_agreement_are_no_markup() -> None:
    held = plain()
    one = replace(held.protocols["checks@1"], title="<b>A & B</b>")

    page = agreement_html(agreement_text(one, held, DIGEST, NOW))

    assert "<b>" not in page
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in page


@pytest.mark.parametrize("day", [date(2026, 1, 15), date(2026, 7, 1), date(2026, 10, 25)])
def test_a_day_begins_and_ends_in_london(day: date) -> None:
    begins: datetime = london_midnight(day)

    assert london_day(begins) == day
    assert london_day(begins.replace(microsecond=1)) == day
    assert london_day(begins - (datetime.resolution)) < day
