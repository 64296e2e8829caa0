"""How long an answer takes about a person who is known, over one about a stranger.

    python -m tests.bench.bench_answers

The same question is asked about a child of whom the broker holds consents and as many
messages, and about somebody of whom it never heard: in pairs, in an order drawn for each pair,
in one process, over the store as it is. The rank test is Wilcoxon's, of the differences in
pairs; with p below 0.01 and more than 5 % of the median the times differ.
This judges nothing by itself: a network hides more than it measures, and a busy machine too.
"""

import asyncio
import logging
import math
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from tests.flow.journey import CHILD, Journey, journey
from tests.flow.known import QUESTIONS, STRANGER, Question, make_known

RECORDS = (2, 40)
PAIRS = 300
ANSWERED = (202, 403)
WARM = 20
SHARE_MAX = 0.05
P_MIN = 0.01


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds about the known child and about strangers, pair by pair."""

    known: Sequence[float]
    stranger: Sequence[float]

    @property
    def share(self) -> float:
        """The median difference in pairs, as a share of the median."""
        pairs = zip(self.known, self.stranger, strict=True)
        return statistics.median(a - b for a, b in pairs) / statistics.median(self.stranger)


def wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p value of the signed rank test, by its normal approximation."""
    ranked = sorted((one for one in differences if one), key=abs)
    count = len(ranked)
    if not count:
        return 1.0
    above = sum(rank for rank, one in enumerate(ranked, 1) if one > 0)
    mean = count * (count + 1) / 4
    spread = math.sqrt(count * (count + 1) * (2 * count + 1) / 24)
    return math.erfc(abs(above - mean) / spread / math.sqrt(2))


async def once(j: Journey, question: Question, person: int) -> float:
    """Ask, and return how long the answer took; signing is not counted."""
    _, raw = j.signed(
        question.sender, question.about(person), question.recipient, purpose=question.purpose
    )
    started = time.perf_counter()
    answer = await j.broker.post(question.sender, raw, accept="application/json")
    taken = time.perf_counter() - started
    if answer.status_code not in ANSWERED:
        raise SystemExit(f"answered {answer.status_code}")
    return taken * 1000


async def measure(j: Journey, question: Question, chance: random.Random, first: int) -> Measured:
    """Ask in pairs; every stranger is another one."""
    known: list[float] = []
    stranger: list[float] = []
    for number in range(WARM + PAIRS):
        pair = [(CHILD, known), (first + number, stranger)]
        chance.shuffle(pair)
        for person, times in pair:
            times.append(await once(j, question, person))
    return Measured(known[WARM:], stranger[WARM:])


async def run(records: int) -> None:
    """Measure every question about a child with so many ``records``; print what was found."""
    chance = random.Random(11)  # noqa: S311 - the same order in every run
    with tempfile.TemporaryDirectory() as folder:
        async with journey(Path(folder)) as j:
            await make_known(j, records)
            for number, question in enumerate(QUESTIONS):
                first = STRANGER + number * (WARM + PAIRS)
                print(line(question, await measure(j, question, chance, first)), flush=True)


def line(question: Question, found: Measured) -> str:
    """Return what is printed of one question."""
    p = wilcoxon([a - b for a, b in zip(found.known, found.stranger, strict=True)])
    differs = p < P_MIN and abs(found.share) > SHARE_MAX
    return (
        f"{question.name:11} known {statistics.median(found.known):6.2f} ms, "
        f"stranger {statistics.median(found.stranger):6.2f} ms, "
        f"difference {found.share:+.1%}, p = {p:.3f}: {'DIFFERS' if differs else 'alike'}"
    )


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    for many in RECORDS:
        print(f"{many} consents and {many} messages about the known child")
        asyncio.run(run(many))
