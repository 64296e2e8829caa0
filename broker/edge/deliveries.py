"""The life of a delivery, as SQL: who may take it, what became of it, who may see it.

    pending ──claim──> pending, leased ──record──> available ──> delivered
       ^                     │                        │
       └── retry, release ───┘                        └──> refused, expired
                             └──> delivered, refused, undeliverable, expired

Functions take a connection and run inside `Store.read` or `Store.write`; none commits.
Instants are milliseconds since 1970 UTC. A state is left only by the statement that names
it, so of two workers with one delivery exactly one records what became of it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Connection,
    CursorResult,
    Integer,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal_column,
    or_,
    select,
    true,
    update,
)

from broker.core.identity import AgencyId, MessageId, SubjectRef, SubmissionId
from broker.core.instant import millis
from broker.core.outcome import DeliveryState
from broker.core.reasons import Reason
from broker.edge.tables import (
    AS_SENT,
    decision,
    delivery,
    ledger,
    message,
    paused_route,
    sealed_body,
)
from broker.ports import Dispatch

# Statements that every message comes by are made once: to put one together costs as much as to
# run it. States are written into them, because a partial index is of no use to a parameter.
PENDING: ColumnElement[str] = literal_column("'pending'")
DELIVERED = DeliveryState.DELIVERED.value


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that one worker holds until its lease ends; ``attempt`` counts this one."""

    delivery_id: str
    recipient: AgencyId
    order_key: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Held:
    """Everything one attempt, or one disclosure, needs to know of a delivery."""

    delivery_id: str
    submission_id: SubmissionId
    recipient: AgencyId
    sender: AgencyId
    message_id: MessageId
    message_type: str
    schema_version: str
    received_at: int
    digest: bytes
    subject_ref: SubjectRef | None
    trace_id: str
    state: DeliveryState
    attempts: int
    in_doubt: int  # of these, after how many it may have arrived unsaid
    expires_at: int
    lease_owner: str | None
    lease_until: int | None
    delivered_at: int | None
    closed_at: int | None
    protocol: str | None
    protocol_version: int | None
    clause: str | None
    register_digest: str
    kek_id: str
    wrapped_key: bytes | None = field(repr=False)
    reduced: bool  # the recipient is shown less than was sent
    original: bytes | None = field(repr=False)  # sealed; None: erased
    shown: bytes | None = field(repr=False)  # sealed; None: not reduced, or erased

    @property
    def acknowledged(self) -> bool:
        """Whether the recipient said that it needs the message no more."""
        closed, delivered = self.closed_at, self.delivered_at
        return closed is not None and delivered is not None and closed > delivered

    def answered(self) -> "Held":
        """Return the same once it is certain what the attempt under way came to."""
        return replace(self, in_doubt=self.in_doubt - 1)


_sent, _shown = sealed_body.alias("sent"), sealed_body.alias("shown")
_HELD = (
    select(
        delivery.c.id.label("delivery_id"),
        message.c.id.label("submission_id"),
        delivery.c.recipient,
        message.c.sender,
        message.c.message_id,
        message.c.message_type,
        message.c.schema_version,
        message.c.received_at,
        message.c.digest,
        message.c.subject_ref,
        message.c.trace_id,
        delivery.c.state,
        delivery.c.attempts,
        delivery.c.in_doubt,
        delivery.c.expires_at,
        delivery.c.lease_owner,
        delivery.c.lease_until,
        delivery.c.delivered_at,
        delivery.c.closed_at,
        decision.c.protocol,
        decision.c.protocol_version,
        decision.c.clause,
        decision.c.register_digest,
        message.c.kek_id,
        message.c.wrapped_key,
        delivery.c.reduced,
        _sent.c.sealed.label("original"),
        _shown.c.sealed.label("shown"),
    )
    .select_from(
        delivery.join(message, message.c.id == delivery.c.message)
        .outerjoin(
            decision,
            and_(
                decision.c.message == delivery.c.message,
                decision.c.recipient == delivery.c.recipient,
            ),
        )
        .outerjoin(_sent, and_(_sent.c.message == delivery.c.message, _sent.c.recipient == AS_SENT))
        .outerjoin(
            _shown,
            and_(
                _shown.c.message == delivery.c.message, _shown.c.recipient == delivery.c.recipient
            ),
        )
    )
    .where(delivery.c.id == bindparam("wanted"))
)


def load(conn: Connection, delivery_id: str) -> Held | None:
    """Return the delivery of that id with its message and decision, or None."""
    row = conn.execute(_HELD, {"wanted": delivery_id}).mappings().one_or_none()
    if row is None:
        return None
    values = dict(row)
    values["state"] = DeliveryState(values["state"])
    # The broker's own reports rest on no decision: they disclose nothing about anybody.
    values["register_digest"] = values["register_digest"] or ""
    return Held(**values)


