"""A process of its own that fills a store and says what it was told, until somebody kills it.

    python -m tests.live.store_child DATABASE PREFIX COUNT [TOGETHER]

Writes one line for each answer, after it came: ``ack ID SEQUENCE``, ``fault ID CODE``; then
``lost`` when the store said that it is, and ``end``.
"""

import asyncio
import os
import sys

from broker.core.errors import BrokerError
from broker.core.receipt import receipt_json
from broker.edge.store import Store, StoreSettings
from tests.contract import stores


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")  # one write: a kill cannot tear it


async def send(store: Store, message_id: str) -> None:
    try:
        accepted = await store.submit(stores.submission(message_id, message_id.encode()))
    except BrokerError as fault:
        say(f"fault {message_id} {fault.reason.value}")
    else:
        ledger = receipt_json(accepted.receipt)["ledger"]
        assert isinstance(ledger, dict)
        say(f"ack {message_id} {ledger['sequence']}")


async def main(database: str, prefix: str, count: int, together: int) -> None:
    settings = StoreSettings(batch_max=together, log_bytes_max=256 * 1024)
    store = stores.open_store(f"sqlite:///{database}", settings)
    for start in range(0, count, together):
        numbers = range(start, min(count, start + together))
        await asyncio.gather(*(send(store, f"{prefix}-{number}") for number in numbers))
    if store.lost is not None:
        say("lost")
    await store.close()
    say("end")


if __name__ == "__main__":
    together = int(sys.argv[4]) if sys.argv[4:] else 8
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), together))
