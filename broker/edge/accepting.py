"""What the commitment of a batch of submissions is, row by row.

Each gets its number in the ledger, its sealed body and its signed receipt here, inside the
transaction, because the receipt names the number. The unique constraint on the sender's
message id has the last word on what is new; asking first only saves the work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Final, cast

import orjson
from sqlalchemy import Connection, Dialect, Insert, Table, insert, select

from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId
from broker.core.instant import millis
from broker.core.ledger import submission_entry
from broker.core.outcome import DeliveryState, Permitted, RecipientVerdict
from broker.core.reasons import Reason
from broker.core.receipt import Issuer, receipt_xml
from broker.core.submission import Accepted, Place, Submission
from broker.edge import tables
from broker.edge.database import cursor_of
from broker.edge.ids import new_id
from broker.edge.ledger import Ledger
from broker.edge.sealing import DataKey, KeyRing

# The longest due goes first, and an urgent delivery is due before it came: it passes those
# that have waited less than its head start, and never those that have waited longer, nor an
# earlier one about the same person.
HEAD_START_MS: Final = {"ROUTINE": 0, "URGENT": 3_600_000, "IMMEDIATE": 24 * 3_600_000}

_Key = tuple[AgencyId, MessageId]
_Row = dict[str, object]


@dataclass(frozen=True, slots=True)
class _First:
    """The first message under an id, kept before or earlier in the same batch."""

    digest: bytes
    accepted: Accepted


class BulkInsert:
    """An INSERT compiled once: going through a statement object costs more than SQLite does."""

    def __init__(self, table: Table, dialect: Dialect, columns: Sequence[str]) -> None:
        statement: Insert = insert(table)
        compiled = statement.compile(dialect=dialect, column_keys=list(columns))
        self._sql = str(compiled)
        self._values = itemgetter(*(compiled.positiontup or columns))

    def run(self, conn: Connection, rows: Sequence[_Row]) -> None:
        """Insert ``rows``, each with exactly the columns named at the start."""
        if rows:
            cursor_of(conn).executemany(self._sql, [self._values(row) for row in rows])


class Acceptance:
    """Commits submissions: new ones are kept, known ones get their first receipt again."""

    def __init__(self, ring: KeyRing, issuer: Issuer, dialect: Dialect) -> None:
        self._ring = ring
        self._issuer = issuer
        self._message = BulkInsert(tables.message, dialect, _MESSAGE)
        self._body = BulkInsert(tables.sealed_body, dialect, _BODY)
        self._decision = BulkInsert(tables.decision, dialect, _DECISION)
        self._delivery = BulkInsert(tables.delivery, dialect, _DELIVERY)
        self._reliance = BulkInsert(tables.reliance, dialect, _RELIANCE)
        self._held_sql = str(_HELD.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))
        self._mark = "?" if dialect.paramstyle == "qmark" else "%s"

    def accept(
        self, conn: Connection, ledger: Ledger, submissions: Sequence[Submission]
    ) -> list[Accepted | Rejection]:
        """Write what is new of ``submissions`` and return the answer to each, in their order."""
        known = self._held(conn, [s.message.header.message_id for s in submissions])
        answers: list[Accepted | Rejection] = []
        messages: list[_Row] = []
        bodies: list[_Row] = []
        decisions: list[_Row] = []
        deliveries: list[_Row] = []
        reliances: list[_Row] = []
        for submission in submissions:
            header = submission.message.header
            first = known.get((header.sender, header.message_id))
            if first is not None:
                answers.append(_again(first, submission))
                continue
            data_key = self._ring.new_key()
            place = ledger.append(submission_entry(submission))
            receipt = self._issuer.sign(receipt_xml(submission, place, self._issuer))
            messages.append(_message_row(submission, place, data_key, receipt))
            decisions += _decision_rows(submission)
            reliances += _reliance_rows(submission)
            opened = _delivery_rows(submission, place)
            deliveries += opened
            bodies += _body_rows(submission, data_key, opened)
            accepted = Accepted(
                submission.submission_id, receipt, duplicate=False, refused_all=not opened
            )
            known[(header.sender, header.message_id)] = _First(submission.message.digest, accepted)
            answers.append(accepted)
            _tell(ledger, submission)
        self._message.run(conn, messages)
        self._body.run(conn, bodies)
        self._decision.run(conn, decisions)
        self._delivery.run(conn, deliveries)
        self._reliance.run(conn, reliances)
        return answers

    def _held(self, conn: Connection, message_ids: Sequence[MessageId]) -> dict[_Key, _First]:
        marks = ",".join([self._mark] * len(message_ids))
        cursor = cursor_of(conn)
        cursor.execute(f"{self._held_sql} WHERE message.message_id IN ({marks})", message_ids)
        return {
            (sender, message_id): _First(
                digest,
                Accepted(submission_id, receipt, duplicate=True, refused_all=not permitted),
            )
            for sender, message_id, submission_id, digest, receipt, permitted in cursor.fetchall()
        }


_permitted = (
    select(tables.decision.c.message)
    .where(tables.decision.c.message == tables.message.c.id, tables.decision.c.permitted)
    .exists()
    .label("permitted")
)
_HELD = select(
    tables.message.c.sender,
    tables.message.c.message_id,
    tables.message.c.id,
    tables.message.c.digest,
    tables.message.c.receipt,
    _permitted,
)


def _again(first: _First, submission: Submission) -> Accepted | Rejection:
    # step 1, ISP-1.6: under one id of a sender there is one message.
    if first.digest != submission.message.digest:
        return Rejection(Reason.REPLAY, "the id was used before, for other content")
    return replace(first.accepted, duplicate=True)


def _tell(ledger: Ledger, submission: Submission) -> None:
    for verdict in submission.verdicts:
        waits = not (verdict.collected or verdict.kept)
        if isinstance(verdict.decision, Permitted) and waits:
            ledger.wake(verdict.recipient)
    ledger.wake(correlation=submission.message.header.correlation_id)


def _message_row(submission: Submission, place: Place, data_key: DataKey, receipt: bytes) -> _Row:
    header = submission.message.header
    return {
        "id": submission.submission_id,
        "sender": header.sender,
        "message_id": header.message_id,
        "digest": submission.message.digest,
        "message_type": header.message_type,
        "schema_version": header.schema_version,
        "purpose": header.purpose,
        "system": header.system,
        "correlation_id": header.correlation_id,
        "conversation_id": header.conversation_id,
        "priority": header.priority,
        "subject_ref": submission.subject_ref,
        "created_at": millis(header.created_at),
        "received_at": millis(submission.received_at),
        "expires_at": millis(submission.expires_at),
        "respond_by": None if header.respond_by is None else millis(header.respond_by),
        "trace_id": submission.trace_id,
        "size": len(submission.message.verified.raw),
        "kek_id": data_key.kek_id,
        "wrapped_key": data_key.wrapped,
        "receipt": receipt,
        "ledger_seq": place.sequence,
    }


def _decision_rows(submission: Submission) -> list[_Row]:
    return [
        {
            "message": submission.submission_id,
            "recipient": verdict.recipient,
            "withheld": orjson.dumps(verdict.withheld).decode(),
            "register_digest": submission.register_digest,
            "facts": verdict.record,
            **_decided(verdict),
        }
        for verdict in submission.verdicts
    ]


def _reliance_rows(submission: Submission) -> list[_Row]:
    return [
        {"consent": consent, "message": submission.submission_id, "recipient": verdict.recipient}
        for verdict in submission.verdicts
        if isinstance(verdict.decision, Permitted)
        for consent in verdict.decision.consents
    ]


def _decided(verdict: RecipientVerdict) -> _Row:
    decision = verdict.decision
    if isinstance(decision, Permitted):
        return {
            "permitted": True,
            "reason": None,
            "step": None,
            "change": None,
            "protocol": decision.protocol,
            "protocol_version": decision.version,
            "clause": decision.clause,
            "gateway": decision.gateway,
        }
    return {
        "permitted": False,
        "reason": decision.reason.value,
        "step": decision.step,
        "change": decision.change,
        "protocol": decision.protocol,
        "protocol_version": None,
        "clause": decision.clause,
        "gateway": None,
    }


def _body_rows(submission: Submission, data_key: DataKey, opened: Sequence[_Row]) -> list[_Row]:
    """Return what was sent, sealed, and what each of ``opened`` shows if that is less."""
    submission_id = submission.submission_id
    sent = data_key.seal(submission.message.verified.raw, submission_id)
    rows: list[_Row] = [{"message": submission_id, "recipient": tables.AS_SENT, "sealed": sent}]
    less = {verdict.recipient: verdict.reduced for verdict in submission.verdicts}
    for one in opened:
        recipient = cast("AgencyId", one["recipient"])
        body = less[recipient]
        if body is not None:
            shown = data_key.seal(body, submission_id, str(one["id"]))
            rows.append({"message": submission_id, "recipient": recipient, "sealed": shown})
    return rows


def _delivery_rows(submission: Submission, place: Place) -> list[_Row]:
    header = submission.message.header
    rows: list[_Row] = []
    for verdict in submission.verdicts:
        if not isinstance(verdict.decision, Permitted):
            continue
        delivery_id = new_id()
        # What is collected is there at once: nothing has to be attempted first. What the
        # broker itself is told it has.
        state = DeliveryState.AVAILABLE if verdict.collected else DeliveryState.PENDING
        if verdict.kept:
            state = DeliveryState.DELIVERED
        ended = millis(submission.decided_at) if verdict.kept else None
        rows.append(
            {
                "id": delivery_id,
                "message": submission.submission_id,
                "recipient": verdict.recipient,
                "order_key": submission.subject_ref or header.message_id,
                "position": place.sequence,
                "state": state.value,
                "attempts": 0,
                "next_at": millis(submission.received_at) - HEAD_START_MS[header.priority],
                "expires_at": millis(submission.expires_at),
                "reduced": verdict.reduced is not None,
                "level": header.acknowledge,
                "delivered_at": ended,
                "closed_at": ended,
            }
        )
    return rows


_BODY = tuple(tables.sealed_body.c.keys())
_MESSAGE = tuple(tables.message.c.keys())
_DECISION = tuple(tables.decision.c.keys())
_RELIANCE = tuple(tables.reliance.c.keys())
_DELIVERY = (
    "id",
    "message",
    "recipient",
    "order_key",
    "position",
    "state",
    "attempts",
    "next_at",
    "expires_at",
    "reduced",
    "level",
    "delivered_at",
    "closed_at",
)
