"""``POST /oauth/token``: errors in the form of RFC 6749 §5.2, so that any client understands."""

from typing import Final
from urllib.parse import parse_qs

import orjson
from fastapi import APIRouter, Request, Response
from sqlalchemy import Connection

from broker.core.errors import Rejection
from broker.edge import telemetry
from broker.edge.metrics import Metrics
from broker.edge.peers import Peers
from broker.edge.store import Store
from broker.edge.tokens import ASSERTION_TYPE, AccessToken, TokenService, mark_used
from broker.ports import Clock

_FORM: Final = "application/x-www-form-urlencoded"
_PARAMETERS_MAX: Final = 8
_ASSERTION: Final = "client_assertion"


class _OAuthError(Exception):
    """One of the error codes of RFC 6749 §5.2."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(code)
        self.code = code
        self.detail = detail

    @property
    def status(self) -> int:
        return 401 if self.code == "invalid_client" else 400


def token_routes(
    tokens: TokenService, peers: Peers, store: Store, clock: Clock, metrics: Metrics
) -> APIRouter:
    """Return the token endpoint."""
    router = APIRouter(tags=["tokens"])

    @router.post("/oauth/token", summary="An access token for a signed assertion (RFC 7523)")
    async def token(request: Request) -> Response:
        try:
            issued = await grant(request)
        except _OAuthError as error:
            metrics.tokens.labels("rejected").inc()
            telemetry.log(telemetry.TOKEN_REJECTED, code=error.code)
            body = {"error": error.code, "error_description": error.detail}
            return Response(orjson.dumps(body), error.status, media_type="application/json")
        metrics.tokens.labels("issued").inc()
        telemetry.log(telemetry.TOKEN_ISSUED)
        return Response(_granted(issued), media_type="application/json")

    async def grant(request: Request) -> AccessToken:
        form = _form(request.headers.get("content-type", ""), await request.body())
        now = clock.now()
        with _as_oauth("invalid_client"):
            assertion = tokens.examine(form[_ASSERTION], now)
        if form.get("client_id", assertion.client.client_id) != assertion.client.client_id:
            raise _OAuthError("invalid_client", "client_id is not the one in the assertion")
        with _as_oauth("invalid_scope"):
            certificate = peers.certificate(request.scope)
            issued = tokens.issue(assertion, form.get("scope", ""), certificate, now)

        def use(conn: Connection, _ledger: object) -> None:
            mark_used(conn, assertion, now)

        with _as_oauth("invalid_client"):
            await store.write(use)
        return issued

    return router


class _as_oauth:  # noqa: N801 - reads as a statement
    """Turns a `Rejection` into an error of the token endpoint."""

    def __init__(self, code: str) -> None:
        self._code = code

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, Rejection):
            raise _OAuthError(self._code, error.detail) from error


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise _OAuthError("invalid_request", f"the body is not {_FORM}")
    try:
        fields = parse_qs(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            max_num_fields=_PARAMETERS_MAX,
        )
    except ValueError as error:
        raise _OAuthError("invalid_request", "the form cannot be read") from error
    # RFC 6749 §3.2: no parameter more than once.
    if any(len(values) > 1 for values in fields.values()):
        raise _OAuthError("invalid_request", "a parameter came more than once")
    form = {name: values[0] for name, values in fields.items()}
    if "grant_type" not in form:
        raise _OAuthError("invalid_request", "grant_type is missing")
    if form["grant_type"] != "client_credentials":
        raise _OAuthError("unsupported_grant_type", "grant_type is client_credentials")
    if form.get("client_assertion_type") != ASSERTION_TYPE or _ASSERTION not in form:
        raise _OAuthError("invalid_client", "authenticate with private_key_jwt (RFC 7523)")
    return form


def _granted(issued: AccessToken) -> bytes:
    return orjson.dumps(
        {
            "access_token": issued.text,
            "token_type": "Bearer",
            "expires_in": issued.lifetime_s,
            "scope": " ".join(sorted(issued.agencies)),
        }
    )
