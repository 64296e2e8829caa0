"""Who a message is about, as one canonical text that every agency would arrive at.

The strongest identifier wins: NHS number, then UPN, then name with date of birth. The text
is hashed with a key before it leaves the process (`pseudonym`).
"""

from lxml import etree

from broker.core.errors import Rejection
from broker.core.identifiers import nhs_number_valid, upn_valid
from broker.core.identity import folded
from broker.core.message import Subject
from broker.core.reasons import Reason


def subject_key(
    *,
    nhs_number: str | None = None,
    upn: str | None = None,
    family_name: str | None = None,
    given_name: str | None = None,
    birth_date: str | None = None,
) -> str:
    """Return the canonical text of a person identified outside a message.

    Raises:
        Rejection: nobody is identified, or a number fails its check digit (ISP-2.4).
    """
    if nhs_number is not None:
        if not nhs_number_valid(nhs_number):
            raise Rejection(Reason.IDENTIFIER_INVALID, pointer="/body/subject/nhs_number")
        return f"nhs:{nhs_number}"
    if upn is not None:
        if not upn_valid(upn):
            raise Rejection(Reason.IDENTIFIER_INVALID, pointer="/body/subject/upn")
        return f"upn:{upn}"
    if family_name is None or given_name is None or birth_date is None:
        detail = "a person is identified by NHS number, by UPN, or by both names and date of birth"
        raise Rejection(Reason.REQUEST_INVALID, detail, pointer="/body/subject")
    return _named(family_name, given_name, birth_date)


def read_subject(person: etree._Element) -> Subject:
    """Return the subject that ``person``, an element of type PersonIdentity, identifies."""
    nhs_number = _text(person, "NHSNumber")
    if nhs_number:
        return Subject(key=f"nhs:{nhs_number}", nhs_number=nhs_number)
    upn = _text(person, "UPN")
    key = f"upn:{upn}" if upn else _name_key(person)
    return Subject(key=key, omission_reason=_text(person, "OmissionReason") or None)


def _name_key(person: etree._Element) -> str:
    name = next(person.iterchildren("{*}Name"))
    born = _text(person, "BirthDate") or _text(person, "ExpectedDeliveryDate")
    family_name, given_name = _text(name, "FamilyName"), _text(name, "GivenName")
    return _named(family_name, given_name, born)


def _named(family_name: str, given_name: str, born: str) -> str:
    return f"name:{folded(family_name)}|{folded(given_name)}|{born}"


def _text(element: etree._Element, name: str) -> str:
    """Return the text of the first child ``name``, or ``""``."""
    child = next(element.iterchildren(f"{{*}}{name}"), None)
    return "" if child is None else (child.text or "").strip()
