"""What the broker says about itself: log lines, trace context and metrics. Never content.

Logs are for operators and the ledger is for auditors; neither stands in for the other. A
log line holds only keys that are on the list below, so that a value nobody thought about
is dropped and not printed (ASVS V16.4.1).
"""

import atexit
import logging
import os
import random
import re
import select
import stat
import sys
import threading
import time
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from select import PIPE_BUF
from typing import Any, BinaryIO, Final

import orjson
import structlog

# -- events: past tense, one name for each thing that happens --------------------------------
BROKER_STARTED: Final = "broker_started"
BROKER_STOPPED: Final = "broker_stopped"
WORKER_STARTED: Final = "worker_started"
WORKER_STOPPED: Final = "worker_stopped"
SUBMISSION_ACCEPTED: Final = "submission_accepted"
SUBMISSION_REFUSED: Final = "submission_refused"
SUBMISSION_REJECTED: Final = "submission_rejected"
SUBMISSION_SHED: Final = "submission_shed"
SUBMISSION_FAILED: Final = "submission_failed"
PEER_REJECTED: Final = "peer_rejected"
TOKEN_ISSUED: Final = "token_issued"  # noqa: S105 - an event's name
TOKEN_REJECTED: Final = "token_rejected"  # noqa: S105 - an event's name
REQUEST_FAILED: Final = "request_failed"
REGISTER_RELOADED: Final = "register_reloaded"
REGISTER_REJECTED: Final = "register_rejected"
REGISTER_BEHIND: Final = "register_behind"  # another node follows a later policy
DRAFT_UNUSABLE: Final = "draft_unusable"
TOPICS_RELOADED: Final = "topics_reloaded"
TOPICS_REJECTED: Final = "topics_rejected"
OPERATOR_ACTED: Final = "operator_acted"
CONSENT_RECORDED: Final = "consent_recorded"
CONSENT_WITHDRAWN: Final = "consent_withdrawn"
OVERRIDE_REVIEWED: Final = "override_reviewed"
LOG_LINES_LOST: Final = "log_lines_lost"

HELD_BYTES_MAX = 1024 * 1024  # of lines whose reader does not take them

# Ids, codes, counts and names from the register: nothing that a person wrote in a message.
LOGGED_KEYS: Final = frozenset(
    {
        "action",
        "adapter",
        "address",
        "agency",
        "agreement",
        "attempt",
        "build",
        "code",
        "delivery_id",
        "digest",
        "duplicate",
        "duration_s",
        "event",
        "file",
        "found",
        "kind",
        "level",
        "line",
        "message_id",
        "message_type",
        "method",
        "outcome",
        "port",
        "recipient",
        "recipients",
        "route",
        "sender",
        "stage",
        "status",
        "stopped",
        "submission_id",
        "system",
        "trace_id",
        "ts",
    }
)

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAFE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_ZEROS = frozenset("0")
# Trace ids are no secret, and asking the kernel for each would cost a system call.
_random = random.Random(os.urandom(32))  # noqa: S311 - no secret


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a request stands in its caller's trace (W3C Trace Context, level 1).

    ``request_id`` and ``correlation_id`` are the caller's own, repeated to it and kept
    nowhere: they could hold anything that a person typed.
    """

    trace_id: str  # 32 lower-case hex digits
    span_id: str  # 16 lower-case hex digits; ours, new for each request
    flags: str = "00"
    request_id: bytes = b""
    correlation_id: bytes = b""

    @property
    def traceparent(self) -> str:
        """The trace context to hand on."""
        return f"00-{self.trace_id}-{self.span_id}-{self.flags}"


def trace_of(headers: Iterable[tuple[bytes, bytes]]) -> Trace:
    """Continue the caller's trace, or begin one when it sends none that is well formed."""
    trace_id, flags, request_id, correlation_id = "", "00", b"", b""
    for name, value in headers:
        if name == b"traceparent":
            trace_id, flags = _parent(value)
        elif name == b"x-request-id" and _SAFE_ID.fullmatch(value):
            request_id = value
        elif name == b"x-correlation-id" and _SAFE_ID.fullmatch(value):
            correlation_id = value
    span_id = f"{_random.getrandbits(64) or 1:016x}"
    trace_id = trace_id or f"{_random.getrandbits(128) or 1:032x}"
    return Trace(trace_id, span_id, flags, request_id, correlation_id)


def _parent(value: bytes) -> tuple[str, str]:
    found = _TRACEPARENT.fullmatch(value)
    if found is None:
        return "", "00"
    version, trace_id, parent_id, flags, rest = found.groups()
    # §3.2.2: version ff is invalid, version 00 has no further fields, all zeros is no id.
    if version == b"ff" or (version == b"00" and rest):
        return "", "00"
    if set(trace_id.decode()) == _ZEROS or set(parent_id.decode()) == _ZEROS:
        return "", "00"
    return trace_id.decode(), f"{int(flags, 16) & 1:02x}"


current_trace: ContextVar[str] = ContextVar("current_trace", default="")


