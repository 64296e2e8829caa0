"""The sealed set, validation, and above all: no error ever holds a value."""

import hashlib
import re
import traceback
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from functools import cache
from pathlib import Path

import pytest
from lxml import etree

from broker.core.errors import Permanent, Rejection
from broker.core.reasons import Reason
from broker.core.samples import sample_payload, sample_types
from broker.core.schema import SchemaSet, seal
from broker.core.schema_model import CATEGORIES, Declaration
from broker.edge.schemas import load_schemas

ROOT = Path(__file__).parents[2] / "schemas"
XS = "{http://www.w3.org/2001/XMLSchema}"
CANARY = "Zqx7Canary"
TYPES = sample_types()
KINDS = ("element", "complexType", "simpleType", "attribute")


@cache
def schemas() -> SchemaSet:
    return load_schemas(ROOT)


def sample(message_type: str, seed: int = 1) -> etree._Element:
    return etree.fromstring(sample_payload(message_type, seed))


def rejection_of(payload: etree._Element, message_type: str = "") -> Rejection | None:
    try:
        schemas().validate(message_type or etree.QName(payload).localname, "1.0", payload)
    except Rejection as rejection:
        return rejection
    return None


def rejected(message_type: str, old: str, new: str) -> Rejection:
    text = sample_payload(message_type, 1).decode()
    assert old in text
    rejection = rejection_of(etree.fromstring(text.replace(old, new, 1)), message_type)
    assert rejection is not None
    assert rejection.reason is Reason.SCHEMA
    return rejection


# -- what is told of a fault ------------------------------------------------------------------


def test_a_value_outside_its_list_is_told_with_the_list() -> None:
    rejection = rejected("Referral", "<ReferralType>SAFEGUARDING", "<ReferralType>SAFE")

    assert rejection.pointer == "/Referral/ReferralType"
    assert rejection.line == 1
    assert rejection.detail == (
        "the value is not in the list; ReferralTypeCode is one of SAFEGUARDING, EARLY_HELP, CIN"
    )


def test_a_missing_element_is_told_by_its_name() -> None:
    rejection = rejected("InvolvementEnded", "<EndedOn>2026-06-01</EndedOn>", "")

    assert rejection.pointer == "/InvolvementEnded/EndReason"
    assert rejection.detail == (
        "an element is missing, or stands where it may not; expected here: EndedOn"
    )


def test_an_element_missing_at_the_end_is_told_of_its_parent() -> None:
    rejection = rejected("WhoElseQuery", "<DueBy>2026-06-01T17:30:00+01:00</DueBy>", "")

    assert rejection.pointer == "/WhoElseQuery"
    assert rejection.detail.endswith("expected here: DueBy")


def test_a_value_of_the_wrong_form_is_told_by_its_type() -> None:
    rejection = rejected("WhoElseQuery", "<QueryId>", "<QueryId> ")

    assert rejection.detail == "the value has the wrong form; its type is Reference"


def test_the_position_of_a_repeated_element_is_told() -> None:
    text = sample_payload("VacancySnapshot", 1).decode()
    second = text.rindex("<Title>")
    changed = text[:second] + "<Title>" + "x" * 71 + text[text.index("</Title>", second) :]

    rejection = rejection_of(etree.fromstring(changed), "VacancySnapshot")

    assert rejection is not None
    assert rejection.pointer == "/VacancySnapshot/Vacancy[2]/Title"
    assert rejection.detail == "the value is too long; its type is JobTitle"


def test_an_element_of_unknown_name_is_told_of_its_parent() -> None:
    rejection = rejected("WhoElseQuery", "<QueryId>", f"<{CANARY}/><QueryId>")

    assert rejection.pointer == "/WhoElseQuery"
    assert rejection.detail.endswith("expected here: QueryId")


