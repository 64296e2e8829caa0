"""In whose name a process holds leases: a name that no other running process has."""

import fcntl
import os
from pathlib import Path
from uuid import uuid4

EMBEDDED = "embedded"


class OwnName:
    """The name of this process among those that share a database. `close` gives it up.

    The first process beside an SQLite file has a name that it has again after a restart, so
    that it finds what it held when it died; a lock on a file, which falls with the process,
    sees to it that nobody else has it. Every other process gets a name that is new each
    time: what it held is taken up when its leases end.
    """

    def __init__(self, kind: str, database: Path | None = None) -> None:
        self._file: int | None = None
        self.name = f"{kind}-{uuid4()}"
        if database is not None and self._locked(database.with_name(f"{database.name}.owner")):
            self.name = EMBEDDED

    def close(self) -> None:
        """Let another process have the name."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _locked(self, path: Path) -> bool:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            return False
        self._file = file
        return True
