"""The composition root of `fame deliver`: the worker of one agency, and nothing besides."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from prometheus_client import start_http_server

from adapters.ways import Ways
from broker.app import load_parts, make_attempts, make_ways
from broker.app_kafka import kafka_consumer
from broker.config import BrokerConfig
from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge import telemetry
from broker.edge.attempts import Attempts
from broker.edge.delivering import Delivering
from broker.edge.kafka import KafkaIncoming
from broker.edge.metrics import Metrics
from broker.edge.outgoing import MAILBOX
from broker.edge.quarantine import Quarantine
from broker.edge.store import Store
from broker.edge.watching import RegisterWatch


@dataclass(frozen=True, slots=True)
class Worker:
    """Takes what is for one agency from its topic to its system until it is told to stop."""

    agency: AgencyId
    incoming: KafkaIncoming
    attempts: Attempts
    ways: Ways
    watch: RegisterWatch
    metrics: Metrics
    config: BrokerConfig

    @property
    def store(self) -> Store:
        """The database that it shares with the brokers."""
        return self.attempts.store

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop`` is set; then finish what is in work, commit, and leave.

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
        measured = self._measured()
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
            measured()
            await self.store.close()
            telemetry.log(telemetry.WORKER_STOPPED, agency=self.agency)

    def _measured(self) -> Callable[[], object]:
        """Serve the metrics where they are wanted, and return what ends that."""
        if not self.config.kafka.metrics_port:
            return lambda: None
        registry = self.metrics.registry
        server, thread = start_http_server(
            self.config.kafka.metrics_port, addr="127.0.0.1", registry=registry
        )

        def end() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return end


def build_worker(config: BrokerConfig, agency: AgencyId) -> Worker:
    """Return the worker of ``agency`` that ``config`` describes.

    Raises:
        Permanent: a file is missing or cannot be used, or there is no work of this kind.
        Transient: the database is locked or not reachable.
    """
    parts = load_parts(config, kind="deliver")
    found = parts.registers.current.agencies.get(agency)
    if found is None or found.delivery.adapter == MAILBOX:
        detail = f"{agency} is not registered, or has a mailbox, which `fame serve` fills"
        raise Permanent(Reason.TRANSPORT_REFUSED, detail)
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
        watch=RegisterWatch(parts.registers, config.registers.protocols_dir),
        metrics=parts.metrics,
        config=config,
    )
