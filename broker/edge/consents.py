"""The register of consents: what is on record about a person, at this very moment.

It is read from the store each time, so that a withdrawal counts on every node as soon as it
is committed. A store that cannot be read is a fault: an empty answer would be a decision.
"""

from collections.abc import Collection
from dataclasses import dataclass

from broker.core.consent import Consent
from broker.core.errors import Fault, Transient
from broker.core.identity import SubjectRef
from broker.core.reasons import Reason
from broker.edge import consent_rows
from broker.edge.store import Store


@dataclass(frozen=True, slots=True)
class ConsentRegister:
    """Answers the port `Consents` from the store."""

    store: Store

    async def held(self, subject: SubjectRef | None) -> Collection[Consent]:
        """Return every consent on record for ``subject``, each as it stands now.

        Raises:
            Transient: the store cannot be read. That is never an empty answer.
        """
        if subject is None:
            return ()
        try:
            return await self.store.read(lambda conn: consent_rows.held(conn, subject))
        except Fault as fault:
            raise Transient(Reason.REGISTER_UNAVAILABLE, "consents cannot be read") from fault
