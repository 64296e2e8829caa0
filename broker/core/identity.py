"""Names of things, parsed once at the boundary.

A `SubjectRef` is a keyed hash, so that no topic, key, header, log or ledger entry names
the person a message is about (UK GDPR Art. 4(5), pseudonymisation).
"""

import re
import unicodedata
from typing import NewType

AgencyId = NewType("AgencyId", str)
MessageId = NewType("MessageId", str)
SubmissionId = NewType("SubmissionId", str)
SubjectRef = NewType("SubjectRef", str)

AGENCY_ID = re.compile(r"[a-z0-9][a-z0-9-]{1,62}[a-z0-9]")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def agency_id(text: str) -> AgencyId:
    """Return ``text`` as an agency id: 3 to 64 characters of ``a-z``, ``0-9`` and ``-``.

    Raises:
        ValueError: it is not one. The message does not repeat ``text``.
    """
    if not AGENCY_ID.fullmatch(text):
        msg = "an agency id is 3 to 64 of a-z, 0-9 and -, and neither starts nor ends with -"
        raise ValueError(msg)
    return AgencyId(text)


def folded(name: str) -> str:
    """Return ``name`` as it is compared: without regard to case, width or white space."""
    # Casefolding can undo composition, so compose again after it (Unicode TR 15).
    text = unicodedata.normalize("NFKC", name).casefold()
    return " ".join(unicodedata.normalize("NFKC", text).split())
