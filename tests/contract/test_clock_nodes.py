"""Clocks on both databases, kept by two nodes at once."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

from broker.edge.clock_keeping import ClockKeeper
from tests.flow.delivery_world import CSC, SCHOOL, world
from tests.flow.test_clock_keeping import events, keeper, notices, told

PEOPLE = 4
CLOCKS = 3  # of a referral


async def test_two_nodes_let_each_clock_go_on_once_and_tell_of_it_once(
    tmp_path: Path, url: str
) -> None:
    async with AsyncExitStack() as stack:
        w = await stack.enter_async_context(world(tmp_path, url=url))
        other = w.another_store()
        stack.push_async_callback(other.close)
        nodes = (keeper(w), ClockKeeper(other, w.registers, w.clock, notices(w)))
        for seed in range(PEOPLE):
            await w.send("Referral", SCHOOL, CSC, seed=seed)
        for hours in (0, 3, 240):
            w.clock.pass_(hours=hours)
            await asyncio.gather(*(node.step() for node in nodes))

        happened = await events(w)
        assert len(happened) == PEOPLE * CLOCKS * 3
        assert len(await told(w)) == PEOPLE * (1 + CLOCKS * 2)  # CSC leads, and is told once
