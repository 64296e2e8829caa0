import pytest
from lxml import etree

from broker.core.schema_model import SchemaModel

HEAD = (
    '<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:c="urn:fame:category:1.0">'
    "<xs:annotation><xs:documentation>A schema.</xs:documentation></xs:annotation>"
)


def element(
    name: str, kind: str, category: str = "identity", extra: str = "", below: str = ""
) -> str:
    return (
        f'<xs:element name="{name}" type="{kind}" {extra}><xs:annotation>'
        f"<xs:documentation>  {name}\n here. </xs:documentation><xs:appinfo>"
        f"<c:category {below}>{category}</c:category></xs:appinfo></xs:annotation></xs:element>"
    )


def kind(name: str, *content: str) -> str:
    inside = "".join(content)
    return f'<xs:complexType name="{name}"><xs:sequence>{inside}</xs:sequence></xs:complexType>'


def model(*content: str, **others: str) -> SchemaModel:
    files = {"a/m.xsd": "".join(content)} | {f"b/{name}.xsd": text for name, text in others.items()}
    parsed = {path: etree.fromstring(f"{HEAD}{text}</xs:schema>") for path, text in files.items()}
    return SchemaModel("a/m.xsd", parsed)


def categories(built: SchemaModel, root: str = "R") -> dict[str, str]:
    return {one.path: one.category for one in built.root(root).walk()}


def test_a_type_that_is_used_twice_gives_two_sets_of_paths() -> None:
    built = model(
        element("R", "R", "administrative"),
        kind("R", element("A", "T"), element("B", "T", "family")),
        kind("T", element("X", "xs:string", "health")),
    )

    assert categories(built) == {
        "": "administrative", "A": "identity", "A/X": "health", "B": "family", "B/X": "health",
    }  # fmt: skip


def test_a_category_for_all_below_counts_at_any_depth_and_only_there() -> None:
    built = model(
        element("R", "R", "administrative"),
        kind("R", element("A", "T", "opinion", below='below="all"'), element("B", "T")),
        kind("T", element("U", "U", "family", below='below="all"')),
        kind("U", element("X", "xs:string", "health")),
    )

    found = categories(built)

    assert (found["A/U"], found["A/U/X"]) == ("opinion", "opinion")
    assert (found["B/U"], found["B/U/X"]) == ("family", "family")


def test_alternatives_at_any_depth_of_a_choice_are_known() -> None:
    choice = (
        f"<xs:choice><xs:sequence>{element('A', 'xs:string')}</xs:sequence>"
        f"{element('B', 'xs:string')}</xs:choice>"
    )
    built = model(element("R", "R"), kind("R", choice, element("C", "xs:string")))

    assert [one.alternative for one in built.root("R").children] == [True, True, False]


def test_one_path_in_two_alternatives_is_one_path() -> None:
    choice = f"<xs:choice>{element('A', 'xs:string')}{element('A', 'xs:string')}</xs:choice>"

    assert categories(model(element("R", "R"), kind("R", choice)))["A"] == "identity"


def test_one_path_has_one_category() -> None:
    choice = (
        f"<xs:choice>{element('A', 'xs:string')}{element('A', 'xs:string', 'health')}</xs:choice>"
    )

    with pytest.raises(ValueError, match="two categories"):
        model(element("R", "R"), kind("R", choice)).root("R")


def test_words_numbers_and_code_lists_are_read() -> None:
    codes = (
        '<xs:simpleType name="C"><xs:annotation><xs:documentation>Codes.</xs:documentation>'
        '</xs:annotation><xs:restriction base="xs:string"><xs:enumeration value="A">'
        "<xs:annotation><xs:documentation>An A.</xs:documentation></xs:annotation>"
        '</xs:enumeration><xs:enumeration value="B"/></xs:restriction></xs:simpleType>'
    )
    many = 'minOccurs="0" maxOccurs="unbounded"'
    built = model(element("R", "R"), kind("R", element("A", "C", extra=many)), codes)

    (one,) = built.root("R").children
    assert one.documentation == "A here."
    assert one.type_documentation == "Codes."
    assert (one.min_occurs, one.max_occurs) == (0, None)
    assert one.values == (("A", "An A."), ("B", ""))


def test_types_of_included_files_are_found_each_once() -> None:
    include = '<xs:include schemaLocation="{}"/>'
    built = model(
        include.format("../b/t.xsd"),
        include.format("../b/u.xsd"),
        element("R", "T"),
        t=include.format("u.xsd") + kind("T", element("X", "U")),
        u=kind("U", element("Y", "xs:string")),
    )

    assert set(categories(built)) == {"", "X", "X/Y"}


def test_attributes_and_the_signature_are_listed_for_readers() -> None:
    content = (
        '<xs:complexType name="R"><xs:sequence><xs:element ref="ds:Signature"/>'
        '<xs:element ref="ds:Signature" minOccurs="0"/></xs:sequence>'
        '<xs:attribute name="a" use="required" type="xs:ID"/><xs:attribute name="b"><xs:simpleType>'
        '<xs:restriction base="xs:string"><xs:enumeration value="1"/></xs:restriction>'
        "</xs:simpleType></xs:attribute></xs:complexType>"
    )

    found = model(element("R", "R"), content).root("R").children

    assert [(one.name, one.min_occurs) for one in found] == [
        ("ds:Signature", 1), ("ds:Signature", 0), ("@a", 1), ("@b", 0),
    ]  # fmt: skip
    assert found[3].values == (("1", ""),)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ((element("Q", "xs:string"),), "no schema declares the root element R"),
        ((element("R", "xs:string", "gossip"),), "needs a type, documentation and a category"),
        ((element("R", ""),), "needs a type"),
        ((element("R", "xs:string").replace("R\n here.", " "),), "needs a type, documentation"),
        (('<xs:element name="R" type="xs:string"/>',), "needs a type, documentation"),
        ((element("R", "R"), kind("R", '<xs:element ref="Q"/>')), "needs a type"),
        (
            (element("R", "R"), kind("R", element("A", "T")), kind("T", element("B", "R"))),
            "the type R contains itself",
        ),
    ],
)
def test_what_leaves_a_path_without_a_category_is_refused(
    content: tuple[str, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        model(*content).root("R")
