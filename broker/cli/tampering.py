"""Ways to damage a signed message. A broker that takes the result is broken."""

from collections.abc import Callable
from copy import deepcopy
from enum import StrEnum

from lxml import etree

from broker.cli.failure import EXIT_USAGE, Failure
from broker.core.envelope import HEADER, NAMESPACE, PAYLOAD, parse
from broker.core.signature import SIGNATURE
from broker.edge.ids import new_id

NEIGHBOURS = {"9": "8", "Z": "Y", "z": "y"}


class Tampering(StrEnum):
    """How a message is damaged."""

    LETTER = "letter"
    LAYOUT = "layout"
    SIGNATURE = "signature"
    MESSAGE_ID = "message-id"
    UNSIGNED = "unsigned"
    DOCTYPE = "doctype"
    WRAPPED = "wrapped"


def tampered(signed: bytes, kind: Tampering) -> bytes:
    """Return ``signed`` damaged in the way ``kind`` says.

    Raises:
        Failure: it is not a signed envelope.
        Rejection: it is not XML.
    """
    root = parse(signed)
    if root.find(SIGNATURE) is None or root.find(PAYLOAD) is None:
        rows = {"try": "fame sample make ... --sign"}
        raise Failure("That is not a signed envelope", EXIT_USAGE, rows)
    return _WAYS[kind](root)


def _letter(root: etree._Element) -> bytes:
    """Change one letter of the payload, as somebody on the way might."""
    for element in root.iterfind(f"{PAYLOAD}//*"):
        if not len(element) and (element.text or "").strip():
            element.text = _another_letter(element.text or "")
            break
    return etree.tostring(root)


def _layout(root: etree._Element) -> bytes:
    """Indent it anew, as a careless tool does: every value stays, the signature does not."""
    etree.indent(root)
    return etree.tostring(root)


def _signature(root: etree._Element) -> bytes:
    for value in root.iterfind(f"{SIGNATURE}/{{*}}SignatureValue"):
        value.text = _another_letter(value.text or "")
    return etree.tostring(root)


def _message_id(root: etree._Element) -> bytes:
    """Give it another id, as one would to have it acted on twice."""
    for element in root.iterfind(f"{HEADER}/{{{NAMESPACE}}}MessageId"):
        element.text = new_id()
    return etree.tostring(root)


def _unsigned(root: etree._Element) -> bytes:
    for signature in root.findall(SIGNATURE):
        root.remove(signature)
    return etree.tostring(root)


def _doctype(root: etree._Element) -> bytes:
    return b'<!DOCTYPE Envelope [<!ENTITY x "x">]>' + etree.tostring(root)


def _wrapped(root: etree._Element) -> bytes:
    """Hide the signed envelope in the payload of another that claims its signature."""
    outer = deepcopy(root)
    for payload in outer.findall(PAYLOAD):
        payload[:] = [root]
    return etree.tostring(outer)


_WAYS: dict[Tampering, Callable[[etree._Element], bytes]] = {
    Tampering.LETTER: _letter,
    Tampering.LAYOUT: _layout,
    Tampering.SIGNATURE: _signature,
    Tampering.MESSAGE_ID: _message_id,
    Tampering.UNSIGNED: _unsigned,
    Tampering.DOCTYPE: _doctype,
    Tampering.WRAPPED: _wrapped,
}


def _another_letter(text: str) -> str:
    """Return ``text`` with its first letter or digit exchanged for its neighbour."""
    for place, letter in enumerate(text):
        if letter.isalnum() and letter.isascii():
            other = NEIGHBOURS.get(letter, chr(ord(letter) + 1))
            return text[:place] + other + text[place + 1 :]
    return text + "x"