_now: BindParameter[int] = bindparam("now", type_=BigInteger)
_FREE = or_(delivery.c.lease_until.is_(None), delivery.c.lease_until <= _now)
_DUE_RECIPIENTS = (
    select(delivery.c.recipient)
    .where(
        delivery.c.state == PENDING,
        delivery.c.next_at <= _now,
        _FREE,
        delivery.c.recipient.not_in(select(paused_route.c.recipient)),
    )
    .distinct()
)
_earlier = delivery.alias("earlier")
_DUE = (
    select(delivery.c.id, delivery.c.order_key, delivery.c.attempts)
    .where(
        delivery.c.recipient == bindparam("to"),
        delivery.c.state == PENDING,
        delivery.c.next_at <= _now,
        _FREE,
        ~exists().where(
            _earlier.c.recipient == delivery.c.recipient,
            _earlier.c.order_key == delivery.c.order_key,
            _earlier.c.state == PENDING,
            _earlier.c.position < delivery.c.position,
        ),
    )
    .order_by(delivery.c.next_at)
    .limit(bindparam("most", type_=Integer))
    .with_for_update(skip_locked=True, of=delivery)  # says nothing to SQLite's one writer
)
_CLAIM = (
    update(delivery)
    .where(delivery.c.id.in_(bindparam("ids", expanding=True)))
    .values(
        lease_owner=bindparam("owner"),
        lease_until=bindparam("until"),
        attempts=delivery.c.attempts + bindparam("one", type_=Integer),
        in_doubt=delivery.c.in_doubt + bindparam("one", type_=Integer),
    )
)
_TAKE_OVER = (
    update(delivery)
    .where(
        delivery.c.id == bindparam("wanted"),
        delivery.c.recipient == bindparam("to"),
        delivery.c.state == PENDING,
        delivery.c.attempts == bindparam("attempt", type_=Integer) - 1,
        delivery.c.lease_until == bindparam("claimed_until"),
    )
    .values(
        lease_owner=bindparam("owner"),
        lease_until=bindparam("until"),
        attempts=bindparam("attempt", type_=Integer),
        in_doubt=delivery.c.in_doubt + 1,
    )
)


def due_recipients(conn: Connection, now: int) -> list[AgencyId]:
    """Return the recipients that have a delivery whose time has come and that nobody holds."""
    return [AgencyId(one) for one in conn.execute(_DUE_RECIPIENTS, {"now": now}).scalars()]


def claim(  # noqa: PLR0913 - the terms of one lease
    conn: Connection,
    recipient: AgencyId,
    *,
    owner: str,
    now: int,
    until: int,
    limit: int,
    counted: bool = True,
) -> list[Claimed]:
    """Take up to ``limit`` due deliveries of ``recipient`` until ``until``, longest due first.

    Order is kept for each (recipient, order key): while an earlier delivery of the key is
    pending, waiting between attempts or held by anybody, no later one is taken. An earlier
    one ends at its expiry at the latest, so it cannot hold the others for ever.

    The attempt is counted here and not when it is made: a delivery that kills the process
    is counted all the same and so is given up in the end, and one that was attempted but
    not recorded carries a higher number, the mark of a possible duplicate. From here until
    its answer is recorded it is in doubt as well, so that a process which dies with the
    answer in its hand leaves on record that the recipient may have the message. Not
    ``counted``: a worker in another process will take the claim over, and count it then.
    """
    rows = conn.execute(_DUE, {"to": recipient, "now": now, "most": limit}).all()
    if rows:
        claims = {"owner": owner, "until": until, "one": 1 if counted else 0}
        conn.execute(_CLAIM, {"ids": [row.id for row in rows], **claims})
    return [Claimed(row.id, recipient, row.order_key, row.attempts + 1) for row in rows]


def take_over(conn: Connection, dispatch: Dispatch, *, owner: str, until: int) -> bool:
    """Take over, for an attempt, what a relay in another process has claimed; count it here.

    False when the claim is not the one that the outbox stands by: the delivery is over, has
    been attempted under this number already, or was claimed anew when the lease had ended.
    A lease that ended while nobody came for it is still good: nothing was attempted.
    """
    written = conn.execute(
        _TAKE_OVER,
        {
            "wanted": dispatch.delivery_id,
            "to": dispatch.recipient,
            "claimed_until": millis(dispatch.lease_until),
            "attempt": dispatch.attempt,
            "owner": owner,
            "until": until,
        },
    )
    return cast("CursorResult[object]", written).rowcount == 1


def give_back(
    conn: Connection, dispatch: Dispatch, owner: str, next_at: int, reason: Reason
) -> None:
    """End a claim that was not counted and did not reach a worker, and say when to try again."""
    conn.execute(
        update(delivery)
        .where(
            delivery.c.id == dispatch.delivery_id,
            delivery.c.state == PENDING,
            delivery.c.lease_owner == owner,
            delivery.c.attempts == dispatch.attempt - 1,
        )
        .values(lease_owner=None, lease_until=None, next_at=next_at, reason=reason.value)
    )


