"""The HTTP application: `POST /messages` beside FastAPI, and what holds for every request.

Translates and stops: no rule is here. Whatever goes wrong is told as problem details, in
our words; an exception that nobody expected is told as ``broker.internal`` and no more.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

import broker
from broker.core.errors import BrokerError, Rejection
from broker.core.reasons import Reason, explain
from broker.edge import telemetry
from broker.edge.problems import Problem, problem_of
from broker.edge.replies import (
    Receive,
    Reply,
    Scope,
    Send,
    common_headers,
    header,
    problem_reply,
    send_reply,
)
from broker.edge.routes.callers import Callers
from broker.edge.submitting import Submitting
from broker.edge.telemetry import Trace, trace_of

SUBMIT_PATH: Final = "/messages"
BODY_BYTES_MAX: Final = 64 * 1024  # of every request but a submission
BODY_S_MAX: Final = 10.0

Lifespan = Callable[[], AbstractAsyncContextManager[None]]

_STATUS_REASONS: Final = {
    400: Reason.REQUEST_INVALID,
    404: Reason.NOT_FOUND,
    405: Reason.METHOD,
    413: Reason.TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class BrokerApp:
    """The ASGI application of one broker process."""

    api: FastAPI
    submitting: Submitting
    lifespan: Lifespan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run from start to stop."""
        if scope["type"] == "http":
            if scope["path"] == SUBMIT_PATH and scope["method"] == "POST":
                await self.submitting(scope, receive, send)
            else:
                await self._serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1003})

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        trace = trace_of(scope["headers"])
        token = telemetry.current_trace.set(trace.trace_id)
        scope.setdefault("state", {})["trace"] = trace
        try:
            refusal = _refused(scope, trace)
            if refusal is not None:
                await send_reply(scope, send, refusal, trace)
            else:
                await self._handle(scope, receive, send, trace)
        finally:
            telemetry.current_trace.reset(token)

    async def _handle(self, scope: Scope, receive: Receive, send: Send, trace: Trace) -> None:
        started = False

        async def sending(event: MutableMapping[str, Any]) -> None:
            nonlocal started
            if event["type"] == "http.response.start":
                started = True
                event["headers"] = [*event.get("headers", ()), *common_headers(scope, trace)]
            await send(event)

        try:
            await self.api(scope, _bounded(receive), sending)
        except Exception as error:  # noqa: BLE001 - the last resort: ours, and told without words
            # Starlette raises anew what `_on_unexpected` has answered already.
            telemetry.log_error(telemetry.REQUEST_FAILED, error)
            if not started:
                problem = Problem(Reason.INTERNAL, trace_id=trace.trace_id)
                await send_reply(scope, send, _problem(scope, problem), trace)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            async with self.lifespan():
                await send({"type": "lifespan.startup.complete"})
                await receive()
        except BrokerError as error:
            telemetry.log_error(telemetry.REQUEST_FAILED, error)
            await send({"type": "lifespan.startup.failed", "message": str(error)})
            return
        await send({"type": "lifespan.shutdown.complete"})


def make_api(callers: Callers) -> FastAPI:
    """Return the FastAPI application without routes: errors as problems, no pages."""
    api = FastAPI(
        title="FAME broker",
        version=broker.__version__,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    api.state.callers = callers
    api.add_exception_handler(BrokerError, _on_broker_error)
    api.add_exception_handler(RequestValidationError, _on_invalid)
    api.add_exception_handler(HTTPException, _on_http)
    api.add_exception_handler(Exception, _on_unexpected)
    return api


async def _on_broker_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, BrokerError)
    trace: Trace = request.scope["state"]["trace"]
    if error.reason is Reason.UNAUTHENTICATED:
        telemetry.log(telemetry.PEER_REJECTED, code=error.reason.value)
    return _response(request, problem_of(error, trace_id=trace.trace_id))


