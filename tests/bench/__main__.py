"""Run every benchmark of this folder and write what they print into RESULTS.md.

    make bench

They run one after the other, each in a process of its own. What a number should be, and
whether it is, each benchmark says itself.
"""

import importlib
import os
import platform
import sqlite3
import ssl
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"


def machine() -> str:
    """Return what the numbers were measured on."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return (
        f"{os.cpu_count()} cores of {model}, {platform.system()} {platform.release()}, "
        f"CPython {platform.python_version()}, {ssl.OPENSSL_VERSION}, "
        f"SQLite {sqlite3.sqlite_version}; load before the start {os.getloadavg()[0]:.1f}"
    )


def section(name: str) -> str:
    """Run one benchmark and return its part of the page."""
    module = importlib.import_module(f"tests.bench.{name}")
    title, _, rest = (module.__doc__ or name).partition("\n")
    print(f"{name} ...", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", f"tests.bench.{name}"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout}{done.stderr}")
    print(done.stdout, flush=True)
    return f"## {title}\n\n{rest.strip()}\n\n```text\n{done.stdout.rstrip()}\n```\n"


def main() -> None:
    """Measure everything and write the page."""
    at = datetime.now(UTC)  # noqa: TID251 - the date on the page
    head = f"# Results\n\nMeasured on {at:%Y-%m-%d %H:%M} UTC: {machine()}.\n"
    words = "`make bench` writes this page anew. On a shared machine ratios say more than rates.\n"
    parts = [head + words]
    parts += [section(path.stem) for path in sorted(HERE.glob("bench_*.py"))]
    RESULTS.write_text("\n".join(parts), encoding="utf-8")
    print(f"Wrote {RESULTS.name}.")


if __name__ == "__main__":
    main()
