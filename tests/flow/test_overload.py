"""A broker under more load than it takes: real process, real sockets, real TLS."""

import asyncio
import shutil
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest

from broker.edge.tls import HANDSHAKE_S_MAX, HEAD_S_MAX
from tests.bench.bench_http import FLOWS, Flow, key_of, messages
from tests.bench.load import requests_of
from tests.contract.running import sandbox
from tests.live.harness import BrokerProcess, client_context, running

FLOODING, SMALL = FLOWS
ROUND_S_MAX = 30.0


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return Path(shutil.copytree(sandbox(), tmp_path / "broker"))


def narrowed(state: Path, **settings: float) -> Path:
    """Write ``settings`` into the section ``http``."""
    path = state / "fame.toml"
    lines = "".join(f"\n{name} = {value}" for name, value in settings.items())
    path.write_text(path.read_text().replace("[http]", f"[http]{lines}", 1))
    return state


@pytest.fixture
def broker(state: Path, request: pytest.FixtureRequest) -> Iterator[BrokerProcess]:
    with running(narrowed(state, **request.param)) as process:
        yield process


def envelopes(broker: BrokerProcess, flow: Flow, count: int) -> list[bytes]:
    signed = messages(flow, key_of(broker.state, flow), count, 5000)
    return requests_of(signed, f"localhost:{broker.port}")


@asynccontextmanager
async def connected(
    broker: BrokerProcess, tls: ssl.SSLContext
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", broker.port, ssl=tls)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(OSError):
            await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Read one answer: its status, and its head and body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lowered = head.lower()
    at = lowered.index(b"content-length:") + 15
    body = await reader.readexactly(int(lowered[at : lowered.index(b"\r\n", at)]))
    return int(head[9:12]), head + body


async def ask(
    broker: BrokerProcess, tls: ssl.SSLContext, requests: list[bytes]
) -> list[tuple[int, bytes, float]]:
    """Send ``requests`` one after the other; return status, answer and seconds of each."""
    loop = asyncio.get_running_loop()
    answers = []
    async with connected(broker, tls) as (reader, writer):
        for request in requests:
            began = loop.time()
            writer.write(request)
            answers.append((*await answer(reader), loop.time() - began))
    return answers


# -- quotas ----------------------------------------------------------------------------------


@pytest.mark.parametrize("broker", [{"agency_rate_per_s": 0.1, "agency_burst": 3}], indirect=True)
async def test_an_agency_over_its_rate_is_told_429_and_when_to_come_again(
    broker: BrokerProcess,
) -> None:
    tls = client_context(broker.state, FLOODING.sender)
    other = client_context(broker.state, SMALL.sender)

    answers = await ask(broker, tls, envelopes(broker, FLOODING, 5))
    beside = await ask(broker, other, envelopes(broker, SMALL, 1))

    assert [status for status, _told, _s in answers] == [202, 202, 202, 429, 429]
    told = answers[-1][1].lower()
    assert b'"code":"sender.quota.rate"' in told
    assert b"content-type: application/problem+json" in told
    assert 1 <= int(told.partition(b"retry-after: ")[2].partition(b"\r\n")[0]) <= 10
    assert beside[0][0] == 202


# -- fair turns ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "broker",
    [{"working_max": 4, "in_flight_max": 80, "agency_in_flight_max": 60}],
    indirect=True,
)
async def test_one_agencys_flood_is_not_the_others_delay(broker: BrokerProcess) -> None:
    tls = client_context(broker.state, FLOODING.sender)
    other = client_context(broker.state, SMALL.sender)
    flood, few = envelopes(broker, FLOODING, 1200), envelopes(broker, SMALL, 20)
    told: Counter[int] = Counter()
    loop = asyncio.get_running_loop()

    async def press() -> None:
        async with connected(broker, tls) as (reader, writer):
            while True:
                request = flood.pop()
                writer.write(request)
                status, _answer = await answer(reader)
                told[status] += 1
                if status != 202:
                    flood.insert(0, request)

    async with asyncio.timeout(ROUND_S_MAX):
        presses = [asyncio.create_task(press()) for _ in range(100)]
        await asyncio.sleep(2.0)  # it has gathered
        before, began = told[202], loop.time()
        beside = await ask(broker, other, few)
        accepted_a_s = (told[202] - before + len(few)) / (loop.time() - began)
        for task in presses:
            task.cancel()
        ends = await asyncio.gather(*presses, return_exceptions=True)

    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
    assert {status for status, _told, _s in beside} == {202}
    assert set(told) == {202, 429}
    queue_s = 60 / accepted_a_s  # what it takes whoever stands behind the flood
    assert sorted(seconds for _status, _told, seconds in beside)[10] < queue_s / 2


