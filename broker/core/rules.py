"""What a message must keep to beyond its XSD: check digits, and parts that depend on each other.

A rule is a function of one element, found by its local name; it returns what is broken. It
may rely on the element following its schema, since that is checked first. A name that has a
rule means one thing only in all families, which a test holds. The sentences are for readers
and appear in `fame schema docs`.
"""

import base64
import binascii
import hashlib
import unicodedata
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal

from lxml import etree

from broker.core import identifiers
from broker.core.reasons import Reason
from broker.core.restricted_html import html_fault
from broker.core.rule import (
    Broken,
    Check,
    Rule,
    child_of,
    children_of,
    fields_of,
    has_child,
    text_of,
)
from broker.core.rules_notices import NOTICE_RULES

__all__ = ["RULES", "Broken", "Check", "Rule"]

_all_fields = fields_of()


# -- identifiers and names -----------------------------------------------------------------


def _identifier(valid: Callable[[str], bool], what: str) -> Check:
    def check(element: etree._Element) -> Broken | None:
        # step 2, ISP-2.4: a number is one that can have been issued.
        if valid(element.text or ""):
            return None
        return Broken(element, f"not a possible {what}", Reason.IDENTIFIER_INVALID)

    return check


def _name(element: etree._Element) -> Broken | None:
    text = element.text or ""
    if not text.isalpha() and (text != text.strip() or not all(map(_in_a_name, text))):
        return Broken(element, "a name holds a character that names do not, or a space at an end")
    return None


def _in_a_name(character: str) -> bool:
    return character in " '\u2019.,-" or unicodedata.category(character)[0] in "LM"


# -- any family ------------------------------------------------------------------------------


def _ended_on(element: etree._Element) -> Broken | None:
    started = next(element.itersiblings("{*}StartedOn", preceding=True), None)
    if started is not None and (element.text or "").strip() < (started.text or "").strip():
        return Broken(element, "it ended before it started")
    return None


def _sharing_basis(element: etree._Element) -> Broken | None:
    found = {(child.tag.rpartition("}")[2], child.text) for child in element}
    names = {name for name, _ in found}
    if (("DetrimentTest", "DETRIMENTAL") in found) != ("DetrimentReason" in names):
        return Broken(element, "DetrimentReason goes with DETRIMENTAL, and with nothing else")
    if ("Condition", "DPA-S1-18") in found and "ConsentNotObtained" not in names:
        return Broken(element, "the condition DPA-S1-18 needs ConsentNotObtained")
    return None


def _attachment(element: etree._Element) -> Broken | None:
    encoded = text_of(element, "Content")
    if not encoded:
        return None
    try:
        content = base64.b64decode(encoded)
    except binascii.Error:
        return Broken(child_of(element, "Content"), "the content is not base64")
    if hashlib.sha256(content).hexdigest() != text_of(element, "Sha256"):
        return Broken(child_of(element, "Sha256"), "the digest is not that of the content")
    return None


# -- vacancies -------------------------------------------------------------------------------

_vacancy_fields = fields_of(
    "PostedOn", "ClosesAt", "Description", "ContractType", "FixedTermMonths"
)
_salary_fields = fields_of("Min", "Max", "ScalePointMin", "ScalePointMax")


def _vacancy(element: etree._Element) -> Broken | None:
    texts = _vacancy_fields(element)
    if datetime.fromisoformat(texts["ClosesAt"]).date() < date.fromisoformat(texts["PostedOn"]):
        return Broken(child_of(element, "ClosesAt"), "ClosesAt is not before PostedOn")
    fault = html_fault(texts["Description"])
    if fault is not None:
        return Broken(child_of(element, "Description"), f"the description holds {fault}")
    if "FixedTermMonths" in texts and texts["ContractType"] in ("PERMANENT", "CASUAL"):
        return Broken(child_of(element, "FixedTermMonths"), "such a contract has no fixed term")
    return None


