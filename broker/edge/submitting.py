"""``POST /messages``: the one request whose cost counts. Plain ASGI, no framework.

The order of refusals is the order of their cost: media type and size, peer, quota and room,
bytes. Whoever is refused by a header has had none of its body read, and whoever is not known
has taken nobody's place.
"""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from orjson import dumps

from broker.core.errors import BrokerError, Fault, Rejection
from broker.core.identity import SubmissionId
from broker.core.reasons import Reason
from broker.core.receipt import receipt_json
from broker.core.shortage import no_memory
from broker.edge import telemetry
from broker.edge.admission import Admission, Place
from broker.edge.collecting import Collector
from broker.edge.crash import crash_point
from broker.edge.intake import Intake, Submitted
from broker.edge.metrics import Metrics
from broker.edge.peers import Peer, Peers
from broker.edge.problems import Problem, problem_of, wants_json
from broker.edge.replies import (
    JSON,
    XML,
    GoneError,
    Header,
    Receive,
    Reply,
    Scope,
    Send,
    header,
    problem_reply,
    receipt_members,
    send_reply,
)
from broker.edge.telemetry import Trace, trace_of
from broker.ports import Clock

# A body must keep up with 0.8 Mbit/s after the first seconds: slower senders hold a place
# for nothing, and 2 MiB are through in half a minute at the latest.
BODY_S_GRACE: Final = 5.0
BODY_BYTES_A_S: Final = 100_000
_MEDIA_TYPES: Final = frozenset({b"application/xml", b"text/xml"})
_UTF8 = re.compile(rb'charset="?utf-8"?')
# An unread rest of this size is swallowed, so that the sender sees the answer and not a reset.
_SWALLOW_BYTES_MAX: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Submitting:
    """The endpoint. ``collector`` gathers answers for callers who wait for them."""

    intake: Intake
    peers: Peers
    collector: Collector
    admission: Admission
    clock: Clock
    metrics: Metrics
    body_bytes_max: int
    wait_s_max: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        crash_point("K1")
        trace = trace_of(scope["headers"])
        token = telemetry.current_trace.set(trace.trace_id)
        try:
            reply = await self._reply(scope, receive, trace)
            await send_reply(scope, send, reply, trace)
            crash_point("K11")
        except GoneError:
            return
        finally:
            telemetry.current_trace.reset(token)

    async def _reply(self, scope: Scope, receive: Receive, trace: Trace) -> Reply:
        accept = header(scope, b"accept")
        try:
            return await self._submit(scope, receive, trace, accept)
        except Rejection as error:
            self._turned_away(error, telemetry.SUBMISSION_REJECTED)
            return _told(error, accept, trace, _closing(scope, error))
        except Fault as error:
            self._turned_away(error, telemetry.SUBMISSION_SHED)
            return _told(error, accept, trace)
        except GoneError:
            raise
        except MemoryError:
            shortage = no_memory()
            self._turned_away(shortage, telemetry.SUBMISSION_SHED)
            return _told(shortage, accept, trace)
        except Exception as error:  # noqa: BLE001 - the last resort: ours, and told without words
            telemetry.log_error(telemetry.SUBMISSION_FAILED, error)
            self.metrics.turned_away("broker", Reason.INTERNAL)
            return problem_reply(Problem(Reason.INTERNAL, trace_id=trace.trace_id), accept)

    def _turned_away(self, error: BrokerError, event: str) -> None:
        code = error.reason.value
        self.metrics.turned_away(code.split(".", 1)[0], error.reason)
        telemetry.log(event, code=code)

    async def _submit(self, scope: Scope, receive: Receive, trace: Trace, accept: bytes) -> Reply:
        size = _announced(scope, self.body_bytes_max)
        wait_s = _wait(scope["query_string"], self.wait_s_max)
        peer = self.peers.identify(scope, self.clock.now())
        place = self.admission.enter(peer.agencies, size)
        try:
            submitted = await self._take(receive, peer, place, trace)
        finally:
            self.admission.leave(place)
        self._recorded(submitted)
        if submitted.accepted.refused_all:
            return _refused(submitted, accept, trace)
        if wait_s and self.collector.expects_answers(submitted):
            return await self.collector.collect(submitted, wait_s, accept, receive)
        return _receipt(submitted, accept)

    async def _take(self, receive: Receive, peer: Peer, place: Place, trace: Trace) -> Submitted:
        try:
            body = await _read(receive, self.body_bytes_max)
        except TimeoutError as error:
            raise Rejection(Reason.TOO_SLOW) from error
        await self.admission.turn(place)
        return await self.intake.submit(body, peer, trace)

    def _recorded(self, submitted: Submitted) -> None:
        accepted, message = submitted.accepted, submitted.header
        refused = accepted.refused_all
        if not accepted.duplicate:
            self.metrics.accepted(message)
        telemetry.log(
            telemetry.SUBMISSION_REFUSED if refused else telemetry.SUBMISSION_ACCEPTED,
            submission_id=accepted.submission_id,
            sender=message.sender,
            message_id=message.message_id,
            message_type=message.message_type,
            duplicate=accepted.duplicate,
        )


