"""Decisions to share without consent, for the agency that made them and for officers."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from broker.edge import telemetry
from broker.edge.override_service import RATE_DAYS, OverrideService
from broker.edge.routes.callers import AnyPeer, Operator
from broker.edge.routes.consents import Agency, Reference
from broker.edge.routes.mailbox import After, Limit

Days = Annotated[int, Query(ge=1, le=3660, description="how far back")]

Overdue = Annotated[bool, Query(description="only those that nobody reviewed in time")]


class Review(BaseModel):
    """What a review found; ``reviewer`` is an id, and no name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    agency: Agency
    reviewer: Reference
    outcome: Literal["JUSTIFIED", "JUSTIFIED_WITH_LEARNING", "NOT_JUSTIFIED"]


def override_routes(overrides: OverrideService) -> APIRouter:
    """Return the routes below `/overrides`."""
    router = APIRouter(tags=["overrides"])

    @router.get("/overrides", summary="Decisions to share without consent")
    async def listed(
        agency: str,
        peer: AnyPeer,
        limit: Limit = 50,
        after: After = None,
        overdue: Overdue = False,  # noqa: FBT002 - a query parameter
    ) -> dict[str, Any]:
        own = peer.require(agency)
        return {"overrides": await overrides.listed(own, limit, after, overdue=overdue)}

    @router.get("/overrides/rate", summary="How many by whom, unnamed")
    async def rate(agency: str, peer: AnyPeer, days: Days = RATE_DAYS) -> dict[str, Any]:
        return {"rate": await overrides.rate(peer.require(agency), days)}

    @router.get("/operator/overrides", summary="Decisions of every agency")
    async def every(
        _operator: Operator,
        limit: Limit = 50,
        after: After = None,
        overdue: Overdue = False,  # noqa: FBT002 - a query parameter
    ) -> dict[str, Any]:
        return {"overrides": await overrides.listed(None, limit, after, overdue=overdue)}

    @router.get("/operator/overrides/rate", summary="How many by whom, of every agency")
    async def every_rate(_operator: Operator, days: Days = RATE_DAYS) -> dict[str, Any]:
        return {"rate": await overrides.rate(None, days)}

    @router.post("/overrides/{override_id}/review", summary="What a review found")
    async def review(override_id: str, given: Review, peer: AnyPeer) -> dict[str, Any]:
        agency = peer.require(given.agency)
        done = await overrides.review(
            override_id,
            agency,
            reviewer=given.reviewer,
            outcome=given.outcome,
            peer=peer.name,
        )
        telemetry.log(telemetry.OVERRIDE_REVIEWED, agency=agency, outcome=given.outcome)
        return dict(done)

    return router
