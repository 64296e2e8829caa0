"""The broker's own messages about consents: signed, kept with what they tell of, nobody named."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.sax.saxutils import escape

from sqlalchemy import Connection

from broker.core.instant import rfc3339
from broker.core.receipt import Issuer
from broker.edge.accepting import Acceptance
from broker.edge.consent_acts import Received
from broker.edge.ledger import Ledger
from broker.edge.reports import CONSENT_NOTICE, Reporter
from broker.edge.sealing import KeyRing

NAMESPACE = "urn:fame:consent:1.0"
EFFECT = "FUTURE_SHARING_STOPPED"


@dataclass(frozen=True, slots=True)
class Notices:
    """Tells recipients that a consent under which they received was withdrawn."""

    reporter: Reporter
    issuer: Issuer
    ring: KeyRing

    def withdrawn(
        self, conn: Connection, ledger: Ledger, received: Sequence[Received], at: datetime
    ) -> None:
        """Keep one notice for each message and recipient, in this very transaction."""
        if not received:
            return
        notices = [
            self.reporter.notice(
                CONSENT_NOTICE,
                recipient=one.recipient,
                name=f"{one.consent_id}:{one.submission_id}:{one.recipient}",
                about=one.message_id,
                payload=_payload(one, at),
                at=at,
                trace_id=one.trace_id,
            )
            for one in received
        ]
        Acceptance(self.ring, self.issuer, conn.dialect).accept(conn, ledger, notices)


def _payload(one: Received, at: datetime) -> bytes:
    parts = (
        ("ConsentId", one.consent_id),
        ("MessageId", one.message_id),
        ("MessageType", one.message_type),
        ("Sender", one.sender),
        ("At", rfc3339(at)),
        ("Effect", EFFECT),
    )
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
    return f'<{CONSENT_NOTICE} xmlns="{NAMESPACE}">{inner}</{CONSENT_NOTICE}>'.encode()
