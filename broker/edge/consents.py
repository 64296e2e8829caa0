"""The consents a decision is given. Records of consent have no register of their own yet."""

from collections.abc import Collection

from broker.core.consent import Consent
from broker.core.identity import SubjectRef


class NoConsents:
    """A register in which nobody has consented to anything.

    Clauses that rest on consent therefore refuse, with the reason ``policy.no_consent``.
    """

    async def held(self, subject: SubjectRef | None) -> Collection[Consent]:  # noqa: ARG002 - the port
        """Return nothing: no consent is on record for anybody."""
        return ()
