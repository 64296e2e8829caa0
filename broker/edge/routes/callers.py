"""Who calls a route, as FastAPI dependencies."""

from collections.abc import Collection
from typing import Annotated

from fastapi import Depends, Request

from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.peers import Peer, Peers
from broker.ports import Clock


class Callers:
    """Identifies the peer behind a request. ``broker`` is the agency that operators speak for.

    ``watchers`` are the fingerprints of certificates that may see how the broker is doing, and
    nothing else: what collects metrics is no operator.
    """

    def __init__(
        self, peers: Peers, clock: Clock, broker: AgencyId, watchers: Collection[str] = ()
    ) -> None:
        self._peers = peers
        self._clock = clock
        self._broker = broker
        self._watchers = frozenset(watchers)

    async def peer(self, request: Request) -> Peer:
        """Return whoever calls; nobody unknown gets further."""
        return self._peers.identify(request.scope, self._clock.now())

    async def owner(self, request: Request) -> AgencyId:
        """Return the agency in the path, if the peer may speak for it."""
        peer = await self.peer(request)
        return peer.require(request.path_params["agency"])

    async def operator(self, request: Request) -> Peer:
        """Return the peer, if it speaks for the broker itself."""
        peer = await self.peer(request)
        if self._broker not in peer.agencies:
            raise Rejection(Reason.FORBIDDEN, "only the broker's own operators may do that")
        return peer

    async def watcher(self, request: Request) -> None:
        """Let nobody pass but a watcher or an operator."""
        shown = self._peers.certificate(request.scope)
        if shown is not None and shown.fingerprint in self._watchers:
            if shown.valid_from <= self._clock.now() < shown.valid_until:
                return
            raise Rejection(Reason.UNAUTHENTICATED, "the client certificate is not valid now")
        await self.operator(request)


def current_callers(request: Request) -> Callers:
    """Return the `Callers` of the running application."""
    callers: Callers = request.app.state.callers
    return callers


async def _peer(request: Request) -> Peer:
    return await current_callers(request).peer(request)


async def _owner(request: Request) -> AgencyId:
    return await current_callers(request).owner(request)


async def _operator(request: Request) -> Peer:
    return await current_callers(request).operator(request)


async def watchers_only(request: Request) -> None:
    """Let nobody pass who may not see how the broker is doing."""
    await current_callers(request).watcher(request)


AnyPeer = Annotated[Peer, Depends(_peer)]
Owner = Annotated[AgencyId, Depends(_owner)]
Operator = Annotated[Peer, Depends(_operator)]
