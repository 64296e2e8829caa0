from collections.abc import Iterable, Mapping

from lxml import etree

from broker.core.errors import Rejection
from broker.core.schema_errors import schema_rejection
from broker.core.schema_model import Declaration, SchemaModel

SCHEMA = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:c="urn:fame:category:1.0" '
    'xmlns="urn:x" targetNamespace="urn:x" elementFormDefault="qualified">'
    '<xs:element name="R" type="R">{0}</xs:element><xs:complexType name="R"><xs:sequence>'
    '<xs:element name="A" type="C" maxOccurs="9">{0}</xs:element></xs:sequence></xs:complexType>'
    '<xs:simpleType name="C"><xs:restriction base="xs:string">{1}</xs:restriction></xs:simpleType>'
    "</xs:schema>"
)
NOTE = (
    "<xs:annotation><xs:documentation>D.</xs:documentation><xs:appinfo>"
    "<c:category>identity</c:category></xs:appinfo></xs:annotation>"
)


def rejection(
    text: str, values: int = 2, declared: Mapping[str, Declaration] | None = None
) -> Rejection:
    listed = "".join(f'<xs:enumeration value="v{number}"/>' for number in range(values))
    root = etree.fromstring(SCHEMA.format(NOTE, listed))
    compiled = etree.XMLSchema(root)
    payload = etree.fromstring(text)
    assert not compiled.validate(payload)
    found = {one.path: one for one in SchemaModel("m", {"m": root}).root("R").walk()}
    log: Iterable[etree._LogEntry] = compiled.error_log  # type: ignore[assignment]  # stubs
    error = next(iter(log))
    return schema_rejection(payload, error, found if declared is None else declared)


def test_a_short_list_is_told_and_a_long_one_is_named() -> None:
    text = '<R xmlns="urn:x"><A>w</A></R>'

    assert rejection(text, 2).detail == "the value is not in the list; C is one of v0, v1"
    assert rejection(text, 24).detail.endswith("v22, v23")
    assert rejection(text, 25).detail == "the value is not in the list; its type is C"


def test_a_prefix_in_the_message_makes_no_difference() -> None:
    found = rejection('<p:R xmlns:p="urn:x"><p:A>v0</p:A><p:A>w</p:A></p:R>')

    assert found.pointer == "/R/A[2]"


def test_lines_count_from_the_top_of_what_was_parsed() -> None:
    assert rejection('<R xmlns="urn:x">\n\n<A>w</A></R>').line == 3


def test_without_a_declaration_no_type_is_told() -> None:
    found = rejection('<R xmlns="urn:x"><A>w</A></R>', declared={})

    assert found.detail == "the value is not in the list"
    assert found.pointer == "/R"


def test_a_kind_of_fault_without_words_of_its_own_is_told_all_the_same() -> None:
    found = rejection(
        '<R xmlns="urn:x" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:nil="true"/>'
    )

    assert found.detail == "it does not follow the schema; its type is R"


def test_a_name_that_the_schema_does_not_know_is_never_expected() -> None:
    found = rejection('<R xmlns="urn:x"><B>Expected is {urn:x}Secret</B></R>')

    assert found.detail == ("an element is missing, or stands where it may not; expected here: A")
    assert "Secret" not in repr(found)
