"""Speak to a broker over HTTP as one agency: by its TLS certificate, or by a token."""

import ipaddress
import ssl
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from broker.cli.failure import EXIT_UNAVAILABLE, Failure, from_problem
from broker.cli.home import agency_folder, load_config
from broker.config import BrokerConfig
from broker.edge.ids import new_id

TIMEOUT_S = 90.0  # longer than the longest ?wait=
ASSERTION_S = 60
XML = {"content-type": "application/xml"}
OK_FIRST, OK_LAST = 200, 299


def on_loopback(url: str) -> bool:
    """Return whether ``url`` can only be on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def tls_context(config: BrokerConfig, folder: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the partnership's authority, with the agency's certificate."""
    context = ssl.create_default_context(cafile=str(config.http.client_ca_file))
    if folder is not None:
        context.load_cert_chain(folder / "tls.cert.pem", folder / "tls.key.pem")
    return context


def client(given: Path | None, agency: str, *, token: bool = False) -> httpx2.Client:
    """Return a client that is ``agency`` to the broker of the configuration ``given``.

    Raises:
        Failure: keys are missing, or the broker gives no token.
    """
    config, folder = load_config(given).config, agency_folder(given, agency)
    if not token:
        return _client(config, folder, {})
    return _client(
        config, None, {"authorization": f"Bearer {access_token(config, folder, agency)}"}
    )


def async_client(given: Path | None, agency: str) -> httpx2.AsyncClient:
    """Return a client for many requests at once, by certificate."""
    config = load_config(given).config
    return httpx2.AsyncClient(
        base_url=config.broker.url,
        verify=_context(config, agency_folder(given, agency)),
        timeout=TIMEOUT_S,
        headers=XML,
        trust_env=False,
    )


def access_token(config: BrokerConfig, folder: Path, agency: str) -> str:
    """Return a bearer token for ``agency``, proved by its client key (RFC 7523).

    Raises:
        Failure: the broker gives none.
    """
    from joserfc import jwt
    from joserfc.jwk import ECKey

    key = ECKey.import_key((folder / "client.key.pem").read_bytes())
    at = int(time.time())
    claims = {
        "iss": agency,
        "sub": agency,
        "aud": f"{config.broker.url}/oauth/token",
        "jti": new_id(),
        "iat": at,
        "exp": at + ASSERTION_S,
    }
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": jwt.encode({"alg": "ES256"}, claims, key),
    }
    media = {"content-type": "application/x-www-form-urlencoded"}
    with _client(config, None, {}) as made:
        answer = ask(made, "POST", "/oauth/token", data=form, headers=media)
    return str(answer.json()["access_token"])


def ask(made: httpx2.Client, method: str, path: str, **more: Any) -> httpx2.Response:  # noqa: ANN401 - httpx2's own
    """Return the broker's answer.

    Raises:
        Failure: it cannot be reached, or says no.
    """
    try:
        answer = made.request(method, path, **more)
    except httpx2.TransportError as error:
        rows = {
            "where": str(made.base_url),
            "why": _why(error),
            "try": "fame serve, then fame doctor",
        }
        raise Failure("The broker cannot be reached", EXIT_UNAVAILABLE, rows) from error
    if OK_FIRST <= answer.status_code <= OK_LAST:
        return answer
    raise from_problem(_problem(answer))


def _client(config: BrokerConfig, folder: Path | None, headers: Mapping[str, str]) -> httpx2.Client:
    return httpx2.Client(
        base_url=config.broker.url,
        verify=_context(config, folder),
        timeout=TIMEOUT_S,
        headers={**XML, **headers},
        trust_env=False,
    )


def _context(config: BrokerConfig, folder: Path | None) -> ssl.SSLContext:
    try:
        return tls_context(config, folder)
    except OSError as error:  # ssl.SSLError is one
        rows = {"where": str(folder or config.http.client_ca_file), "try": "fame cert check"}
        raise Failure("A certificate for TLS cannot be used", EXIT_UNAVAILABLE, rows) from error


def _problem(answer: httpx2.Response) -> Mapping[str, Any]:
    if "json" in answer.headers.get("content-type", ""):
        problem = answer.json()
        if isinstance(problem, dict):
            # The token endpoint speaks RFC 6749, everything else RFC 9457.
            said = {
                "title": "The broker gives no token",
                "detail": problem.get("error_description"),
            }
            return said | problem
    return {"title": f"The broker answered {answer.status_code}"}


def _why(error: httpx2.TransportError) -> str:
    cause = error.__cause__ or error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return getattr(cause, "strerror", None) or str(error)
