"""Who is told that others were shown that they work with a child (domain §2.17, J1).

The answer of the index names services, each with the agency to ask. Every one of these is a
controller, and hears who looked, for what and why; of a sensitive service there is nothing in
the answer, and so nobody to tell.
"""

import re
from collections.abc import Collection, Iterator, Mapping

from lxml import etree

from broker.core.identity import AGENCY_ID, AgencyId
from broker.core.message import ValidMessage

# Where a message type names an agency that works with the child, by path below the payload.
_NAMED: Mapping[str, tuple[str, ...]] = {
    "WhoElseResponse": ("Involvement/Contact/AgencyId", "LeadProfessional/AgencyId"),
}
_POSITION = re.compile(r"\[(\d+)\]")


def names_controllers(message_type: str) -> bool:
    """Return whether messages of this type name agencies that are told when it passes."""
    return message_type in _NAMED


def controllers_shown(message: ValidMessage, withheld: Collection[str]) -> frozenset[AgencyId]:
    """Return the agencies that ``message`` shows to work with the child.

    What was ``withheld`` as a whole, by its path, is not shown. An agency whose id alone was is:
    the service that it provides can be seen.
    """
    found: set[AgencyId] = set()
    for path in _NAMED.get(message.header.message_type, ()):
        first, _, rest = path.partition("/")
        for position, element in enumerate(_children(message.payload, first), 1):
            if not _gone(first, position, withheld):
                inner = element.findall("/".join(f"{{*}}{name}" for name in rest.split("/")))
                found.update(AgencyId(one.text or "") for one in inner)
    return frozenset(one for one in found if AGENCY_ID.fullmatch(one))


def _children(payload: etree._Element, name: str) -> Iterator[etree._Element]:
    return payload.iterchildren(f"{{*}}{name}")


def _gone(name: str, position: int, withheld: Collection[str]) -> bool:
    """Return whether the element is withheld; one that stands alone has no position."""
    return f"{name}[{position}]" in withheld or (position == 1 and name in withheld)
