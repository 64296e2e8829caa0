"""Waiting for the answers to a request: who has answered, who has not, until when.

An answer is a message of its own, decided under its own clause, whose CorrelationId is the
request's MessageId, from one of the agencies that the request went to.
"""

import asyncio
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Self

from sqlalchemy import Connection, select

from broker.core.identity import AgencyId, MessageId
from broker.core.submission import Committed
from broker.edge.tables import delivery, message


@dataclass(frozen=True, slots=True)
class Answer:
    """A committed answer to a request that its requester may collect."""

    delivery_id: str
    sender: AgencyId
    message_id: MessageId
    message_type: str
    schema_version: str


class Answers:
    """Wakes those who wait for a correlation id. Nothing is kept once nobody waits."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    def committed(self, news: Committed) -> None:
        """Wake whoever waits for what was just committed (for `Store.on_commit`)."""
        if news.missed:
            for events in self._waiting.values():
                for event in events:
                    event.set()
        for correlation_id in news.correlations:
            for event in self._waiting.get(correlation_id, ()):
                event.set()

    def subscribe(self, correlation_id: str) -> "Subscription":
        """Return a subscription, to be made *before* the store is asked what is there."""
        return Subscription(self._waiting, correlation_id)


class Subscription:
    """A context in which news about one correlation id is not missed."""

    def __init__(self, waiting: dict[str, set[asyncio.Event]], correlation_id: str) -> None:
        self._waiting = waiting
        self._correlation_id = correlation_id
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._waiting.setdefault(self._correlation_id, set()).add(self._event)
        return self

    def __exit__(self, *_exception: object) -> None:
        waiting = self._waiting[self._correlation_id]
        waiting.discard(self._event)
        if not waiting:
            del self._waiting[self._correlation_id]

    async def news(self) -> None:
        """Return as soon as something was committed since the last call."""
        await self._event.wait()
        self._event.clear()


def find(
    conn: Connection, request: MessageId, requester: AgencyId, asked: Collection[AgencyId]
) -> list[Answer]:
    """Return the permitted answers to ``request`` that are there, oldest first.

    Only those from ``asked``: anybody could write the correlation id of a request into a
    message of its own.
    """
    rows = conn.execute(
        select(
            delivery.c.id,
            message.c.sender,
            message.c.message_id,
            message.c.message_type,
            message.c.schema_version,
        )
        .join(delivery, delivery.c.message == message.c.id)
        .where(
            message.c.correlation_id == request,
            message.c.sender.in_(asked),
            delivery.c.recipient == requester,
        )
        .order_by(delivery.c.position)
    )
    return [
        Answer(row.id, row.sender, row.message_id, row.message_type, row.schema_version)
        for row in rows
    ]


def unanswered(asked: Iterable[AgencyId], answers: Iterable[Answer]) -> tuple[AgencyId, ...]:
    """Return those of ``asked`` from whom there is no answer."""
    heard = {answer.sender for answer in answers}
    return tuple(sorted(agency for agency in asked if agency not in heard))
