"""The composition root: the only place that builds the parts and joins them up."""

import asyncio
import hashlib
import hmac
import random
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI

from adapters.ways import Means, Ways
from adapters.webhook import RequestSigner
from broker.config import BrokerConfig, SignatureSection, StoreSection
from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.limits import Limits
from broker.core.reasons import Reason
from broker.core.receipt import Issuer
from broker.core.recorded import Records
from broker.core.schema import SchemaSet
from broker.core.signature import ProfileVerifier, Verifier
from broker.core.signature_signxml import SignxmlVerifier
from broker.core.signing import sign_canonical
from broker.edge import telemetry
from broker.edge.access_notices import AccessNotices
from broker.edge.admission import Admission, Quotas
from broker.edge.answers import Answers
from broker.edge.attempts import Attempts, Patience
from broker.edge.backlog import publisher
from broker.edge.clock_keeping import ClockKeeper
from broker.edge.clock_notices import ClockNotices
from broker.edge.collecting import Collector
from broker.edge.consent_notices import Notices
from broker.edge.consent_service import ConsentService
from broker.edge.consents import ConsentRegister
from broker.edge.database import kind_of
from broker.edge.database_sqlite import database_file
from broker.edge.delivery_runtime import DeliveryRuntime, DeliverySettings
from broker.edge.disclosure import Discloser, Keys
from broker.edge.erasing import Eraser
from broker.edge.handovers import HandoverBook
from broker.edge.http import BrokerApp, make_api, openapi
from broker.edge.intake import Intake, Secrets
from broker.edge.key_files import read_file, receipt_key, token_key
from broker.edge.metrics import Metrics
from broker.edge.naming import OwnName
from broker.edge.outcomes import Recorder
from broker.edge.outgoing import SplitOutgoing
from broker.edge.override_service import OverrideService
from broker.edge.peers import Directory, Peers
from broker.edge.readiness import checks, notes
from broker.edge.registers import RegisterHolder
from broker.edge.reports import Reporter
from broker.edge.route_service import RouteService
from broker.edge.routes.callers import Callers, watchers_only
from broker.edge.routes.clocks import clock_routes
from broker.edge.routes.consents import consent_routes
from broker.edge.routes.mailbox import mailbox_routes
from broker.edge.routes.messages import message_routes
from broker.edge.routes.operator import operator_routes, route_routes
from broker.edge.routes.overrides import override_routes
from broker.edge.routes.system import About, Probes, openapi_route, system_routes
from broker.edge.routes.tokens import token_routes
from broker.edge.schemas import load_schemas
from broker.edge.sealing import KeyRing, read_key
from broker.edge.shadowing import Shadows
from broker.edge.store import Store, StoreSettings
from broker.edge.submitting import Submitting
from broker.edge.tls import bounded, server_context
from broker.edge.tokens import TokenKey, TokenService
from broker.edge.transport import InProcessTransport
from broker.edge.watching import RegisterWatch, publish_expiry, tell_unusable
from broker.ports import Clock, Consents

if TYPE_CHECKING:
    from broker.edge.kafka import KafkaOutgoing

BODIES_BYTES_MAX = 256 * 1024 * 1024  # of submissions in flight, together
LANE_MAX = 64  # dispatches that wait for one recipient's worker
KEEP_ALIVE_S = 75  # longer than most proxies keep theirs, so that they close first


@dataclass(frozen=True, slots=True)
class Parts:
    """What everything else is made from: rules, keys, and the place where messages are kept."""

    config: BrokerConfig
    clock: Clock
    broker: AgencyId
    limits: Limits
    schemas: SchemaSet
    registers: RegisterHolder
    secrets: Secrets = field(repr=False)
    ring: KeyRing = field(repr=False)
    issuer: Issuer
    consents: Consents
    store: Store
    metrics: Metrics
    name: OwnName


