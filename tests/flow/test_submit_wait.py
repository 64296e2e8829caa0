"""`POST /messages?wait=`: a question to several agencies, and what comes back in time."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from broker.core.identity import AgencyId, MessageId
from broker.core.message import Header
from broker.edge.clock import SystemClock
from tests.contract.running import (
    COUNCIL,
    HR,
    OTHER_COUNCIL,
    OTHER_YOT,
    POLICE,
    XML,
    YOT,
    Running,
    check_response,
    copied_sandbox,
    envelope,
    header,
    request_header,
    running,
    vacancy,
)

ANSWERS = "{urn:fame:receipt:1.0}"
LONG = "?wait=30"  # nothing here may take that long: what ends a wait is an answer


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


class Asking:
    """A request that waits for its answers, as a task."""

    def __init__(self, broker: Running, made: Header, query: str = LONG, **headers: str) -> None:
        self.broker = broker
        self.body = envelope(made)
        self.task = asyncio.create_task(broker.post(YOT, self.body, query, **headers))
        self.request = made.message_id

    async def kept(self) -> "Asking":
        """Wait until somebody is waiting for answers, which is after the request is kept."""
        waiting = self.broker.app.submitting.collector.answers._waiting
        async with asyncio.timeout(10):
            while self.request not in waiting:  # noqa: ASYNC110 - turns of the loop, not time
                await asyncio.sleep(0)
        return self


async def answer(broker: Running, agency: AgencyId, request: MessageId) -> bytes:
    body = check_response(agency, request)
    got = await broker.post(agency, body)
    assert got.status_code == 202, got.text
    return body


async def test_the_answers_of_all_recipients_end_the_wait(broker: Running) -> None:
    asking = await Asking(broker, request_header(COUNCIL, POLICE)).kept()
    bodies = [await answer(broker, agency, asking.request) for agency in (COUNCIL, POLICE)]

    got = await asking.task

    assert got.status_code == 200
    told = got.json()
    assert told["complete"] is True
    assert told["unanswered"] == []
    assert [one["sender"] for one in told["answers"]] == [COUNCIL, POLICE]
    assert told["receipt"]["message_id"] == asking.request
    assert b64decode(told["signed"]).startswith(b"<Receipt")
    envelopes = [b64decode(one["envelope"]) for one in told["answers"]]
    roots = [etree.fromstring(one) for one in envelopes]
    assert all(etree.QName(root).localname.endswith("Envelope") for root in roots)
    for sent, got_back, root in zip(bodies, envelopes, roots, strict=True):
        assert (sent == got_back) is (etree.QName(root).localname == "Envelope")


async def test_an_answer_that_was_waited_for_counts_as_collected(broker: Running) -> None:
    asking = await Asking(broker, request_header()).kept()
    await answer(broker, COUNCIL, asking.request)
    delivery = (await asking.task).json()["answers"][0]["delivery_id"]

    async with broker.client(YOT) as client:
        acknowledged = await client.post(
            f"/mailbox/{YOT}/{delivery}/acknowledgements", json={"level": "L3"}
        )

    assert acknowledged.status_code == 200


async def test_at_the_deadline_it_is_said_who_did_not_answer(broker: Running) -> None:
    asking = await Asking(broker, request_header(COUNCIL, POLICE), "?wait=0.4").kept()
    await answer(broker, POLICE, asking.request)

    got = await asking.task

    told = got.json()
    assert (got.status_code, told["complete"]) == (200, False)
    assert [one["sender"] for one in told["answers"]] == [POLICE]
    assert told["unanswered"] == [COUNCIL]


async def test_answers_can_be_had_as_xml(broker: Running) -> None:
    asking = await Asking(
        broker, request_header(COUNCIL, POLICE), "?wait=0.4", accept="application/xml"
    ).kept()
    await answer(broker, COUNCIL, asking.request)

    got = await asking.task

    root = etree.fromstring(got.content)
    assert root.tag == f"{ANSWERS}Answers"
    assert root.get("complete") == "false"
    assert b64decode(root.findtext(f"{ANSWERS}Receipt") or "").startswith(b"<Receipt")
    given = root.find(f"{ANSWERS}Answer")
    assert given is not None
    assert given.get("sender") == COUNCIL
    assert etree.fromstring(b64decode(given.text or "")) is not None
    assert root.findtext(f"{ANSWERS}Unanswered") == POLICE


async def test_the_requests_own_deadline_cuts_the_wait_short(broker: Running) -> None:
    soon = SystemClock().now() + timedelta(seconds=0.3)

    async with asyncio.timeout(10):
        got = await broker.post(YOT, envelope(request_header(respond_by=soon)), LONG)

    assert got.json()["unanswered"] == [COUNCIL]


async def test_an_answer_that_came_before_the_wait_is_found(broker: Running) -> None:
    made = request_header()
    body = envelope(made)
    await broker.post(YOT, body)
    await answer(broker, COUNCIL, made.message_id)

    got = await broker.post(YOT, body, LONG)

    assert got.json()["complete"] is True


async def test_asking_twice_gives_the_answer_twice(broker: Running) -> None:
    asking = await Asking(broker, request_header()).kept()
    await answer(broker, COUNCIL, asking.request)
    first = (await asking.task).json()

    second = (await broker.post(YOT, asking.body, LONG)).json()

    assert second == first


async def test_nobody_answers_in_anothers_place(broker: Running) -> None:
    asking = await Asking(broker, request_header(COUNCIL), "?wait=0.4").kept()
    await broker.post(OTHER_COUNCIL, check_response(OTHER_COUNCIL, asking.request))
    await broker.post(POLICE, check_response(POLICE, asking.request))

    told = (await asking.task).json()

    assert told["answers"] == []
    assert told["unanswered"] == [COUNCIL]


async def test_an_answer_to_somebody_else_does_not_end_the_wait(broker: Running) -> None:
    asking = await Asking(broker, request_header(COUNCIL)).kept()
    elsewhere = header(
        COUNCIL,
        "YOTCheckResponse",
        OTHER_YOT,
        purpose="YJ",
        correlation_id=asking.request,
    )
    assert (await broker.post(COUNCIL, envelope(elsewhere))).status_code == 202
    await answer(broker, COUNCIL, asking.request)

    told = (await asking.task).json()

    assert told["complete"] is True


async def test_a_message_that_is_no_answer_to_this_does_not_end_the_wait(broker: Running) -> None:
    asking = await Asking(broker, request_header(COUNCIL), "?wait=0.4").kept()
    made = header(COUNCIL, "InformationRequest", YOT, purpose="CP", correlation_id=asking.request)
    assert (await broker.post(COUNCIL, envelope(made))).status_code == 202

    told = (await asking.task).json()

    assert told["unanswered"] == [COUNCIL]


async def test_recipients_that_were_refused_the_question_are_not_waited_for(
    broker: Running,
) -> None:
    asking = await Asking(broker, request_header(COUNCIL, HR)).kept()
    await answer(broker, COUNCIL, asking.request)

    told = (await asking.task).json()

    assert told["complete"] is True
    assert {one["recipient"]: one["decision"] for one in told["receipt"]["outcomes"]} == {
        COUNCIL: "PERMITTED",
        HR: "REFUSED",
    }


async def test_an_answer_that_may_not_be_disclosed_any_more_is_none(tmp_path: Path) -> None:
    home = copied_sandbox(tmp_path)
    async with running(tmp_path, home=home) as broker:
        made = request_header(COUNCIL, POLICE)
        body = envelope(made)
        await broker.post(YOT, body)
        await answer(broker, COUNCIL, made.message_id)
        await answer(broker, POLICE, made.message_id)
        file = home / "protocols" / "agencies" / f"{POLICE}.toml"
        file.write_text(file.read_text().replace('status = "active"', 'status = "suspended"'))
        holder = broker.app.submitting.intake.registers
        holder.take(holder.read())  # type: ignore[attr-defined]

        told = (await broker.post(YOT, body, "?wait=0.3")).json()

    assert [one["sender"] for one in told["answers"]] == [COUNCIL]
    assert told["unanswered"] == [POLICE]


async def test_a_message_that_asks_nothing_is_answered_at_once(broker: Running) -> None:
    got = await broker.post(HR, vacancy(), LONG)

    assert got.status_code == 202


async def test_a_question_without_a_wait_is_answered_at_once(broker: Running) -> None:
    got = await broker.post(YOT, envelope(request_header()))

    assert got.status_code == 202


async def test_a_wait_is_cut_to_the_limit(tmp_path: Path) -> None:
    async with running(tmp_path, limits__wait_s_max="1") as broker, asyncio.timeout(10):
        got = await broker.post(YOT, envelope(request_header()), LONG)

    assert got.json()["complete"] is False


async def test_a_peer_that_hangs_up_leaves_nobody_waiting(broker: Running) -> None:
    made = request_header()
    parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    parts.put_nowait({"type": "http.request", "body": envelope(made), "more_body": False})
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/messages",
        "query_string": b"wait=30",
        "scheme": "https",
        "headers": [(name.encode(), value.encode()) for name, value in XML.items()],
        **broker.scope(YOT),
    }
    task = asyncio.create_task(broker.app(scope, parts.get, send))
    waiting = broker.app.submitting.collector.answers._waiting
    async with asyncio.timeout(10):
        while made.message_id not in waiting:  # noqa: ASYNC110 - turns of the loop, not time
            await asyncio.sleep(0)
        parts.put_nowait({"type": "http.disconnect"})
        await task

    assert sent == []
    assert waiting == {}
    assert broker.app.submitting.admission.submissions == 0


async def test_waiting_takes_no_place_from_those_who_submit(tmp_path: Path) -> None:
    async with running(tmp_path, http__in_flight_max="1") as broker:
        asking = await Asking(broker, request_header()).kept()

        await answer(broker, COUNCIL, asking.request)

        assert (await asking.task).json()["complete"] is True