def _with_trace(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    trace_id = current_trace.get()
    if trace_id:
        event.setdefault("trace_id", trace_id)
    return event


def redact(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Drop what is not on the list. An exception is named by its type, never by its words."""
    error = event.pop("exc_info", None)
    if error is True:
        error = sys.exc_info()[1]
    if isinstance(error, tuple):
        error = error[1]
    kept = {key: value for key, value in event.items() if key in LOGGED_KEYS}
    if isinstance(error, BaseException):
        kept["error"] = type(error).__name__
        kept["origin"] = _origin(error)
    return kept


def _origin(error: BaseException) -> str:
    """Return file and line of the raise: enough to find it, and nothing it was given."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return ""
    return f"{frame.tb_frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno}"


def _stamp(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    now = time.time()
    event["ts"] = (
        f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now * 1000) % 1000:03d}Z"
    )
    return event


def _as_json(event: object, **_options: object) -> bytes:
    return orjson.dumps(event, default=_no_words, option=orjson.OPT_SORT_KEYS)


def _no_words(value: object) -> str:
    return type(value).__name__


class Lines:
    """Writes lines in bundles: a system call for each would cost more than the line.

    No line waits longer than ``after_s``; a warning or an error does not wait at all. Nothing
    waits for the log, and nothing fails by it: what cannot be written is lost, or held, up to
    ``held_bytes_max``, for a reader that may wake. How many lines are lost is written as soon
    as something can be.
    """

    def __init__(
        self, stream: BinaryIO, *, after_s: float = 0.2, held_bytes_max: int = HELD_BYTES_MAX
    ) -> None:
        self._out = _Out(stream)
        self._after_s = after_s
        self._held_bytes_max = held_bytes_max
        self._lock = threading.Lock()
        self._held = bytearray()
        self._untold = 0
        self._waiting = threading.Event()
        self.lost = 0
        self.failing = False
        # One for good: where memory is short, a thread that is to be started may never say that
        # it has, and whoever logs would wait for it.
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def msg(self, line: bytes) -> None:
        """Write one line with those to come."""
        with self._lock:
            if len(self._held) + len(line) < self._held_bytes_max:
                self._held += line + b"\n"
            else:
                self._lose(1)
            self._waiting.set()

    def urgent(self, line: bytes) -> None:
        """Write one line now."""
        self.msg(line)
        self.flush()

    debug = info = msg
    warning = error = critical = exception = fatal = log = urgent

    def flush(self) -> None:
        """Write what is held, as far as it can be without waiting for anybody."""
        with self._lock:
            if not self._held:
                return
            try:
                self.failing = not self._write()
            except (OSError, MemoryError):
                self.failing = True
                self._lose(self._held.count(b"\n"))
                self._held.clear()
            if self._held:
                self._waiting.set()

    def _write(self) -> bool:
        """Write, first of all how many lines are missing; False: the reader takes no more now."""
        if self._untold:
            event = _stamp(None, "", {"event": LOG_LINES_LOST, "level": "warning"})
            told = _as_json({**event, "found": self._untold}) + b"\n"
            if self._out.write(told) < len(told):
                return False
            self._untold = 0
        del self._held[: self._out.write(bytes(self._held))]
        return not self._held

    def _lose(self, count: int) -> None:
        self.lost += count
        self._untold += count

    def _write_on(self) -> None:
        while True:
            with suppress(MemoryError):  # the next round may find some
                self._waiting.wait()
                self._waiting.clear()
            time.sleep(self._after_s)
            self.flush()


class _Out:
    """Where lines go. A write to a pipe that is full would wait for its reader, for ever."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._torn = False
        self._waits = False
        try:
            self._file = stream.fileno()
        except OSError:  # in memory
            self._file = -1
        else:
            self._waits = not stat.S_ISREG(os.fstat(self._file).st_mode)

    def write(self, lines: bytes) -> int:
        """Return how much of ``lines`` was written: less, if somebody would have to wait.

        Raises:
            OSError: it cannot be written.
        """
        if self._file < 0:
            self._stream.write(lines)
            self._stream.flush()
            return len(lines)
        if self._torn and self._put(b"\n"):
            self._torn = False
        done = 0
        while done < len(lines):
            count = self._put(lines[done : done + PIPE_BUF] if self._waits else lines[done:])
            if not count:
                break
            done += count
            self._torn = lines[done - 1 : done] != b"\n"
        return done

    def _put(self, piece: bytes) -> int:
        if self._waits:
            poll = select.poll()
            poll.register(self._file, select.POLLOUT)
            if not poll.poll(0):
                return 0
        try:
            return os.write(self._file, piece)
        except BlockingIOError:
            return 0


class _StandardLibrary(logging.Handler):
    """Passes on what libraries log: the logger's name and level, not its text."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line through structlog."""
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno, "library_logged", kind=record.name, exc_info=error
        )


def configure_logging(stream: BinaryIO | None = None, *, level: str = "info") -> Lines:
    """Send JSON lines to ``stream`` (standard error), this program's and its libraries'."""
    lines = Lines(stream or sys.stderr.buffer)
    atexit.register(lines.flush)
    structlog.configure(
        processors=[
            structlog.stdlib.add_log_level,
            _with_trace,
            _stamp,
            redact,
            structlog.processors.JSONRenderer(serializer=_as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_names: lines,
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_StandardLibrary(logging.WARNING)]
    logging.getLogger("uvicorn.access").handlers[:] = []
    logging.getLogger("uvicorn.access").propagate = False
    return lines


def log(event: str, **fields: object) -> None:
    """Write one line. Keys that are not on the list of `LOGGED_KEYS` are dropped."""
    structlog.get_logger().info(event, **fields)


def log_error(event: str, error: BaseException, **fields: object) -> None:
    """Write one line about a fault: its type and where it was raised."""
    structlog.get_logger().error(event, exc_info=error, **fields)
