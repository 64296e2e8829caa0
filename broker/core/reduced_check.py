"""Check, as a recipient, what is left of a message: each value against its digest, none added.

A reduced envelope commits to every value of the original (ISP-9.5). Here it is checked that
what it shows is what it commits to, and, with the original at hand, that this is what the
sender signed. Values of whose existence nothing is said (ISP-9.6) have no digest either.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256

from lxml import etree

from broker.core.plan import Action
from broker.core.reduce import NAMESPACE, steps

_E = f"{{{NAMESPACE}}}"
_POSITION = re.compile(r"\[[0-9]+\]")
_CHANGED = frozenset({Action.MASKED.value, Action.HASHED.value, Action.GENERALISED.value})


@dataclass(frozen=True, slots=True)
class Leaf:
    """The commitment to one value; without ``salt`` it is withheld or changed."""

    path: str
    salt: bytes | None
    digest: str

    def commits_to(self, value: str) -> bool:
        """Return whether the value at this path was ``value``."""
        salted = (self.salt or b"") + self.path.encode() + value.encode()
        return self.salt is not None and sha256(salted).hexdigest() == self.digest


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found. ``faults`` name paths, never a value; without any, all is well."""

    original_digest: str
    proven: tuple[str, ...]
    withheld: tuple[tuple[str, str], ...]  # path and what was done
    faults: tuple[str, ...]


def check_reduced(root: etree._Element) -> Checked:
    """Return what holds of the reduced envelope ``root``; its signature is checked elsewhere."""
    leaves = [
        Leaf(_text(one, "Path"), _salt(one), _text(one, "Digest")) for one in root.iter(f"{_E}Leaf")
    ]
    withheld = [(_text(one, "Path"), _text(one, "Action")) for one in root.iter(f"{_E}Withheld")]
    changed = {_plain(path) for path, action in withheld if action in _CHANGED}
    open_leaves: defaultdict[str, list[Leaf]] = defaultdict(list)
    for leaf in leaves:
        if leaf.salt is not None:
            open_leaves[_plain(leaf.path)].append(leaf)
    proven: list[str] = []
    faults: list[str] = []
    for path, value in _values(root):
        candidates = open_leaves[path]
        found = next((leaf for leaf in candidates if leaf.commits_to(value)), None)
        if found is not None:
            candidates.remove(found)
            proven.append(found.path)
        elif path not in changed:
            faults.append(f"{path}: not what its digest says")
    left = sorted(leaf.path for held in open_leaves.values() for leaf in held)
    faults += [f"{path}: has a digest and is not there" for path in left]
    digest = next((one.text or "" for one in root.iter(f"{_E}OriginalDigest")), "")
    return Checked(digest, tuple(proven), tuple(withheld), tuple(faults))


def check_against(root: etree._Element, payload: etree._Element, digest: str) -> tuple[str, ...]:
    """Return what of the reduced envelope is not as in the sender's ``payload``.

    ``digest`` is that of the original as signed, in hex.
    """
    faults = []
    if next((one.text for one in root.iter(f"{_E}OriginalDigest")), None) != digest:
        faults.append("it was made from another message")
    sent = dict(_placed(payload, ""))
    for one in root.iter(f"{_E}Leaf"):
        leaf = Leaf(_text(one, "Path"), _salt(one), _text(one, "Digest"))
        if leaf.path not in sent:
            faults.append(f"{leaf.path}: not in the original")
        elif leaf.salt is not None and not leaf.commits_to(sent[leaf.path]):
            faults.append(f"{leaf.path}: not what the sender signed")
    return tuple(faults)


def _values(root: etree._Element) -> Iterator[tuple[str, str]]:
    """Yield the path, without positions, and the value of everything the payload shows."""
    for payload in root.iterfind(f"{_E}Payload/*"):
        for path, value in _placed(payload, ""):
            yield _plain(path), value


def _placed(element: etree._Element, prefix: str) -> Iterator[tuple[str, str]]:
    for child, _, step in steps(element):
        if len(child):
            yield from _placed(child, f"{prefix}{step}/")
        else:
            yield prefix + step, child.text or ""


def _plain(path: str) -> str:
    return _POSITION.sub("", path)


def _text(element: etree._Element, name: str) -> str:
    return element.findtext(f"{_E}{name}") or ""


def _salt(leaf: etree._Element) -> bytes | None:
    found = leaf.findtext(f"{_E}Salt")
    return None if found is None else bytes.fromhex(found)