@pytest.mark.parametrize(
    ("old", "new", "detail"),
    [
        ("<Version>1<", "<Version>0<", "the value is too small; its type is Count"),
        ("<Version>1<", "<Version>100000<", "the value is too large; its type is Count"),
        ("<Version>1<", "<Version>x<", "the value is not of its type; its type is Count"),
        ("<Version>1<", "<Version/><", "the value is not of its type"),
        ("<Min>", "<Min>0.001</Min><Min>", "the value has too many decimals; its type is Money"),
        ("<Title>", "<Title></Title><Title>", "the value is too short; its type is JobTitle"),
        ("<Title>", "<Title><b/>", "an element stands where only text may; its type is JobTitle"),
        ("<Title>", "<Title a='b'>", "an attribute stands where none may; its type is JobTitle"),
        ("<Vacancy>", "<Vacancy a='b'>", "an attribute stands where none may; its type is Vacancy"),
        ("<Vacancy>", "<Vacancy>text", "text stands between elements; its type is Vacancy"),
    ],
)
def test_each_kind_of_fault_has_words(old: str, new: str, detail: str) -> None:
    new = new.replace("/><", "/>", 1) if new == "<Version/><" else new
    text = sample_payload("VacancyPublished", 1).decode()
    if new == "<Version/>":
        text = text.replace("<Version>1</Version>", new, 1)
    else:
        text = text.replace(old, new, 1)

    rejection = rejection_of(etree.fromstring(text), "VacancyPublished")

    assert rejection is not None
    assert rejection.detail.startswith(detail)


def test_a_fault_of_the_root_itself_is_told_at_the_root() -> None:
    rejection = rejected("VacancyPublished", "<VacancyPublished ", '<VacancyPublished a="b" ')

    assert rejection.pointer == "/VacancyPublished"
    assert rejection.detail == "an attribute stands where none may; its type is SingleVacancy"


def test_the_pointer_starts_at_the_envelope_around_the_payload() -> None:
    envelope = etree.fromstring("<Envelope><Payload/></Envelope>")
    payload = etree.SubElement(envelope[0], sample("WhoElseQuery").tag)

    rejection = rejection_of(payload)

    assert rejection is not None
    assert rejection.pointer == "/Envelope/Payload/WhoElseQuery"


def test_a_payload_of_another_type_than_the_header_names_is_rejected() -> None:
    rejection = rejection_of(sample("Referral"), "ReferralOutcome")

    assert rejection is not None
    assert rejection.reason is Reason.SCHEMA
    assert "MessageType" in rejection.detail


def test_a_payload_in_another_namespace_is_rejected() -> None:
    text = sample_payload("Referral", 1).replace(b"urn:fame:referral:1.0", b"urn:fame:vacancy:1.0")

    assert rejection_of(etree.fromstring(text), "Referral") is not None


@pytest.mark.parametrize("kind", [("Referral", "9.9"), ("Nonsense", "1.0")])
def test_a_type_or_version_outside_the_catalogue_is_rejected(kind: tuple[str, str]) -> None:
    calls = (
        lambda: schemas().validate(*kind, sample("Referral")),
        lambda: schemas().entry(*kind),
        lambda: schemas().model(*kind),
        lambda: schemas().categories(*kind),
        lambda: schemas().subject(*kind, sample("Referral")),
    )

    for call in calls:
        with pytest.raises(Rejection) as caught:
            call()
        assert caught.value.reason is Reason.TYPE_UNKNOWN


# -- no error holds a value -------------------------------------------------------------------


def mutants(payload: etree._Element) -> Iterator[etree._Element]:
    """Yield copies of ``payload``, each with the canary somewhere that it may not be."""
    for index, element in enumerate(payload.iter()):
        for plant in (_as_value, _as_attribute, _as_text_beside, _as_name, _as_name_and_value):
            copy = deepcopy(payload)
            plant(next(e for n, e in enumerate(copy.iter()) if n == index))
            yield copy
        if not len(element):
            for text in ("", CANARY * 40, f"{CANARY}\t\n9", f"2026-{CANARY}", f"0{CANARY}"):
                copy = deepcopy(payload)
                next(e for n, e in enumerate(copy.iter()) if n == index).text = text
                yield copy


def _as_value(element: etree._Element) -> None:
    element.text = CANARY


def _as_attribute(element: etree._Element) -> None:
    element.set("note", CANARY)


def _as_text_beside(element: etree._Element) -> None:
    element.tail = CANARY


def _as_name(element: etree._Element) -> None:
    etree.SubElement(element, f"{{urn:x}}{CANARY}")


def _as_name_and_value(element: etree._Element) -> None:
    etree.SubElement(element, f"{{{etree.QName(element).namespace}}}{CANARY}").text = CANARY


