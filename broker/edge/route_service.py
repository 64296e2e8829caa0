"""Routes as an operator sees them: by what way, paused or not, what waits and how far behind."""

from dataclasses import dataclass
from typing import Any, Protocol

from broker.core.errors import Fault, Rejection
from broker.core.identity import AgencyId
from broker.core.instant import millis, rfc3339
from broker.core.reasons import Reason
from broker.edge import pausing
from broker.edge.backlog import Backlog, backlog
from broker.edge.intake import Registers
from broker.edge.pausing import Pause
from broker.edge.store import Store
from broker.ports import Clock, Outgoing

View = dict[str, Any]


class Lag(Protocol):
    """Knows how many records of a recipient's topic its workers have not dealt with."""

    async def lag(self, recipient: AgencyId) -> int:
        """Return their number.

        Raises:
            Fault: the cluster does not say.
        """
        ...


@dataclass(frozen=True, slots=True)
class RouteService:
    """What operators do with routes. ``cluster`` is None when there is none."""

    store: Store
    registers: Registers
    outgoing: Outgoing
    cluster: Lag | None
    clock: Clock

    async def routes(self) -> list[View]:
        """Return every route, in the order of the agencies' ids."""
        found = await self.store.read(backlog)
        paused = {one.recipient: one for one in await self.store.read(pausing.pauses)}
        agencies = self.registers.current.agencies
        return [self._view(agency, found, paused.get(agency)) for agency in sorted(agencies)]

    async def lags(self) -> list[View]:
        """Return what waits for each recipient: in the outbox, and in its topic.

        ``behind`` is null where there is no topic or the cluster does not say.
        """
        found = await self.store.read(backlog)
        return [
            {
                "recipient": agency,
                "waiting": found.waiting[agency].count if agency in found.waiting else 0,
                "oldest_s": self._oldest(found, agency),
                "behind": await self._behind(agency),
            }
            for agency in sorted(self.registers.current.agencies)
        ]

    async def pause(self, recipient: AgencyId, operator: str) -> View:
        """Hand nothing over to ``recipient`` until it is resumed, on every node.

        Raises:
            Rejection: there is no such agency.
        """
        self._known(recipient)
        at = self.clock.now()
        done = await self.store.write(
            lambda conn, ledger: pausing.pause(conn, ledger, recipient, operator=operator, at=at)
        )
        return {"recipient": recipient, "paused": True, "done": done}

    async def resume(self, recipient: AgencyId, operator: str) -> View:
        """End a pause.

        Raises:
            Rejection: there is no such agency.
        """
        self._known(recipient)
        at = self.clock.now()
        done = await self.store.write(
            lambda conn, ledger: pausing.resume(conn, ledger, recipient, operator=operator, at=at)
        )
        return {"recipient": recipient, "paused": False, "done": done}

    def _known(self, recipient: AgencyId) -> None:
        if recipient not in self.registers.current.agencies:
            raise Rejection(Reason.NOT_FOUND)

    def _view(self, agency: AgencyId, found: Backlog, paused: Pause | None) -> View:
        return {
            "recipient": agency,
            "adapter": self.registers.current.agencies[agency].delivery.adapter,
            "transport": "kafka" if self.outgoing.remote(agency) else "in-process",
            "paused_since": None if paused is None else rfc3339(paused.since),
            "paused_by": None if paused is None else paused.operator,
            "waiting": found.waiting[agency].count if agency in found.waiting else 0,
            "given_up": found.given_up.get(agency, 0),
            "quarantined": found.quarantined.get(agency, 0),
        }

    def _oldest(self, found: Backlog, agency: AgencyId) -> int | None:
        waits = found.waiting.get(agency)
        return None if waits is None else max(0, millis(self.clock.now()) - waits.since) // 1000

    async def _behind(self, agency: AgencyId) -> int | None:
        if self.cluster is None or not self.outgoing.remote(agency):
            return None
        try:
            return await self.cluster.lag(agency)
        except Fault:
            return None