def load_parts(
    config: BrokerConfig, clock: Clock | None = None, *, kind: str | None = None
) -> Parts:
    """Return the parts that ``config`` describes; ``kind`` is that of a worker without HTTP.

    Raises:
        Permanent: a file is missing or cannot be used; the words name it.
    """
    broker = AgencyId(config.broker.id)
    key = receipt_key(config.keys.receipt_key_file, config.keys.receipt_cert_file)
    issuer = Issuer(
        broker, lambda canonical: sign_canonical(canonical, key), sandbox=config.broker.sandbox
    )
    ring = KeyRing.load(config.keys.kek_file)
    pseudonym = read_key(config.keys.pseudonym_file)
    schemas = load_schemas(config.registers.schemas_dir)
    registers = RegisterHolder(config.registers.protocols_dir)
    store = Store.open(
        config.store.url,
        ring=ring,
        issuer=issuer,
        settings=store_settings(config.store),
    )
    return Parts(
        config=config,
        clock=clock or store.clock,
        broker=broker,
        limits=config.limits.limits(),
        schemas=schemas,
        registers=registers,
        secrets=Secrets(key, pseudonym, hmac.digest(pseudonym, b"fame:salt:1", hashlib.sha256)),
        ring=ring,
        issuer=issuer,
        consents=ConsentRegister(store),
        store=store,
        metrics=Metrics(),
        name=OwnName(kind or "serve", _embedded(config, kind)),
    )


def _embedded(config: BrokerConfig, kind: str | None) -> Path | None:
    """Return the file whose first broker has a lasting name; workers have none."""
    own = kind is None and kind_of(config.store.url) == "sqlite"
    return database_file(config.store.url) if own else None


def store_settings(section: StoreSection) -> StoreSettings:
    """Return the bounds of the store, and the password of its user if there is one.

    Raises:
        Permanent: the file of the password cannot be read.
    """
    password = None
    if kind_of(section.url) == "postgresql" and section.password_file.exists():
        password = read_file(section.password_file).decode().strip()
    return StoreSettings(
        batch_max=section.batch_max,
        queue_max=section.queue_max,
        readers=section.readers,
        busy_timeout_s=section.busy_timeout_s,
        statement_timeout_s=section.statement_timeout_s,
        password=password,
    )


