"""What can go wrong, named by whose fault it is.

    BrokerError
    ├── Rejection          the message is bad; final; the sender mends it
    └── Fault              not the message's; nothing was kept
        ├── Transient      another attempt can help (429, 503, 507)
        └── Permanent      it cannot, until somebody acts (500)

A policy's *no* is not an error: it is a `Refused`, which is a normal answer. No error
carries a value from a message: only a code, a place and our own words.
"""

from broker.core.reasons import Reason


class BrokerError(Exception):
    """Base of all errors this package raises on purpose; never raised itself."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail


class Rejection(BrokerError):
    """The submission is not a valid message.

    ``pointer`` is a slash path of local element names with positions, ``line`` a 1-based
    line number of the submitted bytes; either may be unknown (``""``, ``None``).
    """

    def __init__(
        self, reason: Reason, detail: str = "", *, pointer: str = "", line: int | None = None
    ) -> None:
        super().__init__(reason, detail)
        self.pointer = pointer
        self.line = line


class Fault(BrokerError):
    """The broker could not do its part; the submission was not kept."""


class Transient(Fault):
    """The same request may be sent again after ``retry_after_s`` seconds."""

    def __init__(self, reason: Reason, detail: str = "", *, retry_after_s: int = 1) -> None:
        super().__init__(reason, detail)
        self.retry_after_s = retry_after_s


class Permanent(Fault):
    """Sending again does not help until an operator has acted."""
