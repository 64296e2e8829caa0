"""Errors as problem details (RFC 9457), in JSON or XML, with the words of `reasons.py`.

They name a place in the message and never a value from it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final
from xml.sax.saxutils import escape

import orjson

from broker.core.errors import BrokerError, Rejection, Transient
from broker.core.reasons import Reason, explain

JSON: Final = b"application/problem+json"
XML: Final = b"application/problem+xml"
_NAMESPACE: Final = "urn:ietf:rfc:7807"  # RFC 9457 appendix B keeps that of RFC 7807

Outcome = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with one request. ``recipients`` tells how each was decided, if they were."""

    reason: Reason
    detail: str = ""
    pointer: str = ""
    line: int | None = None
    instance: str = ""
    trace_id: str = ""
    retry_after_s: int | None = None
    recipients: Sequence[Outcome] = field(default=())

    @property
    def status(self) -> int:
        """The HTTP status."""
        return explain(self.reason).status

    def members(self) -> dict[str, object]:
        """Return the members of the problem object, without those that are empty."""
        words = explain(self.reason)
        members: dict[str, object] = {
            "type": f"/reasons/{self.reason.value}",
            "title": words.title,
            "status": words.status,
            "detail": self.detail or words.cause,
            "code": self.reason.value,
            "instance": self.instance,
            "pointer": self.pointer,
            "line": self.line,
            "trace_id": self.trace_id,
            "retry": words.retry,
            "cure": words.cure,
            "recipients": list(self.recipients),
        }
        return {key: value for key, value in members.items() if value not in ("", None, [])}


def problem_of(error: BrokerError, *, trace_id: str, instance: str = "") -> Problem:
    """Return ``error`` in the form that a caller is told."""
    return Problem(
        reason=error.reason,
        detail=error.detail,
        pointer=error.pointer if isinstance(error, Rejection) else "",
        line=error.line if isinstance(error, Rejection) else None,
        instance=instance,
        trace_id=trace_id,
        retry_after_s=error.retry_after_s if isinstance(error, Transient) else None,
    )


def render(problem: Problem, accept: bytes) -> tuple[bytes, bytes]:
    """Return the media type and the bytes of ``problem``, as XML when the caller asks for it."""
    if wants_xml(accept):
        return XML, _xml(problem)
    return JSON, orjson.dumps(problem.members())


def wants_json(accept: bytes) -> bool:
    """Whether JSON is asked for by name, and not less than XML. For answers that are XML."""
    return _quality(accept, b"json") > _quality(accept, b"xml")


def wants_xml(accept: bytes) -> bool:
    """Whether XML is asked for by name, and more than JSON. For answers that are JSON."""
    return _quality(accept, b"xml") > _quality(accept, b"json")


def _quality(accept: bytes, kind: bytes) -> float:
    """Return the highest q (RFC 9110 §12.4.2) of the media types that end in ``kind``, or 0."""
    best = 0.0
    for media_range in accept.lower().split(b",")[:16]:
        name, *parameters = (part.strip() for part in media_range.split(b";"))
        if not name.endswith(kind):
            continue
        quality = 1.0
        for parameter in parameters:
            if parameter.startswith(b"q="):
                quality = _number(parameter[2:])
        best = max(best, quality)
    return best


def _number(text: bytes) -> float:
    digits = text.replace(b".", b"", 1)
    return min(1.0, float(text)) if digits.isdigit() and len(text) <= 5 else 0.0  # noqa: PLR2004


def _xml(problem: Problem) -> bytes:
    body = "".join(_element(name, value) for name, value in problem.members().items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<problem xmlns="{_NAMESPACE}">{body}</problem>'
    return text.encode()


def _element(name: str, value: object) -> str:
    """Return one member; an array is a row of ``i`` elements (RFC 9457 appendix B)."""
    if isinstance(value, Mapping):
        inner = "".join(_element(str(key), item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        inner = "".join(_element("i", item) for item in value)
    elif isinstance(value, bool):
        inner = "true" if value else "false"
    else:
        inner = escape("" if value is None else str(value))
    return f"<{name}>{inner}</{name}>"
