"""`POST /messages`: what is answered, when, and what is kept."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from signxml import XMLVerifier  # type: ignore[attr-defined]

from broker.core.errors import Permanent, Transient
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address
from broker.core.reasons import Reason
from broker.edge import submitting
from broker.edge.clock import SystemClock
from broker.edge.ids import new_id
from tests.contract.running import (
    COUNCIL,
    HR,
    POLICE,
    PORTAL,
    SCHOOL,
    XML,
    YOT,
    Running,
    check_request,
    envelope,
    header,
    running,
    vacancy,
)

RECEIPT = "{urn:fame:receipt:1.0}"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


def problem(answer: Any) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert told["status"] == answer.status_code
    assert told["type"] == f"/reasons/{told['code']}"
    return told


def code(answer: Any) -> str:
    told: str = problem(answer)["code"]
    return told


# -- answers ---------------------------------------------------------------------------------


async def test_a_permitted_message_is_answered_with_a_receipt_that_verifies(
    broker: Running,
) -> None:
    answer = await broker.post(HR, vacancy())

    assert answer.status_code == 202
    assert answer.headers["content-type"] == "application/xml"
    receipt = etree.fromstring(answer.content)
    submission = receipt.findtext(f"{RECEIPT}SubmissionId")
    assert answer.headers["location"] == f"/messages/{submission}"
    certificate = (broker.home / "keys" / "receipt.cert.pem").read_text()
    XMLVerifier().verify(receipt, x509_cert=certificate)


async def test_a_receipt_can_be_had_as_json_with_the_signed_form_inside(broker: Running) -> None:
    answer = await broker.post(HR, vacancy(), accept="application/json")

    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert told["receipt"]["outcomes"][0]["decision"] == "PERMITTED"
    assert etree.fromstring(b64decode(told["signed"])).tag == f"{RECEIPT}Receipt"


async def test_the_same_message_again_gets_the_first_receipt(broker: Running) -> None:
    body = vacancy()

    first, second = await broker.post(HR, body), await broker.post(HR, body)

    assert (first.status_code, second.status_code) == (202, 200)
    assert second.content == first.content
    assert second.headers["location"] == first.headers["location"]
    assert await broker.rows("message") == 1


async def test_another_message_under_the_same_id_is_a_replay(broker: Running) -> None:
    message_id = MessageId(new_id())
    await broker.post(HR, vacancy(message_id=message_id))

    answer = await broker.post(HR, vacancy(message_id=message_id, conversation_id=new_id()))

    assert answer.status_code == 409
    assert code(answer) == "sender.message_id_reused"


async def test_a_message_that_nobody_may_have_is_refused_and_kept(broker: Running) -> None:
    body = envelope(header(SCHOOL, "YOTCheckRequest", POLICE, purpose="YJ"))

    first, second = await broker.post(SCHOOL, body), await broker.post(SCHOOL, body)

    told = problem(first)
    assert told["status"] == 403
    assert told["code"].startswith("policy.")
    assert told["recipients"][0]["recipient"] == POLICE
    assert told["recipients"][0]["reason"] == told["code"]
    assert first.headers["location"] == told["instance"]
    receipt = await broker.get(SCHOOL, told["instance"] + "/receipt")
    assert etree.fromstring(receipt.content).tag == f"{RECEIPT}Receipt"
    assert problem(second)["recipients"] == told["recipients"]
    assert second.headers["location"] == first.headers["location"]


async def test_recipients_are_decided_each_for_itself(broker: Running) -> None:
    answer = await broker.post(YOT, check_request(COUNCIL, PORTAL), accept="application/json")

    assert answer.status_code == 202
    outcomes = {one["recipient"]: one["decision"] for one in answer.json()["receipt"]["outcomes"]}
    assert outcomes == {COUNCIL: "PERMITTED", PORTAL: "REFUSED"}


async def test_refusals_for_different_reasons_have_a_code_of_their_own(broker: Running) -> None:
    unknown = AgencyId("nobody-here")
    body = envelope(header(HR, "VacancyPublished", PORTAL, unknown, purpose="YJ"))

    answer = await broker.post(HR, body)

    told = problem(answer)
    assert told["code"] == "policy.all_refused"
    assert len({one["reason"] for one in told["recipients"]}) == 2


async def test_a_group_stands_for_its_members(broker: Running) -> None:
    group = Address(agency_type="LA_CSC", area="E08000024")

    answer = await broker.post(YOT, check_request(recipients=(group,)), accept="application/json")

    assert [one["recipient"] for one in answer.json()["receipt"]["outcomes"]] == [COUNCIL]


async def test_a_group_without_members_is_told(broker: Running) -> None:
    group = Address(agency_type="LA_CSC", area="E08000099")

    answer = await broker.post(YOT, check_request(recipients=(group,)))

    assert (answer.status_code, code(answer)) == (403, "policy.recipient_unknown")


async def test_groups_count_as_many_recipients_as_they_have_members(tmp_path: Path) -> None:
    async with running(tmp_path, limits__recipients_max="1") as broker:
        one = await broker.post(YOT, check_request(COUNCIL, COUNCIL))
        two = await broker.post(YOT, check_request(COUNCIL, POLICE))

    assert one.status_code == 202
    assert (two.status_code, code(two)) == (400, "sender.envelope")


async def test_problems_come_as_xml_when_asked_for(broker: Running) -> None:
    answer = await broker.post(HR, b"<x/>", accept="application/xml")

    assert answer.headers["content-type"] == "application/problem+xml"
    told = etree.fromstring(answer.content)
    assert told.findtext("{urn:ietf:rfc:7807}code") == "sender.envelope"
    assert told.findtext("{urn:ietf:rfc:7807}status") == "400"


async def test_a_rejection_says_where_and_repeats_nothing(broker: Running) -> None:
    body = vacancy().replace(b"</fame:Header>", b"<Surname>Canary</Surname></fame:Header>")

    answer = await broker.post(HR, body)

    assert answer.status_code == 400
    assert problem(answer)["line"] >= 1
    assert b"Canary" not in answer.content
    assert await broker.rows("message") == 0


async def test_a_changed_byte_is_rejected(broker: Running) -> None:
    answer = await broker.post(HR, vacancy().replace(b"JOBS", b"JOBZ"))

    assert code(answer) == "sender.signature.digest_mismatch"


async def test_large_messages_take_the_same_way_through_a_thread(broker: Running) -> None:
    body = vacancy(size_bytes=200_000)
    assert len(body) > submitting_threshold()

    answer = await broker.post(HR, body)

    assert answer.status_code == 202


def submitting_threshold() -> int:
    from broker.edge.intake import THREAD_FROM_BYTES

    return THREAD_FROM_BYTES


# -- who -------------------------------------------------------------------------------------


async def test_nobody_known_is_not_listened_to(broker: Running) -> None:
    answer = await broker.post(None, vacancy())

    assert (answer.status_code, code(answer)) == (401, "sender.unauthenticated")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_a_peer_may_not_speak_for_another_agency(broker: Running) -> None:
    answer = await broker.post(YOT, vacancy())

    assert (answer.status_code, code(answer)) == (403, "sender.peer_not_sender")
    assert await broker.rows("message") == 0


# -- bounds ----------------------------------------------------------------------------------


class Wire:
    """One request by hand: what is received is scripted, what is sent is kept."""

    def __init__(self, broker: Running, peer: Any = HR, **headers: str) -> None:
        named = {"content_type": "application/xml"} | headers
        self.scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": "/messages",
            "query_string": b"",
            "scheme": "https",
            "client": ("127.0.0.1", 1),
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in named.items()],
            **broker.scope(peer),
        }
        self.app = broker.app
        self.parts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.received = 0
        self.sent: list[dict[str, Any]] = []

    def body(self, part: bytes, *, more: bool = False) -> "Wire":
        self.parts.put_nowait({"type": "http.request", "body": part, "more_body": more})
        return self

    def hang_up(self) -> "Wire":
        self.parts.put_nowait({"type": "http.disconnect"})
        return self

    async def _receive(self) -> dict[str, Any]:
        part = await self.parts.get()
        self.received += 1
        return part

    async def _send(self, event: Any) -> None:
        self.sent.append(event)

    async def run(self) -> "Wire":
        await self.app(self.scope, self._receive, self._send)
        return self

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def code(self) -> str:
        return str(json.loads(self.sent[1]["body"])["code"])


@pytest.mark.parametrize(
    "media_type",
    ["", "application/json", "text/plain", "application/xml; charset=latin-1", "application/xmlx"],
)
async def test_another_media_type_is_rejected_unread(broker: Running, media_type: str) -> None:
    wire = await Wire(broker, content_type=media_type).body(vacancy()).run()

    assert (wire.status, wire.code, wire.received) == (415, "sender.media_type", 0)


@pytest.mark.parametrize(
    "media_type",
    ["text/xml", "Application/XML", 'application/xml; charset="UTF-8"', "text/xml;charset=utf-8"],
)
async def test_xml_in_utf_8_has_several_names(broker: Running, media_type: str) -> None:
    wire = await Wire(broker, content_type=media_type).body(vacancy()).run()

    assert wire.status == 202


async def test_a_compressed_body_is_rejected_unread(broker: Running) -> None:
    wire = await Wire(broker, content_encoding="gzip").body(b"").run()

    assert (wire.status, wire.code, wire.received) == (415, "sender.media_type", 0)


async def test_a_body_announced_over_the_limit_is_rejected_unread(tmp_path: Path) -> None:
    async with running(tmp_path, limits__body_bytes_max="20000") as broker:
        over = await Wire(broker, content_length="20001").body(b"").run()
        at = await Wire(broker, content_length="20000").body(b"<x/>").run()

    assert (over.status, over.code, over.received) == (413, "sender.too_large", 0)
    assert at.code == "sender.envelope"


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 30, "0x10", "+5"])
async def test_a_length_that_is_no_length_is_rejected(broker: Running, length: str) -> None:
    wire = await Wire(broker, content_length=length).body(b"").run()

    assert (wire.status, wire.received) == (413, 0)
    assert wire.headers[b"connection"] == b"close"


async def test_a_body_that_grows_over_the_limit_is_read_no_further(tmp_path: Path) -> None:
    async with running(tmp_path, limits__body_bytes_max="20000") as broker:
        wire = Wire(broker)
        for _ in range(9):
            wire.body(b"x" * 5000, more=True)
        await wire.run()

    assert (wire.status, wire.code, wire.received) == (413, "sender.too_large", 5)
    assert wire.headers[b"connection"] == b"close"


async def test_a_body_in_pieces_is_one_body(broker: Running) -> None:
    body = vacancy()

    wire = Wire(broker).body(body[:10], more=True).body(b"", more=True).body(body[10:])

    assert (await wire.run()).status == 202


async def test_a_body_that_does_not_come_in_time_is_given_up(
    broker: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submitting, "BODY_S_GRACE", 0.05)

    wire = await Wire(broker).body(b"<", more=True).run()

    assert (wire.status, wire.code) == (408, "sender.too_slow")
    assert wire.headers[b"connection"] == b"close"
    assert broker.app.submitting.admission.submissions == 0


async def test_a_peer_that_hangs_up_leaves_nothing(broker: Running) -> None:
    wire = await Wire(broker).body(vacancy()[:100], more=True).hang_up().run()

    assert wire.sent == []
    assert broker.app.submitting.admission.submissions == 0
    assert await broker.rows("message") == 0


async def test_over_the_bound_in_flight_a_submission_is_shed_unread(tmp_path: Path) -> None:
    async with running(tmp_path, http__in_flight_max="1") as broker:
        slow = Wire(broker)
        first = asyncio.create_task(slow.run())
        await asyncio.sleep(0)  # one turn: it waits for its body now
        assert broker.app.submitting.admission.submissions == 1

        shed = await Wire(broker).body(vacancy()).run()
        slow.body(vacancy())
        await first
        after = await Wire(broker).body(vacancy()).run()

    assert (shed.status, shed.code, shed.received) == (503, "broker.overloaded", 0)
    assert int(shed.headers[b"retry-after"]) >= 1
    assert slow.status == 202
    assert after.status == 202


@pytest.mark.parametrize(
    ("peer", "headers", "body"),
    [
        (HR, {}, b"<x/>"),
        (None, {}, b"<x/>"),
        (HR, {"content_type": "text/plain"}, b""),
        (HR, {"content_length": "999999999"}, b""),
        (HR, {"authorization": "Bearer x"}, b""),
    ],
)
async def test_every_way_out_gives_the_place_back(
    broker: Running, peer: Any, headers: dict[str, str], body: bytes
) -> None:
    wire = await Wire(broker, peer, **headers).body(body).run()

    assert wire.status >= 400
    assert broker.app.submitting.admission.submissions == 0
    assert broker.app.submitting.admission.bytes == 0


# -- faults ----------------------------------------------------------------------------------


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def submit(self, *_given: object) -> None:
        raise self.error


@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (Transient(Reason.STORE_UNAVAILABLE, retry_after_s=7), 503, "broker.store_unavailable"),
        (Transient(Reason.STORE_FULL), 507, "broker.store_full"),
        (Permanent(Reason.INTERNAL, "a file"), 500, "broker.internal"),
        (RuntimeError("Jane Canary, 1 Elm Street"), 500, "broker.internal"),
    ],
)
async def test_a_fault_is_told_as_ours_and_without_its_words(
    broker: Running, error: Exception, status: int, told: str
) -> None:
    answer = await broker.with_submitting(intake=Failing(error)).post(HR, vacancy())

    assert (answer.status_code, code(answer)) == (status, told)
    assert b"Canary" not in answer.content
    assert ("retry-after" in answer.headers) is isinstance(error, Transient)
    assert answer.json()["trace_id"] in answer.headers["traceparent"]


def referral(purpose: str = "EH") -> bytes:
    """A referral: for early help it rests on consent, for child protection it does not."""
    return envelope(header(YOT, "Referral", COUNCIL, purpose=purpose))


class Unreachable:
    async def held(self, subject: object) -> Any:  # noqa: ARG002
        raise Transient(Reason.REGISTER_UNAVAILABLE)

    async def override(self, decision_ref: str) -> Any:  # noqa: ARG002
        raise Transient(Reason.REGISTER_UNAVAILABLE)


async def test_a_register_that_cannot_be_asked_is_a_fault_and_no_answer(broker: Running) -> None:
    intake = replace(broker.app.submitting.intake, consents=Unreachable())

    answer = await broker.with_submitting(intake=intake).post(YOT, referral())

    assert (answer.status_code, code(answer)) == (503, "broker.register_unavailable")
    assert await broker.rows("message") == 0


class Recorded:
    """A clock and a register of consents that note who was asked when."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def now(self) -> datetime:
        self.asked.append("clock")
        return SystemClock().now()

    async def held(self, subject: object) -> tuple[()]:  # noqa: ARG002
        self.asked.append("consents")
        return ()

    async def override(self, decision_ref: str) -> None:  # noqa: ARG002
        self.asked.append("override")


