"""Submissions through a whole broker: many at once, over real TLS, and what is never said."""

import asyncio
import http.client
import io
import json
import logging
import socket
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from lxml import etree

from broker.app import build, server
from broker.core.errors import Rejection
from broker.core.samples import sample_payload
from broker.edge import telemetry
from tests.contract.running import (
    BROKER,
    COUNCIL,
    HR,
    POLICE,
    PORTAL,
    SCHOOL,
    XML,
    YOT,
    Running,
    check_request,
    config_of,
    envelope,
    request_header,
    running,
    sandbox,
    tls_of,
    vacancy,
)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


# -- many at once ----------------------------------------------------------------------------


async def test_two_hundred_sends_of_one_message_at_once_have_one_effect(broker: Running) -> None:
    body = vacancy()

    answers = await asyncio.gather(*(broker.post(HR, body) for _ in range(200)))

    assert Counter(answer.status_code for answer in answers) == {202: 1, 200: 199}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert await broker.rows("message") == await broker.rows("delivery") == 1
    assert await broker.rows("decision") == 1


async def test_of_many_messages_under_one_id_one_is_kept(broker: Running) -> None:
    first = vacancy()
    message_id = etree.fromstring(first).findtext(".//{*}MessageId")
    bodies = [vacancy(message_id=message_id, causation_id=None) for _ in range(20)]

    answers = await asyncio.gather(*(broker.post(HR, body) for body in [first, *bodies]))

    statuses = Counter(answer.status_code for answer in answers)
    assert statuses[202] == 1
    assert statuses[202] + statuses[200] + statuses[409] == 21
    assert await broker.rows("message") == 1


async def test_what_was_kept_is_there_after_a_restart(tmp_path: Path) -> None:
    body = check_request(COUNCIL)
    async with running(tmp_path) as broker:
        first = await broker.post(YOT, body)

    async with running(tmp_path) as broker:
        second = await broker.post(YOT, body)
        view = await broker.get(COUNCIL, first.headers["location"])

    assert (second.status_code, second.content) == (200, first.content)
    assert view.status_code == 200


# -- over the wire ---------------------------------------------------------------------------


