"""The stories of `fame demo`: what each sends, and what must come of it."""

import time
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2

from broker.cli.client import client
from broker.cli.envelopes import signing_key, system_of
from broker.cli.failure import EXIT_UNAVAILABLE, Failure
from broker.cli.sample import new_header, payload_of
from broker.cli.tampering import Tampering, tampered
from broker.core.envelope import NAMESPACE, parse
from broker.core.message import Header
from broker.core.signing import SigningKey, build_envelope, sign_envelope

ANSWER_S = 1.5
DELIVERED_S = 20.0
CHILD = 7  # the sample whom all of it is about
POLL_S = 0.05
JSON = {"accept": "application/json"}


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the result: which story, what was tried, what came of it, and why."""

    story: int
    what: str
    outcome: str
    why: str = ""


@dataclass(slots=True)
class Stage:
    """The partnership's side of the play: keys and connections of the agencies that send."""

    home: Path
    _clients: dict[str, httpx2.Client] = field(default_factory=dict)
    _keys: dict[str, SigningKey] = field(default_factory=dict)

    def message(self, kind: str, sender: str, to: list[str], purpose: str, **more: Any) -> bytes:  # noqa: ANN401 - of new_header
        """Return a new signed message with a synthetic payload."""
        header = new_header(kind, sender, to, purpose, system=system_of(self.home, sender), **more)
        return self.sign(header, payload_of(kind, CHILD))

    def sign(self, header: Header, payload: bytes) -> bytes:
        """Return a message signed with the key of its sender."""
        sender = header.sender
        if sender not in self._keys:
            self._keys[sender] = signing_key(self.home, sender)
        return sign_envelope(build_envelope(header, payload), self._keys[sender])

    def header(self, kind: str, sender: str, to: list[str], purpose: str) -> Header:
        """Return the header of a new message."""
        return new_header(kind, sender, to, purpose, system=system_of(self.home, sender))

    def get(self, agency: str, path: str) -> Mapping[str, Any]:
        """Return what the broker tells ``agency`` at ``path``."""
        found: Mapping[str, Any] = self._client(agency).get(path).json()
        return found

    def mailbox(self, agency: str) -> list[Mapping[str, Any]]:
        """Return what lies in the mailbox of ``agency``."""
        return list(self.get(agency, f"/mailbox/{agency}?limit=200")["deliveries"])

    def send(self, agency: str, message: bytes, wait_s: float = 0) -> httpx2.Response:
        """Return the broker's answer to ``agency``."""
        params = {"wait": f"{wait_s:g}"} if wait_s else {}
        return self._client(agency).post("/messages", content=message, params=params, headers=JSON)

    def view(self, agency: str, submission: str) -> Mapping[str, Any]:
        """Return how a message stands, as ``agency`` may know it."""
        return self.get(agency, f"/messages/{submission}")

    def recipient(self, agency: str, submission: str, recipient: str) -> Mapping[str, Any]:
        """Return how a message stands with one recipient."""
        recipients = self.view(agency, submission)["recipients"]
        return next(one for one in recipients if one["recipient"] == recipient)

    def close(self) -> None:
        """Close the connections."""
        for made in self._clients.values():
            made.close()

    def _client(self, agency: str) -> httpx2.Client:
        if agency not in self._clients:
            self._clients[agency] = client(self.home, agency)
        return self._clients[agency]


def until(reached: Callable[[], bool], what: str) -> None:
    """Return once ``reached`` is true.

    Raises:
        Failure: it was not within `DELIVERED_S`.
    """
    deadline = time.monotonic() + DELIVERED_S
    while not reached():
        if time.monotonic() > deadline:
            raise Failure(f"The demo waited in vain: {what}", EXIT_UNAVAILABLE)
        time.sleep(POLL_S)


def checks(stage: Stage) -> Iterator[Line]:
    """A youth offending team asks three agencies whether a child is known."""
    asked = ["sunderland-csc", "northumbria-police", "hylton-school"]
    request = stage.message("YOTCheckRequest", "sunderland-yot", asked, "YJ", respond_in_s=30)
    body = accepted(stage.send("sunderland-yot", request, ANSWER_S))
    yield Line(1, "sunderland-yot asks three agencies about a child", "accepted", _ledger(body))
    for answer in body["answers"]:
        withheld = _withheld(b64decode(answer["envelope"]))
        yield Line(1, f"  {answer['sender']} answers", "delivered", _fields(withheld))
    for silent in body["unanswered"]:
        yield Line(1, f"  {silent} has no system running", "no answer", f"after {ANSWER_S} s")


