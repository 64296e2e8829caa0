"""From bytes to a parsed envelope: the only parser of messages, and the reader of headers.

Nothing that is read here is believed: a `ReceivedMessage` has the form of an envelope and
stays within the limits, no more. Errors name a line and a path and never a value, so the
text of a library's error is never passed on, nor chained.
"""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Protocol

from lxml import etree

from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId, agency_id
from broker.core.limits import Limits
from broker.core.message import Address, Header, Practitioner, ReceivedMessage
from broker.core.pointer import element_at, line_of, pointer_of
from broker.core.reasons import Reason
from broker.core.signature import SIGNATURE

NAMESPACE = "urn:fame:envelope:1.0"
ENVELOPE = f"{{{NAMESPACE}}}Envelope"
HEADER = f"{{{NAMESPACE}}}Header"
PAYLOAD = f"{{{NAMESPACE}}}Payload"
_PRACTITIONER = f"{{{NAMESPACE}}}Practitioner"
_LOCAL = len(NAMESPACE) + 2  # where the local name starts in a tag
_AGENCY_ID = f"{{{NAMESPACE}}}AgencyId"

_HAS_SCHEMA_HINT = etree.XPath(
    "boolean(//@xsi:schemaLocation | //@xsi:noNamespaceSchemaLocation)",
    namespaces={"xsi": "http://www.w3.org/2001/XMLSchema-instance"},
)
# One without an end reaches to the end: to look for it again from each start is quadratic.
_CDATA = re.compile(rb"<!\[CDATA\[.*?(?:\]\]>|\Z)", re.DOTALL)
_VALUE = re.compile(rb"\"[^\"]*\"|'[^']*'")
_TAG = re.compile(rb"[^>\"']*(?:(?:\"[^\"]*\"|'[^']*')[^>\"']*)*")  # up to a > outside quotes
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_DECLARATION = re.compile(
    rb"<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:\"1\.0\"|'1\.0')"
    rb"(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:\"utf-8\"|'utf-8'))?"
    rb"(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:\"(?:yes|no)\"|'(?:yes|no)'))?"
    rb"[ \t\r\n]*\?>",
    re.IGNORECASE,
)


class EnvelopeSchema(Protocol):
    """What is needed of the sealed catalogue here: the compiled envelope schema."""

    @property
    def envelope(self) -> etree.XMLSchema:
        """The schema of envelopes."""


def receive(raw: bytes, limits: Limits, schemas: EnvelopeSchema) -> ReceivedMessage:
    """Return ``raw`` parsed, within ``limits`` and following the envelope schema.

    Raises:
        Rejection: it is not so; the reason says in what respect.
    """
    check_bytes(raw, limits)
    root = parse(raw)
    if _deeper_than(limits.depth_max)(root):
        raise Rejection(Reason.XML_LIMIT, f"elements are nested deeper than {limits.depth_max}")
    _refuse_schema_hints(raw, root)
    _check_envelope(root, schemas.envelope)
    return ReceivedMessage(raw=raw, root=root, claimed_sender=_claimed_sender(root))


def check_bytes(raw: bytes, limits: Limits) -> None:
    """Refuse, before any parsing, what no message holds: see `_check_markup` for why bytes do.

    Raises:
        Rejection: too many bytes, elements or attributes, another encoding than UTF-8 or
            XML than 1.0, or a document type, comment or processing instruction.
    """
    # step 2, ISP-2.2: no parser is given what no message holds.
    if len(raw) > limits.body_bytes_max:
        raise Rejection(Reason.TOO_LARGE, f"more than {limits.body_bytes_max} bytes")
    if raw.startswith((b"\xff\xfe", b"\xfe\xff", b"<\x00", b"\x00")):
        raise Rejection(Reason.XML_FORBIDDEN, "the encoding is not UTF-8", line=1)
    start = len(_BYTE_ORDER_MARK) if raw.startswith(_BYTE_ORDER_MARK) else 0
    if raw.startswith((b"<?xml ", b"<?xml\t", b"<?xml\r", b"<?xml\n"), start):
        declaration = _DECLARATION.match(raw, start)
        if declaration is None:
            detail = "the XML declaration names another version than 1.0 or encoding than UTF-8"
            raise Rejection(Reason.XML_FORBIDDEN, detail, line=1)
        start = declaration.end()
    _check_markup(raw, start, limits)


