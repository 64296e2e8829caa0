"""A worker that a test stops in its tracks: takes one record, and settles it when told to.

Reads its settings as one line of JSON, then one line for each thing it is to do.
"""

import asyncio
import json
import sys
from pathlib import Path

import structlog

from broker.core.errors import Fault
from broker.core.identity import AgencyId
from broker.edge.jwe import own_keys
from broker.edge.kafka_client import KafkaSettings, Scram
from broker.edge.kafka_consumer import KafkaConsumer, Poison


async def refuse(poison: Poison) -> None:
    raise AssertionError(poison.why)


async def heard() -> str:
    return await asyncio.to_thread(sys.stdin.readline)


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    told = json.loads(await heard())
    settings = KafkaSettings(
        told["bootstrap"],
        Path(told["ca_file"]),
        Scram(told["user"], told["password"]),
        request_s=1.0,
        session_s=told["session_s"],
    )
    keys = own_keys(AgencyId(told["agency"]), [told["key"].encode()])
    worker = KafkaConsumer(settings, told["topic"], lambda: keys, refuse)
    arrived = await worker.take()
    print("took", arrived.card.dispatch.delivery_id, flush=True)
    await heard()
    worker.settle(arrived)
    try:
        await worker.flush()
    except Fault as fault:
        print("refused", fault.detail, flush=True)
    else:
        print("settled", flush=True)
    await heard()


asyncio.run(main())