def everything_said(rejection: Rejection) -> str:
    chain = "".join(traceback.format_exception(rejection))
    parts = (
        rejection.args,
        rejection.detail,
        rejection.pointer,
        rejection.__cause__,
        vars(rejection),
    )
    return f"{rejection}{rejection!r}{parts!r}{rejection.__context__!r}{chain}"


@pytest.mark.parametrize("message_type", TYPES)
def test_no_error_holds_a_value_from_the_message(message_type: str) -> None:
    found = 0

    for mutant in mutants(sample(message_type)):
        rejection = rejection_of(mutant, message_type)
        if rejection is not None:
            found += 1
            assert "Zqx7" not in everything_said(rejection)

    assert found > 3 * sum(1 for _ in sample(message_type).iter())


# -- categories, models, subjects -------------------------------------------------------------


@pytest.mark.parametrize("message_type", TYPES)
def test_every_path_of_every_sample_has_a_category(message_type: str) -> None:
    categories = schemas().categories(message_type, "1.0")

    for seed in range(12):
        payload = sample(message_type, seed)
        for element in payload.iter():
            above = [etree.QName(e).localname for e in element.iterancestors()][:-1]
            path = "/".join([*reversed(above), etree.QName(element).localname])
            if element is not payload:
                assert categories[path] in CATEGORIES


def test_a_category_may_count_for_all_below() -> None:
    categories = schemas().categories("Referral", "1.0")

    assert categories["Subject/Name/FamilyName"] == "identity"
    assert categories["Referrer/Contact/Name/FamilyName"] == "practitioner"
    assert categories["HouseholdMember/Name/FamilyName"] == "family"
    assert categories["Child/HomeAddress/PostCode"] == "address"
    assert categories["Child/HomeAddress/UPRN"] == "location"
    assert categories["Referrer/Address/UPRN"] == "practitioner"


def test_a_sensitive_involvement_is_sensitive_through_and_through() -> None:
    for message_type in ("ChildIndexUpdate", "YOTCheckResponse", "InformationResponse"):
        found = {
            category
            for path, category in schemas().categories(message_type, "1.0").items()
            if path.startswith("SensitiveInvolvement")
        }
        assert found == {"sensitive-involvement"}


def test_the_model_knows_how_often_each_element_occurs() -> None:
    found = {one.path: one for one in schemas().model("Referral", "1.0").walk()}

    assert (found["ReferralId"].min_occurs, found["ReferralId"].max_occurs) == (1, 1)
    assert (found["HouseholdMember"].min_occurs, found["HouseholdMember"].max_occurs) == (0, None)
    assert found["Reason/RiskFactor"].max_occurs == 3
    assert found["Subject/NHSNumber"].alternative
    assert not found["Subject/Gender"].alternative
    assert ("S47", "Enquiry under s.47.") in {
        one.path: one for one in schemas().model("ReferralOutcome", "1.0").walk()
    }["Decision"].values


@pytest.mark.parametrize("message_type", TYPES)
def test_a_subject_is_read_from_every_message_about_a_child(message_type: str) -> None:
    subject = schemas().subject(message_type, "1.0", sample(message_type))

    # The broker's notices name no person: a case is a reference that its agencies know.
    notice = message_type in {"ConsentNotice", "OverrideNotice"}
    family = schemas().entry(message_type, "1.0").family
    about_nobody = notice or family in ("vacancy", "report", "clock", "access")
    assert (subject is None) is about_nobody


def documents() -> Iterator[tuple[str, etree._Element]]:
    for path in sorted(ROOT.rglob("*.xsd")):
        yield path.relative_to(ROOT).as_posix(), etree.parse(path).getroot()


@pytest.mark.parametrize(("name", "document"), list(documents()), ids=lambda x: str(x)[:40])
def test_every_element_and_type_is_documented_and_every_element_has_a_category(
    name: str, document: etree._Element
) -> None:
    for element in document.iter(f"{XS}element"):
        if element.get("name") is not None:
            category = element.findtext(".//{urn:fame:category:1.0}category")
            assert category in CATEGORIES, (name, element.get("name"))
    for node in document.iter(
        f"{XS}element", f"{XS}complexType", f"{XS}simpleType", f"{XS}attribute"
    ):
        if node.get("name") is not None:
            words = node.findtext(f"{XS}annotation/{XS}documentation", "")
            assert re.fullmatch(r"\S.*[.]", words), (name, node.get("name"))


