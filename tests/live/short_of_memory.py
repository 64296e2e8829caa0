"""A process of its own that examines a message while it may have hardly any more memory.

    python -m tests.live.short_of_memory BYTES

Writes what came of it: with so many more bytes, and then with as many as it wants.
"""

import resource
import sys
from datetime import UTC, datetime
from pathlib import Path

from broker.core.errors import BrokerError
from broker.core.examine import examine
from broker.core.limits import LIMITS
from broker.core.signature import ProfileVerifier
from broker.edge.schemas import load_schemas

MANY = b"<Envelope>" + b"<a/>" * 49_000 + b"</Envelope>"  # takes tens of megabytes
SCHEMAS = load_schemas(Path(__file__).parents[2] / "schemas")


def outcome() -> str:
    try:
        examine(
            MANY,
            peer_agencies=None,
            agencies={},
            schemas=SCHEMAS,
            verifier=ProfileVerifier(),
            limits=LIMITS,
            now=datetime.now(UTC),  # noqa: TID251 - a process of its own
        )
    except BrokerError as error:
        return error.reason.value
    except MemoryError:
        return "MemoryError"
    return "accepted"


def main(more: int) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    short = outcome()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(short, outcome())


if __name__ == "__main__":
    main(int(sys.argv[1]))
