"""The genuine message that every vector starts from. 10 is what was signed, 9999 is forged."""

from collections.abc import Callable
from dataclasses import dataclass

NAMESPACE = "urn:fame:envelope:1.0"
CREATED = "2026-11-20T10:00:00Z"
GENUINE, FORGED = "10", "9999"


@dataclass(frozen=True)
class Vector:
    """One submission, and the code with which it is rejected; ``None``: it is accepted."""

    pack: str
    name: str
    make: Callable[[], bytes]
    code: str | None

    def __str__(self) -> str:
        return f"{self.pack}/{self.name}"


def header(sender: str = "sunderland-csc", message_type: str = "VacancyClosed") -> str:
    """Return a header."""
    return (
        "<m:Header><m:MessageId>019aa000-0000-7000-8000-000000000001</m:MessageId>"
        f"<m:MessageType>{message_type}</m:MessageType><m:SchemaVersion>1.0</m:SchemaVersion>"
        f"<m:Sender><m:AgencyId>{sender}</m:AgencyId><m:SystemId>liquidlogic</m:SystemId>"
        "</m:Sender><m:Recipient><m:AgencyId>ne-jobs-portal</m:AgencyId></m:Recipient>"
        "<m:Purpose>VACANCY</m:Purpose><m:Handling><m:Classification>OFFICIAL</m:Classification>"
        "<m:Shielded>false</m:Shielded><m:Priority>ROUTINE</m:Priority>"
        "<m:Acknowledge>L2</m:Acknowledge></m:Handling>"
        f"<m:CreatedAt>{CREATED}</m:CreatedAt></m:Header>"
    )


def payload(version: str = GENUINE, extra: str = "", attributes: str = "") -> str:
    """Return the one element of the payload."""
    return (
        f'<VacancyClosed xmlns="urn:fame:vacancy:1.0"{attributes}><Employer>'
        "<Name>Sunderland City Council</Name><Code>394</Code></Employer>"
        f"<VacancyRef>SCC-1</VacancyRef><Version>{version}</Version>{extra}"
        f"<EndedAt>{CREATED}</EndedAt><Reason>FILLED</Reason></VacancyClosed>"
    )


def document(content: str | None = None, *, root_id: str = "", extra: str = "") -> str:
    """Return an unsigned envelope around ``content``, in canonical form."""
    inner = payload() if content is None else content
    return opening(root_id) + header() + wrapped(inner) + extra + "</m:Envelope>"


def opening(root_id: str = "") -> str:
    """Return the start tag of the root."""
    identifier = f' Id="{root_id}"' if root_id else ""
    return f'<m:Envelope xmlns:m="{NAMESPACE}"{identifier} version="1.0">'


def wrapped(content: str, payload_id: str = "") -> str:
    """Return the payload element around ``content``."""
    identifier = f' Id="{payload_id}"' if payload_id else ""
    return f"<m:Payload{identifier}>{content}</m:Payload>"
