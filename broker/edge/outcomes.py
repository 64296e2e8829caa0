"""What became of a delivery, written once: its state, the signed evidence, the ledger entry.

Everything here runs inside `Store.write`, so that the three, and the report to the sender,
are there together or not at all. Every function answers whether it was the one to record:
False means that another worker, an operator or the recipient was first.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, select

from broker.core.instant import millis
from broker.core.ledger import evidence_entry, operator_entry
from broker.core.outcome import DeliveryState, DiscardCause, Level
from broker.core.reasons import Reason
from broker.core.receipt import Issuer, evidence_xml
from broker.core.submission import Acknowledgement
from broker.edge import deliveries, tables
from broker.edge.accepting import Acceptance
from broker.edge.deliveries import Held
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.reports import Reporter, is_report
from broker.edge.sealing import KeyRing
from broker.ports import Clock

Facts = Mapping[str, str | int | bool | None]
NO_FACTS: Facts = {}

REPORTED = frozenset({DeliveryState.REFUSED, DeliveryState.UNDELIVERABLE, DeliveryState.EXPIRED})


@dataclass(frozen=True, slots=True)
class Recorder:
    """Records outcomes in one transaction each."""

    issuer: Issuer
    reporter: Reporter
    ring: KeyRing
    clock: Clock

    def delivered(
        self, conn: Connection, ledger: Ledger, held: Held, facts: Facts = NO_FACTS
    ) -> bool:
        """Record that the recipient's system took the message (L2). The delivery is closed."""
        at = self.clock.now()
        done = deliveries.settle(
            conn,
            held,
            state=DeliveryState.DELIVERED.value,
            reason=None,
            in_doubt=held.in_doubt,
            delivered_at=millis(at),
            closed_at=millis(at),
        )
        if done:
            self._evidence(conn, ledger, held, Level.DELIVERED.value, at=at, facts=facts)
        return done

    def deposited(self, conn: Connection, _ledger: Ledger, held: Held) -> bool:
        """Record that the message lies in the mailbox. Nothing has been disclosed."""
        return deliveries.settle(
            conn,
            held,
            state=DeliveryState.AVAILABLE.value,
            reason=None,
            in_doubt=held.in_doubt,
        )

    def collected(
        self,
        conn: Connection,
        ledger: Ledger,
        held: Held,
        facts: Facts = NO_FACTS,
    ) -> bool:
        """Record that the recipient read the message for the first time (L2).

        The delivery stays open until the recipient acknowledges, because the answer that
        carries the message can be lost. A worker that holds it loses its lease: what it is
        about to record would be said twice.
        """
        at = self.clock.now()
        done = deliveries.settle(
            conn,
            held,
            any_lease=True,
            state=DeliveryState.DELIVERED.value,
            reason=None,
            delivered_at=millis(at),
        )
        if done:
            self._evidence(conn, ledger, held, Level.DELIVERED.value, at=at, facts=facts)
        return done

    def postponed(
        self, conn: Connection, held: Held, *, next_at: int, reason: Reason, counted: bool = True
    ) -> bool:
        """Record when to try again. Not ``counted``: the fault was ours, not the recipient's."""
        attempts = held.attempts if counted else held.attempts - 1
        return deliveries.settle(
            conn,
            held,
            next_at=min(next_at, held.expires_at),
            reason=reason.value,
            attempts=attempts,
            in_doubt=held.in_doubt,
        )

    def ended(  # noqa: PLR0913 - one outcome, named in full
        self,
        conn: Connection,
        ledger: Ledger,
        held: Held,
        *,
        state: DeliveryState,
        reason: Reason,
        facts: Facts = NO_FACTS,
    ) -> bool:
        """Record that the message will not be delivered, and tell its sender.

        After an attempt whose end nobody saw the recipient may have it all the same: then the
        entry says after how many.
        """
        at = self.clock.now()
        if is_report(held, self.reporter.broker) and state is DeliveryState.UNDELIVERABLE:
            # A report that cannot be pushed is not reported in turn: it waits to be read.
            return self.deposited(conn, ledger, held)
        done = deliveries.settle(
            conn,
            held,
            any_lease=held.state is DeliveryState.AVAILABLE,
            state=state.value,
            reason=reason.value,
            in_doubt=held.in_doubt,
            closed_at=millis(at),
        )
        if done:
            doubt = {"in_doubt": held.in_doubt} if held.in_doubt else {}
            facts = {**facts, **doubt}
            self._evidence(conn, ledger, held, state.value, at=at, reason=reason, facts=facts)
            self._report(conn, ledger, held, state=state, reason=reason, at=at)
        return done

    def acknowledged(
        self, conn: Connection, ledger: Ledger, held: Held, level: Level, code: str | None
    ) -> bool:
        """Record the recipient's own word: read by a person (L3) or dealt with (L4).

        The first word of each level counts; saying it again changes nothing. The word can be
        faster than our record of the attempt, or come after an answer that was lost: then it
        is the proof that the message arrived, and no further attempt is made.
        """
        at = self.clock.now()
        if held.state is DeliveryState.PENDING:
            self.collected(conn, ledger, held, {"way": "acknowledged"})
        if not deliveries.acknowledge(conn, held, now=millis(at)):
            return False
        if not _has_evidence(conn, held, level.value):
            self._evidence(conn, ledger, held, level.value, at=at, facts={"code": code})
        return True

    def expired(self, conn: Connection, ledger: Ledger, held: Held) -> bool:
        """Record that a delivery's time is up; what was read only leaves the mailbox."""
        if held.state is DeliveryState.DELIVERED:
            deliveries.close(conn, held, millis(self.clock.now()))
            return True
        collected = held.state is DeliveryState.AVAILABLE
        reason = Reason.NOT_COLLECTED if collected else Reason.ATTEMPTS_EXHAUSTED
        return self.ended(conn, ledger, held, state=DeliveryState.EXPIRED, reason=reason)

    def replayed(
        self, conn: Connection, ledger: Ledger, held: Held, operator: str, attempts_max: int
    ) -> bool:
        """Record that ``operator`` put a delivery back into the queue."""
        now = millis(self.clock.now())
        done = deliveries.replay(conn, held, now=now, attempts_max=attempts_max)
        if done:
            self._operated(ledger, "replay", held, operator)
            ledger.wake(held.recipient)
        return done

    def discarded(
        self, conn: Connection, ledger: Ledger, held: Held, operator: str, why: DiscardCause
    ) -> bool:
        """Record that ``operator`` let a delivery go, for good."""
        done = deliveries.settle(conn, held, reason=Reason.DISCARDED.value)
        if done:
            self._operated(ledger, "discard", held, operator, why=why.value)
        return done

    def _operated(
        self, ledger: Ledger, act: str, held: Held, operator: str, **facts: str | int
    ) -> None:
        at = self.clock.now()
        ledger.append(
            operator_entry(act, operator=operator, target=held.delivery_id, at=at, **facts)
        )

    def _evidence(  # noqa: PLR0913 - the parts of one document
        self,
        conn: Connection,
        ledger: Ledger,
        held: Held,
        level: str,
        *,
        at: datetime,
        reason: Reason | None = None,
        facts: Facts = NO_FACTS,
    ) -> None:
        """Append to the ledger and, the first time a level is reached, sign it.

        A delivery that was replayed can end in the same way again: that is in the ledger,
        and the first document stays the evidence.
        """
        acknowledgement = Acknowledgement(
            submission_id=held.submission_id,
            message_id=held.message_id,
            sender=held.sender,
            recipient=held.recipient,
            message_digest=held.digest,
            level=level,
            at=at,
            reason=reason,
        )
        facts = {"delivery": held.delivery_id, "attempt": held.attempts, **facts}
        place = ledger.append(evidence_entry(acknowledgement, **facts))
        if _has_evidence(conn, held, level):
            return
        document = evidence_xml(acknowledgement, place, self.issuer)
        conn.execute(
            insert(tables.evidence),
            {
                "id": new_id(),
                "message": held.submission_id,
                "recipient": held.recipient,
                "level": level,
                "at": millis(at),
                "document": self.issuer.sign(document),
                "ledger_seq": place.sequence,
            },
        )

    def _report(  # noqa: PLR0913 - the parts of one report
        self,
        conn: Connection,
        ledger: Ledger,
        held: Held,
        *,
        state: DeliveryState,
        reason: Reason,
        at: datetime,
    ) -> None:
        if state not in REPORTED or is_report(held, self.reporter.broker):
            return
        report = self.reporter.report(held, state, reason, at)
        # The answer is not looked at: an id that is there already is a sender told already.
        Acceptance(self.ring, self.issuer, conn.dialect).accept(conn, ledger, [report])


_EVIDENCE = select(tables.evidence.c.id).where(
    tables.evidence.c.message == bindparam("of"),
    tables.evidence.c.recipient == bindparam("to"),
    tables.evidence.c.level == bindparam("at"),
)


def _has_evidence(conn: Connection, held: Held, level: str) -> bool:
    asked = {"of": held.submission_id, "to": held.recipient, "at": level}
    return conn.execute(_EVIDENCE, asked).first() is not None
