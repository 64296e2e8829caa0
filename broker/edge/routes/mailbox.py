"""The mailbox of an agency that collects its messages: list, read, acknowledge."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from broker.core.identity import AgencyId
from broker.core.outcome import Level
from broker.edge.collecting import Disclosing
from broker.edge.routes.callers import Owner


class Mailboxes(Disclosing, Protocol):
    """What an agency may do with what lies ready for it."""

    async def mailbox_list(
        self, agency: AgencyId, limit: int, after: str | None
    ) -> Sequence[Mapping[str, Any]]:
        """Return what lies there, oldest first, after the delivery ``after``."""
        ...

    async def acknowledge(
        self, delivery_id: str, agency: AgencyId, level: Level, code: str | None
    ) -> Mapping[str, Any]:
        """Record that a delivery was read (L3) or dealt with (L4)."""
        ...


class Acknowledgement(BaseModel):
    """What the recipient says became of a message; ``code`` is a business outcome's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    level: Literal["L3", "L4"]
    code: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = None


Limit = Annotated[int, Query(ge=1, le=200, description="entries at most")]
After = Annotated[
    str | None,
    Query(pattern=r"^[0-9a-f-]{36}$", description="the last delivery of the page before"),
]


def mailbox_routes(mailboxes: Mailboxes) -> APIRouter:
    """Return the routes below `/mailbox`."""
    router = APIRouter(prefix="/mailbox/{agency}", tags=["mailbox"])

    @router.get("", summary="What lies ready")
    async def listed(agency: Owner, limit: Limit = 50, after: After = None) -> dict[str, Any]:
        entries = await mailboxes.mailbox_list(agency, limit, after)
        return {"deliveries": [dict(entry) for entry in entries]}

    @router.get("/{delivery_id}", summary="The envelope; reading it is recorded (L2)")
    async def read(agency: Owner, delivery_id: str) -> Response:
        disclosed = await mailboxes.disclose(delivery_id, agency)
        return Response(disclosed.body, media_type="application/xml")

    @router.post("/{delivery_id}/acknowledgements", summary="Read by a person (L3), or done (L4)")
    async def acknowledge(
        agency: Owner, delivery_id: str, given: Acknowledgement
    ) -> dict[str, Any]:
        level = Level(given.level)
        return dict(await mailboxes.acknowledge(delivery_id, agency, level, given.code))

    return router