async def _on_invalid(request: Request, error: Exception) -> Response:
    """Name the field and the rule, never what was sent: it might be about a person."""
    assert isinstance(error, RequestValidationError)
    trace: Trace = request.scope["state"]["trace"]
    first = error.errors()[0]
    pointer = "/" + "/".join(str(part) for part in first["loc"])
    problem = Problem(
        Reason.REQUEST_INVALID,
        f"the rule that is not met: {first['type']}",
        pointer=pointer,
        trace_id=trace.trace_id,
    )
    return _response(request, problem)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    trace: Trace = request.scope["state"]["trace"]
    reason = _STATUS_REASONS.get(error.status_code, Reason.INTERNAL)
    response = _response(request, Problem(reason, trace_id=trace.trace_id))
    response.headers.update(error.headers or {})
    return response


async def _on_unexpected(request: Request, _error: Exception) -> Response:
    trace: Trace = request.scope["state"]["trace"]
    return _response(request, Problem(Reason.INTERNAL, trace_id=trace.trace_id))


def _response(request: Request, problem: Problem) -> Response:
    reply = _problem(request.scope, problem)
    response = Response(reply.body, reply.status)
    response.raw_headers.append((b"content-type", reply.media_type))
    response.raw_headers.extend(reply.headers)
    return response


def _problem(scope: Scope, problem: Problem) -> Reply:
    return problem_reply(problem, header(scope, b"accept"))


def _refused(scope: Scope, trace: Trace) -> Reply | None:
    """Return what to say to a request that its first lines already rule out."""
    accept = header(scope, b"accept")
    if scope["path"] == SUBMIT_PATH:  # which the router does not know: see BrokerApp
        problem = Problem(Reason.METHOD, trace_id=trace.trace_id)
        return problem_reply(problem, accept, ((b"allow", b"POST"),))
    length = header(scope, b"content-length")
    if length and not (length.isdigit() and len(length) <= 5 and int(length) <= BODY_BYTES_MAX):  # noqa: PLR2004
        return problem_reply(Problem(Reason.TOO_LARGE, trace_id=trace.trace_id), accept)
    return None


def _bounded(receive: Receive) -> Receive:
    """Return ``receive`` with a bound on the bytes of the body and on the time they take."""
    size, ended = 0, False

    async def bounded() -> MutableMapping[str, Any]:
        nonlocal size, ended
        if ended:
            return await receive()  # waits for the peer to hang up
        try:
            async with asyncio.timeout(BODY_S_MAX):
                event = await receive()
        except TimeoutError as error:
            raise Rejection(Reason.TOO_SLOW) from error
        size += len(event.get("body", b""))
        if size > BODY_BYTES_MAX:
            raise Rejection(Reason.TOO_LARGE)
        ended = not event.get("more_body", False)
        return event

    return bounded


def openapi(api: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, with the raw route that FastAPI does not know added."""
    document = api.openapi()
    document["paths"].setdefault(SUBMIT_PATH, {})["post"] = _SUBMIT
    return document


def _content(*media_types: str) -> dict[str, Any]:
    return {media_type: {} for media_type in media_types}


def _answers() -> dict[str, Any]:
    receipt = _content("application/xml", "application/json")
    problem = _content("application/problem+json", "application/problem+xml")
    kept = {
        "200": "The same message came before: its first receipt. With wait: the answers.",
        "202": "Kept, and at least one recipient may have it: the signed receipt.",
    }
    answers = {status: {"description": words, "content": receipt} for status, words in kept.items()}
    statuses = sorted({explain(reason).status for reason in Reason} - {502, 504})
    for status in statuses:
        codes = [reason.value for reason in Reason if explain(reason).status == status]
        answers[str(status)] = {"description": ", ".join(codes), "content": problem}
    return answers


_SUBMIT: Final[dict[str, Any]] = {
    "tags": ["messages"],
    "operationId": "submit",
    "summary": "Send one signed message",
    "parameters": [
        {
            "name": "wait",
            "in": "query",
            "description": "Seconds to wait for the answers to a request.",
            "schema": {"type": "number", "minimum": 0},
        }
    ],
    "requestBody": {"required": True, "content": _content("application/xml", "text/xml")},
    "responses": _answers(),
}