def duplicates(stage: Stage) -> Iterator[Line]:
    """The same message comes twice, as after a lost answer."""
    message = stage.message("Referral", "wearside-nhs", ["sunderland-csc"], "CP")
    first, second = (accepted(stage.send("wearside-nhs", message)) for _ in range(2))
    same = "byte for byte the first receipt" if first["signed"] == second["signed"] else "DIFFERS"
    yield Line(2, "wearside-nhs sends the same referral twice", "first receipt", same)


def tampering(stage: Stage) -> Iterator[Line]:
    """One letter is changed after signing."""
    message = stage.message("Referral", "hylton-school", ["sunderland-csc"], "CP")
    problem = stage.send("hylton-school", tampered(message, Tampering.LETTER)).json()
    yield Line(3, "one letter is changed after signing", "rejected", problem["code"])


def no_agreement(stage: Stage) -> Iterator[Line]:
    """A school writes to the police, which no agreement covers."""
    message = stage.message("Referral", "hylton-school", ["northumbria-police"], "CP")
    problem = stage.send("hylton-school", message).json()
    yield Line(4, "hylton-school refers a child to the police", "refused", problem["code"])
    yield Line(4, "  the smallest lawful change", "", problem["recipients"][0]["change"])


def minimised(stage: Stage) -> Iterator[Line]:
    """The same referral, for two purposes: each recipient gets what its clause allows."""
    whole = stage.message("Referral", "hylton-school", ["sunderland-csc"], "CP")
    part = stage.message("Referral", "hylton-school", ["gateshead-csc"], "CIN")
    for message, words in ((whole, "child protection"), (part, "a child in need")):
        body = accepted(stage.send("hylton-school", message))
        for outcome in body["receipt"]["outcomes"]:
            state = settled(stage, "hylton-school", body, outcome["recipient"])
            what = f"hylton-school refers to {outcome['recipient']}: {words}"
            yield Line(5, what, state, _fields(outcome.get("withheld", ())))


def outage(stage: Stage, start_portal: Callable[[], object]) -> Iterator[Line]:
    """A vacancy is published while the portal is down."""
    sender, to = "gateshead-hr", ["ne-jobs-portal", "sunderland-csc", "gateshead-csc"]
    body = accepted(stage.send(sender, stage.message("VacancyPublished", sender, to, "JOBS")))
    submission = str(body["receipt"]["submission_id"])
    for outcome in body["receipt"]["outcomes"]:
        if outcome["recipient"] != to[0]:
            state = settled(stage, sender, body, outcome["recipient"])
            what = f"{sender} publishes a vacancy to {outcome['recipient']}"
            yield Line(6, what, state, _fields(outcome.get("withheld", ())))

    def portal() -> Mapping[str, Any]:
        return stage.recipient(sender, submission, to[0])

    until(lambda: bool(portal()["reason"]), "for a failed attempt")
    what = f"{sender} publishes it to {to[0]}, which is down"
    yield Line(6, what, "tried again", str(portal()["reason"]))
    start_portal()
    until(lambda: portal()["state"] == "delivered", "for the portal to get its vacancy")
    yield Line(6, "  the portal is up again", "delivered", f"attempt {portal()['attempts']}")


def settled(stage: Stage, sender: str, body: Mapping[str, Any], recipient: str) -> str:
    """Wait until a message is with ``recipient``, and say where."""
    submission = str(body["receipt"]["submission_id"])

    def state() -> str:
        return str(stage.recipient(sender, submission, recipient)["state"])

    until(lambda: state() != "pending", f"for {recipient} to get its message")
    return {"available": "in its mailbox"}.get(state(), state())


def accepted(answer: httpx2.Response) -> dict[str, Any]:
    """Return the answer to a message that was accepted.

    Raises:
        Failure: it was not.
    """
    body: dict[str, Any] = answer.json()
    if "receipt" not in body:
        rows = {"code": str(body.get("code")), "why": str(body.get("detail"))}
        raise Failure("The demo got another answer than it should", EXIT_UNAVAILABLE, rows)
    return body


def _ledger(body: Mapping[str, Any]) -> str:
    return f"ledger entry {body['receipt']['ledger']['sequence']}"


def _withheld(envelope: bytes) -> list[str]:
    paths = parse(envelope).iterfind(f"{{{NAMESPACE}}}Reduction/{{{NAMESPACE}}}Withheld/{{*}}Path")
    return [path.text or "" for path in paths]


def _fields(withheld: Sequence[str]) -> str:
    return f"withheld: {', '.join(withheld)}" if withheld else "untouched"
