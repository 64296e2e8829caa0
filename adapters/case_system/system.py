"""Receive, send, poll: what is done once, however often it is tried."""

import asyncio
import json
import ssl
import uuid
from datetime import UTC, datetime

import httpx2

from adapters.case_system.answers import answer, signed
from adapters.case_system.records import Outgoing, Records
from adapters.case_system.settings import Settings
from adapters.case_system.trust import Request, UntrustedError, check_envelope, check_request
from broker.core.identity import AgencyId

FIRST_WAIT_S, WAIT_S_MAX = 0.2, 30.0
XML, JSON = "application/xml", "application/json"
# Sending the same again changes nothing about these; about all others it may.
FINAL = frozenset({400, 401, 403, 404, 409, 410, 413, 415, 422})


class CaseSystem:
    """One agency's system: `pushed` and `poll` take what comes, `send_waiting` speaks."""

    def __init__(self, settings: Settings, records: Records) -> None:
        self._settings = settings
        self._records = records
        self._mailbox = f"/mailbox/{settings.agency}"
        self._more = asyncio.Event()
        tls = ssl.create_default_context(cafile=str(settings.authority))
        tls.load_cert_chain(settings.folder / "tls.cert.pem", settings.folder / "tls.key.pem")
        self._broker = httpx2.AsyncClient(
            base_url=settings.broker_url, verify=tls, trust_env=False, timeout=20
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._broker.aclose()

    def pushed(self, request: Request, body: bytes) -> bool:
        """Take a delivery that the broker pushed. False: it came before, nothing was done.

        Raises:
            UntrustedError: our broker did not send this, or nobody we know signed it.
        """
        check_request(request, body, self._settings)
        return self._receive(request.headers["fame-delivery-id"], body)

    def _receive(self, delivery_id: str, body: bytes) -> bool:
        now = _now()
        message = check_envelope(body, self._settings, now)
        if self._records.knows(delivery_id, message):
            return False
        reply = answer(message, self._settings, self._records, now)
        # Our word that the message was dealt with (L4), which its sender sees.
        word = {"level": "L4", "code": "FILED" if reply is None else "ANSWERED"}
        path = f"{self._mailbox}/{delivery_id}/acknowledgements"
        because = [Outgoing(path, JSON, json.dumps(word).encode())]
        if reply is not None:
            because.append(Outgoing("/messages", XML, reply))
        self._records.keep(delivery_id, message, body, because)
        self._more.set()
        return True

    def publish(self, vacancy: bytes, to: AgencyId) -> None:
        """Queue a vacancy, given as the payload of VacancyPublished."""
        message = signed(
            self._settings,
            "VacancyPublished",
            vacancy,
            to=to,
            purpose="JOBS",
            now=_now(),
            message_id=uuid.uuid4(),
        )
        self._records.queue(Outgoing("/messages", XML, message))
        self._more.set()

    async def send_waiting(self) -> bool:
        """Send what waits, oldest first. False: the broker was not reached, or was busy."""
        for outgoing in self._records.waiting():
            headers = {"content-type": outgoing.media_type, "accept": JSON}
            try:
                reply = await self._broker.post(
                    outgoing.path, content=outgoing.body, headers=headers
                )
            except httpx2.TransportError:
                return False
            if reply.is_success:
                self._records.settled(outgoing, "sent")
            elif reply.status_code in FINAL:  # somebody has to look at it
                self._records.settled(outgoing, "failed", _code(reply))
            else:
                return False
        return True

    async def poll(self) -> int:
        """Collect what lies in our mailbox, and return how much of it was new.

        Raises:
            HTTPError: the broker was not reached, or does not let us.
        """
        new = 0
        listed = (await self._broker.get(self._mailbox)).raise_for_status().json()
        for entry in listed["deliveries"]:
            delivery_id = str(entry["delivery_id"])
            reply = await self._broker.get(f"{self._mailbox}/{delivery_id}")
            if reply.is_success:
                try:
                    new += self._receive(delivery_id, reply.content)
                except UntrustedError:
                    continue  # it stays in the mailbox until somebody has looked at it
        return new

    async def run(self) -> None:
        """Send, and poll if we do, until cancelled; wait longer while the broker is away."""
        wait_s = FIRST_WAIT_S
        while True:
            self._more.clear()
            try:
                if self._settings.poll_s:
                    await self.poll()
                reached = await self.send_waiting()
            except httpx2.HTTPError:
                reached = False
            pause_s = (self._settings.poll_s or None) if reached else wait_s
            wait_s = FIRST_WAIT_S if reached else min(2 * wait_s, WAIT_S_MAX)
            try:
                async with asyncio.timeout(pause_s):
                    await self._more.wait()
            except TimeoutError:
                continue


def _now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - this program's one reading of the clock


def _code(reply: httpx2.Response) -> str:
    """Return the stable code of a problem (RFC 9457), which is all of it worth keeping."""
    try:
        return str(reply.json()["code"])
    except (ValueError, KeyError, TypeError):
        return str(reply.status_code)