@pytest.mark.parametrize(("name", "document"), list(documents()), ids=lambda x: str(x)[:40])
def test_no_pattern_uses_what_engines_judge_differently_or_slowly(
    name: str, document: etree._Element
) -> None:
    for pattern in document.iter(f"{XS}pattern"):
        value = pattern.get("value", "")
        assert not re.search(r"\\[pPwWdDsSiIcC]|[^]}]-\[", value), (name, value)
        assert not re.search(r"[*+]\)[*+]", value), (name, value)


# -- sealing ----------------------------------------------------------------------------------

ENVELOPE_XSD = (
    b'<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema">'
    b'<xs:element name="Envelope" type="E"><xs:annotation><xs:documentation>E.</xs:documentation>'
    b'<xs:appinfo><c:category xmlns:c="urn:fame:category:1.0">administrative</c:category>'
    b"</xs:appinfo></xs:annotation></xs:element>"
    b'<xs:complexType name="E"/></xs:schema>'
)


def catalogue_for(files: Mapping[str, bytes], document: str = "Envelope", more: str = "") -> bytes:
    digests = "".join(
        f'"{path}" = "{hashlib.sha256(content).hexdigest()}"\n' for path, content in files.items()
    )
    return (
        f'published = []\n[document.{document}."1.0"]\nnamespace = ""\nfile = "a/e.xsd"\n'
        f"[message]\n{more}\n[sha256]\n{digests}"
    ).encode()


def sealed(content: bytes, document: str = "Envelope") -> SchemaSet:
    files = {"a/e.xsd": content}
    return seal(catalogue_for(files, document), files)


def refused(words: str, content: bytes, document: str = "Envelope") -> None:
    with pytest.raises(Permanent, match=words) as caught:
        sealed(content, document)
    assert caught.value.reason is Reason.CATALOGUE


def test_the_schemas_of_the_catalogue_are_taken() -> None:
    loaded = sealed(ENVELOPE_XSD)

    assert loaded.envelope.validate(etree.fromstring("<Envelope/>"))
    assert loaded.digest == hashlib.sha256(catalogue_for({"a/e.xsd": ENVELOPE_XSD})).hexdigest()


def test_a_changed_missing_or_extra_file_is_refused() -> None:
    files = {"a/e.xsd": ENVELOPE_XSD}
    catalogue = catalogue_for(files)

    for other, words in (
        ({"a/e.xsd": ENVELOPE_XSD + b"\n"}, "not the one that was sealed"),
        ({}, "is missing"),
        (files | {"b.xsd": b""}, "is not in the catalogue"),
    ):
        with pytest.raises(Permanent, match=words):
            seal(catalogue, other)


def test_a_schema_with_a_document_type_is_refused() -> None:
    refused("document type", b"<!DOCTYPE x [<!ENTITY a 'b'>]>" + ENVELOPE_XSD)


def test_what_is_no_schema_is_refused() -> None:
    refused("does not compile", b"<a")
    refused("no schema declares", ENVELOPE_XSD.replace(b'"Envelope"', b'"Other"'))
    refused(
        "does not compile",
        ENVELOPE_XSD.replace(
            b'name="E"/>', b'name="E"><xs:sequence/><xs:sequence/></xs:complexType>'
        ),
    )


@pytest.mark.parametrize("name", [b"key", b"keyref", b"unique", b"redefine", b"group", b"all"])
def test_what_engines_judge_differently_or_the_model_does_not_read_is_refused(name: bytes) -> None:
    refused(
        f"uses {name.decode()}",
        ENVELOPE_XSD.replace(b"</xs:schema>", b"<xs:%b/></xs:schema>" % name),
    )


@pytest.mark.parametrize(
    "location", [b"../../../etc/passwd", b"http://x.example/a.xsd", b"file:///etc/passwd", b"b.xsd"]
)
def test_a_reference_outside_the_catalogue_is_refused(location: bytes) -> None:
    include = b'<xs:include schemaLocation="%b"/><xs:element' % location

    refused("outside the catalogue", ENVELOPE_XSD.replace(b"<xs:element", include, 1))


