"""Say where and how a payload fails its schema, in our words alone.

The validator's own messages repeat the values they complain of, and an element that does
not belong may carry anything in its name. So what is told comes from the schema, never from
the message: its element names, its code lists, and the kind of the error.
"""

import re
from collections.abc import Mapping

from lxml import etree

from broker.core.errors import Rejection
from broker.core.pointer import element_at, pointer_of
from broker.core.reasons import Reason
from broker.core.schema_model import Declaration

_VALUES_TOLD = 24
_EXPECTED = re.compile(r"\{[^{}\s]*\}([A-Za-z][A-Za-z0-9]*)")

_KINDS: Mapping[str, str] = {
    "SCHEMAV_ELEMENT_CONTENT": "an element is missing, or stands where it may not",
    "SCHEMAV_CVC_ENUMERATION_VALID": "the value is not in the list",
    "SCHEMAV_CVC_PATTERN_VALID": "the value has the wrong form",
    "SCHEMAV_CVC_MINLENGTH_VALID": "the value is too short",
    "SCHEMAV_CVC_MAXLENGTH_VALID": "the value is too long",
    "SCHEMAV_CVC_MININCLUSIVE_VALID": "the value is too small",
    "SCHEMAV_CVC_MAXINCLUSIVE_VALID": "the value is too large",
    "SCHEMAV_CVC_FRACTIONDIGITS_VALID": "the value has too many decimals",
    "SCHEMAV_CVC_DATATYPE_VALID_1_2_1": "the value is not of its type",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_1": "the element must be empty",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": "text stands between elements",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": "an attribute stands where none may",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2": "an attribute stands where none may",
    "SCHEMAV_CVC_TYPE_3_1_1": "an attribute stands where none may",
    "SCHEMAV_CVC_TYPE_3_1_2": "an element stands where only text may",
}


def schema_rejection(
    payload: etree._Element,
    error: etree._LogEntry,
    declarations: Mapping[str, Declaration],
) -> Rejection:
    """Return the rejection that tells of ``error``, found in ``payload`` (ISP-2.1).

    ``declarations`` are those of the message type, by path below the root.
    """
    element = element_at(payload, error.path or "")
    known = {declaration.name for declaration in declarations.values()}
    while element is not payload and etree.QName(element).localname not in known:
        parent = element.getparent()
        assert parent is not None
        element = parent
    detail = _KINDS.get(error.type_name, "it does not follow the schema")
    if error.type_name == "SCHEMAV_ELEMENT_CONTENT":
        detail += _expected(error.message, known)
    else:
        detail += _type(declarations.get(_path(payload, element)))
    return Rejection(Reason.SCHEMA, detail, pointer=pointer_of(element), line=error.line)


def _expected(message: str, known: set[str]) -> str:
    # This text follows the last "Expected is" and comes from the schema; a name from the
    # message could not get here, and would be dropped if it did.
    tail = message.rpartition("Expected is")[2]
    names = [name for name in _EXPECTED.findall(tail) if name in known]
    return f"; expected here: {' or '.join(names)}" if names else ""


def _type(declaration: Declaration | None) -> str:
    if declaration is None or not declaration.type_name:
        return ""
    values = [value for value, _ in declaration.values]
    if values and len(values) <= _VALUES_TOLD:
        return f"; {declaration.type_name} is one of {', '.join(values)}"
    return f"; its type is {declaration.type_name}"


def _path(payload: etree._Element, element: etree._Element) -> str:
    names = [etree.QName(element).localname] if element is not payload else []
    for ancestor in element.iterancestors() if element is not payload else ():
        if ancestor is payload:
            break
        names.append(etree.QName(ancestor).localname)
    return "/".join(reversed(names))
