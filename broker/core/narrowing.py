"""The stricter of two readings of what a recipient may have of one message.

Between acceptance and disclosure an agreement can be narrowed, and it can be widened. What
was withheld at acceptance stays withheld, because the receipt told the sender so; what
today's clause withholds is withheld too.
"""

from collections import defaultdict

from lxml import etree

from broker.core.facts import local_name
from broker.core.outcome import FieldRule

Values = dict[str, list[str]]


def still_forbidden(
    original: etree._Element, then: etree._Element, now: etree._Element
) -> tuple[FieldRule, ...]:
    """Return the rules to add to today's clause so that it shows no more than ``then`` did.

    All three are the same payload: as sent, as reduced at acceptance, and as today's clause
    would reduce it. A value that ``then`` held back in any way and ``now`` would show
    otherwise is forbidden altogether.
    """
    sent, shown, would_show = values_of(original), values_of(then), values_of(now)
    return tuple(
        FieldRule(target=path, include="FORBIDDEN")
        for path, values in sorted(would_show.items())
        if shown.get(path) != sent.get(path) and values != shown.get(path)
    )


def values_of(payload: etree._Element) -> Values:
    """Return the texts of the elements without children, by slash path of local names."""
    found: defaultdict[str, list[str]] = defaultdict(list)

    def descend(element: etree._Element, prefix: str) -> None:
        for child in element.iterchildren("*"):
            path = prefix + local_name(child)
            if len(child):
                descend(child, path + "/")
            else:
                found[path].append(child.text or "")

    descend(payload, "")
    return dict(found)
