"""Journeys of practitioners: a whole broker, its sandbox partnership, and a clock that tests move.

Every message is signed by its sender and passes the broker as any other. What a test asks of it
is asked in three places at once: of the signed receipt, of what the recipient's system gets, and
of the ledger.
"""

import asyncio
import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import httpx2
import orjson
from lxml import etree
from sqlalchemy import select

from broker.cli.init import make
from broker.core.envelope import parse
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, Practitioner
from broker.core.protocol import Register
from broker.core.reduced_check import check_reduced
from broker.core.samples import sample_payload
from broker.core.signature import verify_root
from broker.core.signing import build_envelope, sign_envelope
from broker.edge.clock_keeping import ClockKeeper
from broker.edge.clock_notices import ClockNotices
from broker.edge.ids import new_id
from broker.edge.ledger import verify_ledger
from broker.edge.registers import load_register
from broker.edge.store import Store
from broker.edge.tables import ledger
from tests.contract.running import Running, key_of, running

FRIDAY = datetime(2026, 11, 20, 10, 0, tzinfo=UTC)
CHILD = 7  # the person whom a journey is about
SEEDS = 400  # samples among which the one wanted is looked for
ARRIVES_S = 60.0  # at most, on a machine that is very busy
LOOK_S = 0.02

BROKER = AgencyId("fame-broker")
CSC, OTHER_CSC = AgencyId("sunderland-csc"), AgencyId("gateshead-csc")
YOT, OTHER_YOT = AgencyId("sunderland-yot"), AgencyId("gateshead-yot")
POLICE, COURT, SECURE = (
    AgencyId("northumbria-police"),
    AgencyId("wearside-youth-court"),
    AgencyId("wear-bridge-secure"),
)
HEALTH, SCHOOL, CHARITY = (
    AgencyId("wearside-nhs"),
    AgencyId("hylton-school"),
    AgencyId("northern-lights"),
)
HOUSING, OTHER_HOUSING = AgencyId("gateshead-housing"), AgencyId("sunderland-housing")
INDEX = AgencyId("regional-index")

Edit = Callable[[etree._Element], None]


class MovingClock:
    """The time of a journey: it stands until a test lets it pass."""

    def __init__(self) -> None:
        self.at = FRIDAY

    def now(self) -> datetime:
        return self.at


