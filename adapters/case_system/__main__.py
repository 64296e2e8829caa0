"""Run the case system of one agency."""

import argparse
import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from adapters.case_system.records import Child, Records
from adapters.case_system.settings import Settings
from adapters.case_system.system import CaseSystem
from adapters.case_system.trust import Request, UntrustedError
from broker.core.identity import agency_id
from broker.core.samples import TODAY, sample_payload
from broker.core.samples.people import person

BODY_BYTES_MAX = 4 * 1024 * 1024
SANDBOX_CHILDREN = 10


def application(system: CaseSystem) -> Starlette:
    """Return the HTTP side: one address, to which the broker posts deliveries."""

    async def deliveries(http: HttpRequest) -> Response:
        body = b""
        async for part in http.stream():
            body += part
            if len(body) > BODY_BYTES_MAX:
                return Response(status_code=413)
        try:
            new = system.pushed(Request(http.method, str(http.url), dict(http.headers)), body)
        except UntrustedError:
            return Response(status_code=403)
        return Response(status_code=204 if new else 409)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        sending = asyncio.create_task(system.run())
        yield
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await system.aclose()

    return Starlette(routes=[Route("/deliveries", deliveries, methods=["POST"])], lifespan=lifespan)


def fill(records: Records) -> None:
    """Open a case for some of the sandbox's invented children."""
    for number in range(SANDBOX_CHILDREN):
        started = date(2026, 1, 1 + number).isoformat()
        worker = ("Ngozi", "Charlton", "0191 498 0123")
        records.put_child(Child(person(number, TODAY).nhs_number, "CIN", started, *worker))


def main() -> None:
    """Read the command line and serve until told to stop."""
    parser = argparse.ArgumentParser(prog="python -m adapters.case_system", description=__doc__)
    parser.add_argument("home", type=Path, nargs="?", help="folder of a sandbox")
    parser.add_argument("agency", nargs="?", help="which of its agencies to be")
    parser.add_argument("port", type=int, nargs="?", default=8600, help="port to listen on")
    parser.add_argument("--config", type=Path, help="settings file, outside a sandbox")
    parser.add_argument("--publish-to", metavar="AGENCY", help="send it an invented vacancy")
    given = parser.parse_args()
    if not given.config and not given.agency:
        parser.error("give HOME, AGENCY and PORT, or --config FILE")
    settings = (
        Settings.load(given.config) if given.config else Settings.sandbox(given.home, given.agency)
    )
    records = Records.open(settings.folder / "case_system.db")
    if not given.config:
        fill(records)
    asyncio.run(_serve(settings, records, given.port, given.publish_to))
    records.close()


async def _serve(settings: Settings, records: Records, port: int, publish_to: str | None) -> None:
    system = CaseSystem(settings, records)
    if publish_to:
        system.publish(sample_payload("VacancyPublished"), agency_id(publish_to))
    config = uvicorn.Config(
        application(system),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        access_log=False,
        # Only who has a certificate of the partnership gets in; who it is, the request says.
        ssl_certfile=settings.folder / "tls.cert.pem",
        ssl_keyfile=settings.folder / "tls.key.pem",
        ssl_ca_certs=str(settings.authority),
        ssl_cert_reqs=ssl.CERT_REQUIRED,
    )
    await uvicorn.Server(config).serve()


if __name__ == "__main__":
    main()
