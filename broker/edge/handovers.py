"""Answers to offers as rows: who took what, and who may therefore be sent it.

A row is never changed: whoever answers anew adds one, and the newest counts.
"""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from broker.core.handover import Answer, awaited_by, follows_answer
from broker.core.identity import AgencyId, SubjectRef
from broker.core.instant import millis
from broker.core.ledger import VERSION
from broker.core.message import ValidMessage
from broker.core.outcome import Permitted
from broker.core.submission import Submission
from broker.edge.ledger import Ledger
from broker.edge.store import Store
from broker.edge.tables import handover as table


@dataclass(frozen=True, slots=True)
class HandoverBook:
    """Answers the port `Handovers` from the store."""

    store: Store

    async def taken_by(
        self, message: ValidMessage, subject: SubjectRef | None, recipients: Collection[AgencyId]
    ) -> frozenset[AgencyId]:
        """Return which of ``recipients`` have taken what ``message`` brings.

        Raises:
            Fault: the store cannot be read. That is never an empty answer.
        """
        if subject is None or not follows_answer(message.header.message_type):
            return frozenset()
        return await self.store.read(lambda conn: _taken_by(conn, message, subject, recipients))


def _taken_by(
    conn: Connection, message: ValidMessage, subject: SubjectRef, recipients: Collection[AgencyId]
) -> frozenset[AgencyId]:
    awaited = awaited_by(message)
    rows = conn.execute(
        select(table.c.sender, table.c.taken, table.c.shield)
        .where(
            table.c.number == awaited.number,
            table.c.follows == message.header.message_type,
            table.c.subject_ref == subject,
            table.c.recipient == message.header.sender,
            table.c.sender.in_(recipients),
        )
        .order_by(table.c.ledger_seq)
    )
    newest = {AgencyId(row.sender): (row.taken, row.shield) for row in rows}
    return frozenset(agency for agency, said in newest.items() if awaited.met_by(*said))


def keep(conn: Connection, ledger: Ledger, submission: Submission, answer: Answer) -> None:
    """Keep what was answered, for each recipient that may know, in this very transaction."""
    for verdict in submission.verdicts:
        if not isinstance(verdict.decision, Permitted):
            continue
        sender = submission.message.header.sender
        place = ledger.append(
            {
                "v": VERSION,
                "kind": "handover",
                "submission": submission.submission_id,
                "by": sender,
                "to": verdict.recipient,
                "follows": answer.follows,
                "taken": answer.taken,
                "shield": answer.shield,
                "at": millis(submission.decided_at),
            }
        )
        conn.execute(
            insert(table).values(
                message=submission.submission_id,
                recipient=verdict.recipient,
                sender=sender,
                subject_ref=submission.subject_ref,
                follows=answer.follows,
                number=answer.number,
                taken=answer.taken,
                shield=answer.shield,
                ledger_seq=place.sequence,
            )
        )
