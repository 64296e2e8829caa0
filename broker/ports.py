"""What the broker's workers need of the world, as interfaces and nothing else.

Each port has at least two sizes: one process with an embedded database, and many with
PostgreSQL and Kafka between them. One suite in tests/contract runs against every size.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from broker.core.consent import Consent
from broker.core.identity import AgencyId, SubjectRef
from broker.core.message import ValidMessage
from broker.core.override import Override


class Clock(Protocol):
    """The one source of instants."""

    def now(self) -> datetime:
        """Return the current instant, aware and in UTC."""
        ...


class Consents(Protocol):
    """The register of what people have agreed to."""

    async def held(self, subject: SubjectRef | None) -> Collection[Consent]:
        """Return every consent on record for ``subject``, withdrawn or not.

        Raises:
            Transient: the register cannot be reached. That is never an empty answer.
        """
        ...

    async def override(self, decision_ref: str) -> Override | None:
        """Return the decision to share without consent of that id, if there is one.

        Raises:
            Transient: the register cannot be reached.
        """
        ...


class Handovers(Protocol):
    """What was answered to offers."""

    async def taken_by(
        self, message: ValidMessage, subject: SubjectRef | None, recipients: Collection[AgencyId]
    ) -> frozenset[AgencyId]:
        """Return which of ``recipients`` have taken what ``message`` brings.

        Raises:
            Fault: that cannot be known now. That is never an empty answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Dispatch:
    """One committed delivery on its way to the worker of its recipient.

    It names no person: ``order_key`` is a pseudonym, and there is no content. A transport
    that leaves the process carries the body beside it, encrypted to the recipient.
    ``lease_until`` is the instant from which another worker may take the delivery.
    """

    delivery_id: str
    recipient: AgencyId
    order_key: str
    attempt: int
    lease_until: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """A dispatch that reached a worker.

    ``body`` is what travelled beside it, opened; None inside one process, where nothing
    has to. ``place`` is the transport's own mark of where it stood.
    """

    dispatch: Dispatch
    body: bytes | None = field(repr=False, default=None)
    place: object = field(repr=False, compare=False, default=None)


class Outgoing(Protocol):
    """The relay's end of a transport.

    At least once, in order for each (recipient, order key), and bounded: a recipient that
    takes nothing fills its own lane and nobody else's. Losing a dispatch is harmless: its
    lease runs out and the relay sends it again. The outbox, not the transport, is the
    promise.
    """

    def remote(self, recipient: AgencyId) -> bool:
        """Say whether the worker of ``recipient`` is another process, which takes over leases."""
        ...

    def room(self, recipient: AgencyId) -> int:
        """Return how many more dispatches the lane of ``recipient`` takes now."""
        ...

    async def send(self, dispatch: Dispatch) -> None:
        """Put ``dispatch`` in its recipient's lane, waiting while the lane is full."""
        ...

    def take_back(self) -> list[Dispatch]:
        """Return the dispatches that no worker has received, if they are still here.

        For an orderly stop: they are given back to the outbox as if never claimed.
        """
        ...


class Incoming(Protocol):
    """A worker's end of a transport."""

    async def receive(self, recipient: AgencyId) -> Arrival:
        """Take the next dispatch for ``recipient``, waiting until there is one.

        Raises:
            Fault: the transport cannot be reached, or does not let this worker.
        """
        ...

    async def done(self, arrival: Arrival) -> None:
        """Say that what became of ``arrival`` is recorded: it need not come again."""
        ...


class Transport(Outgoing, Incoming, Protocol):
    """Both ends in one process."""