@dataclass(frozen=True, slots=True)
class Workers:
    """What works in the background from start to stop."""

    parts: Parts
    answers: Answers
    delivery: DeliveryRuntime
    examine: ThreadPoolExecutor
    watch: RegisterWatch
    ways: Ways
    kafka: "KafkaOutgoing | None"
    keeper: ClockKeeper
    shadows: Shadows
    lines: telemetry.Lines | None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Start everything; at the end stop it in the opposite order, the store last."""
        config, store = self.parts.config, self.parts.store
        async with AsyncExitStack() as stack:
            stack.callback(self.examine.shutdown)
            stack.callback(self.parts.name.close)
            stack.push_async_callback(store.close)
            stack.push_async_callback(self.ways.aclose)
            store.on_commit(self.answers.committed)
            if self.kafka is not None:
                stack.push_async_callback(self.kafka.aclose)
                looking = asyncio.create_task(self.kafka.watch(config.kafka.watch_s))
                stack.push_async_callback(_ended, looking)
            await self.delivery.start()
            stack.push_async_callback(self.delivery.stop, float(config.http.shutdown_s))
            stack.push_async_callback(_ended, asyncio.create_task(self.keeper.run()))
            await stack.enter_async_context(self.shadows.running(config.registers.reload_s))
            if config.registers.reload_s:
                looking = asyncio.create_task(self.watch.run(config.registers.reload_s))
                stack.push_async_callback(_ended, looking)
            eraser = Eraser(store, self.parts.clock, config.store.payload_days)
            erasing = asyncio.create_task(eraser.run())
            stack.push_async_callback(_ended, erasing)
            telemetry.log(telemetry.BROKER_STARTED, digest=self.parts.registers.current.digest)
            tell_unusable(self.parts.registers)
            yield
            telemetry.log(telemetry.BROKER_STOPPED)


def build(
    config: BrokerConfig, clock: Clock | None = None, lines: telemetry.Lines | None = None
) -> BrokerApp:
    """Return the application that ``config`` describes. It works from its lifespan's start.

    ``lines``: where the process logs, so that it can tell whether that can be written.

    Raises:
        Permanent: a file is missing or cannot be used; the words name it.
        Transient: the database is locked or not reachable.
    """
    parts = load_parts(config, clock)
    protocols = config.registers.protocols_dir
    watch = RegisterWatch.begin(parts.registers, parts.store, parts.clock, protocols)
    ways = make_ways(parts)
    delivery, kafka = _delivery(parts, ways)
    notices = ClockNotices(delivery.service.recorder, parts.registers)
    workers = Workers(
        parts=parts,
        answers=Answers(),
        delivery=delivery,
        kafka=kafka,
        examine=ThreadPoolExecutor(config.http.examine_threads, "examine"),
        watch=watch,
        ways=ways,
        keeper=ClockKeeper(parts.store, parts.registers, parts.clock, notices),
        shadows=_shadows(parts),
        lines=lines,
    )
    if lines is not None:
        parts.metrics.log_lines_lost.set_function(lambda: lines.lost)
    directory = Directory(parts.registers)
    key = TokenKey(token_key(config.keys.token_key_file))
    tokens = TokenService(directory, key, config.broker.url, config.http.token_lifetime_s)
    peers = Peers(directory, tokens, config.http.proxies, config.http.proxy_fingerprints)
    publish_expiry(parts.registers, parts.metrics)
    api = _api(workers, peers, tokens)
    return BrokerApp(api, _submitting(workers, peers), workers.running)


def _consents(workers: Workers) -> ConsentService:
    parts, service = workers.parts, workers.delivery.service
    notices = Notices(service.recorder.reporter, parts.issuer, parts.ring)
    overrides = OverrideService(
        parts.store, parts.registers, notices, parts.clock, parts.secrets.pseudonym
    )
    return ConsentService(
        store=parts.store,
        discloser=service.discloser,
        recorder=service.recorder,
        notices=notices,
        clock=parts.clock,
        overrides=overrides,
        pseudonym=parts.secrets.pseudonym,
    )


def _submitting(workers: Workers, peers: Peers) -> Submitting:
    parts, service = workers.parts, workers.delivery.service
    return Submitting(
        intake=_intake(workers),
        peers=peers,
        collector=Collector(workers.answers, parts.store, service, parts.schemas, parts.clock),
        admission=_admission(parts),
        clock=parts.clock,
        metrics=parts.metrics,
        body_bytes_max=parts.limits.body_bytes_max,
        wait_s_max=parts.limits.wait_s_max,
    )


def _admission(parts: Parts) -> Admission:
    http = parts.config.http
    admission = Admission(
        Quotas(
            in_flight_max=http.in_flight_max,
            bytes_max=BODIES_BYTES_MAX,
            working_max=http.working_max,
            agency_in_flight_max=http.agency_in_flight_max,
            agency_bytes_max=BODIES_BYTES_MAX // 2,
            agency_rate_per_s=http.agency_rate_per_s,
            agency_burst=http.agency_burst,
        )
    )
    parts.metrics.in_flight.set_function(lambda: admission.submissions)
    parts.metrics.waiting.set_function(lambda: admission.waiting)
    return admission


def _api(workers: Workers, peers: Peers, tokens: TokenService) -> FastAPI:
    parts, service = workers.parts, workers.delivery.service
    consents = _consents(workers)
    store = parts.config.store
    needed = checks(parts.store, parts.registers, store.url, store.free_bytes_min)
    api = make_api(
        Callers(peers, parts.clock, parts.broker, parts.config.http.metrics_fingerprints)
    )
    for router in (
        message_routes(parts.store, service),
        mailbox_routes(service),
        operator_routes(service, workers.watch.reload),
        route_routes(_route_service(workers)),
        consent_routes(consents),
        override_routes(consents.overrides),
        clock_routes(workers.keeper),
        token_routes(tokens, peers, parts.store, parts.clock, parts.metrics),
        system_routes(
            about(parts),
            parts.metrics,
            publisher(parts.store, parts.clock, parts.metrics),
            Probes(watchers_only, needed, notes(parts.registers, workers.kafka, workers.lines)),
        ),
    ):
        api.include_router(router)
    openapi_route(api, partial(openapi, api))
    return api


def about(parts: Parts) -> About:
    """Return what a process of ``parts`` tells of itself."""
    return About(
        broker=parts.broker,
        sandbox=parts.config.broker.sandbox,
        limits=parts.limits,
        schemas=lambda: parts.schemas,
        register=lambda: parts.registers.current,
    )


def server(config: BrokerConfig, app: BrokerApp) -> uvicorn.Server:
    """Return the HTTPS server for ``app``; `run` serves until it is told to stop.

    Raises:
        Permanent: the certificate or key cannot be used.
    """
    http = config.http
    try:
        context = server_context(http.tls_cert_file, http.tls_key_file, http.client_ca_file)
    except OSError as error:  # ssl.SSLError is one
        detail = "tls_cert_file, tls_key_file or client_ca_file cannot be used"
        raise Permanent(Reason.INTERNAL, detail) from error
    return uvicorn.Server(
        uvicorn.Config(
            app,
            host=http.host,
            port=http.port,
            http=bounded(http.connections_max),
            ws="none",
            loop="broker.edge.tls:EventLoop",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # identity comes from configured proxies only: see peers.py
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=http.shutdown_s,
            ssl_context_factory=lambda _config, _default: context,
        )
    )


def make_attempts(parts: Parts, ways: Ways) -> Attempts:
    """Return what makes attempts in the name of this process."""
    config = parts.config.delivery
    reporter = Reporter(parts.broker, parts.secrets.broker, parts.schemas)
    discloser = Discloser(
        broker=parts.broker,
        store=parts.store,
        registers=parts.registers,
        consents=parts.consents,
        handovers=HandoverBook(parts.store),
        schemas=parts.schemas,
        keys=Keys(parts.ring, parts.secrets.broker, parts.secrets.salt),
        clock=parts.clock,
    )
    patience = Patience(
        attempts_max=config.attempts_max,
        backoff_s_first=config.backoff_s_first,
        backoff_s_max=config.backoff_s_max,
        timeout_s=config.timeout_s,
    )
    return Attempts(
        store=parts.store,
        discloser=discloser,
        recorder=Recorder(parts.issuer, reporter, parts.ring, parts.clock),
        routes=ways,
        clock=parts.clock,
        patience=patience,
        rng=random.SystemRandom(),
        owner=parts.name.name,
        observe=parts.metrics.attempted,
    )


def _delivery(parts: Parts, ways: Ways) -> "tuple[DeliveryRuntime, KafkaOutgoing | None]":
    """Return what delivers here and, with that transport, what sends to Kafka."""
    config = parts.config.delivery
    settings = DeliverySettings(config.lease_s, config.poll_s, config.per_recipient_max)
    attempts = make_attempts(parts, ways)
    here = InProcessTransport(lane_max=LANE_MAX)
    if config.transport == "in-process":
        return DeliveryRuntime(attempts, here, settings), None
    from broker.app_kafka import kafka_outgoing  # noqa: PLC0415 - its library is an extra

    away = kafka_outgoing(
        parts.config,
        attempts,
        on_room=lambda recipient: runtime.relay.wake((recipient,)),
        observe=parts.metrics.carried,
    )
    words = "Records of a topic that its workers have not dealt with."
    parts.metrics.ask("fame_transport_lag_records", words, "route", away.behind)
    runtime = DeliveryRuntime(attempts, here, settings, SplitOutgoing(parts.registers, here, away))
    return runtime, away


def make_ways(parts: Parts) -> Ways:
    """Return the ways to recipients, to whom the broker shows its server's certificate."""
    config, key = parts.config, parts.secrets.broker
    return Ways(
        Means(
            signer=RequestSigner(key.fingerprint, key.private_key, parts.clock.now),
            tls_certificate=config.http.tls_cert_file,
            tls_key=config.http.tls_key_file,
            authority=config.http.client_ca_file,
            certificates=config.registers.protocols_dir,
            drops=config.delivery.drops_dir,
            timeout_s=config.delivery.timeout_s,
        )
    )