def _salary(element: etree._Element) -> Broken | None:
    texts = _salary_fields(element)
    if Decimal(texts["Max"]) < Decimal(texts["Min"]):
        return Broken(child_of(element, "Max"), "Max is not less than Min")
    points = texts.get("ScalePointMin"), texts.get("ScalePointMax")
    if points[0] is not None and points[1] is not None and int(points[1]) < int(points[0]):
        detail = "ScalePointMax is not less than ScalePointMin"
        return Broken(child_of(element, "ScalePointMax"), detail)
    return None


def _not_open(vacancy: etree._Element) -> Broken:
    return Broken(child_of(vacancy, "Status"), "a vacancy is published or listed as OPEN")


def _published(element: etree._Element) -> Broken | None:
    vacancy = child_of(element, "Vacancy")
    return None if text_of(vacancy, "Status") == "OPEN" else _not_open(vacancy)


def _updated(element: etree._Element) -> Broken | None:
    vacancy = child_of(element, "Vacancy")
    if text_of(vacancy, "Status") == "DRAFT":
        return Broken(child_of(vacancy, "Status"), "a draft is not shared")
    if int(text_of(vacancy, "Version")) == 1:
        return Broken(child_of(vacancy, "Version"), "an update has a Version above 1")
    return None


def _snapshot(element: etree._Element) -> Broken | None:
    employer = text_of(child_of(element, "Employer"), "Code")
    seen: set[str] = set()
    for vacancy in children_of(element, "Vacancy"):
        reference = text_of(vacancy, "VacancyRef")
        if reference in seen:
            return Broken(child_of(vacancy, "VacancyRef"), "a vacancy is listed once")
        if text_of(child_of(vacancy, "Employer"), "Code") != employer:
            return Broken(child_of(vacancy, "Employer"), "a snapshot is of one employer")
        if text_of(vacancy, "Status") != "OPEN":
            return _not_open(vacancy)
        seen.add(reference)
    return None


def _feedback(element: etree._Element) -> Broken | None:
    for item in children_of(element, "Item"):
        rejected = text_of(item, "Result") == "REJECTED"
        if rejected != has_child(item, "Reason"):
            return Broken(item, "Reason goes with REJECTED, and with nothing else")
    return None


# -- child index -----------------------------------------------------------------------------


def _index_update(element: etree._Element) -> Broken | None:
    status = text_of(element, "AddressStatus")
    detail = "LeftEnglandIntent goes with LEFT_ENGLAND, and with nothing else"
    if (status == "LEFT_ENGLAND") != has_child(element, "LeftEnglandIntent"):
        return Broken(element, detail)
    shielded = text_of(child_of(element, "Shielding"), "Shielded") == "true"
    located = has_child(element, "Address")
    if located and status == "NONE_KNOWN":
        return Broken(child_of(element, "Address"), "there is no Address when none is known")
    # A shielded record may come without the address: that is the point of the shield.
    if not located and not shielded and status in ("CURRENT", "LAST_KNOWN"):
        return Broken(element, "an Address is needed when one is known")
    born = text_of(child_of(element, "Subject"), "BirthDate")
    if has_child(element, "DeathDate") and text_of(element, "DeathDate") < born:
        return Broken(child_of(element, "DeathDate"), "DeathDate is not before BirthDate")
    return None


def _shielding(element: etree._Element) -> Broken | None:
    texts = _all_fields(element)
    if texts["Shielded"] == "true" and not {"By", "On", "ReviewOn"} <= texts.keys():
        return Broken(element, "a shield has By, On and ReviewOn")
    return None


def _started(element: etree._Element) -> Broken | None:
    for involvement in element.iterchildren("{*}Involvement", "{*}SensitiveInvolvement"):
        if not has_child(involvement, "StartedOn"):
            return Broken(involvement, "an involvement that starts has StartedOn")
    return None


def _query(element: etree._Element) -> Broken | None:
    if text_of(element, "ReasonForAccess") == "EMERGENCY" and not has_child(element, "ReasonText"):
        return Broken(child_of(element, "ReasonForAccess"), "EMERGENCY needs ReasonText")
    return None


