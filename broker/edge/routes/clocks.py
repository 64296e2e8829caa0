"""Clocks, as operators see them: what is due, and how the partnership keeps its times."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fastapi import APIRouter

from broker.core.clocks import ClockState
from broker.edge.routes.callers import Operator
from broker.edge.routes.mailbox import Limit


class Clocks(Protocol):
    """The clocks that are kept."""

    async def listed(self, state: ClockState | None, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return clocks in ``state``, or the open ones."""
        ...

    async def of(self, submission_id: str) -> Sequence[Mapping[str, Any]]:
        """Return the clocks of one message."""
        ...

    async def performance(self) -> Sequence[Mapping[str, Any]]:
        """Return figures without small numbers."""
        ...


def clock_routes(clocks: Clocks) -> APIRouter:
    """Return the routes below `/operator/clocks`."""
    router = APIRouter(prefix="/operator/clocks", tags=["operator"])

    @router.get("", summary="Clocks that run, or those in one state")
    async def listed(
        _operator: Operator, limit: Limit = 50, state: ClockState | None = None
    ) -> dict[str, Any]:
        return {"clocks": [dict(one) for one in await clocks.listed(state, limit)]}

    @router.get("/performance", summary="How many clocks were met in time")
    async def performance(_operator: Operator) -> dict[str, Any]:
        return {"performance": [dict(one) for one in await clocks.performance()]}

    @router.get("/{submission_id}", summary="The clocks of one message")
    async def of(submission_id: str, _operator: Operator) -> dict[str, Any]:
        return {"clocks": [dict(one) for one in await clocks.of(submission_id)]}

    return router
