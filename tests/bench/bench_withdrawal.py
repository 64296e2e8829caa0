"""From the withdrawal of a consent at one node until another shows that it counts.

python -m tests.bench.bench_withdrawal

Bar: 5 s. Two `fame serve` share a real PostgreSQL; a school records a child's consent and
sends a referral that rests on it, and withdraws at the first node. The clock stops when the
council, asking the second node, no longer sees the referral in its mailbox.
"""

import subprocess
import sys
from pathlib import Path

SUITE = Path(__file__).parents[1] / "live" / "test_withdrawal.py"
LINE = "withdrawal to stop"


def main() -> None:
    """Run the test that measures it, and print its figure."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-s", "-k", "stops_what_waits", str(SUITE)],
        capture_output=True,
        text=True,
        check=False,
    )
    figures = [line[line.index(LINE) :] for line in done.stdout.splitlines() if LINE in line]
    if done.returncode or not figures:
        raise SystemExit(done.stdout + done.stderr)
    print(figures[0])


if __name__ == "__main__":
    main()