_TOLD = ("{*}Involvement", "{*}CAF", "{*}LeadProfessional")


def _answer(element: etree._Element) -> Broken | None:
    told = next(element.iterchildren(*_TOLD), None) is not None
    told = told or text_of(element, "BrokeredContactAvailable") == "true"
    if told and text_of(element, "MatchStatus") != "MATCH":
        return Broken(element, "nothing is told of the child unless MatchStatus is MATCH")
    return None


def _brokered(element: etree._Element) -> Broken | None:
    accepted = text_of(element, "Outcome") == "ACCEPTED"
    if accepted != has_child(element, "Contact"):
        return Broken(element, "Contact goes with ACCEPTED, and with nothing else")
    return None


# -- referral --------------------------------------------------------------------------------


def _referral(element: etree._Element) -> Broken | None:
    for call in children_of(element, "ConfirmsTelephoneReferral"):
        submitted = datetime.fromisoformat(text_of(element, "SubmittedAt"))
        if datetime.fromisoformat(text_of(call, "At")) > submitted:
            return Broken(call, "the call comes before the form that confirms it")
    return None


def _awareness(element: etree._Element) -> Broken | None:
    texts = _all_fields(element)
    if "false" in texts.values() and "ReasonIfNo" not in texts:
        return Broken(element, "ReasonIfNo is needed when any answer is no")
    return None


def _acknowledgement(element: etree._Element) -> Broken | None:
    received = datetime.fromisoformat(text_of(element, "ReceivedAt"))
    if datetime.fromisoformat(text_of(element, "DecisionDueBy")) < received:
        return Broken(child_of(element, "DecisionDueBy"), "DecisionDueBy is not before ReceivedAt")
    return None


def _outcome(element: etree._Element) -> Broken | None:
    transferred = text_of(element, "Decision") == "TRANSFER_LA"
    if transferred != has_child(element, "TransferredTo"):
        return Broken(element, "TransferredTo goes with TRANSFER_LA, and with nothing else")
    return None


# -- youth offending -------------------------------------------------------------------------

_ITEM_ELEMENTS: Mapping[str, tuple[str, ...]] = {
    "KNOWN": ("Known",),
    "STATUS": ("Status",),
    "WORKER": ("Worker",),
    "PLAN_DATES": ("Plan",),
    "PR_HOLDERS": ("ParentalResponsibilityHolder",),
    "SCHOOL": ("School",),
    "ATTENDANCE": ("Attendance",),
    "EXCLUSIONS": ("Exclusions",),
    "SEND": ("SEND",),
    "PREV_DISPOSALS": ("PreviousDisposals",),
    "HEALTH_INVOLVEMENT": ("HealthInvolvement", "SensitiveInvolvement"),
}
_ANSWERS = tuple(f"{{*}}{name}" for names in _ITEM_ELEMENTS.values() for name in names)
_INFORMATION = (
    "{*}Address", "{*}Involvement", "{*}SensitiveInvolvement", "{*}HouseholdMember", "{*}Event",
    "{*}Safeguarding", "{*}Health", "{*}Education", "{*}Offending", "{*}Opinion", "{*}Attachment",
)  # fmt: skip


def _items(element: etree._Element) -> Broken | None:
    items = [item.text for item in element]
    if len(set(items)) != len(items):
        return Broken(element, "an item is asked for once")
    return None


def _check_answer(element: etree._Element) -> Broken | None:
    refused: set[str] = set()
    for refusal in children_of(element, "Refusal"):
        item = text_of(refusal, "Item")
        if item in refused or any(has_child(element, name) for name in _ITEM_ELEMENTS[item]):
            return Broken(refusal, "an item is answered or refused, and that once")
        refused.add(item)
    if not refused and next(element.iterchildren(*_ANSWERS), None) is None:
        return Broken(element, "a response answers or refuses at least one item")
    return None


def _attendance(element: etree._Element) -> Broken | None:
    if text_of(element, "Until") < text_of(element, "From"):
        return Broken(child_of(element, "Until"), "Until is not before From")
    return None


