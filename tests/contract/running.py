"""A whole broker in this process, from a real sandbox, spoken to without sockets or with."""

import shutil
import ssl
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx2

from broker.app import build
from broker.cli.init import make
from broker.config import BrokerConfig, load
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, Practitioner
from broker.core.samples import sample_payload
from broker.core.signing import SigningKey, build_envelope, load_signing_key, sign_envelope
from broker.edge.http import BrokerApp
from broker.edge.ids import new_id
from broker.edge.submitting import Submitting
from broker.edge.tables import metadata
from broker.ports import Clock

YOT = AgencyId("sunderland-yot")
OTHER_YOT = AgencyId("gateshead-yot")
COUNCIL = AgencyId("sunderland-csc")
OTHER_COUNCIL = AgencyId("gateshead-csc")
POLICE = AgencyId("northumbria-police")
SCHOOL = AgencyId("hylton-school")
HR = AgencyId("gateshead-hr")
PORTAL = AgencyId("ne-jobs-portal")
BROKER = AgencyId("fame-broker")
XML = {"content-type": "application/xml"}
SYSTEMS = {
    YOT: "careworks",
    COUNCIL: "liquidlogic",
    OTHER_COUNCIL: "mosaic",
    POLICE: "niche",
    SCHOOL: "sims",
    HR: "itrent",
    PORTAL: "portal",
    BROKER: "broker",
}


@cache
def sandbox() -> Path:
    """The state folder of a sandbox, made once for all tests of this process. Do not change it."""
    home = Path(tempfile.mkdtemp(prefix="fame-sandbox-")) / "home"
    make(home, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - tests may
    return home


def copied_sandbox(folder: Path) -> Path:
    """A sandbox that a test may change."""
    return Path(shutil.copytree(sandbox(), folder / "home"))


def config_of(home: Path, folder: Path, **overrides: str) -> BrokerConfig:
    given = {"store.url": f"sqlite:///{folder / 'fame.db'}", "registers.reload_s": "0"}
    named = {name.replace("__", "."): value for name, value in overrides.items()}
    return load(home / "fame.toml", env={}, overrides=given | named).config


@cache
def key_of(home: Path, agency: AgencyId) -> SigningKey:
    folder = home / "agencies" / agency
    pem = (folder / "signing.key.pem").read_bytes()
    return load_signing_key(pem, (folder / "signing.cert.pem").read_bytes())


def header(
    sender: AgencyId, message_type: str, *recipients: AgencyId, purpose: str, **changed: Any
) -> Header:
    made = Header(
        message_id=MessageId(new_id()),
        message_type=message_type,
        schema_version="1.0",
        sender=sender,
        system=SYSTEMS[sender],
        recipients=tuple(Address(agency_id=name) for name in recipients),
        purpose=purpose,
        created_at=datetime.now(UTC),  # noqa: TID251 - tests may
        practitioner=Practitioner("p-1", "YOT_CASE_MANAGER", "DBS_ENHANCED", "AAL2"),
    )
    return replace(made, **changed)


def envelope(made: Header, payload: bytes | None = None, *, home: Path | None = None) -> bytes:
    content = payload or sample_payload(made.message_type, 1)
    key = key_of(home or sandbox(), made.sender)
    return sign_envelope(build_envelope(made, content), key)


def vacancy(size_bytes: int = 0, **changed: Any) -> bytes:
    """A vacancy from a council's HR system to the portal: about nobody, and permitted."""
    made = header(HR, "VacancyPublished", PORTAL, purpose="JOBS", **changed)
    return envelope(made, sample_payload("VacancyPublished", 1, size_bytes=size_bytes))


def check_request(*recipients: AgencyId, **changed: Any) -> bytes:
    """A youth offending team's question about a child."""
    return envelope(request_header(*recipients, **changed))


def request_header(*recipients: AgencyId, **changed: Any) -> Header:
    return header(YOT, "YOTCheckRequest", *(recipients or (COUNCIL,)), purpose="YJ", **changed)


def check_response(sender: AgencyId, request: MessageId, **changed: Any) -> bytes:
    made = header(sender, "YOTCheckResponse", YOT, purpose="YJ", correlation_id=request, **changed)
    return envelope(made)


@dataclass(frozen=True)
class Running:
    """A broker that has started."""

    app: BrokerApp
    home: Path
    config: BrokerConfig

    def client(self, agency: AgencyId | None, **headers: str) -> httpx2.AsyncClient:
        """A client that shows the TLS certificate of ``agency`` (None: none)."""
        asgi = httpx2.ASGITransport(self._as(agency), raise_app_exceptions=True)
        return httpx2.AsyncClient(
            transport=asgi, base_url="https://localhost", headers={"accept": "*/*", **headers}
        )

    async def post(
        self, agency: AgencyId | None, body: bytes, query: str = "", **headers: str
    ) -> httpx2.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client(agency) as client:
            return await client.post(f"/messages{query}", content=body, headers=XML | named)

    async def get(self, agency: AgencyId | None, path: str, **headers: str) -> httpx2.Response:
        async with self.client(agency, **headers) as client:
            return await client.get(path)

    def with_submitting(self, **changed: Any) -> "Running":
        """The same broker with one part of its submit endpoint exchanged."""
        submitting: Submitting = replace(self.app.submitting, **changed)
        return replace(self, app=replace(self.app, submitting=submitting))

    async def rows(self, table: str) -> int:
        """How many rows a table holds."""
        from sqlalchemy import func, select

        count = select(func.count()).select_from(metadata.tables[table])
        store = self.app.submitting.collector.store
        return int(await store.read(lambda conn: conn.execute(count).scalar_one()))

    def scope(self, agency: AgencyId | None) -> dict[str, Any]:
        chain = [] if agency is None else [self.certificate(agency)]
        return {"extensions": {"tls": {"client_cert_chain": chain}}}

    def certificate(self, agency: AgencyId) -> str:
        return (self.home / "agencies" / agency / "tls.cert.pem").read_text()

    def _as(self, agency: AgencyId | None) -> Any:
        async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await self.app(scope | self.scope(agency), receive, send)

        return app


@asynccontextmanager
async def running(
    folder: Path, *, home: Path | None = None, clock: Clock | None = None, **overrides: str
) -> AsyncIterator[Running]:
    """Start a broker whose database is in ``folder``; stop it at the end."""
    home = home or sandbox()
    config = config_of(home, folder, **overrides)
    app = build(config, clock)
    async with app.lifespan():
        yield Running(app, home, config)


def tls_of(home: Path, agency: AgencyId | None) -> ssl.SSLContext:
    """The TLS context of an agency's system that calls the broker."""
    context = ssl.create_default_context(cafile=str(home / "ca" / "ca.cert.pem"))
    if agency is not None:
        folder = home / "agencies" / agency
        context.load_cert_chain(folder / "tls.cert.pem", folder / "tls.key.pem")
    return context
