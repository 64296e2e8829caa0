"""Write a reduced envelope: what is left of a payload, and what ties it to the original.

The reduced payload is written anew from what may be known; nothing is cut out of a copy, so
that nothing is left behind by mistake. It need not follow its schema any more.
"""

import hmac
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import sha256

from lxml import etree

from broker.core.facts import local_name
from broker.core.identity import AgencyId
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted
from broker.core.plan import Action, Node

NAMESPACE = "urn:fame:envelope:1.0"
MASKED = "***"
HASH_BYTES = 16  # enough to tell people apart

_DATE = re.compile(r"([0-9]{4}-[0-9]{2})-[0-9]{2}")
_INSTANT = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2})T.+")
_POSTCODE = re.compile(r"([A-Z]{1,2}[0-9R][0-9A-Z]?) [0-9][A-Z]{2}")
_GENERALISED = (_DATE, _INSTANT, _POSTCODE)


@dataclass(frozen=True, slots=True)
class Withheld:
    """A part of the payload that the recipient does not get as it was.

    ``path`` has positions where a name is repeated. ``said``: the recipient is told of it.
    """

    path: str
    action: Action
    said: bool


@dataclass(slots=True)
class Reducer:
    """Reduces one payload for one recipient; ``withheld`` and ``leaves`` fill on the way.

    ``salt_key`` is secret and of this message alone. ``hash_key`` is secret and of one sharing
    protocol, so that hashed values can be matched within it and not across.
    """

    salt_key: bytes = field(repr=False)
    hash_key: bytes = field(repr=False)
    withheld: list[Withheld] = field(default_factory=list)
    leaves: list[str] = field(default_factory=list, repr=False)  # elements of the reduction

    def reduce(self, payload: etree._Element, plan: Node) -> etree._Element:
        """Return a new element with what ``plan`` lets pass of ``payload``."""
        reduced = etree.Element(payload.tag)
        self._copy(payload, reduced, plan, "")
        return reduced

    def _copy(
        self, source: etree._Element, target: etree._Element, plan: Node, prefix: str
    ) -> None:
        for child, name, step in steps(source):
            self._element(child, target, plan.child(name), prefix + step)

    def _element(
        self, source: etree._Element, target: etree._Element, node: Node, path: str
    ) -> None:
        if node.gone:
            self.withheld.append(Withheld(path, Action.REMOVED, node.said))
            self._commit_all(source, path, said=node.said)
        elif len(source):
            copy = etree.Element(source.tag)
            before = len(self.withheld)
            self._copy(source, copy, node, path + "/")
            if len(copy):
                target.append(copy)
            else:  # nothing of it is left: one line says so, not one for each part
                said = any(one.said for one in self.withheld[before:])
                self.withheld[before:] = [Withheld(path, Action.REMOVED, said)]
        else:
            self._leaf(source, target, node, path)

    def _leaf(self, source: etree._Element, target: etree._Element, node: Node, path: str) -> None:
        action, text = self._transformed(node.action, source.text or "")
        # What is shown is no secret, even if it must not be known to be withheld (ISP-9.6).
        said = node.said or action is not Action.REMOVED
        self._commit(source, path, salted=action is Action.KEPT, said=said)
        if action is not Action.KEPT:
            self.withheld.append(Withheld(path, action, said))
        if action is not Action.REMOVED:
            etree.SubElement(target, source.tag).text = text

    def _transformed(self, action: Action, value: str) -> tuple[Action, str]:
        """Return what is done to ``value``, and what it becomes; what has no general form goes."""
        if action is Action.MASKED:
            return action, MASKED
        if action is Action.HASHED:
            return action, hmac.digest(self.hash_key, value.encode(), "sha256")[:HASH_BYTES].hex()
        if action is Action.GENERALISED:
            for form in _GENERALISED:
                match = form.fullmatch(value)
                if match:
                    return action, match[1]
            return Action.REMOVED, ""
        return action, value

    def _commit_all(self, source: etree._Element, path: str, *, said: bool) -> None:
        """Commit to every value of an element that is gone, without its salt."""
        if not len(source):
            self._commit(source, path, salted=False, said=said)
        for child, _, step in steps(source):
            self._commit_all(child, f"{path}/{step}", said=said)

    def _commit(self, source: etree._Element, path: str, *, salted: bool, said: bool) -> None:
        """Commit to a value: SHA-256 of salt, path and value (ISP-9.5).

        The salt of a value that is withheld or changed is kept back, so that it cannot be guessed.
        """
        if not said:
            return
        place = path.encode()
        salt = hmac.digest(self.salt_key, place, "sha256")
        digest = sha256(salt + place + (source.text or "").encode()).hexdigest()
        shown = f"<Salt>{salt.hex()}</Salt>" if salted else ""
        self.leaves.append(f"<Leaf><Path>{path}</Path>{shown}<Digest>{digest}</Digest></Leaf>")


def steps(element: etree._Element) -> Iterator[tuple[etree._Element, str, str]]:
    """Yield each child, its name, and its name with a position where that is repeated."""
    names = [local_name(child) for child in element]
    if len(set(names)) == len(names):
        yield from zip(element, names, names, strict=True)
        return
    total = Counter(names)
    seen: Counter[str] = Counter()
    for child, name in zip(element, names, strict=True):
        seen[name] += 1
        yield child, name, f"{name}[{seen[name]}]" if total[name] > 1 else name


def reduced_envelope(
    message: ValidMessage,
    permitted: Permitted,
    payload: etree._Element,
    reducer: Reducer,
    broker: AgencyId,
) -> bytes:
    """Return the unsigned reduced envelope around ``payload``."""
    header = message.verified.root[0]  # the first child of the root
    withheld = "".join(
        f"<Withheld><Path>{part.path}</Path><Action>{part.action}</Action></Withheld>"
        for part in reducer.withheld
        if part.said
    )
    # Paths, digests and identifiers need no escaping: the schemas and the register see to that.
    parts = (
        f'<ReducedEnvelope xmlns="{NAMESPACE}" version="1.0">'.encode(),
        etree.tostring(header, with_tail=False),
        b"<Payload>",
        etree.tostring(payload),
        b"</Payload><Reduction>",
        f"<OriginalDigest>{message.digest.hex()}</OriginalDigest>"
        f"<Signer>{message.verified.signer}</Signer><Broker>{broker}</Broker>"
        f"<Protocol>{permitted.protocol}</Protocol>"
        f"<ProtocolVersion>{permitted.version}</ProtocolVersion>"
        f"<Clause>{permitted.clause}</Clause>".encode(),
        withheld.encode(),
        "".join(reducer.leaves).encode(),
        b"</Reduction></ReducedEnvelope>",
    )
    return b"".join(parts)
