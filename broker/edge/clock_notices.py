"""The broker's own messages about clocks: an answer is due, or did not come. Nobody is named."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from xml.sax.saxutils import escape

from sqlalchemy import Connection, RowMapping, select

from broker.core.clocks import ClockState
from broker.core.instant import from_millis, rfc3339
from broker.core.submission import Submission
from broker.edge.accepting import Acceptance
from broker.edge.intake import Registers
from broker.edge.ledger import Ledger
from broker.edge.outcomes import Recorder
from broker.edge.reports import CLOCK_NOTICE
from broker.edge.tables import message

NAMESPACE = "urn:fame:clock:1.0"
# Who has to act, then who waits for it, then who leads the agreement and answers for it.
RECIPIENT, SENDER, LEAD = "recipient", "sender", "lead"
TOLD: Final = {
    ClockState.DUE: (RECIPIENT,),
    ClockState.OVERDUE: (RECIPIENT, SENDER),
    ClockState.ESCALATED: (RECIPIENT, SENDER, LEAD),
}


@dataclass(frozen=True, slots=True)
class ClockNotices:
    """Tells agencies where a clock on a message of theirs stands."""

    recorder: Recorder
    registers: Registers

    def about(
        self, conn: Connection, row: RowMapping, state: ClockState, at: datetime, now: datetime
    ) -> list[Submission]:
        """Return the notices, ready to be kept, that the clock ``row`` came to stand at ``state``.

        ``at`` is when it did, ``now`` when that was noticed. Whoever left the register is not told.
        """
        chosen = select(message.c.message_type, message.c.trace_id)
        of = conn.execute(chosen.where(message.c.id == row["message"])).one()
        register = self.registers.current
        protocol = register.protocols.get(row["protocol"])
        agencies = {
            RECIPIENT: row["recipient"],
            SENDER: row["sender"],
            LEAD: None if protocol is None else protocol.lead,
        }
        payload = _payload(row, of.message_type, state, at)
        return [
            self.recorder.reporter.notice(
                CLOCK_NOTICE,
                recipient=agency,
                name=f"{row['message']}:{row['recipient']}:{row['clock']}:{state.value}:{agency}",
                about=row["message_id"],
                payload=payload,
                at=now,
                trace_id=of.trace_id,
            )
            for agency in dict.fromkeys(agencies[part] for part in TOLD[state])
            if agency in register.agencies
        ]

    def keep(self, conn: Connection, ledger: Ledger, notices: list[Submission]) -> None:
        """Keep ``notices`` in this very transaction; one that was kept before is left as it is."""
        if notices:
            acceptance = Acceptance(self.recorder.ring, self.recorder.issuer, conn.dialect)
            acceptance.accept(conn, ledger, notices)


def _payload(row: RowMapping, message_type: str, state: ClockState, at: datetime) -> bytes:
    parts = (
        ("MessageId", row["message_id"]),
        ("MessageType", message_type),
        ("Sender", row["sender"]),
        ("Recipient", row["recipient"]),
        ("Clock", row["clock"]),
        ("State", state.value.upper()),
        ("StartedAt", rfc3339(from_millis(row["started_at"]))),
        ("InTimeBefore", rfc3339(from_millis(row["overdue_from"]))),
        ("At", rfc3339(at)),
    )
    inner = "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts)
    return f'<{CLOCK_NOTICE} xmlns="{NAMESPACE}">{inner}</{CLOCK_NOTICE}>'.encode()
