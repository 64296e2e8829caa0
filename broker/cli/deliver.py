"""`fame deliver`: one agency's worker, from its Kafka topic to its system, until told to stop."""

import asyncio
import signal
import socket
import sys
from contextlib import nullcontext

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import AgencyOption, Config, load_config
from broker.cli.serve import bound


def command(agency: AgencyOption, config: Config = None) -> None:
    """Deliver what is for one agency until told to stop (SIGTERM, or Ctrl-C).

    It reads the topic of that agency and no other, opens each record with the agency's own
    key, asks the rules again, hands over, records, and only then lets the record go. Any
    number of them may run for one agency.
    """
    settings = load_config(config).config
    if settings.delivery.transport != "kafka":
        rows = {
            "why": "with the transport in-process, `fame serve` delivers by itself",
            "try": 'transport = "kafka" in the section [delivery]',
        }
        raise Failure("There is nothing for this worker to take", EXIT_USAGE, rows)
    try:
        from broker.app_deliver import build_worker
    except ImportError as error:
        rows = {"try": "pip install 'fame-broker[kafka]'"}
        raise Failure("The Kafka library is not installed", EXIT_USAGE, rows) from error
    import uvloop

    from broker.core.identity import agency_id
    from broker.edge.telemetry import configure_logging

    try:
        name = agency_id(agency)
    except ValueError as error:
        raise Failure("That is no agency id", EXIT_USAGE, {"try": "fame agency ls"}) from error
    lines = configure_logging()

    async def run(taken: socket.socket | None) -> None:
        stop = asyncio.Event()
        for ending in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(ending, stop.set)
        worker = build_worker(settings, name, lines)
        if sys.stderr.isatty():
            print(f"Delivering to {name}; Ctrl-C stops it.", file=sys.stderr)
        await worker.run(stop, taken)

    host, port = settings.kafka.worker_host, settings.kafka.worker_port
    with (
        bound(host, port, "kafka.worker_port") if port else nullcontext() as taken,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(run(taken))
