"""`POST /messages?wait=` on one node, and the answer accepted by another."""

import asyncio
from pathlib import Path

from tests.contract.running import COUNCIL, YOT, check_response, envelope, request_header, running

ANSWERED_S = 20.0
LONG = "?wait=30"  # what ends the wait is the answer


async def test_who_waits_at_one_node_is_given_what_another_accepted(
    tmp_path: Path, emptied_database: str
) -> None:
    url = emptied_database.replace("+psycopg", "")
    here, there = tmp_path / "here", tmp_path / "there"
    async with running(here, store__url=url) as asked, running(there, store__url=url) as answering:
        made = request_header(COUNCIL)
        task = asyncio.create_task(asked.post(YOT, envelope(made), LONG))
        waiting = asked.app.submitting.collector.answers._waiting
        async with asyncio.timeout(ANSWERED_S):
            while made.message_id not in waiting:  # noqa: ASYNC110 - turns of the loop, not time
                await asyncio.sleep(0)
            kept = await answering.post(COUNCIL, check_response(COUNCIL, made.message_id))
            got = await task

    told = got.json()
    assert kept.status_code == 202
    assert (got.status_code, told["complete"]) == (200, True)
    assert [one["sender"] for one in told["answers"]] == [COUNCIL]
