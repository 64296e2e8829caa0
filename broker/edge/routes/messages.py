"""What became of a message, for its parties and nobody else."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from fastapi import APIRouter, Request, Response
from orjson import dumps
from sqlalchemy import Connection

from broker.core.errors import Rejection
from broker.core.identity import AgencyId
from broker.core.instant import from_millis, rfc3339
from broker.core.reasons import Reason
from broker.edge import records
from broker.edge.peers import Peer
from broker.edge.problems import wants_json
from broker.edge.replies import receipt_members
from broker.edge.routes.callers import AnyPeer
from broker.edge.store import Store

_T = TypeVar("_T")
_Find = Callable[[Connection, str, frozenset[AgencyId]], _T | None]


class Viewing(Protocol):
    """Tells the parties of a message how it stands."""

    async def message_view(
        self, submission_id: str, agencies: frozenset[AgencyId]
    ) -> Mapping[str, Any]:
        """Return what ``agencies`` may know: all of it as sender, their own part as recipient.

        Raises:
            Rejection: they are no party, or there is no such message; nobody can tell which.
        """
        ...


def message_routes(store: Store, viewing: Viewing) -> APIRouter:
    """Return the routes below `/messages/{id}`."""
    router = APIRouter(tags=["messages"])

    @router.get("/messages/{submission_id}", summary="How a message stands")
    async def message(submission_id: str, peer: AnyPeer) -> dict[str, Any]:
        return dict(await viewing.message_view(submission_id, peer.agencies))

    @router.get("/messages/{submission_id}/receipt", summary="The signed receipt, as first given")
    async def receipt(submission_id: str, peer: AnyPeer, request: Request) -> Response:
        document = await own(peer, submission_id, records.receipt)
        return _document(document, request)

    @router.get("/messages/{submission_id}/evidence", summary="What evidence there is")
    async def evidence(submission_id: str, peer: AnyPeer) -> dict[str, Any]:
        rows = await own(peer, submission_id, records.evidence_of)
        return {"evidence": [_listed(submission_id, row) for row in rows]}

    @router.get(
        "/messages/{submission_id}/evidence/{recipient}/{level}",
        summary="One piece of signed evidence",
    )
    async def one(
        submission_id: str, recipient: str, level: str, peer: AnyPeer, request: Request
    ) -> Response:
        def find(conn: Connection, message: str, agencies: frozenset[AgencyId]) -> bytes | None:
            return records.evidence_document(conn, message, agencies, recipient, level)

        return _document(await own(peer, submission_id, find), request)

    async def own(peer: Peer, message: str, find: _Find[_T]) -> _T:
        found = await store.read(lambda conn: find(conn, message, peer.agencies))
        if found is None:
            raise Rejection(Reason.NOT_FOUND)
        return found

    return router


def _listed(submission_id: str, row: records.EvidenceRow) -> dict[str, object]:
    return {
        "recipient": row.recipient,
        "level": row.level,
        "at": rfc3339(from_millis(row.at)),
        "ledger_sequence": row.ledger_seq,
        "document": f"/messages/{submission_id}/evidence/{row.recipient}/{row.level}",
    }


def _document(document: bytes, request: Request) -> Response:
    """Return signed XML as it is, or the JSON view of it for whoever asks."""
    if wants_json(request.headers.get("accept", "").encode("latin-1")):
        return Response(dumps(receipt_members(document)), media_type="application/json")
    return Response(document, media_type="application/xml")
