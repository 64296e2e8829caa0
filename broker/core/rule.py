"""What a rule beyond the schema is made of: what it found broken, and how it reads an element."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from lxml import etree

from broker.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Broken:
    """A rule that ``element`` breaks (ISP-2.4), in words that hold no value from it."""

    element: etree._Element
    detail: str
    reason: Reason = Reason.RULE


Check = Callable[[etree._Element], Broken | None]  # noqa: SLF001 - lxml names it so


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule: its sentence for the reader, and its check."""

    sentence: str
    check: Check


def fields_of(*names: str) -> Callable[[etree._Element], dict[str, str]]:
    """Return a reader of the text of those children by local name; of repeated ones, the last."""
    tags = [f"{{*}}{name}" for name in names or ("*",)]

    def read(element: etree._Element) -> dict[str, str]:
        return {
            child.tag.rpartition("}")[2]: (child.text or "").strip()
            for child in element.iterchildren(*tags)
        }

    return read


def children_of(element: etree._Element, name: str) -> Iterator[etree._Element]:
    """Return the children ``name``."""
    return element.iterchildren(f"{{*}}{name}")


def child_of(element: etree._Element, name: str) -> etree._Element:
    """Return the child ``name``, or ``element`` when there is none to point at."""
    return next(children_of(element, name), element)


def text_of(element: etree._Element, name: str) -> str:
    """Return the text of the child ``name``, or ``""``."""
    child = next(children_of(element, name), None)
    return "" if child is None else (child.text or "").strip()


def has_child(element: etree._Element, name: str) -> bool:
    """Return whether there is a child ``name``."""
    return next(children_of(element, name), None) is not None
