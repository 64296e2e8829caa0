"""What the broker asks of every way to reach an agency's system.

The promises, in words, are in adapters/README.md. In one sentence: an adapter hands over
bytes it may not read, once for each delivery id as far as the far side allows, and says
truthfully what became of them. An exception from `deliver` counts as
`RetryLater`, in doubt.
"""

from dataclasses import dataclass, field
from typing import Protocol

from broker.core.identity import AgencyId, MessageId
from broker.core.reasons import Reason


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message for one recipient, decided and minimised, at the moment of disclosure.

    ``delivery_id`` never changes between attempts: it is the idempotency key of the effect.
    ``attempt`` counts from 1; above 1 it is the mark of a possible duplicate. ``body`` is
    the sender's envelope untouched or, when ``reduced``, the broker's.
    """

    delivery_id: str
    recipient: AgencyId
    sender: AgencyId
    message_id: MessageId
    message_type: str
    body: bytes = field(repr=False)
    attempt: int
    reduced: bool
    traceparent: str  # W3C trace context, level 1


@dataclass(frozen=True, slots=True)
class Delivered:
    """The recipient's system has the message. ``evidence`` is a protocol's word, never content."""

    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Deposited:
    """The message lies where the recipient collects it. It has not been disclosed yet.

    Without this answer a mailbox would have to say `Delivered`, which starts clocks and is
    shown to the sender as proof that the recipient's system has the message; or
    `RetryLater`, which ends in a non-delivery report. Both would be untrue.
    """


@dataclass(frozen=True, slots=True)
class RetryLater:
    """Not now. ``after_s`` is what the far side asked for, in seconds; the broker bounds it.

    ``in_doubt``: the far side may have the message all the same, because it was sent and no
    word came back that says otherwise. Should no later attempt be made, that is on record.
    """

    reason: Reason
    after_s: float | None = None
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The far side will not take this message, now or later."""

    reason: Reason


Result = Delivered | Deposited | RetryLater | Refused


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the far side can be reached. ``detail`` holds our words and no secret."""

    ok: bool
    detail: str = ""


class Adapter(Protocol):
    """One recipient's way in. An instance serves one agency and shares nothing with others."""

    async def deliver(self, delivery: Delivery) -> Result:
        """Hand ``delivery`` over and say what became of it.

        May be cancelled at any await, when the attempt takes too long: nothing may then be
        left that hinders the next attempt.
        """
        ...

    async def check(self) -> Health:
        """Say whether the far side can be reached, without handing anything over."""
        ...

    async def aclose(self) -> None:
        """Give back connections and threads."""
        ...