def release(
    conn: Connection, owner: str, delivery_ids: Sequence[str], *, counted: bool = True
) -> None:
    """Give back deliveries that were claimed and never attempted, as if never claimed."""
    one = 1 if counted else 0
    conn.execute(
        update(delivery)
        .where(
            delivery.c.id.in_(delivery_ids),
            delivery.c.state == PENDING,
            delivery.c.lease_owner == owner,
        )
        .values(
            lease_owner=None,
            lease_until=None,
            attempts=delivery.c.attempts - one,
            in_doubt=delivery.c.in_doubt - one,
        )
    )


def adopt(conn: Connection, owner: str) -> int:
    """End the leases that ``owner`` held before it died, and return their number.

    Only safe while no other process runs under the same name. The attempts stay counted,
    and in doubt: nobody knows how far they got.
    """
    ended = conn.execute(
        update(delivery)
        .where(delivery.c.state == PENDING, delivery.c.lease_owner == owner)
        .values(lease_owner=None, lease_until=None)
    )
    return cast("CursorResult[object]", ended).rowcount


def settle(conn: Connection, held: Held, *, any_lease: bool = False, **values: object) -> bool:
    """Write ``values`` to a delivery, if it still is as ``held`` found it, and end its lease.

    False when somebody else settled it meanwhile, or took it over after the lease ended:
    then nothing may be recorded about this attempt (a zombie worker is fenced here).
    ``any_lease`` is for whoever goes before the workers: the recipient itself.
    """
    mine = and_(
        delivery.c.lease_owner.is_not_distinct_from(held.lease_owner),
        delivery.c.attempts == held.attempts,
    )
    written = conn.execute(
        update(delivery)
        .where(delivery.c.id == held.delivery_id, delivery.c.state == held.state.value)
        .where(true() if any_lease else mine)
        .values(lease_owner=None, lease_until=None, **values)
    )
    return cast("CursorResult[object]", written).rowcount == 1


def keep_reduced(conn: Connection, held: Held) -> None:
    """Keep the reduced form that ``held`` has now, while the delivery is not over."""
    written = conn.execute(
        update(delivery)
        .where(delivery.c.id == held.delivery_id, delivery.c.state == held.state.value)
        .values(reduced=True)
    )
    if cast("CursorResult[object]", written).rowcount == 1:
        key = {"message": held.submission_id, "recipient": held.recipient}
        conn.execute(delete(sealed_body).filter_by(**key))
        conn.execute(insert(sealed_body).values(**key, sealed=held.shown))


def acknowledge(conn: Connection, held: Held, *, now: int) -> bool:
    """Close a delivered message for its recipient; the first reading is the one kept.

    False when it was not delivered after all.

    Closing lies after delivery, always: a pushed message is closed at the very moment of
    its delivery, and that is how the two are told apart (`Held.acknowledged`).
    """
    written = conn.execute(
        update(delivery)
        .where(delivery.c.id == held.delivery_id, delivery.c.state == DELIVERED)
        .values(
            read_at=func.coalesce(delivery.c.read_at, now),
            closed_at=case((delivery.c.delivered_at < now, now), else_=delivery.c.delivered_at + 1),
        )
    )
    return cast("CursorResult[object]", written).rowcount == 1


def replay(conn: Connection, held: Held, *, now: int, attempts_max: int) -> bool:
    """Put a delivery that was given up back into the queue, for what attempts it has left.

    It has one left at least. The count goes on, so that a possible duplicate is marked.
    """
    return settle(
        conn,
        held,
        state=DeliveryState.PENDING.value,
        attempts=max(1, min(held.attempts, attempts_max - 1)),
        next_at=now,
        reason=None,
        closed_at=None,
    )


def close(conn: Connection, held: Held, now: int) -> None:
    """Take a message that was read and never acknowledged out of the mailbox."""
    conn.execute(
        update(delivery)
        .where(delivery.c.id == held.delivery_id, delivery.c.state == DELIVERED)
        .values(closed_at=now)
    )


_OVERDUE = (
    select(delivery.c.id)
    .where(delivery.c.closed_at.is_(None), delivery.c.expires_at <= _now, _FREE)
    .order_by(delivery.c.expires_at)
    .limit(bindparam("most", type_=Integer))
)


def overdue(conn: Connection, now: int, limit: int) -> list[str]:
    """Return deliveries that are not closed at their expiry and that nobody holds.

    Among them are messages that were read and not acknowledged: those need only be closed.
    """
    return list(conn.execute(_OVERDUE, {"now": now, "most": limit}).scalars())


_SIGNED = (
    select(ledger.c.entry)
    .join(message, message.c.ledger_seq == ledger.c.seq)
    .where(message.c.id == bindparam("wanted"))
)


def signer(conn: Connection, submission_id: SubmissionId) -> str | None:
    """Return the fingerprint of the certificate that signed a message, as the ledger has it."""
    entry = conn.execute(_SIGNED, {"wanted": submission_id}).scalar_one_or_none()
    return None if entry is None else str(json.loads(entry)["signer"])