def _check_markup(raw: bytes, start: int, limits: Limits) -> None:
    """Count and refuse markup in the bytes from ``start`` on.

    In well-formed UTF-8 a ``<`` outside a CDATA section always opens markup, and a CDATA
    section ends at the first ``]]>``; so once those are cut out, ``<!`` and ``<?`` are
    exactly the constructs that are refused, and the counts can only be too high. The parser
    is told that the bytes are UTF-8 whatever they declare, so that no other reading exists.
    """
    # step 2, ISP-2.2: nothing but elements, attributes and text, and not too many of them.
    if _plain(raw, start) and _small(raw, limits):
        return
    markup = _CDATA.sub(_only_newlines, raw) if b"<![CDATA[" in raw else raw
    for mark in (b"<!", b"<?"):
        at = markup.find(mark, start)
        if at >= 0:
            detail = "a document type, comment or processing instruction"
            raise Rejection(Reason.XML_FORBIDDEN, detail, line=markup.count(b"\n", 0, at) + 1)
    elements = markup.count(b"<", start) - markup.count(b"</", start)
    if elements > limits.elements_max:
        raise Rejection(Reason.XML_LIMIT, f"more than {limits.elements_max} elements")
    _check_attributes(markup[start:], limits)


def _check_attributes(markup: bytes, limits: Limits) -> None:
    most = limits.attributes_of_element_max
    if markup.count(b"=") <= min(most, limits.attributes_max):
        return
    # Each piece starts with a tag; in well-formed XML a tag holds quotes around values only.
    tags = (_TAG.match(piece) for piece in markup.split(b"<") if b"=" in piece)
    counts = [len(_VALUE.findall(tag[0])) for tag in tags if tag]
    if max(counts) > most:
        raise Rejection(Reason.XML_LIMIT, f"more than {most} attributes in an element")
    if sum(counts) > limits.attributes_max:
        raise Rejection(Reason.XML_LIMIT, f"more than {limits.attributes_max} attributes")


def _plain(raw: bytes, start: int) -> bool:
    # A single byte is sought ten times as fast as two, and is seldom there.
    return (b"!" not in raw or b"<!" not in raw) and (
        raw.find(b"?", start) < 0 or raw.find(b"<?", start) < 0
    )


def _small(raw: bytes, limits: Limits) -> bool:
    # The shortest element is <a/>.
    return len(raw) <= 4 * limits.elements_max and raw.count(b"=") <= min(
        limits.attributes_of_element_max, limits.attributes_max
    )


def _only_newlines(section: re.Match[bytes]) -> bytes:
    return b"\n" * section[0].count(b"\n")


def parse(raw: bytes) -> etree._Element:
    """Return the root of ``raw``, parsed so that nothing outside ``raw`` is ever opened.

    A parser of its own for each message: a shared one would carry state from one sender to
    the next. ``collect_ids`` must stay on: off, it silently loads external document types.

    Raises:
        Rejection: not well-formed, or with a document type.
    """
    # step 2, ISP-2.2: nothing is opened, resolved or mended.
    parser = hardened_parser()
    try:
        root = etree.fromstring(raw, parser)
    except etree.XMLSyntaxError as error:
        raise Rejection(Reason.NOT_XML, "the parser stopped", line=error.lineno) from None
    information = root.getroottree().docinfo
    if information.internalDTD is not None or information.externalDTD is not None:
        raise Rejection(Reason.XML_FORBIDDEN, "a document type")
    return root


def hardened_parser() -> etree.XMLParser:
    """Return a new parser that resolves nothing, mends nothing and reads UTF-8 only."""
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
        remove_comments=False,
        remove_pis=False,
        collect_ids=True,
    )


@lru_cache(maxsize=8)
def _deeper_than(depth: int) -> etree.XPath:
    return etree.XPath("boolean(" + "/*" * (depth + 1) + ")")


def _refuse_schema_hints(raw: bytes, root: etree._Element) -> None:
    """Refuse ``xsi:schemaLocation``: which schema holds is for the catalogue to say."""
    # The namespace name cannot be there unless it is spelt out, at least in part by references.
    if b"XMLSchema-instance" not in raw and (b"&" not in raw or b"&#" not in raw):
        return
    if _HAS_SCHEMA_HINT(root):
        raise Rejection(Reason.XML_FORBIDDEN, "an xsi:schemaLocation")


def _check_envelope(root: etree._Element, schema: etree.XMLSchema) -> None:
    # step 2, ISP-2.2: header, payload and signature are where they belong.
    if root.tag != ENVELOPE:
        raise Rejection(Reason.ENVELOPE, "the root is not an Envelope 1.0", line=line_of(root))
    if (len(root) == 0 or root[-1].tag != SIGNATURE) and root.find(SIGNATURE) is None:
        raise Rejection(Reason.SIGNATURE_MISSING, "no signature is a child of the envelope")
    if not schema.validate(root):
        raise _not_an_envelope(root, schema.error_log)


