"""A shortage of memory is told from a message that is bad."""

from types import SimpleNamespace

import pytest
from lxml import etree

from broker.core.errors import Rejection, Transient
from broker.core.reasons import Reason
from broker.core.shortage import complaints, examining, without_canonical_form

NO_MEMORY = SimpleNamespace(type=2)  # XML_ERR_NO_MEMORY of libxml2
REJECTION = Rejection(Reason.SIGNATURE_PROFILE)


@pytest.mark.parametrize("failed", [Rejection(Reason.NOT_XML), etree.XPathEvalError("stopped")])
def test_what_failed_for_want_of_memory_is_no_fault_of_the_message(failed: Exception) -> None:
    with pytest.raises(Transient) as told, examining(lambda: [NO_MEMORY]):
        raise failed

    assert told.value.reason is Reason.OVERLOADED


def test_a_message_that_is_bad_is_rejected_whatever_else_was_logged() -> None:
    with pytest.raises(Rejection), examining(lambda: [SimpleNamespace(type=76)]):
        raise REJECTION


def test_what_was_logged_before_is_of_another_message() -> None:
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(b"<a>")
    before = list(complaints())

    with examining():
        after = list(complaints())

    assert before
    assert after == []


def test_what_the_library_logs_is_seen() -> None:
    with examining(), pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(b"<a>")

    assert [one.type for one in complaints()] == [77]  # XML_ERR_TAG_NOT_FINISHED


@pytest.mark.parametrize("name", ["relative", "../up"])
def test_a_name_that_is_relative_has_no_canonical_form(name: str) -> None:
    root = etree.fromstring(f'<a><b xmlns:x="{name}" x:y="z"/></a>')

    assert without_canonical_form(root, REJECTION) is REJECTION


@pytest.mark.parametrize("name", ["urn:fame:envelope:1.0", "http://www.w3.org/2000/09/xmldsig#"])
def test_whatever_else_has_none_was_not_written_for_want_of_memory(name: str) -> None:
    root = etree.fromstring(f'<a><b xmlns="{name}"/></a>')

    assert isinstance(without_canonical_form(root, REJECTION), Transient)