def location(submission_id: SubmissionId) -> str:
    """Return where a submission is found."""
    return f"/messages/{submission_id}"


def _announced(scope: Scope, bytes_max: int) -> int:
    """Return the size to keep room for, after checking the headers of the body."""
    media_type, _, parameters = header(scope, b"content-type").lower().partition(b";")
    parameters = parameters.strip()
    if media_type.strip() not in _MEDIA_TYPES or (parameters and not _UTF8.fullmatch(parameters)):
        raise Rejection(Reason.MEDIA_TYPE)
    if header(scope, b"content-encoding") not in (b"", b"identity"):
        raise Rejection(Reason.MEDIA_TYPE, "the body is compressed")
    length = header(scope, b"content-length")
    if not length:
        return bytes_max
    if not length.isdigit() or len(length) > 12:  # noqa: PLR2004 - a terabyte is not a size
        raise Rejection(Reason.TOO_LARGE)
    if int(length) > bytes_max:
        raise Rejection(Reason.TOO_LARGE)
    return int(length)


def _wait(query: bytes, wait_s_max: int) -> float:
    """Return how long the caller wants to wait, in seconds; 0 when it does not."""
    if not query:
        return 0.0
    try:
        given = parse_qsl(query.decode("ascii"), strict_parsing=True, max_num_fields=4)
    except ValueError as error:
        raise Rejection(Reason.REQUEST_INVALID, "the query cannot be read") from error
    if len(given) != 1 or given[0][0] != "wait":
        raise Rejection(Reason.REQUEST_INVALID, "the only parameter is wait, in seconds")
    digits = given[0][1]
    if not re.fullmatch(r"\d{1,4}(\.\d{1,3})?", digits):
        raise Rejection(Reason.REQUEST_INVALID, "wait is a number of seconds")
    return min(float(digits), float(wait_s_max))


async def _read(receive: Receive, bytes_max: int) -> bytes:
    """Return the body, at most ``bytes_max`` of it.

    Raises:
        Rejection: there is more.
        TimeoutError: it comes too slowly.
    """
    parts: list[bytes] = []
    size = 0
    latest = asyncio.get_running_loop().time() + BODY_S_GRACE
    async with asyncio.timeout_at(latest) as patience:
        while True:
            event = await receive()
            if event["type"] != "http.request":
                raise GoneError
            part = event.get("body", b"")
            size += len(part)
            if size > bytes_max:
                raise Rejection(Reason.TOO_LARGE)
            parts.append(part)
            crash_point("K2")
            if not event.get("more_body", False):
                return parts[0] if len(parts) == 1 else b"".join(parts)
            patience.reschedule(latest + size / BODY_BYTES_A_S)


def _receipt(submitted: Submitted, accept: bytes) -> Reply:
    accepted = submitted.accepted
    status = 200 if accepted.duplicate else 202
    where = (b"location", location(accepted.submission_id).encode())
    if wants_json(accept):
        return Reply(status, JSON, dumps(receipt_members(accepted.receipt)), (where,))
    return Reply(status, XML, accepted.receipt, (where,))


def _refused(submitted: Submitted, accept: bytes, trace: Trace) -> Reply:
    """Return the problem that says why nobody may have the message.

    It is built from the receipt: a duplicate is told what was decided the first time.
    """
    accepted = submitted.accepted
    outcomes = receipt_json(accepted.receipt)["outcomes"]
    assert isinstance(outcomes, list)
    # step 10, ISP-10.2: one reason for all of them, or each by itself.
    reasons = {str(outcome.get("reason")) for outcome in outcomes}
    where = location(accepted.submission_id)
    problem = Problem(
        reason=Reason(reasons.pop()) if len(reasons) == 1 else Reason.ALL_REFUSED,
        instance=where,
        trace_id=trace.trace_id,
        recipients=outcomes,
    )
    return problem_reply(problem, accept, ((b"location", where.encode()),))


def _told(error: BrokerError, accept: bytes, trace: Trace, headers: Sequence[Header] = ()) -> Reply:
    return problem_reply(problem_of(error, trace_id=trace.trace_id), accept, headers)


def _closing(scope: Scope, error: Rejection) -> Sequence[Header]:
    """Hang up on a body that is too long to be swallowed, or of which nobody knows the end."""
    if error.reason not in (Reason.TOO_LARGE, Reason.TOO_SLOW):
        return ()
    length = header(scope, b"content-length")
    if length.isdigit() and len(length) < 12 and int(length) <= _SWALLOW_BYTES_MAX:  # noqa: PLR2004
        return ()
    return ((b"connection", b"close"),)