async def test_the_clock_is_read_after_the_facts(broker: Running) -> None:
    recorded = Recorded()
    intake = replace(broker.app.submitting.intake, consents=recorded, clock=recorded)

    await broker.with_submitting(intake=intake).post(YOT, referral())

    assert recorded.asked == ["clock", "consents", "clock"]


@pytest.mark.parametrize("asked", [check_request(), referral("CP")], ids=["type", "purpose"])
async def test_consents_are_asked_only_where_a_clause_rests_on_them(
    broker: Running, asked: bytes
) -> None:
    # How long it takes to read them would tell that something is on record about the person.
    recorded = Recorded()
    intake = replace(broker.app.submitting.intake, consents=recorded, clock=recorded)

    answer = await broker.with_submitting(intake=intake).post(YOT, asked)

    assert answer.status_code == 202
    assert recorded.asked == ["clock", "clock"]


# -- tracing and headers ---------------------------------------------------------------------

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = f"00-{TRACE}-00f067aa0ba902b7-01"


async def test_the_callers_trace_goes_on(broker: Running) -> None:
    answer = await broker.post(HR, b"<x/>", traceparent=PARENT)

    version, trace, span, flags = answer.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", TRACE, "01")
    assert span != "00f067aa0ba902b7"
    assert answer.json()["trace_id"] == TRACE


