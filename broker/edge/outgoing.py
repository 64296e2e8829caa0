"""Two transports under one relay: mailboxes are in this process, all else goes through Kafka."""

from broker.core.identity import AgencyId
from broker.edge.intake import Registers
from broker.ports import Dispatch, Outgoing

MAILBOX = "mailbox"


class SplitOutgoing:
    """An `Outgoing` that sends by what the register in force says of a recipient."""

    def __init__(self, registers: Registers, here: Outgoing, away: Outgoing) -> None:
        self._registers = registers
        self._here = here
        self._away = away

    def remote(self, recipient: AgencyId) -> bool:
        """Say whether the worker of ``recipient`` is another process."""
        return self._of(recipient).remote(recipient)

    def room(self, recipient: AgencyId) -> int:
        """Return how many more dispatches the lane of ``recipient`` takes now."""
        return self._of(recipient).room(recipient)

    async def send(self, dispatch: Dispatch) -> None:
        """Put ``dispatch`` in its recipient's lane, waiting while the lane is full."""
        await self._of(dispatch.recipient).send(dispatch)

    def take_back(self) -> list[Dispatch]:
        """Return the dispatches that no worker has received and that are still here."""
        return self._here.take_back() + self._away.take_back()

    def _of(self, recipient: AgencyId) -> Outgoing:
        agency = self._registers.current.agencies.get(recipient)
        # A mailbox is filled by recording that it is: there is nothing to hand over.
        in_mailbox = agency is None or agency.delivery.adapter == MAILBOX
        return self._here if in_mailbox else self._away
