"""Too little memory to examine a message, told from a message that is bad.

libxml2 says of both that it stopped. A message must not be rejected for want of memory that
is ours: its sender would give it up. A shortage never lets anything pass either.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Protocol, cast

from lxml import etree

from broker.core.errors import BrokerError, Rejection, Transient
from broker.core.reasons import Reason

_NO_MEMORY = etree.ErrorTypes.ERR_NO_MEMORY
_SCHEME = re.compile("[A-Za-z][A-Za-z0-9+.-]*:")


class Complaint(Protocol):
    """One line of the library's log."""

    type: int


def no_memory() -> Transient:
    """Return what to tell: the same bytes may be sent again."""
    return Transient(Reason.OVERLOADED, "too little memory to examine it")


def complaints() -> Iterable[Complaint]:
    """Return what the library logged in this thread since its log was cleared."""
    copied = etree.LxmlError("").error_log  # a new error copies the log of its thread
    return cast("Iterable[Complaint]", copied)


@contextmanager
def examining(logged: Callable[[], Iterable[Complaint]] = complaints) -> Iterator[None]:
    """Have a block in which messages are rejected tell of a shortage instead, if there was one.

    Raises:
        Transient: something failed, and the library had found no memory.
    """
    etree.clear_error_log()
    try:
        yield
    except (Rejection, etree.LxmlError):
        if any(one.type == _NO_MEMORY for one in logged()):
            raise no_memory() from None
        raise


def without_canonical_form(root: etree._Element, rejection: Rejection) -> BrokerError:
    """Return why ``root`` could not be written canonically: ``rejection``, or a shortage.

    The library does not say which. The one thing in a message that has no canonical form is a
    namespace name that is relative (Canonical XML 1.0 §1.1).
    """
    names = {name for element in root.iter() for name in element.nsmap.values()}
    if all(_SCHEME.match(name) for name in names):
        return no_memory()
    return rejection