@pytest.mark.parametrize(
    "parent",
    [
        "junk",
        PARENT.upper(),
        PARENT + "-more",
        PARENT.replace("00-", "ff-", 1),
        f"00-{'0' * 32}-00f067aa0ba902b7-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT[:-1],
    ],
)
async def test_a_trace_that_is_not_well_formed_is_left_behind(broker: Running, parent: str) -> None:
    answer = await broker.post(HR, b"<x/>", traceparent=parent)

    assert TRACE not in answer.headers["traceparent"]
    assert answer.json()["trace_id"] in answer.headers["traceparent"]


async def test_a_later_version_of_the_trace_header_is_understood(broker: Running) -> None:
    answer = await broker.post(HR, b"<x/>", traceparent=PARENT.replace("00-", "cc-", 1) + "-what")

    assert TRACE in answer.headers["traceparent"]


async def test_a_callers_ids_are_repeated_when_they_are_safe(broker: Running) -> None:
    safe = await broker.post(HR, b"<x/>", x_request_id="a.B_1-2", x_correlation_id="c" * 128)
    unsafe = await broker.post(HR, b"<x/>", x_request_id="Jane Doe", x_correlation_id="c" * 129)

    assert safe.headers["x-request-id"] == "a.B_1-2"
    assert safe.headers["x-correlation-id"] == "c" * 128
    assert not {"x-request-id", "x-correlation-id"} & set(unsafe.headers)


@pytest.mark.parametrize("body", [b"<x/>", vacancy], ids=["problem", "receipt"])
async def test_nothing_may_be_kept_by_caches(broker: Running, body: Any) -> None:
    answer = await broker.post(HR, body() if isinstance(body, Callable) else body)  # type: ignore[arg-type]

    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in answer.headers["strict-transport-security"]


@pytest.mark.parametrize(
    "query", ["?wait=x", "?wait=-1", "?wait=1&wait=2", "?wait", "?other=1", "?wait=1e9", "?wait=é"]
)
async def test_a_query_that_is_not_a_wait_in_seconds_is_rejected(
    broker: Running, query: str
) -> None:
    answer = await broker.post(HR, vacancy(), query)

    assert (answer.status_code, code(answer)) == (400, "sender.request_invalid")
    assert await broker.rows("message") == 0


async def test_the_content_type_of_the_answer_is_ours_and_not_the_callers(broker: Running) -> None:
    async with broker.client(HR) as client:
        answer = await client.post(
            "/messages", content=vacancy(), headers=XML | {"accept": "text/html"}
        )

    assert answer.headers["content-type"] == "application/xml"