def test_a_file_is_found_beside_the_one_that_includes_it() -> None:
    types = (
        ENVELOPE_XSD[: ENVELOPE_XSD.index(b"<xs:element")]
        + b'<xs:complexType name="E"/></xs:schema>'
    )
    including = ENVELOPE_XSD.replace(b'<xs:complexType name="E"/>', b"").replace(
        b"<xs:element", b'<xs:include schemaLocation="../b/t.xsd"/><xs:element', 1
    )
    files = {"a/e.xsd": including, "b/t.xsd": types}

    assert seal(catalogue_for(files), files).envelope.validate(etree.fromstring("<Envelope/>"))


def test_a_catalogue_without_an_envelope_is_refused() -> None:
    refused("names no Envelope", ENVELOPE_XSD.replace(b'"Envelope"', b'"Receipt"'), "Receipt")


def test_a_catalogue_that_is_no_text_is_refused() -> None:
    with pytest.raises(Permanent):
        seal(b"\xff", {})


ASK = (
    '[message.Envelope."1.0"]\nfamily = "x"\nnamespace = ""\nfile = "a/e.xsd"\n'
    'pattern = "event"\npurposes = ["CP"]\n'
)


def test_a_message_type_may_have_no_rules() -> None:
    files = {"a/e.xsd": ENVELOPE_XSD}
    loaded = seal(catalogue_for(files, more=ASK), files)

    namespaced = etree.fromstring("<Envelope/>")
    with pytest.raises(Rejection):  # the tag of the catalogue has a namespace, if an empty one
        loaded.validate("Envelope", "1.0", namespaced)


@pytest.mark.parametrize(
    ("content", "more", "words"),
    [
        (ENVELOPE_XSD, ASK + 'subject_path = "Subject"\n', "no element Subject"),
        (
            ENVELOPE_XSD.replace(
                b'name="E"/>', b'name="E"><xs:attribute name="a"/></xs:complexType>'
            ),
            ASK,
            "a payload has no attributes",
        ),
    ],
)
def test_a_payload_that_cannot_be_treated_fairly_is_refused(
    content: bytes, more: str, words: str
) -> None:
    files = {"a/e.xsd": content}

    with pytest.raises(Permanent, match=words):
        seal(catalogue_for(files, more=more), files)


def test_several_threads_each_get_the_fault_of_their_own_message() -> None:
    bad = {
        t: etree.fromstring(sample_payload(t, 1).replace(b"</Subject>", b"<X/></Subject>"))
        for t in ("Referral", "ReferralOutcome", "ReferralAcknowledgement")
    }

    def pointer(message_type: str) -> str:
        rejection = rejection_of(deepcopy(bad[message_type]), message_type)
        assert rejection is not None
        return rejection.pointer

    with ThreadPoolExecutor(4) as threads:
        pointers = list(threads.map(pointer, [*bad] * 100))

    assert pointers == [f"/{t}/Subject" for t in [*bad] * 100]


def test_a_thread_waits_while_every_copy_of_a_schema_is_in_use() -> None:
    free = schemas()._of("Referral", "1.0").compiled._free
    taken = [free.get() for _ in range(free.qsize())]

    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(rejection_of, sample("Referral"))
        with pytest.raises(TimeoutError):
            waiting.result(timeout=0.05)
        for compiled in taken:
            free.put(compiled)

    assert waiting.result() is None
    assert free.qsize() == len(taken)


def test_no_schema_is_compiled_once_the_set_is_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What compiles later would meet the loader that another thread has just swapped."""
    schemas()
    monkeypatch.setattr(etree, "XMLSchema", None)

    with ThreadPoolExecutor(16) as threads:
        assert set(threads.map(rejection_of, [sample("Referral") for _ in range(64)])) == {None}


def leaves(root: Declaration) -> Iterator[Declaration]:
    return (one for one in root.walk() if not one.children)


@pytest.mark.parametrize("message_type", TYPES)
def test_the_samples_between_them_use_most_of_what_can_be_said(message_type: str) -> None:
    root = schemas().model(message_type, "1.0")
    used = {etree.QName(e).localname for n in range(12) for e in sample(message_type, n).iter()}
    top = {child.name for child in root.children}

    assert len(top & used) >= 0.6 * len(top)