@cache
def home() -> Path:
    """The folder of a sandbox that was founded on the Friday; made once, changed by nobody."""
    made = tempfile.mkdtemp(prefix="fame-journeys-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    folder = Path(made) / "home"
    make(folder, sandbox=True, port=0, at=FRIDAY)
    return folder


@cache
def register() -> Register:
    return load_register(home() / "protocols")


def step(path: str) -> str:
    return "/".join(f"{{*}}{name}" for name in path.split("/"))


def texts(root: etree._Element, path: str) -> list[str]:
    """Return what every element at ``path`` below the payload says, empty ones too."""
    return [element.text or "" for element in root.iterfind(step(path))]


def sample(
    message_type: str,
    *,
    edit: Edit | None = None,
    has: Iterable[str] = (),
    person: int = CHILD,
    **said: str,
) -> etree._Element:
    """Return the first sample about ``person`` that has these elements and says this.

    Names with two steps are written with two underscores (``Result__Sentence``).
    """
    wanted = {name.replace("__", "/"): text for name, text in said.items()}
    for seed in range(SEEDS):
        raw = sample_payload(message_type, seed, person_seed=person, today=FRIDAY.date())
        root = etree.fromstring(raw)
        if texts(root, "Subject/OmissionReason"):
            continue  # then it cannot be told that two messages are about one child
        if all(text in texts(root, path) for path, text in wanted.items()) and all(
            texts(root, path) for path in has
        ):
            if edit is not None:
                edit(root)
            return root
    raise LookupError(f"no sample of {message_type} says {wanted}")


def saying(**said: str) -> Edit:
    """Return an edit that lets elements say something else."""

    def edit(root: etree._Element) -> None:
        for path, text in said.items():
            found = root.find(step(path.replace("__", "/")))
            assert found is not None, path
            found.text = text

    return edit


@dataclass(frozen=True, slots=True)
class Sent:
    """A signed message and what the broker answered."""

    header: Header
    payload: etree._Element
    envelope: bytes
    answer: httpx2.Response

    @property
    def number(self) -> str:
        """The sender's id of the message, for those who answer it."""
        return self.header.message_id

    @property
    def submission(self) -> str:
        return self.answer.headers["location"].rpartition("/")[2]

    def outcome(self, recipient: str) -> dict[str, Any]:
        """Return what the answer says of one recipient."""
        body = self.answer.json()
        told = body["receipt"]["outcomes"] if "receipt" in body else body["recipients"]
        return next(one for one in told if one["recipient"] == recipient)


@dataclass(frozen=True, slots=True)
class Got:
    """What the system of a recipient was handed."""

    delivery_id: str
    body: bytes
    root: etree._Element

    @property
    def payload(self) -> etree._Element:
        found = self.root.find(".//{*}Payload")
        assert found is not None
        return found[0]

    def says(self, path: str) -> list[str]:
        return texts(self.payload, path)


@dataclass(slots=True)
class Journey:
    """One partnership on one Friday."""

    broker: Running
    clock: MovingClock
    sent: list[Sent] = field(default_factory=list)

    @property
    def store(self) -> Store:
        return self.broker.app.submitting.collector.store

    def later(self, **amount: float) -> None:
        self.clock.at += timedelta(**amount)

    async def send(
        self,
        sender: AgencyId,
        payload: etree._Element,
        *recipients: AgencyId,
        purpose: str,
        **header: Any,
    ) -> Sent:
        """Have ``sender`` sign a message and send it."""
        made, raw = self.signed(sender, payload, *recipients, purpose=purpose, **header)
        answer = await self.broker.post(sender, raw, accept="application/json")
        sent = Sent(made, payload, raw, answer)
        self.sent.append(sent)
        return sent

    def signed(
        self,
        sender: AgencyId,
        payload: etree._Element,
        *recipients: AgencyId,
        purpose: str,
        **header: Any,
    ) -> tuple[Header, bytes]:
        """Return a message as ``sender`` signs it."""
        values: dict[str, Any] = {
            "message_id": MessageId(new_id()),
            "message_type": etree.QName(payload).localname,
            "schema_version": "1.0",
            "sender": sender,
            "system": register().agencies[sender].systems[0].system_id,
            "recipients": tuple(Address(agency_id=name) for name in recipients),
            "purpose": purpose,
            "created_at": self.clock.at,
            "practitioner": Practitioner("p-1", "PRACTITIONER", "DBS_ENHANCED", "AAL2"),
            "reason_for_access": "ASSESSMENT",
        }
        made = Header(**(values | header))
        raw = sign_envelope(build_envelope(made, etree.tostring(payload)), key_of(home(), sender))
        return made, raw

    async def decided(self, sent: Sent, recipient: AgencyId) -> dict[str, Any]:
        """Return the decision on one recipient that the ledger holds."""
        for entry in await self.entries():
            if entry.get("submission") == sent.submission and entry["kind"] == "submission":
                return next(one for one in entry["decisions"] if one["recipient"] == recipient)
        raise LookupError("the ledger knows nothing of that message")

    async def entries(self) -> list[dict[str, Any]]:
        chosen = select(ledger.c.entry).order_by(ledger.c.seq)
        rows = await self.store.read(lambda conn: list(conn.execute(chosen).scalars()))
        return [orjson.loads(row) for row in rows]

    async def gets(
        self,
        recipient: AgencyId,
        sent: Sent,
        clause: str,
        *,
        shows: Iterable[str] = (),
        lacks: Iterable[str] = (),
    ) -> Got:
        """Assert that ``sent`` passes under ``clause``, and return what ``recipient`` gets.

        It shows these elements as the sender wrote them and nothing at those it ``lacks``, which
        the sender did write. Where nothing is lacking, the sender's signed bytes come untouched.
        """
        assert sent.answer.status_code == 202, sent.answer.text
        outcome, decision = sent.outcome(recipient), await self.decided(sent, recipient)
        assert outcome["decision"] == "PERMITTED", outcome
        recorded = f"{decision['protocol']}@{decision['version']} {decision['clause']}"
        assert (recorded, decision["permitted"]) == (clause, True)
        assert (outcome["protocol"], outcome["clause"]) == (
            decision["protocol"],
            decision["clause"],
        )
        got = await self.take(recipient, sent.number)
        lacking = tuple(lacks)
        self._proven(got, sent, whole=not lacking)
        assert bool(decision["withheld"]) == bool(lacking) == bool(outcome.get("withheld"))
        for path in shows:
            assert texts(sent.payload, path), path
            assert got.says(path) == texts(sent.payload, path), path
        for path in lacking:
            assert texts(sent.payload, path), path
            assert got.says(path) == [], path
        return got

    def _proven(self, got: Got, sent: Sent, *, whole: bool) -> None:
        """Check the signature as a recipient does, and what ties a reduced message to its whole."""
        signer = sent.header.sender if whole else BROKER
        verify_root(parse(got.body), register().agencies[signer].keys, self.clock.at)
        if whole:
            assert got.body == sent.envelope
            return
        checked = check_reduced(got.root)
        assert checked.faults == ()
        assert checked.original_digest == sent.answer.json()["receipt"]["message_digest"]

    async def take(self, recipient: AgencyId, number: str) -> Got:
        """Wait until the message ``number`` lies ready, and read it."""
        listed = await self.lies(recipient, number)
        return await self._read(recipient, listed["delivery_id"])

    async def told(self, recipient: AgencyId, message_type: str, **said: str) -> Got:
        """Wait until a notice of the broker that says this lies ready, and read it."""
        deadline = asyncio.get_running_loop().time() + ARRIVES_S
        while asyncio.get_running_loop().time() < deadline:
            for one in await self.mailbox(recipient):
                if one["message_type"] == message_type and one["state"] == "available":
                    got = await self._read(recipient, one["delivery_id"])
                    if all(got.says(name) == [text] for name, text in said.items()):
                        return got
            await asyncio.sleep(LOOK_S)
        raise TimeoutError(f"{recipient} was not told by a {message_type} of {said}")

    async def mailbox(self, agency: AgencyId) -> list[dict[str, Any]]:
        answer = await self.broker.get(agency, f"/mailbox/{agency}?limit=200")
        return list(answer.json()["deliveries"])

    async def lies(self, agency: AgencyId, number: str) -> dict[str, Any]:
        """Wait until the message ``number`` lies ready for ``agency``."""
        deadline = asyncio.get_running_loop().time() + ARRIVES_S
        while asyncio.get_running_loop().time() < deadline:
            for one in await self.mailbox(agency):
                if one["message_id"] == number:
                    return one
            await asyncio.sleep(LOOK_S)
        raise TimeoutError(f"what was sent to {agency} did not come")

    async def _read(self, agency: AgencyId, delivery_id: str) -> Got:
        answer = await self.broker.get(agency, f"/mailbox/{agency}/{delivery_id}")
        assert answer.status_code == 200, answer.text
        return Got(delivery_id, answer.content, etree.fromstring(answer.content))

    async def refused(self, sent: Sent, recipient: AgencyId, reason: str) -> dict[str, Any]:
        """Assert that the broker refused ``sent`` to ``recipient``; return what it told."""
        outcome, decision = sent.outcome(recipient), await self.decided(sent, recipient)
        assert (outcome["decision"], outcome["reason"]) == ("REFUSED", reason)
        assert (decision["permitted"], decision["reason"]) == (False, reason)
        assert sent.number not in [one["message_id"] for one in await self.mailbox(recipient)]
        return outcome

    async def acknowledge(self, agency: AgencyId, got: Got, level: str, code: str = "") -> None:
        """Have ``agency`` say that a person has read a message (L3) or dealt with it (L4)."""
        body = {"level": level} | ({"code": code} if code else {})
        async with self.broker.client(agency) as client:
            path = f"/mailbox/{agency}/{got.delivery_id}/acknowledgements"
            answer = await client.post(path, json=body)
        assert answer.status_code == 200, answer.text

    async def clocks(self, sent: Sent, recipient: AgencyId) -> dict[str, str]:
        """Return how the clocks on a message for one recipient stand, as an operator sees it."""
        await self.keeper.step()
        answer = await self.broker.get(BROKER, f"/operator/clocks/{sent.submission}")
        rows = answer.json().get("clocks", [])
        return {one["clock"]: one["state"] for one in rows if one["recipient"] == recipient}

    @property
    def keeper(self) -> ClockKeeper:
        """A second keeper beside the broker's own, which looks only every few seconds."""
        submitting = self.broker.app.submitting
        registers = submitting.intake.registers
        service: Any = submitting.collector.disclosing
        notices = ClockNotices(service.recorder, registers)
        return ClockKeeper(self.store, registers, self.clock, notices)

    async def closed(self) -> None:
        """Assert that the ledger holds, and that no entry says anything of a person."""
        check = await self.store.read(verify_ledger)
        assert check.fault == ""
        written = orjson.dumps(await self.entries()).decode()
        for sent in self.sent:
            for name in ("GivenName", "FamilyName", "NHSNumber", "PostCode", "BirthDate"):
                for found in sent.payload.iter(f"{{*}}{name}"):
                    assert found.text is not None
                    assert found.text not in written


async def consent(j: Journey, agency: AgencyId, **said: str) -> str:
    """Have ``agency`` tell the broker by a signed message what the child said; return its id."""
    consent_id = new_id()
    payload = sample("ConsentRecorded", edit=saying(ConsentId=consent_id, **said))
    sent = await j.send(agency, payload, BROKER, purpose="CONSENT")
    assert sent.answer.status_code == 202, sent.answer.text
    return consent_id


async def withdrawal(j: Journey, agency: AgencyId, consent_id: str) -> None:
    """Have ``agency`` tell the broker that the child took a consent back, just now."""
    at = j.clock.at.isoformat()
    payload = sample("ConsentWithdrawn", edit=saying(ConsentId=consent_id, WithdrawnAt=at))
    sent = await j.send(agency, payload, BROKER, purpose="CONSENT")
    assert sent.answer.status_code == 202, sent.answer.text


@asynccontextmanager
async def journey(folder: Path) -> AsyncIterator[Journey]:
    """Open the partnership for one journey; at its end the ledger is checked."""
    clock = MovingClock()
    async with running(folder, home=home(), clock=clock) as broker:
        made = Journey(broker, clock)
        yield made
        await made.closed()
