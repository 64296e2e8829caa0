"""The broker under a clock that a test sets, as a program of its own.

    python -m tests.live.faked_clock serve --config FILE

libfaketime fakes the clock of the wall for the whole process and leaves the monotonic one
alone. Python's `time.sleep` fails under it, so here a sleep waits for an event that never comes.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import SupportsFloat, SupportsIndex

from broker.cli import main as broker_main
from tests.live.tools import require

LIBRARIES = "*/faketime/libfaketimeMT.so.1"


@dataclass(frozen=True, slots=True)
class FakedClock:
    """A clock in a file, which moves the processes that are started under it."""

    file: Path

    def set(self, offset: str) -> None:
        """Set the clock: an offset such as ``+1h``."""
        fresh = self.file.with_suffix(".new")
        fresh.write_text(f"{offset}\n", encoding="ascii")
        fresh.replace(self.file)

    @property
    def environment(self) -> Mapping[str, str]:
        """Return what a process is started with to go by it."""
        require("faketime")
        (library,) = Path("/usr/lib").glob(LIBRARIES)
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds; each reading of the file is dear
            "NO_FAKE_STAT": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


def sleep(seconds: SupportsFloat | SupportsIndex, /) -> None:
    """Sleep, by the monotonic clock."""
    threading.Event().wait(float(seconds))


if __name__ == "__main__":
    time.sleep = sleep
    broker_main()
