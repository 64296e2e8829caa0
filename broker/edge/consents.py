"""The register of consents: what is on record about a person, at this very moment.

It is read from the store each time, so that a withdrawal counts on every node as soon as it
is committed. A store that cannot be read is a fault: an empty answer would be a decision.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection

from broker.core.consent import Consent
from broker.core.errors import Fault, Transient
from broker.core.identity import SubjectRef
from broker.core.override import Override
from broker.core.reasons import Reason
from broker.edge import consent_rows, override_rows
from broker.edge.store import Store

T = TypeVar("T")


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
        return await self._read(lambda conn: consent_rows.held(conn, subject))

    async def override(self, decision_ref: str) -> Override | None:
        """Return the decision to share without consent of that id, if there is one.

        Raises:
            Transient: the store cannot be read.
        """
        return await self._read(lambda conn: override_rows.load(conn, decision_ref))

    async def _read(self, query: Callable[[Connection], T]) -> T:
        try:
            return await self.store.read(query)
        except Fault as fault:
            raise Transient(Reason.REGISTER_UNAVAILABLE, "consents cannot be read") from fault
