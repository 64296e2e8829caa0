"""What a disk would hold after a power cut, told from a trace of a process's system calls.

A write counts once a sync of its file has returned; everything else was in memory only and
is gone. After every acknowledgement the power is cut and the database opened again.
"""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

OPTIONS = ("-f", "-qq", "-y", "-xx", "-s", "10000000")
CALLS = "trace=pwrite64,fdatasync,fsync,ftruncate,write"
_BEGUN = re.compile(r"^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$", re.DOTALL)
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$", re.DOTALL)
_CALL = re.compile(r"^(\d+) +(\w+)\(\d+<([^>]*)>(?:, (.*))?\) += (-?\d+)", re.DOTALL)
_TEXT = re.compile(r'^"((?:\\x[0-9a-f]{2})*)"')


@dataclass(slots=True)
class Disk:
    """Files as the process wrote them, and as a power cut leaves them."""

    written: dict[str, bytearray] = field(default_factory=dict)
    kept: dict[str, bytes] = field(default_factory=dict)

    def apply(self, call: str, file: str, arguments: str) -> None:
        """Apply one call that succeeded."""
        content = self.written.setdefault(file, bytearray())
        if call in {"fsync", "fdatasync"}:
            self.kept[file] = bytes(content)
        elif call == "ftruncate":
            size = int(arguments)
            content[:] = content[:size].ljust(size, b"\0")
        elif call == "pwrite64":
            data = _text(arguments)
            offset = int(arguments.rpartition(",")[2])
            content.extend(bytes(max(0, offset + len(data) - len(content))))
            content[offset : offset + len(data)] = data


def _text(arguments: str) -> bytes:
    found = _TEXT.match(arguments)
    assert found is not None
    return bytes.fromhex(found.group(1).replace("\\x", ""))


def calls(trace: Path) -> Iterator[tuple[str, str, str]]:
    """Yield call, file and further arguments of every call that succeeded, as each returned."""
    begun: dict[str, str] = {}
    for line in trace.read_text(encoding="ascii").splitlines():
        if (start := _BEGUN.match(line)) is not None:
            begun[start.group(1)] = f"{start.group(2)}({start.group(3)}"
            continue
        if (end := _RESUMED.match(line)) is not None:
            line = f"{end.group(1)} {begun.pop(end.group(1))}{end.group(3)}"  # noqa: PLW2901
        if (call := _CALL.match(line)) is not None and int(call.group(5)) >= 0:
            path = bytes.fromhex(call.group(3).replace("\\x", "")).decode()
            yield call.group(2), path, call.group(4) or ""


def lost(trace: Path, database: Path, scratch: Path) -> tuple[int, list[str]]:
    """Cut the power after each acknowledgement; return how many there were, and what was lost."""
    disk = Disk()
    acknowledged: list[str] = []
    missing: list[str] = []
    for call, file, arguments in calls(trace):
        if file.startswith(str(database)):
            disk.apply(call, file, arguments)
        elif call == "write" and (said := _text(arguments).split())[:1] == [b"ack"]:
            acknowledged.append(said[1].decode())
            kept = _recovered(disk, database, scratch)
            missing += [name for name in acknowledged if name not in kept]
    return len(acknowledged), missing


def _recovered(disk: Disk, database: Path, scratch: Path) -> set[str]:
    for suffix in ("", "-wal"):
        content = disk.kept.get(f"{database}{suffix}", b"")
        (scratch / f"cut.db{suffix}").write_bytes(content)
    (scratch / "cut.db-shm").unlink(missing_ok=True)
    with closing(sqlite3.connect(scratch / "cut.db")) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'message'").fetchone():
            return set()
        return {row[0] for row in db.execute("SELECT message_id FROM message")}