# -- slow clients ----------------------------------------------------------------------------


@pytest.mark.parametrize("broker", [{"in_flight_max": 4}], indirect=True)
async def test_bodies_that_trickle_are_cut_off_and_leave_their_places(
    broker: BrokerProcess,
) -> None:
    tls = client_context(broker.state, FLOODING.sender)
    whole = envelopes(broker, FLOODING, 2)

    async def trickle() -> tuple[int, bytes]:
        async with connected(broker, tls) as (reader, writer):
            writer.write(whole[0].replace(b"Content-Length: ", b"Content-Length: 1", 1)[:-4000])
            said = asyncio.create_task(answer(reader))
            while not said.done():
                writer.write(b" ")
                await asyncio.sleep(0.2)
            return await said

    async with asyncio.timeout(ROUND_S_MAX):
        slow = [asyncio.create_task(trickle()) for _ in range(4)]
        await asyncio.sleep(1.0)
        full = await ask(broker, tls, whole[1:])
        cut = await asyncio.gather(*slow)
        after = await ask(broker, tls, whole[1:])

    assert [status for status, _told, _s in full] == [503]
    assert b"retry-after:" in full[0][1].lower()
    assert {status for status, _told in cut} == {408}
    assert all(b"sender.too_slow" in told for _status, told in cut)
    assert [status for status, _told, _s in after] == [202]


@pytest.mark.parametrize("broker", [{}], indirect=True)
async def test_a_handshake_that_does_not_come_is_hung_up_on(broker: BrokerProcess) -> None:
    async def begin(said: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", broker.port)
        try:
            writer.write(said)
            with suppress(ConnectionError):
                while await reader.read(1024):
                    pass
        finally:
            writer.transport.abort()

    async with asyncio.timeout(3 * HANDSHAKE_S_MAX):
        await asyncio.gather(begin(b""), begin(b"\x16\x03\x01\x02\x00\x01"))


@pytest.mark.parametrize("broker", [{"connections_max": 20}], indirect=True)
async def test_idle_connections_make_room_for_those_who_have_something_to_say(
    broker: BrokerProcess,
) -> None:
    tls = client_context(broker.state, FLOODING.sender)
    async with AsyncExitStack() as stack:
        idle = [await stack.enter_async_context(connected(broker, tls)) for _ in range(30)]

        answers = await ask(broker, tls, envelopes(broker, FLOODING, 1))

        async with asyncio.timeout(HEAD_S_MAX / 2):
            for reader, _writer in idle[:11]:
                with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
                    await reader.readexactly(1)
    assert answers[0][0] == 202


# -- strangers -------------------------------------------------------------------------------


@pytest.mark.parametrize("broker", [{"in_flight_max": 1}], indirect=True)
async def test_whoever_is_not_known_takes_nobodys_place(broker: BrokerProcess) -> None:
    stranger = ssl.create_default_context(cafile=str(broker.state / "ca" / "ca.cert.pem"))
    tls = client_context(broker.state, FLOODING.sender)
    request = envelopes(broker, FLOODING, 1)[0]
    head, _, body = request.partition(b"\r\n\r\n")
    head += b"\r\n\r\n"

    async with connected(broker, tls) as known, connected(broker, stranger) as unknown:
        known[1].write(head)  # it has the only place, and the body is still to come
        await asyncio.sleep(0.5)
        unknown[1].write(head)
        refused = await answer(unknown[0])
        known[1].write(body)
        accepted = await answer(known[0])

    assert refused[0] == 401
    assert b"sender.unauthenticated" in refused[1]
    assert accepted[0] == 202
