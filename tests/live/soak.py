"""The long run: histories of many kills, one after the other, until enough were made.

    python -m tests.live.soak [--seed SEED] [--kills KILLS] [--size SIZE]

Each history has a fresh broker and its own seed, drawn from SEED; both are printed, with
what was found and the totals. `--history SEED` plays one of them again. The exit code is 1
when any check found anything. What was run is in SOAK.md.
"""

import argparse
import random
import secrets
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.live.play import Played, play
from tests.live.sizes import Embedded, Size, new_state, plain_state

KILLS_EACH = 20
SIZES = ("sqlite", "scaled")
Maker = Callable[[Path], Size]


@contextmanager
def sizes(name: str) -> Iterator[Maker]:
    """Yield what makes a fresh broker of the size ``name`` below a folder."""
    if name == "sqlite":
        yield lambda folder: Embedded(new_state(folder))
        return
    from tests.live.scaled_size import Services  # takes Java, Kafka and PostgreSQL

    with tempfile.TemporaryDirectory(prefix="fame-services-") as folder:
        Path(folder).chmod(0o755)  # the database runs as nobody
        with Services(Path(folder)) as services:
            yield lambda folder: services.size(plain_state(folder))


def one(maker: Maker, seed: int, kills: int) -> Played:
    """Play one history against a fresh broker."""
    with tempfile.TemporaryDirectory(prefix="fame-soak-") as folder:
        return play(maker(Path(folder)), seed, kills)


def line(totals: Counter[str]) -> str:
    """Return totals as one line."""
    return ", ".join(f"{name} {totals[name]}" for name in sorted(totals))


def soak(name: str, seed: int, kills: int) -> bool:
    """Play until there were ``kills`` kills, print what happened, and say whether all is clean."""
    chance = random.Random(seed)  # noqa: S311 - repeatable
    totals: Counter[str] = Counter()
    clean = True
    started = time.monotonic()
    print(f"size {name}, seed {seed}, {kills} kills", flush=True)
    with sizes(name) as maker:
        while totals["kills"] < kills:
            own = chance.randrange(1 << 32)
            played = one(maker, own, min(KILLS_EACH, kills - totals["kills"]))
            totals += played.totals()
            clean &= played.verdict.clean
            print(f"history {own}: {line(played.totals())}\n{played.verdict}", flush=True)
    minutes = (time.monotonic() - started) / 60
    print(f"totals in {minutes:.1f} minutes: {line(totals)}; {'clean' if clean else 'NOT CLEAN'}")
    return clean


def main() -> int:
    """Read the arguments and soak, or play one history again."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seed", type=int, default=secrets.randbits(32))
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--size", choices=[*SIZES], default="sqlite")
    options.add_argument("--history", type=int, help="play the one history of this seed")
    given = options.parse_args()
    if given.history is not None:
        with sizes(given.size) as maker:
            played = one(maker, given.history, min(KILLS_EACH, given.kills))
        print(line(played.totals()), played.verdict, sep="\n")
        return int(not played.verdict.clean)
    return int(not soak(given.size, given.seed, given.kills))


if __name__ == "__main__":
    sys.exit(main())
