"""The recipients of a history: a webhook that is posted to, and readers of mailboxes.

Both write down every effect. Now and then the webhook takes a message and hangs up without
an answer, so that the broker has to come again under the same delivery id.
"""

import asyncio
import json
import random
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import httpx2

from tests.contract import sink as far_side
from tests.live.harness import client_context
from tests.live.history import BROKER, Kind
from tests.live.workload import Recorder, kind_of

HANG_UP = 0.05  # of posts: taken, and not answered
PAGE = 100


class Webhook:
    """An HTTPS system of one agency, in a thread of its own."""

    def __init__(self, agency: str, state: Path, recorder: Recorder, chance: random.Random) -> None:
        self.agency = agency
        self.url = ""
        self.attempts: dict[str, list[int]] = {}  # of each delivery, as they came
        self._recorder = recorder
        self._chance = chance
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._tls.load_cert_chain(state / "keys" / "tls.cert.pem", state / "keys" / "tls.key.pem")
        self._loop = asyncio.new_event_loop()
        self._up = threading.Event()
        self._end = asyncio.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._up.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        yes = far_side.answer(204)

        async def answering(asked: far_side.Asked, writer: asyncio.StreamWriter) -> None:
            delivery_id = asked.header("fame-delivery-id")
            came = self.attempts.setdefault(delivery_id, [])
            came.append(int(asked.header("fame-attempt")))
            if asked.header("fame-sender") != BROKER:
                self._recorder.took(self.agency, delivery_id, asked.body)
            if self._chance.random() < HANG_UP:
                writer.transport.abort()
                return
            await yes(asked, writer)

        async with far_side.sink(self._tls, answering) as served:
            self.url = served.url
            self._up.set()
            await self._end.wait()


@dataclass(slots=True)
class Reader:
    """A system that collects an agency's mailbox: lists, reads in order, acknowledges."""

    agency: str
    state: Path
    recorder: Recorder
    ports: Callable[[], Sequence[int]]
    stopping: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Collect until told to stop."""
        client = httpx2.Client(verify=client_context(self.state, self.agency), timeout=10)
        with client:
            while not self.stopping.is_set():
                try:
                    if not self._collect(client, f"https://localhost:{self.ports()[0]}"):
                        time.sleep(0.05)
                except (httpx2.TransportError, IndexError, json.JSONDecodeError):
                    time.sleep(0.05)

    def _collect(self, client: httpx2.Client, broker: str) -> int:
        mailbox = f"{broker}/mailbox/{self.agency}"
        listed = client.get(mailbox, params={"limit": PAGE})
        entries = listed.json()["deliveries"] if listed.is_success else []
        for entry in entries:
            delivery_id = entry["delivery_id"]
            answer = client.get(f"{mailbox}/{delivery_id}")
            if kind_of(answer.status_code) is Kind.INFO:
                return 0  # not now: what lies behind it has to wait, too
            if not answer.is_success:
                continue
            if entry["sender"] != BROKER:
                self.recorder.took(self.agency, delivery_id, answer.content)
            client.post(f"{mailbox}/{delivery_id}/acknowledgements", json={"level": "L3"})
        return len(entries)


class Readers:
    """The readers of several mailboxes, in threads, for the time of a block."""

    def __init__(self, readers: Sequence[Reader]) -> None:
        self._readers = readers
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for reader in self._readers:
            thread = threading.Thread(target=reader.run, daemon=True)
            thread.start()
            self._stack.callback(thread.join, 15)
            self._stack.callback(reader.stopping.set)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
