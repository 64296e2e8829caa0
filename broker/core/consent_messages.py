"""The messages by which agencies record consents, as the records they ask for.

A payload has followed its schema, so what the schema makes mandatory is there.
"""

from datetime import datetime

from lxml import etree

from broker.core.capacity import Assessment
from broker.core.consent_record import Statement
from broker.core.identity import AgencyId
from broker.core.override import DisclosureClaim

CONSENT_RECORDED = "ConsentRecorded"
CONSENT_WITHDRAWN = "ConsentWithdrawn"
DISCLOSURE_DECISION = "DisclosureDecision"


def consent_id_of(payload: etree._Element) -> str:
    """Return the id of the record that a payload makes or ends."""
    return _text(payload, "ConsentId")


def statement_of(payload: etree._Element) -> Statement:
    """Return what a ConsentRecorded says."""
    return Statement(
        kind=_text(payload, "Kind"),
        status=_text(payload, "Status"),
        purposes=frozenset(_texts(payload, "Purpose")),
        message_types=frozenset(_texts(payload, "MessageType")),
        recipients=frozenset(AgencyId(name) for name in _texts(payload, "Recipient")),
        form=_text(payload, "Form"),
        given_at=_instant(_text(payload, "GivenAt")),
        given_by=_text(payload, "GivenBy"),
        capacity=_text(payload, "Capacity"),
        wording=_text(payload, "Wording"),
        review_at=_instant(_text(payload, "ReviewAt")),
        expires_at=_instant_or_none(payload, "ExpiresAt"),
        assessment=_assessment(payload),
        document=_text_or_none(payload, "Document"),
        supersedes=_text_or_none(payload, "Supersedes"),
        categories=frozenset(_texts(payload, "Category")),
        support=_text_or_none(payload, "Support"),
    )


def withdrawal_of(payload: etree._Element) -> tuple[str, datetime]:
    """Return who conveyed the withdrawal that a ConsentWithdrawn tells of, and when it was said."""
    return _text(payload, "WithdrawnBy"), _instant(_text(payload, "WithdrawnAt"))


def decision_id_of(payload: etree._Element) -> str:
    """Return the id of the decision that a DisclosureDecision says was made."""
    return _text(payload, "DecisionId")


def claim_of(payload: etree._Element) -> DisclosureClaim:
    """Return what a DisclosureDecision says, without its words of necessity."""
    return DisclosureClaim(
        reason=_text(payload, "Reason"),
        gateway=_text(payload, "Gateway"),
        purposes=frozenset(_texts(payload, "Purpose")),
        message_types=frozenset(_texts(payload, "MessageType")),
        recipients=frozenset(AgencyId(name) for name in _texts(payload, "Recipient")),
        detriment=_text(payload, "DetrimentTest"),
        decided_by=_text(payload, "DecidedBy"),
        approved_by=_text(payload, "ApprovedBy"),
        made_at=_instant(_text(payload, "MadeAt")),
    )


def _assessment(payload: etree._Element) -> Assessment | None:
    found = next(payload.iterchildren("{*}Assessment"), None)
    if found is None:
        return None
    return Assessment(
        _text(found, "Assessor"),
        _instant(_text(found, "AssessedAt")),
        frozenset(_texts(found, "Factor")),
    )


def _texts(element: etree._Element, name: str) -> list[str]:
    return [(child.text or "").strip() for child in element.iterchildren(f"{{*}}{name}")]


def _text(element: etree._Element, name: str) -> str:
    return _texts(element, name)[0]


def _text_or_none(element: etree._Element, name: str) -> str | None:
    return next(iter(_texts(element, name)), None)


def _instant_or_none(element: etree._Element, name: str) -> datetime | None:
    text = _text_or_none(element, name)
    return None if text is None else _instant(text)


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text)
