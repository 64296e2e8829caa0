"""``POST /messages?wait=``: hold a request until its answers have come, or its deadline.

Each answer is handed over as from a mailbox: the rules are asked again at that moment, and
the requester has collected it.
"""

import asyncio
from base64 import b64encode
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Protocol
from xml.sax.saxutils import quoteattr

from orjson import dumps
from sqlalchemy import Connection

from broker.core.catalogue import CatalogueEntry
from broker.core.errors import BrokerError
from broker.core.identity import AgencyId
from broker.core.message import Header
from broker.core.receipt import NAMESPACE, receipt_json
from broker.core.schema import SchemaSet
from broker.edge.answers import Answer, Answers, Subscription, find, unanswered
from broker.edge.intake import Submitted
from broker.edge.problems import wants_xml
from broker.edge.replies import JSON, XML, GoneError, Receive, Reply, receipt_members
from broker.edge.store import Store
from broker.ports import Clock

REQUEST: Final = "request"


class Disclosed(Protocol):
    """A message that was handed over."""

    @property
    def body(self) -> bytes:
        """Return the envelope."""
        ...


class Disclosing(Protocol):
    """Hands over what lies ready for an agency, if the rules still allow it."""

    async def disclose(self, delivery_id: str, agency: AgencyId) -> Disclosed:
        """Return the envelope, or raise a `BrokerError` that says why not."""
        ...


@dataclass(frozen=True, slots=True)
class _Collected:
    answer: Answer
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Collector:
    """Gathers the answers to a request for the peer that sent it and is still there."""

    answers: Answers
    store: Store
    disclosing: Disclosing
    schemas: SchemaSet
    clock: Clock

    def expects_answers(self, submitted: Submitted) -> bool:
        """Whether the message is of a type that is answered."""
        header = submitted.header
        entry = self.schemas.entry(header.message_type, header.schema_version)
        return entry.pattern == REQUEST

    async def collect(
        self, submitted: Submitted, wait_s: float, accept: bytes, receive: Receive
    ) -> Reply:
        """Return the answers that came in time, and who did not answer.

        ``wait_s`` is cut short by the request's own RespondBy.

        Raises:
            GoneError: the peer hung up meanwhile; the answers wait in its mailbox.
        """
        header = submitted.header
        asked = _asked(submitted.accepted.receipt)
        if header.respond_by is not None:
            wait_s = min(wait_s, (header.respond_by - self.clock.now()).total_seconds())
        deadline = asyncio.get_running_loop().time() + wait_s
        search = partial(self._search, header=header, asked=asked)
        gone = asyncio.ensure_future(receive())
        try:
            with self.answers.subscribe(header.message_id) as subscription:
                answers = await self.store.read(search)
                while unanswered(asked, answers):
                    if not await _more(subscription, gone, deadline):
                        break
                    answers = await self.store.read(search)
        finally:
            gone.cancel()
        collected = await self._disclosed(answers, header.sender)
        missing = unanswered(asked, (one.answer for one in collected))
        return _reply(submitted.accepted.receipt, collected, missing, accept)

    def _search(
        self, conn: Connection, header: Header, asked: Collection[AgencyId]
    ) -> list[Answer]:
        """Return what answers the request: an acknowledgement with its id does not."""
        return [
            answer
            for answer in find(conn, header.message_id, header.sender, asked)
            if header.message_type in self._entry(answer).response_to
        ]

    def _entry(self, answer: Answer) -> CatalogueEntry:
        return self.schemas.entry(answer.message_type, answer.schema_version)

    async def _disclosed(self, answers: Sequence[Answer], requester: AgencyId) -> list[_Collected]:
        collected: list[_Collected] = []
        for answer in answers:
            try:
                disclosed = await self.disclosing.disclose(answer.delivery_id, requester)
            except BrokerError:
                # No longer allowed, or recalled: for the requester there is no such answer.
                continue
            collected.append(_Collected(answer, disclosed.body))
        return collected


async def _more(subscription: Subscription, gone: "asyncio.Future[Any]", deadline: float) -> bool:
    """Wait for news until ``deadline``; False when there was none."""
    left = deadline - asyncio.get_running_loop().time()
    if left <= 0:
        return False
    news: asyncio.Future[Any] = asyncio.ensure_future(subscription.news())
    try:
        await asyncio.wait({news, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if gone.done():
            raise GoneError
        return news.done()
    finally:
        news.cancel()


def _asked(receipt: bytes) -> tuple[AgencyId, ...]:
    """Return the recipients that the message was permitted to, the first time it came."""
    outcomes = receipt_json(receipt)["outcomes"]
    assert isinstance(outcomes, list)
    return tuple(one["recipient"] for one in outcomes if one["decision"] == "PERMITTED")


def _reply(
    receipt: bytes, collected: Sequence[_Collected], missing: Sequence[AgencyId], accept: bytes
) -> Reply:
    if wants_xml(accept):
        return Reply(200, XML, _xml(receipt, collected, missing))
    view = {
        **receipt_members(receipt),
        "complete": not missing,
        "answers": [
            {
                "sender": one.answer.sender,
                "message_id": one.answer.message_id,
                "message_type": one.answer.message_type,
                "delivery_id": one.answer.delivery_id,
                "envelope": b64encode(one.envelope).decode(),
            }
            for one in collected
        ],
        "unanswered": list(missing),
    }
    return Reply(200, JSON, dumps(view))


def _xml(receipt: bytes, collected: Sequence[_Collected], missing: Sequence[AgencyId]) -> bytes:
    """Return the same in XML. Signed documents stay in base64: nothing may touch their bytes."""
    parts = [
        f'<Answers xmlns="{NAMESPACE}" version="1.0" complete="{str(not missing).lower()}">',
        f"<Receipt>{b64encode(receipt).decode()}</Receipt>",
    ]
    for one in collected:
        attributes = (
            ("sender", one.answer.sender),
            ("messageId", one.answer.message_id),
            ("messageType", one.answer.message_type),
            ("deliveryId", one.answer.delivery_id),
        )
        written = "".join(f" {name}={quoteattr(value)}" for name, value in attributes)
        parts.append(f"<Answer{written}>{b64encode(one.envelope).decode()}</Answer>")
    parts += [f"<Unanswered>{agency}</Unanswered>" for agency in missing]
    parts.append("</Answers>")
    return "".join(parts).encode()
