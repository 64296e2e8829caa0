"""The broker's own messages about who was shown what: to the agencies that were shown."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

import orjson
from sqlalchemy import Connection, select

from broker.core.access import controllers_shown
from broker.core.identity import AgencyId
from broker.core.instant import rfc3339
from broker.core.outcome import Permitted
from broker.core.receipt import Issuer
from broker.core.submission import Submission
from broker.edge.accepting import Acceptance
from broker.edge.intake import Registers
from broker.edge.ledger import Ledger
from broker.edge.reports import ACCESS_NOTICE, Reporter
from broker.edge.sealing import KeyRing
from broker.edge.tables import ledger as entries
from broker.edge.tables import message

NAMESPACE = "urn:fame:access:1.0"


@dataclass(frozen=True, slots=True)
class AccessNotices:
    """Tells agencies that somebody was shown that they work with a child."""

    reporter: Reporter
    issuer: Issuer
    ring: KeyRing
    registers: Registers

    def tell(self, conn: Connection, ledger: Ledger, submission: Submission) -> None:
        """Keep one notice for each agency and recipient, in the transaction of ``submission``.

        Neither who showed it nor who is shown it is told; whoever left the register is not.
        """
        notices = [
            self._notice(conn, submission, reader, agency)
            for reader, agencies in self._shown(submission).items()
            for agency in sorted(agencies)
        ]
        if notices:
            Acceptance(self.ring, self.issuer, conn.dialect).accept(conn, ledger, notices)

    def _shown(self, submission: Submission) -> dict[AgencyId, frozenset[AgencyId]]:
        known = self.registers.current.agencies.keys()
        found = {}
        for verdict in submission.verdicts:
            if isinstance(verdict.decision, Permitted):
                named = controllers_shown(submission.message, verdict.withheld)
                own = {submission.message.header.sender, verdict.recipient}
                found[verdict.recipient] = (named & known) - own
        return found

    def _notice(
        self, conn: Connection, submission: Submission, reader: AgencyId, agency: AgencyId
    ) -> Submission:
        about = submission.message.header.message_id
        return self.reporter.notice(
            ACCESS_NOTICE,
            recipient=agency,
            name=f"{submission.submission_id}:{reader}:{agency}",
            about=about,
            payload=_payload(submission, reader, _reason(conn, submission, reader)),
            at=submission.decided_at,
            trace_id=submission.trace_id,
        )


def _reason(conn: Connection, submission: Submission, reader: AgencyId) -> str | None:
    """Return why ``reader`` asked, as the signed header of its question says it."""
    asked = conn.execute(
        select(entries.c.entry)
        .join(message, message.c.ledger_seq == entries.c.seq)
        .where(
            message.c.sender == reader,
            message.c.message_id == submission.message.header.correlation_id,
        )
    ).scalar()
    if asked is None:
        return None
    reason: str | None = orjson.loads(asked)["header"]["reason_for_access"]
    return reason


def _payload(submission: Submission, reader: AgencyId, reason: str | None) -> bytes:
    header = submission.message.header
    parts = (
        ("MessageId", header.message_id),
        ("MessageType", header.message_type),
        ("ShownBy", header.sender),
        ("ShownTo", reader),
        ("SubjectRef", submission.subject_ref or ""),
        ("Purpose", header.purpose),
        *((("ReasonForAccess", reason),) if reason else ()),
        ("At", rfc3339(submission.decided_at)),
    )
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
    return f'<{ACCESS_NOTICE} xmlns="{NAMESPACE}">{inner}</{ACCESS_NOTICE}>'.encode()
