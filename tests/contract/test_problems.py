"""Problem details in both forms, and who gets which."""

import json

import pytest
from lxml import etree

from broker.core.errors import Rejection, Transient
from broker.core.reasons import Reason
from broker.edge.problems import Problem, problem_of, render, wants_json, wants_xml
from broker.edge.telemetry import trace_of


@pytest.mark.parametrize(
    ("accept", "json_wanted", "xml_wanted"),
    [
        (b"", False, False),
        (b"*/*", False, False),
        (b"application/json", True, False),
        (b"application/problem+json", True, False),
        (b"application/xml", False, True),
        (b"text/xml, application/json;q=0.5", False, True),
        (b"application/xml;q=0.1, Application/JSON", True, False),
        (b"application/json, application/xml", False, False),
        (b"application/json;q=0", False, False),
        (b"application/json;q=x, application/xml;q=0.001", False, True),
        (b"application/json;q=-1", False, False),
        (b"application/json;q=inf", False, False),
        (b"application/json;charset=utf-8;q=1.0", True, False),
        (b"text/html," * 20 + b"application/json", False, False),
    ],
)
def test_the_form_is_the_one_asked_for_by_name(
    accept: bytes,
    *,
    json_wanted: bool,
    xml_wanted: bool,
) -> None:
    assert wants_json(accept) is json_wanted
    assert wants_xml(accept) is xml_wanted


def test_what_is_empty_is_left_out() -> None:
    media_type, body = render(Problem(Reason.STALE), b"")

    assert media_type == b"application/problem+json"
    assert set(json.loads(body)) == {
        "type",
        "title",
        "status",
        "detail",
        "code",
        "retry",
        "cure",
    }


def test_a_rejection_keeps_its_place_and_a_fault_its_time() -> None:
    rejection = problem_of(
        Rejection(Reason.SCHEMA, "too long", pointer="/a/b", line=7), trace_id="t", instance="/i"
    )
    fault = problem_of(Transient(Reason.OVERLOADED, retry_after_s=3), trace_id="t")

    assert (rejection.pointer, rejection.line, rejection.instance) == ("/a/b", 7, "/i")
    assert rejection.detail == "too long"
    assert fault.retry_after_s == 3
    assert rejection.retry_after_s is None


def test_the_xml_form_has_the_same_members_and_escapes_them() -> None:
    outcomes = [{"recipient": "a", "change": "x < y & z"}, {"recipient": "b"}]
    problem = Problem(Reason.ALL_REFUSED, "a <b>", line=3, recipients=outcomes)

    media_type, body = render(problem, b"application/xml")

    assert media_type == b"application/problem+xml"
    root = etree.fromstring(body)
    ns = "{urn:ietf:rfc:7807}"
    assert root.findtext(f"{ns}detail") == "a <b>"
    assert root.findtext(f"{ns}retry") == "false"
    assert root.findtext(f"{ns}line") == "3"
    items = root.findall(f"{ns}recipients/{ns}i")
    assert [item.findtext(f"{ns}recipient") for item in items] == ["a", "b"]
    assert items[0].findtext(f"{ns}change") == "x < y & z"


def test_each_request_without_a_trace_begins_one_of_its_own() -> None:
    first, second = trace_of([]), trace_of([])

    assert first.trace_id != second.trace_id
    assert len(first.trace_id) == 32
    assert len(first.span_id) == 16
    assert first.traceparent == f"00-{first.trace_id}-{first.span_id}-00"