def _shadows(parts: Parts) -> Shadows:
    return Shadows(
        parts.store, parts.registers, parts.consents, parts.schemas, parts.clock, parts.secrets.salt
    )


def _intake(workers: Workers) -> Intake:
    parts = workers.parts
    return Intake(
        broker=parts.broker,
        registers=parts.registers,
        schemas=parts.schemas,
        verifier=_verifier(parts.config.signature),
        consents=parts.consents,
        handovers=HandoverBook(parts.store),
        store=parts.store,
        clock=parts.clock,
        secrets=parts.secrets,
        limits=parts.limits,
        threads=workers.examine,
        metrics=parts.metrics,
        records=Records(parts.schemas),
        clerk=_consents(workers),
        onlooker=workers.shadows,
        audit=AccessNotices(
            workers.delivery.service.recorder.reporter, parts.issuer, parts.ring, parts.registers
        ),
    )


def _verifier(signature: SignatureSection) -> Verifier:
    return SignxmlVerifier() if signature.verifier == "signxml" else ProfileVerifier()


def _route_service(workers: Workers) -> RouteService:
    parts = workers.parts
    return RouteService(
        store=parts.store,
        registers=parts.registers,
        outgoing=workers.delivery.outgoing,
        cluster=workers.kafka,
        clock=parts.clock,
    )


async def _ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
