"""Decisions a second at 100, 10,000 and 100,000 clauses: cheap, and flat.

    python -m tests.bench.bench_decide

Bar: 10 µs or less a decision at 100,000 clauses, and no growth with their number. Processor
time is counted, of one core, since these machines are shared.
"""

import gc
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from broker.core.agency import Agency, AgencyFlags
from broker.core.decision import decide_facts
from broker.core.facts import DecisionFacts
from broker.core.identity import AgencyId
from broker.core.outcome import Permitted, Refused
from broker.core.protocol import Register, compile_register
from broker.core.sharing import Party, SharingProtocol
from tests.unit.policy_world import CSC, FACTS, NOW, YOT, plain

SIZES = (100, 10_000, 100_000)
ROUNDS = 20_000
PARTIES = 11  # of one sharing protocol: 10 pairs from the first of them


@dataclass(frozen=True, slots=True)
class Measured:
    """What one size cost, in microseconds of processor time for one decision.

    ``busy``: among 100 pairs of agencies that talk much, as agencies do. ``scattered``: any pair
    at random, which the processor's caches cannot hold. ``refused``: scattered, for its purpose.
    """

    clauses: int
    busy_us: float
    scattered_us: float
    refused_us: float


def register_of(clauses: int) -> Register:
    """Return a register with ``clauses`` clauses, each about another pair of agencies."""
    world = plain()
    basis = world.protocols["checks@1"]
    community = replace(world.protocols["community@1"], tier=0, parent=None)
    agencies: dict[AgencyId, Agency] = {}
    protocols: list[SharingProtocol] = []
    for number in range(clauses // (PARTIES - 1)):
        names = [AgencyId(f"agency-{number}-{one}") for one in range(PARTIES)]
        agencies |= {name: _agency(name, sends=name is names[0]) for name in names}
        protocols.append(
            replace(
                basis,
                protocol_id=f"checks-{number}",
                tier=1,
                parent=community.reference,
                parties=tuple(Party(name, "CONTROLLER", "BOTH") for name in names),
                flows=(replace(basis.flows[0], senders=("YOT",), recipients=("LA_CSC",)),),
            )
        )
    bound = replace(
        community, parties=tuple(Party(name, "CONTROLLER", "BOTH") for name in agencies)
    )
    return compile_register(
        agencies=agencies,
        gateways=world.gateways,
        purposes=world.purposes,
        lists=world.lists,
        protocols=(bound, *protocols),
        digest="0" * 64,
    )


def _agency(name: AgencyId, *, sends: bool) -> Agency:
    kind = "YOT" if sends else "LA_CSC"
    return Agency(name, name, kind, flags=AgencyFlags(relevant_authority_115=True))


def measure(clauses: int) -> Measured:
    """Return what a decision costs among ``clauses`` clauses."""
    register = register_of(clauses)
    found = sum(len(held) for held in register.index.values())
    chance = random.Random(7)  # noqa: S311 - the same pairs in every run
    pairs = [(sender, recipient) for sender, recipient, _ in register.index]
    busy = [_asked(pair) for pair in chance.sample(pairs, 100)] * (ROUNDS // 100)
    scattered = [_asked(pair) for pair in chance.choices(pairs, k=ROUNDS)]
    refused = [(replace(facts, purpose="CP"), recipient) for facts, recipient in scattered]
    return Measured(
        found,
        _cost(lambda: _decide(register, busy, Permitted)),
        _cost(lambda: _decide(register, scattered, Permitted)),
        _cost(lambda: _decide(register, refused, Refused)),
    )


def _asked(pair: tuple[AgencyId, AgencyId]) -> tuple[DecisionFacts, AgencyId]:
    return replace(FACTS, sender=pair[0]), pair[1]


def _decide(
    register: Register,
    asked: list[tuple[DecisionFacts, AgencyId]],
    expected: type[Permitted] | type[Refused],
) -> None:
    for facts, recipient in asked:
        decision = decide_facts(facts, recipient, register, (), NOW)
        if not isinstance(decision, expected):
            raise TypeError("the benchmark decides something else than it should")


def _cost(run: Callable[[], None]) -> float:
    """Return the best of three, in microseconds of processor time a decision."""
    best = float("inf")
    for _ in range(3):
        started = time.process_time()
        run()
        best = min(best, time.process_time() - started)
    return best / ROUNDS * 1e6


def main() -> None:
    """Measure and print."""
    assert isinstance(decide_facts(FACTS, CSC, plain(), (), NOW), Permitted)
    assert FACTS.sender == YOT
    print(f"{'clauses':>9} {'busy µs':>9} {'scattered µs':>13} {'refused µs':>11} {'busy/s':>9}")
    results = []
    for size in SIZES:
        gc.collect()
        one = measure(size)
        results.append(one)
        print(
            f"{one.clauses:>9,} {one.busy_us:>9.2f} {one.scattered_us:>13.2f} "
            f"{one.refused_us:>11.2f} {1e6 / one.busy_us:>9,.0f}"
        )
    first, last = results[0], results[-1]
    print(f"100,000 over 100 clauses, busy:      {last.busy_us / first.busy_us:.2f} times")
    print(
        f"100,000 over 100 clauses, scattered: {last.scattered_us / first.scattered_us:.2f} times"
    )


if __name__ == "__main__":
    main()