def _information(element: etree._Element) -> Broken | None:
    known = text_of(element, "Known") == "true"
    if not known and next(element.iterchildren(*_INFORMATION), None) is not None:
        detail = "of a child who is not known there is nothing to tell"
        return Broken(child_of(element, "Known"), detail)
    return None


_LETTERS = Rule(
    "Names hold letters of any script, spaces, apostrophes, full stops, commas and hyphens.", _name
)
_ONLY = "goes with {}, and with nothing else."

RULES: Mapping[str, Rule] = {
    "NHSNumber": Rule(
        "The check digit is right (modulus 11).",
        _identifier(identifiers.nhs_number_valid, "NHS number"),
    ),
    "UPN": Rule(
        "The check letter is right (modulus 23).",
        _identifier(identifiers.upn_valid, "unique pupil number"),
    ),
    "ULN": Rule(
        "The check digit is right (modulus 11).",
        _identifier(identifiers.uln_valid, "unique learner number"),
    ),
    "UPRN": Rule(
        "It is from 1 to 999999999999.",
        _identifier(identifiers.uprn_valid, "unique property reference number"),
    ),
    "GivenName": _LETTERS,
    "FamilyName": _LETTERS,
    "Suffix": _LETTERS,
    "RequestedName": _LETTERS,
    "EndedOn": Rule("Nothing ends before it starts.", _ended_on),
    "SharingBasis": Rule(
        f"DetrimentReason {_ONLY.format('DETRIMENTAL')} DPA-S1-18 needs ConsentNotObtained.",
        _sharing_basis,
    ),
    "Attachment": Rule("Sha256 is that of the content.", _attachment),
    "Vacancy": Rule(
        "ClosesAt is not before PostedOn; the description holds only the HTML allowed; a "
        "permanent or casual contract has no FixedTermMonths.",
        _vacancy,
    ),
    "Salary": Rule("No maximum is below its minimum.", _salary),
    "VacancyPublished": Rule("The vacancy is OPEN.", _published),
    "VacancyUpdated": Rule("The vacancy is not a DRAFT and its Version is above 1.", _updated),
    "VacancySnapshot": Rule(
        "Every vacancy is OPEN, of the one employer, and listed once.", _snapshot
    ),
    "VacancyFeedbackReport": Rule(f"Reason {_ONLY.format('REJECTED')}", _feedback),
    "ChildIndexUpdate": Rule(
        f"LeftEnglandIntent {_ONLY.format('LEFT_ENGLAND')} An Address is given with CURRENT and "
        "LAST_KNOWN, unless the record is shielded, and never with NONE_KNOWN. DeathDate is not "
        "before BirthDate.",
        _index_update,
    ),
    "Shielding": Rule("A shield has By, On and ReviewOn.", _shielding),
    "InvolvementStarted": Rule("The involvement has StartedOn.", _started),
    "WhoElseQuery": Rule("EMERGENCY needs ReasonText.", _query),
    "WhoElseResponse": Rule("Nothing is told unless MatchStatus is MATCH.", _answer),
    "BrokeredContactResult": Rule(f"Contact {_ONLY.format('ACCEPTED')}", _brokered),
    "Referral": Rule("A telephone call comes before the form that confirms it.", _referral),
    "Consent": Rule("ReasonIfNo is needed when any answer is no.", _awareness),
    "ReferralAcknowledgement": Rule("DecisionDueBy is not before ReceivedAt.", _acknowledgement),
    "ReferralOutcome": Rule(f"TransferredTo {_ONLY.format('TRANSFER_LA')}", _outcome),
    "ItemsRequested": Rule("No item is asked for twice.", _items),
    "YOTCheckResponse": Rule(
        "At least one item is answered or refused, and none is both.", _check_answer
    ),
    "Attendance": Rule("Until is not before From.", _attendance),
    "InformationResponse": Rule("When the child is not known, nothing else is told.", _information),
    **NOTICE_RULES,
}
