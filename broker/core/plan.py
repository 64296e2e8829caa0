"""What a clause does to every element that a message type can hold.

An element is forbidden unless a rule reaches it: by its path, by the path of an element around
it, or by its data category (ISP-9.1). A rule that forbids outweighs all that allow, for the
element and everything in it (ISP-9.2). Of several that allow, the strictest transform holds
(ISP-9.3).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from lxml import etree

from broker.core.consent import WHOLE, Reach
from broker.core.facts import local_name
from broker.core.outcome import FieldRule
from broker.core.sharing import CATEGORY

LOCATING = frozenset({"address", "location"})
UNSAID = frozenset({"sensitive-involvement"})  # that it was there is not said either (ISP-9.6)


class Action(StrEnum):
    """What is done to an element; in order of strictness."""

    KEPT = "KEPT"
    GENERALISED = "GENERALISED"
    HASHED = "HASHED"
    MASKED = "MASKED"
    REMOVED = "REMOVED"


_STRICTNESS = {action: rank for rank, action in enumerate(Action)}
_OF_TRANSFORM = {
    "NONE": Action.KEPT,
    "GENERALISE": Action.GENERALISED,
    "HASH": Action.HASHED,
    "MASK": Action.MASKED,
}


@dataclass(frozen=True, slots=True)
class Node:
    """What is done to an element and, by local name, to those in it.

    ``gone``: neither it nor anything in it can stay. ``whole``: all of it stays as it is.
    ``said``: the recipient may know that it was withheld. ``hides``: something in it is withheld
    of which the recipient may not even know.
    """

    action: Action
    said: bool
    gone: bool
    whole: bool
    hides: bool
    children: Mapping[str, "Node"]

    def child(self, name: str) -> "Node":
        """Return what is done to an element within; one that no schema names is removed."""
        return self.children.get(name, _UNKNOWN)

    def touches(self, element: etree._Element) -> bool:
        """Return whether anything in ``element`` is withheld."""
        for child in element:
            node = self.child(local_name(child))
            if node.whole:
                continue
            if node.touches(child) if len(child) else node.action is not Action.KEPT:
                return True
        return False


_UNKNOWN = Node(Action.REMOVED, said=True, gone=True, whole=False, hides=False, children={})


def make_plan(
    rules: tuple[FieldRule, ...],
    categories: Mapping[str, str],
    *,
    strip_location: bool = False,
    reach: Reach = WHOLE,
) -> Node:
    """Return what ``rules`` do to a payload, of which consent lets ``reach`` be told.

    ``categories`` gives the data category of every element a payload of this type can hold, by
    its path below the root.
    """
    forbidden = {rule.target for rule in rules if rule.include == "FORBIDDEN"}
    if strip_location:  # step 8, ISP-8.1
        forbidden |= {f"{CATEGORY}{name}" for name in LOCATING}
    # step 6, ISP-6.7: what the person declined goes with everything in it. What they did not
    # speak of goes by itself: inside it there may be something that they agreed to.
    forbidden |= {f"{CATEGORY}{name}" for name in reach.never}
    allowed = {
        rule.target: _OF_TRANSFORM[rule.transform] for rule in rules if rule.include != "FORBIDDEN"
    }
    below: dict[str, list[str]] = {"": []}
    for path in categories:
        below.setdefault(path, [])
    for path in categories:
        below[path.rpartition("/")[0]].append(path)
    return _Planner(forbidden, allowed, categories, below, reach).root()


@dataclass(frozen=True, slots=True)
class _Planner:
    forbidden: set[str]
    allowed: Mapping[str, Action]
    categories: Mapping[str, str]
    below: Mapping[str, list[str]]
    reach: Reach

    def root(self) -> Node:
        """Return the plan of the payload element, which always stays."""
        children = self._children("", None)
        whole = all(child.whole for child in children.values())
        hides = any(child.hides for child in children.values())
        return Node(Action.KEPT, said=True, gone=False, whole=whole, hides=hides, children=children)

    def _children(self, path: str, around: Action | None) -> dict[str, Node]:
        return {one.rpartition("/")[2]: self._node(one, around) for one in self.below[path]}

    def _node(self, path: str, around: Action | None) -> Node:
        """Return the plan of one element; ``around`` is what the paths above it allow."""
        category = self.categories[path]
        by_category = f"{CATEGORY}{category}"
        said = category not in UNSAID
        if path in self.forbidden or by_category in self.forbidden:
            return Node(
                Action.REMOVED, said=said, gone=True, whole=False, hides=not said, children={}
            )
        by_path = _strictest(around, self.allowed.get(path))
        action = _strictest(by_path, self.allowed.get(by_category)) or Action.REMOVED
        if not self.reach.covers(category):
            action = Action.REMOVED
        children = self._children(path, by_path)
        gone = action is Action.REMOVED and all(child.gone for child in children.values())
        return Node(
            action=action,
            said=said,
            gone=gone,
            whole=action is Action.KEPT and all(child.whole for child in children.values()),
            hides=(gone and not said) or any(child.hides for child in children.values()),
            children=children,
        )


def _strictest(one: Action | None, other: Action | None) -> Action | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=_STRICTNESS.__getitem__)
