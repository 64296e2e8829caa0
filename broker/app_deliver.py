"""The composition root of `fame deliver`: the worker of one agency, and nothing besides."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta

import uvicorn
from fastapi import FastAPI

from adapters.ways import Ways
from broker.app import Parts, about, load_parts, make_attempts, make_ways
from broker.app_kafka import kafka_consumer
from broker.config import BrokerConfig
from broker.core.errors import Permanent, Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge import telemetry
from broker.edge.attempts import Attempts
from broker.edge.delivering import Delivering
from broker.edge.kafka import KafkaIncoming
from broker.edge.kafka_consumer import KafkaConsumer
from broker.edge.outgoing import MAILBOX
from broker.edge.quarantine import Quarantine
from broker.edge.readiness import checks, log_note
from broker.edge.routes.system import Probes, anybody, system_routes
from broker.edge.store import Store
from broker.edge.watching import RegisterWatch

PROBES_MAX = 32  # connections at a time; more are turned away


@dataclass(frozen=True, slots=True)
class Worker:
    """Takes what is for one agency from its topic to its system until it is told to stop."""

    agency: AgencyId
    incoming: KafkaIncoming
    attempts: Attempts
    ways: Ways
    watch: RegisterWatch
    probes: FastAPI
    config: BrokerConfig

    @property
    def store(self) -> Store:
        """The database that it shares with the brokers."""
        return self.attempts.store

    async def run(self, stop: asyncio.Event, taken: socket.socket | None = None) -> None:
        """Work until ``stop`` is set; then finish what is in work, commit, and leave.

        Whether it is alive and ready, and its metrics, are told on ``taken``, if that is given.

        Raises:
            Permanent: the cluster does not let this worker read the agency's topic.
        """
        lanes = Delivering(
            self.incoming, self.attempts, per_recipient_max=self.config.delivery.per_recipient_max
        )
        every_s = self.config.registers.reload_s
        looking = [asyncio.create_task(self.watch.run(every_s))] if every_s else []
        stopping = asyncio.create_task(stop.wait())
        lane = lanes.serve(self.agency)
        telling = _Probes.start(self.probes, taken) if taken else None
        telemetry.log(telemetry.WORKER_STARTED, agency=self.agency)
        try:
            await asyncio.wait({stopping, lane}, return_when=asyncio.FIRST_COMPLETED)
            if lane.done():
                lane.result()
        finally:
            for task in (*looking, stopping):
                task.cancel()
            await asyncio.gather(*looking, stopping, return_exceptions=True)
            await lanes.stop(float(self.config.http.shutdown_s))
            await self.incoming.aclose()
            await self.ways.aclose()
            if telling is not None:
                await telling.end()
            await self.store.close()
            telemetry.log(telemetry.WORKER_STOPPED, agency=self.agency)


class _Server(uvicorn.Server):
    """A server that leaves the signals to the worker."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


@dataclass(frozen=True, slots=True)
class _Probes:
    """What answers probes, on the worker's own loop: a loop that hangs does not answer."""

    server: uvicorn.Server
    task: "asyncio.Task[None]"

    @classmethod
    def start(cls, api: FastAPI, taken: socket.socket) -> "_Probes":
        server = _Server(
            uvicorn.Config(
                api,
                http="h11",
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=PROBES_MAX,
                timeout_graceful_shutdown=1,
            )
        )
        return cls(server, asyncio.create_task(server.serve([taken])))

    async def end(self) -> None:
        self.server.should_exit = True
        await self.task


def build_worker(
    config: BrokerConfig, agency: AgencyId, lines: telemetry.Lines | None = None
) -> Worker:
    """Return the worker of ``agency`` that ``config`` describes; ``lines``: where it logs.

    Raises:
        Permanent: a file is missing or cannot be used, or there is no work of this kind.
        Transient: the database is locked or not reachable.
    """
    parts = load_parts(config, kind="deliver")
    protocols = config.registers.protocols_dir
    watch = RegisterWatch.begin(parts.registers, parts.store, parts.clock, protocols)
    found = parts.registers.current.agencies.get(agency)
    if found is None or found.delivery.adapter == MAILBOX:
        detail = f"{agency} is not registered, or has a mailbox, which `fame serve` fills"
        raise Permanent(Reason.TRANSPORT_REFUSED, detail)
    if lines is not None:
        parts.metrics.log_lines_lost.set_function(lambda: lines.lost)
    ways = make_ways(parts)
    lease = timedelta(seconds=config.delivery.lease_s)
    attempts = replace(make_attempts(parts, ways), lease=lease)
    quarantine = Quarantine(parts.store, agency, parts.clock)
    consumer = kafka_consumer(config, agency, quarantine.keep)
    words = "Partitions of the agency's topic that this worker reads."
    parts.metrics.ask(
        "fame_worker_partitions", words, "route", lambda: [(agency, float(consumer.partitions))]
    )
    return Worker(
        agency=agency,
        incoming=KafkaIncoming(consumer, agency),
        attempts=attempts,
        ways=ways,
        watch=watch,
        probes=_probes(parts, consumer, lines),
        config=config,
    )


def _probes(parts: Parts, consumer: KafkaConsumer, lines: telemetry.Lines | None) -> FastAPI:
    """Return what answers whether a worker with this ``consumer`` can deliver."""
    store, config = parts.store, parts.config.store

    async def cluster() -> None:
        if not consumer.joined:
            raise Transient(Reason.TRANSPORT_UNAVAILABLE)

    async def nothing() -> None:
        """Bring nothing up to date: what waits in the store is for the brokers to say."""

    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    needed = checks(store, parts.registers, config.url, config.free_bytes_min) | {"kafka": cluster}
    probes = Probes(anybody, needed, log_note(lines))
    api.include_router(system_routes(about(parts), parts.metrics, nothing, probes))
    return api
