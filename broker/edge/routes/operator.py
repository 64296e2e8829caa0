"""What an operator may do: see what was given up, send it again or let it go, reload rules."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict

from broker.core.identity import AgencyId
from broker.core.outcome import DiscardCause
from broker.edge import telemetry
from broker.edge.routes.callers import Operator
from broker.edge.routes.mailbox import After, Limit
from broker.edge.routes.system import Digested


class Operations(Protocol):
    """Deliveries, as operators see them."""

    async def dead_letters(self, limit: int, after: str | None) -> Sequence[Mapping[str, Any]]:
        """Return what was given up and that nobody has dealt with."""
        ...

    async def replay(self, delivery_id: str, operator: str) -> Mapping[str, Any]:
        """Put a delivery that was given up back into the queue."""
        ...

    async def discard(
        self, delivery_id: str, operator: str, why: DiscardCause
    ) -> Mapping[str, Any]:
        """Record that a delivery that was given up stays so."""
        ...


class Routes(Protocol):
    """The ways to the agencies, as operators see them."""

    async def routes(self) -> Sequence[Mapping[str, Any]]:
        """Return every route."""
        ...

    async def lags(self) -> Sequence[Mapping[str, Any]]:
        """Return what waits for each recipient: in the outbox, and in its topic."""
        ...

    async def pause(self, recipient: AgencyId, operator: str) -> Mapping[str, Any]:
        """Hand nothing over to a recipient until it is resumed."""
        ...

    async def resume(self, recipient: AgencyId, operator: str) -> Mapping[str, Any]:
        """End a pause."""
        ...


class Discard(BaseModel):
    """Why a delivery is let go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    why: DiscardCause


def operator_routes(operations: Operations, reload: Callable[[], Awaitable[Digested]]) -> APIRouter:
    """Return the routes below `/operator`."""
    router = APIRouter(prefix="/operator", tags=["operator"])

    @router.get("/dead-letters", summary="Deliveries that were given up")
    async def dead_letters(
        _operator: Operator, limit: Limit = 50, after: After = None
    ) -> dict[str, Any]:
        entries = await operations.dead_letters(limit, after)
        return {"dead_letters": [dict(entry) for entry in entries]}

    @router.post("/deliveries/{delivery_id}/replay", summary="Try to deliver again")
    async def replay(delivery_id: str, operator: Operator) -> dict[str, Any]:
        done = await operations.replay(delivery_id, operator.name)
        telemetry.log(telemetry.OPERATOR_ACTED, action="replay", delivery_id=delivery_id)
        return dict(done)

    @router.post("/deliveries/{delivery_id}/discard", summary="Let a delivery go")
    async def discard(delivery_id: str, operator: Operator, given: Discard) -> dict[str, Any]:
        done = await operations.discard(delivery_id, operator.name, given.why)
        telemetry.log(telemetry.OPERATOR_ACTED, action="discard", delivery_id=delivery_id)
        return dict(done)

    @router.post("/register/reload", summary="Read agencies and protocols again")
    async def reload_register(_operator: Operator) -> dict[str, Any]:
        return {"register": (await reload()).digest}

    return router


def route_routes(routes: Routes) -> APIRouter:
    """Return the routes below `/operator/routes`."""
    router = APIRouter(prefix="/operator/routes", tags=["operator"])

    @router.get("", summary="The ways to the agencies, and which are paused")
    async def listed(_operator: Operator) -> dict[str, Any]:
        return {"routes": [dict(one) for one in await routes.routes()]}

    @router.get("/lag", summary="How far each recipient is behind")
    async def lags(_operator: Operator) -> dict[str, Any]:
        return {"routes": [dict(one) for one in await routes.lags()]}

    @router.post("/{recipient}/pause", summary="Hand nothing over until it is resumed")
    async def pause(recipient: str, operator: Operator) -> dict[str, Any]:
        done = await routes.pause(AgencyId(recipient), operator.name)
        telemetry.log(telemetry.OPERATOR_ACTED, action="pause", recipient=done["recipient"])
        return dict(done)

    @router.post("/{recipient}/resume", summary="End a pause")
    async def resume(recipient: str, operator: Operator) -> dict[str, Any]:
        done = await routes.resume(AgencyId(recipient), operator.name)
        telemetry.log(telemetry.OPERATOR_ACTED, action="resume", recipient=done["recipient"])
        return dict(done)

    return router
