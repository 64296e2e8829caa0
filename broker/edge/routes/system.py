"""Health, version, metrics and explanations: for probes, and for whoever reads an error."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

import broker
from broker.core.errors import BrokerError, Rejection
from broker.core.limits import Limits
from broker.core.reasons import Reason, explain
from broker.edge.metrics import CONTENT_TYPE, Metrics

Check = Callable[[], Awaitable[object]]
Gate = Callable[[Request], Awaitable[object]]


async def anybody(_request: Request) -> None:
    """Let everybody pass: for a port that the network keeps from strangers."""


class Digested(Protocol):
    """Data that is known by its digest."""

    @property
    def digest(self) -> str:
        """Return the SHA-256, in hex."""
        ...


@dataclass(frozen=True, slots=True)
class About:
    """What `/version` tells: enough to know whether two brokers decide alike."""

    broker: str
    sandbox: bool
    limits: Limits
    schemas: Callable[[], Digested]
    register: Callable[[], Digested]

    def view(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {
            "broker": self.broker,
            "version": broker.__version__,
            "sandbox": self.sandbox,
            "limits": asdict(self.limits),
            "schemas": self.schemas().digest,
            "register": self.register().digest,
        }


@dataclass(frozen=True, slots=True)
class Probes:
    """What is looked at to say how the broker is doing, and who may see it in detail."""

    gate: Gate  # from numbers that grow one can tell who just sent what kind of message
    checks: Mapping[str, Check]
    # Checks of what may be away without anything being refused, so a balancer need not know.
    notes: Mapping[str, Check] = field(default_factory=dict)


def system_routes(about: About, metrics: Metrics, refresh: Check, probes: Probes) -> APIRouter:
    """Return the routes that tell nothing about any message. Most are for anybody.

    ``refresh`` brings up to date what the metrics tell of the store.
    """
    router = APIRouter(tags=["system"])

    @router.get("/livez", summary="Is the process alive?")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @router.get("/readyz", summary="Can it take messages?")
    @router.get("/healthz", include_in_schema=False)
    async def readyz(request: Request) -> Response:
        verbose = "verbose" in request.query_params
        if verbose:
            await probes.gate(request)
        results = {name: await _passes(check) for name, check in probes.checks.items()}
        ready = all(results.values())
        body: dict[str, object] = {"status": "ok" if ready else "unavailable"}
        if verbose:
            results |= {name: await _passes(check) for name, check in probes.notes.items()}
            body["checks"] = {name: "ok" if ok else "failed" for name, ok in results.items()}
        return _json(body, 200 if ready else 503)

    @router.get("/version", summary="Version, limits, and digests of schemas and register")
    async def version() -> dict[str, Any]:
        return about.view()

    @router.get("/metrics", summary="Metrics for Prometheus")
    async def collect(request: Request) -> Response:
        await probes.gate(request)
        await _passes(refresh)  # while the store is away, the other metrics say so
        return Response(metrics.render(), media_type=CONTENT_TYPE)

    @router.get("/reasons", summary="Every reason code, with cause and cure")
    async def reasons() -> list[dict[str, Any]]:
        return [_explained(reason) for reason in Reason]

    @router.get("/reasons/{code}", summary="One reason code")
    async def reason(code: str) -> dict[str, Any]:
        try:
            return _explained(Reason(code))
        except ValueError as error:
            raise Rejection(Reason.NOT_FOUND) from error

    return router


def openapi_route(api: FastAPI, document: Callable[[], dict[str, Any]]) -> None:
    """Serve ``document`` as `/openapi.json`."""

    @api.get("/openapi.json", include_in_schema=False)
    async def openapi() -> Response:
        return _json(document(), 200)


async def _passes(check: Check) -> bool:
    try:
        await check()
    except BrokerError:
        return False
    return True


def _explained(reason: Reason) -> dict[str, Any]:
    return {"code": reason.value, **asdict(explain(reason))}


def _json(body: object, status: int) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")
