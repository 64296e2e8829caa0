"""The mailbox: for agencies that can only poll.

The message stays in the broker's store until the recipient reads it over HTTPS. Rules are
asked again at that moment, because that is when it is disclosed.
"""

from adapters.contract import Delivery, Deposited, Health


class Mailbox:
    """An `Adapter` that leaves everything where it is, for collection."""

    async def deliver(self, delivery: Delivery) -> Deposited:  # noqa: ARG002 - the contract's parameter
        """Say that the message lies ready."""
        return Deposited()

    async def check(self) -> Health:
        """A mailbox is as reachable as the broker is."""
        return Health(ok=True)

    async def aclose(self) -> None:
        """Nothing is held."""
