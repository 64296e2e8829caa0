"""What a schema says of each element of a message, read from the XSD itself.

Minimisation needs the data category of every path, an error the values that were allowed,
and a reader the whole of it. All three come from here, so that none can differ from the
schema that is enforced.
"""

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lxml import etree

XS = "{http://www.w3.org/2001/XMLSchema}"
_F = "{urn:fame:category:1.0}"
_SIGNATURE = "ds:Signature"  # described by a schema of its own
_GROUPS = (f"{XS}sequence", f"{XS}choice")
CATEGORIES = (
    "administrative", "identity", "contact", "address", "location", "family", "education",
    "health", "offending", "safeguarding", "involvement", "sensitive-involvement",
    "practitioner", "employment", "opinion", "equality",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Declaration:
    """One element at one place of a message. ``path`` is below the root, ``""`` for the root."""

    name: str
    path: str
    type_name: str
    min_occurs: int
    max_occurs: int | None  # None: any number
    alternative: bool  # it stands in a choice
    category: str  # the one that counts here
    stated_category: str  # the one its own declaration states
    spreads: bool  # its category counts for all below it
    documentation: str
    type_documentation: str
    values: tuple[tuple[str, str], ...]  # a code list: code and meaning
    children: tuple["Declaration", ...]

    def walk(self) -> Iterator["Declaration"]:
        """Yield this declaration and all below it, in document order."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True, slots=True)
class _Place:
    path: str
    inherited: str | None  # a category that an ancestor spreads over all below it
    types: tuple[str, ...]  # the complex types entered on the way


class SchemaModel:
    """The named types and root elements of one schema file and all that it includes."""

    def __init__(self, file: str, parsed: Mapping[str, etree._Element]) -> None:
        self._types: dict[str, etree._Element] = {}
        self._roots: dict[str, etree._Element] = {}
        for document in self._included(file, parsed, set()):
            for node in document:
                name = node.get("name")
                if node.tag in (f"{XS}complexType", f"{XS}simpleType"):
                    self._types[str(name)] = node
                elif node.tag == f"{XS}element":
                    self._roots[str(name)] = node

    def _included(
        self, file: str, parsed: Mapping[str, etree._Element], seen: set[str]
    ) -> Iterator[etree._Element]:
        seen.add(file)
        yield parsed[file]
        for include in parsed[file].iterchildren(f"{XS}include"):
            location = include.get("schemaLocation", "")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(file), location))
            if target not in seen:
                yield from self._included(target, parsed, seen)

    def root(self, name: str) -> Declaration:
        """Return the declaration of the root element ``name`` with all that is below it.

        Raises:
            ValueError: no such root; a type contains itself; an element has no type,
                documentation or known category; or one path has two categories.
        """
        if name not in self._roots:
            raise ValueError(f"no schema declares the root element {name}")
        root = self._declaration(self._roots[name], _Place("", None, ()), alternative=False)
        categories: dict[str, str] = {}
        for one in root.walk():
            if categories.setdefault(one.path, one.category) != one.category:
                raise ValueError(f"{name}: {one.path} has two categories")
        return root

    def _declaration(
        self, node: etree._Element, place: _Place, *, alternative: bool
    ) -> Declaration:
        name, type_name = node.get("name", ""), node.get("type", "")
        category, spreads = _category(node)
        documentation = _documentation(node)
        if not type_name or category not in CATEGORIES or not documentation:
            raise ValueError(f"the element {name} needs a type, documentation and a category")
        kind = self._types.get(type_name)
        is_complex = kind is not None and kind.tag == f"{XS}complexType"
        if is_complex and type_name in place.types:
            raise ValueError(f"the type {type_name} contains itself, so its paths have no end")
        inherited = place.inherited or (category if spreads else None)
        below = _Place(place.path, inherited, (*place.types, type_name))
        return Declaration(
            name=name,
            path=place.path,
            type_name=type_name,
            min_occurs=int(node.get("minOccurs", "1")),
            max_occurs=_max_occurs(node),
            alternative=alternative,
            category=place.inherited or category,
            stated_category=category,
            spreads=spreads,
            documentation=documentation,
            type_documentation="" if kind is None else _documentation(kind),
            values=() if kind is None else _values(kind),
            children=tuple(self._children(kind, below)) if is_complex and kind is not None else (),
        )

    def _children(
        self, node: etree._Element, place: _Place, *, alternative: bool = False
    ) -> Iterator[Declaration]:
        for child in node:
            if child.tag in _GROUPS:
                choice = alternative or child.tag == f"{XS}choice"
                yield from self._children(child, place, alternative=choice)
            elif child.tag == f"{XS}attribute" or child.get("ref") == _SIGNATURE:
                yield _leaf(child, place)
            elif child.tag == f"{XS}element":
                path = f"{place.path}/{child.get('name')}".lstrip("/")
                deeper = _Place(path, place.inherited, place.types)
                yield self._declaration(child, deeper, alternative=alternative)


def _leaf(node: etree._Element, place: _Place) -> Declaration:
    """Return the declaration of an attribute, or of the signature: no payload has either."""
    is_attribute = node.tag == f"{XS}attribute"
    name = f"@{node.get('name')}" if is_attribute else _SIGNATURE
    kind = node.find(f"{XS}simpleType")
    needed = node.get("use") == "required" if is_attribute else node.get("minOccurs") != "0"
    return Declaration(
        name=name,
        path=f"{place.path}/{name}".lstrip("/"),
        type_name=node.get("type", "") if is_attribute else "Signature",
        min_occurs=int(needed),
        max_occurs=1,
        alternative=False,
        category="administrative",
        stated_category="administrative",
        spreads=False,
        documentation=_documentation(node) if is_attribute else "The signature.",
        type_documentation="",
        values=() if kind is None else _values(kind),
        children=(),
    )


def _category(node: etree._Element) -> tuple[str, bool]:
    found = node.find(f"{XS}annotation/{XS}appinfo/{_F}category")
    if found is None:
        return "", False
    return (found.text or "").strip(), found.get("below") == "all"


def _documentation(node: etree._Element) -> str:
    return " ".join(node.findtext(f"{XS}annotation/{XS}documentation", "").split())


def _max_occurs(node: etree._Element) -> int | None:
    most = node.get("maxOccurs", "1")
    return None if most == "unbounded" else int(most)


def _values(kind: etree._Element) -> tuple[tuple[str, str], ...]:
    listed = kind.iterfind(f"{XS}restriction/{XS}enumeration")
    return tuple((value.get("value", ""), _documentation(value)) for value in listed)