def _not_an_envelope(root: etree._Element, log: etree._ListErrorLog) -> Rejection:
    # The log belongs to the schema, which is shared: another thread may have emptied it.
    path, line = next(((error.path or "", error.line) for error in log), ("", None))
    element = element_at(root, path)
    # Where all three parts are in their places, a fault at or in the signature is its own.
    in_place = [child.tag for child in root] == [HEADER, PAYLOAD, SIGNATURE]
    in_signature = any(node.tag == SIGNATURE for node in (element, *element.iterancestors()))
    return Rejection(
        Reason.SIGNATURE_PROFILE if in_place and in_signature else Reason.ENVELOPE,
        "not as the envelope schema says",
        pointer=pointer_of(element),
        line=line,
    )


def read_header(root: etree._Element) -> Header:
    """Return the header of an envelope that follows its schema.

    Raises:
        Rejection: a value that the schema lets pass is none all the same, such as the
            second 24:00:00 of a day.
    """
    header = root.find(HEADER)
    if header is None:
        raise Rejection(Reason.ENVELOPE, "there is no header", pointer="/Envelope")
    try:
        return _header(header)
    except (KeyError, ValueError, OverflowError):
        detail = "a header element is missing or is no possible value"
        raise Rejection(
            Reason.ENVELOPE, detail, pointer="/Envelope/Header", line=line_of(header)
        ) from None


def _header(element: etree._Element) -> Header:
    fields: dict[str, str] = {}
    parts: dict[str, dict[str, str]] = {}
    recipients: list[Address] = []
    consents: list[str] = []
    for child in element:
        name = child.tag[_LOCAL:]
        if name == "Recipient":
            recipients.append(_address(_texts(child)))
        elif name == "ConsentRef":
            consents.append((child.text or "").strip())
        elif len(child):
            parts[name] = _texts(child)
            if name == "Sender" and child[-1].tag == _PRACTITIONER:
                parts["Practitioner"] = _texts(child[-1])
        else:
            fields[name] = (child.text or "").strip()
    origin, handling = parts["Sender"], parts["Handling"]
    return Header(
        message_id=MessageId(fields["MessageId"]),
        message_type=fields["MessageType"],
        schema_version=fields["SchemaVersion"],
        sender=agency_id(origin["AgencyId"]),
        system=origin["SystemId"],
        recipients=tuple(recipients),
        purpose=fields["Purpose"],
        created_at=_instant(fields["CreatedAt"]),
        correlation_id=fields.get("CorrelationId"),
        causation_id=fields.get("CausationId"),
        conversation_id=fields.get("ConversationId"),
        practitioner=_practitioner(parts.get("Practitioner")),
        protocol=fields.get("Protocol"),
        gateway=fields.get("Gateway"),
        reason_for_access=fields.get("ReasonForAccess"),
        consent_refs=tuple(consents),
        decision_ref=fields.get("DecisionRef"),
        classification=handling["Classification"],
        shielded=handling["Shielded"] in ("true", "1"),
        priority=handling["Priority"],
        expires_at=_optional_instant(handling.get("ExpiresAt")),
        respond_by=_optional_instant(handling.get("RespondBy")),
        acknowledge=handling["Acknowledge"],
    )


def _texts(element: etree._Element) -> dict[str, str]:
    return {child.tag[_LOCAL:]: (child.text or "").strip() for child in element}


def _address(fields: dict[str, str]) -> Address:
    if "AgencyId" in fields:
        return Address(agency_id=agency_id(fields["AgencyId"]))
    return Address(agency_type=fields["AgencyType"], area=fields["Area"])


def _practitioner(fields: dict[str, str] | None) -> Practitioner | None:
    if fields is None:
        return None
    return Practitioner(
        ref=fields["Ref"],
        role=fields["Role"],
        clearance=fields.get("Clearance"),
        authentication=fields.get("Authentication"),
    )


def _instant(text: str) -> datetime:
    instant = datetime.fromisoformat(text)
    if instant.tzinfo is None:
        msg = "an instant without an offset"
        raise ValueError(msg)
    return instant.astimezone(UTC)


def _optional_instant(text: str | None) -> datetime | None:
    return None if text is None else _instant(text)


def _claimed_sender(root: etree._Element) -> AgencyId:
    # The sender's id is the first in the document. It only selects the keys to try: the
    # header that counts is read from the signed bytes.
    element = next(root.iter(_AGENCY_ID), None)
    try:
        return agency_id("" if element is None else (element.text or "").strip())
    except ValueError:
        pointer = "/Envelope/Header/Sender/AgencyId"
        raise Rejection(Reason.ENVELOPE, "not an agency id", pointer=pointer) from None
