"""The little HTML that an advertisement may hold: `strong em u ol ul li p br a`, well nested.

The text ends up on other people's web pages, so everything else is refused and nothing is
mended: a sender who is told can put it right, a reader of silently altered text cannot.
"""

import re

_NESTING = ("strong", "em", "u", "ol", "ul", "li", "p")
_TAG = re.compile(r"<[^<>]*>?")
_OPENING = {f"<{name}>": f"</{name}>" for name in _NESTING}
_CLOSING = frozenset({*_OPENING.values(), "</a>"})
_BREAKS = frozenset({"<br>", "<br/>", "<br />"})
_LINK = re.compile(r'<a href="(?:https?://|mailto:)[^"<>\s\x00-\x1f]+">')


def html_fault(text: str) -> str | None:
    """Return what is wrong with ``text`` as restricted HTML, in our own words, or ``None``."""
    awaited: list[str] = []
    for tag in _TAG.findall(text):
        closed_by = _OPENING.get(tag)
        if closed_by is not None:
            awaited.append(closed_by)
        elif tag in _CLOSING:
            if not awaited or awaited.pop() != tag:
                return "a tag that is closed where it was not opened"
        elif tag.startswith("<a "):
            if not _LINK.fullmatch(tag):
                return "a link with more than an href, or to anything but http, https or mailto"
            awaited.append("</a>")
        elif tag not in _BREAKS:
            return "a tag other than strong, em, u, ol, ul, li, p, br and a, or an attribute"
    return "a tag that is not closed" if awaited else None