@contextmanager
def served(folder: Path, **overrides: str) -> Iterator[int]:
    """Serve a broker as `fame serve` does, and yield its port."""
    config = config_of(sandbox(), folder, **overrides)
    listener = socket.create_server(("127.0.0.1", 0))
    made = server(config, build(config))
    thread = threading.Thread(
        target=lambda: asyncio.run(made.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    try:
        yield listener.getsockname()[1]  # the kernel queues connections until it is up
    finally:
        made.should_exit = True
        thread.join(20)
    assert not thread.is_alive()


def client(port: int, agency: Any) -> httpx2.Client:
    return httpx2.Client(
        base_url=f"https://localhost:{port}", verify=tls_of(sandbox(), agency), trust_env=False
    )


def test_a_message_is_taken_over_mutual_tls_and_collected(tmp_path: Path) -> None:
    body = vacancy()
    with served(tmp_path) as port:
        with client(port, HR) as hr:
            sent = hr.post("/messages", content=body, headers=XML)
            again = hr.post("/messages", content=body, headers=XML)
        with client(port, None) as nobody:
            unknown = nobody.post("/messages", content=body, headers=XML)
            livez = nobody.get("/livez")
        with client(port, PORTAL) as portal:
            listed = portal.get(f"/mailbox/{PORTAL}").json()["deliveries"]

    assert (sent.status_code, again.status_code, unknown.status_code) == (202, 200, 401)
    assert livez.status_code == 200
    assert "server" not in livez.headers
    assert len(listed) <= 1  # the relay may still be on its way


def test_whoever_sends_too_much_reads_why(tmp_path: Path) -> None:
    with served(tmp_path, limits__body_bytes_max="30000") as port, client(port, HR) as hr:
        over = hr.post("/messages", content=b"x" * 3_000_000, headers=XML)
        after = hr.post("/messages", content=vacancy(), headers=XML)

    assert (over.status_code, over.json()["code"]) == (413, "sender.too_large")
    assert after.status_code == 202


def test_pipelined_requests_are_answered_in_their_order(tmp_path: Path) -> None:
    bodies = [vacancy() for _ in range(3)]
    with served(tmp_path) as port:
        context = tls_of(sandbox(), HR)
        raw = socket.create_connection(("localhost", port), timeout=20)
        with context.wrap_socket(raw, server_hostname="localhost") as connection:
            connection.sendall(b"".join(map(request, bodies)))
            receipts = [answer(connection) for _ in bodies]

    for body, receipt in zip(bodies, receipts, strict=True):
        sent = etree.fromstring(body).findtext(".//{*}MessageId")
        assert etree.fromstring(receipt).findtext("{*}MessageId") == sent


def request(body: bytes) -> bytes:
    head = "POST /messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/xml\r\n"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def answer(connection: ssl.SSLSocket) -> bytes:
    got = http.client.HTTPResponse(connection)
    got.begin()
    return got.read()


# -- what is never said ----------------------------------------------------------------------

CANARY = "Canary"


@pytest.fixture
def logged() -> Iterator[io.BytesIO]:
    """Everything that is logged, at the lowest level."""
    stream = io.BytesIO()
    root = logging.getLogger()
    held = list(root.handlers), root.level
    telemetry.configure_logging(stream, level="debug")
    root.setLevel(logging.DEBUG)
    yield stream
    structlog.reset_defaults()
    root.handlers[:], level = held[0], held[1]
    root.setLevel(level)


def planted(broker: Running, message_type: str) -> tuple[bytes, int]:
    """A valid payload with a canary in every element that takes any text, and their number."""
    schemas = broker.app.submitting.intake.schemas
    payload = etree.fromstring(sample_payload(message_type, 3))
    count = 0
    for element in list(payload.iter()):
        before = element.text
        if len(element) or not before:
            continue
        element.text = CANARY
        try:
            schemas.validate(message_type, "1.0", payload)
            count += 1
        except Rejection:
            element.text = before
    return etree.tostring(payload), count


def spoilt(message_type: str) -> Iterator[bytes]:
    """The payload with each of its texts in turn replaced by a canary, most of them invalid."""
    leaves = [
        element
        for element in etree.fromstring(sample_payload(message_type, 3)).iter()
        if not len(element)
    ]
    for index in range(len(leaves)):
        payload = etree.fromstring(sample_payload(message_type, 3))
        [element for element in payload.iter() if not len(element)][index].text = f"{CANARY}\u202e"
        yield etree.tostring(payload)


def said(answers: list[httpx2.Response]) -> bytes:
    return b"".join(got.content + json.dumps(dict(got.headers)).encode() for got in answers)


async def test_no_value_of_a_message_is_said_anywhere(broker: Running, logged: io.BytesIO) -> None:
    payload, count = planted(broker, "YOTCheckRequest")
    assert count >= 5
    made = request_header(COUNCIL, SCHOOL, POLICE, HR)
    body = envelope(made, payload)
    spare = [envelope(request_header(COUNCIL), one) for one in spoilt("YOTCheckRequest")]

    answers = [
        await broker.post(YOT, body),
        await broker.post(YOT, body),
        await broker.post(YOT, body, accept="application/json"),
        await broker.post(YOT, body, "?wait=0.1"),
        await broker.post(HR, body),
        await broker.post(None, body),
        await broker.post(YOT, body.replace(b"Canary", b"Canard", 1)),
        await broker.post(YOT, body[:-9]),
        await broker.post(YOT, envelope(request_header(HR), payload)),
        *[await broker.post(YOT, one) for one in spare],
    ]
    location = answers[0].headers["location"]
    answers += [
        await broker.get(YOT, location),
        await broker.get(YOT, f"{location}/receipt"),
        await broker.get(COUNCIL, f"/mailbox/{COUNCIL}"),
        await broker.get(BROKER, "/metrics"),
    ]
    structlog.get_logger().warning("flushed")

    assert answers[0].status_code == 202
    assert {got.status_code for got in answers[9 : 9 + len(spare)]} & {400, 422}
    assert CANARY.encode() not in said(answers)
    assert b"submission_accepted" in logged.getvalue()
    assert b"submission_rejected" in logged.getvalue()
    assert CANARY.encode() not in logged.getvalue()


async def test_no_value_of_a_message_lies_open_on_the_disk(tmp_path: Path) -> None:
    async with running(tmp_path) as broker:
        payload, _count = planted(broker, "YOTCheckRequest")
        await broker.post(YOT, envelope(request_header(COUNCIL, SCHOOL, HR), payload))
        kept = b"".join(file.read_bytes() for file in tmp_path.glob("fame.db*"))

    assert COUNCIL.encode() in kept
    assert CANARY.encode() not in kept


def test_a_log_line_holds_listed_keys_and_nothing_of_an_exception_but_its_place(
    logged: io.BytesIO,
) -> None:
    try:
        raise ValueError("Jane Canary")  # noqa: TRY301 - the point
    except ValueError as error:
        telemetry.log_error("request_failed", error, code="broker.internal", name="Jane Canary")
        logging.getLogger("some.library").exception("Jane Canary %s", "Canary")

    lines = [json.loads(line) for line in logged.getvalue().splitlines()]
    assert lines[0]["error"] == "ValueError"
    assert lines[0]["origin"].startswith("test_submit.py:")
    assert "name" not in lines[0]
    assert lines[1]["kind"] == "some.library"
    assert b"Canary" not in logged.getvalue()


def test_a_log_line_names_the_trace_it_belongs_to(logged: io.BytesIO) -> None:
    token = telemetry.current_trace.set("a" * 32)
    telemetry.log("request_failed")
    telemetry.current_trace.reset(token)
    structlog.get_logger().error("flushed")

    first, second = (json.loads(line) for line in logged.getvalue().splitlines())
    assert first["trace_id"] == "a" * 32
    assert "trace_id" not in second
    assert first["ts"].endswith("Z")


async def test_quiet_lines_are_written_without_waiting_for_more() -> None:
    written = threading.Event()

    class Stream(io.BytesIO):
        def flush(self) -> None:
            written.set()

    telemetry.Lines(Stream(), after_s=0.01).msg(b"line")

    assert await asyncio.to_thread(written.wait, 10)
