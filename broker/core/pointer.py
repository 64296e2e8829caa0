"""Where in a message something is wrong, in words that hold no value from it."""

from itertools import islice

from lxml import etree


def pointer_of(element: etree._Element) -> str:
    """Return a slash path of local names; a position is given where a name is repeated."""
    steps: list[str] = []
    node: etree._Element | None = element
    while node is not None:
        steps.append(_step(node))
        node = node.getparent()
    return "/" + "/".join(reversed(steps))


def line_of(element: etree._Element) -> int | None:
    """Return the line, from 1, on which ``element`` stood when it was parsed."""
    line: int | None = element.sourceline  # type: ignore[assignment]  # the stubs leave it open
    return line


def element_at(root: etree._Element, path: str) -> etree._Element:
    """Return the element that a node path of libxml2 means, or its nearest known ancestor.

    Such a path names an element by its prefix, and by ``*`` when it has none, so it cannot
    be shown to a person as it is.
    """
    node = root
    for step in path.split("/")[2:]:
        name, _, position = step.partition("[")
        alike = (child for child in node.iterchildren("*") if name in ("*", _qualified(child)))
        found = next(islice(alike, int(position[:-1]) - 1 if position else 0, None), None)
        if found is None:
            break
        node = found
    return node


def _step(element: etree._Element) -> str:
    name = etree.QName(element).localname
    before = sum(1 for _ in element.itersiblings(element.tag, preceding=True))
    after = next(element.itersiblings(element.tag), None)
    return f"{name}[{before + 1}]" if before or after is not None else name


def _qualified(element: etree._Element) -> str:
    name = etree.QName(element).localname
    return f"{element.prefix}:{name}" if element.prefix else name
