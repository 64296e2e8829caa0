"""How the command line says no: what happened, where, what to do, and a code.

The exit code tells a script whose business it is, as the part of a reason before its
first dot tells a person.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from broker.core.errors import BrokerError, Rejection
from broker.core.reasons import Reason, explain

EXIT_CHECK = 1
EXIT_USAGE = 2
EXIT_POLICY = 3
EXIT_MESSAGE = 4
EXIT_UNAVAILABLE = 5

_EXITS = {
    "policy": EXIT_POLICY,
    "sender": EXIT_MESSAGE,
    "recipient": EXIT_UNAVAILABLE,
    "broker": EXIT_UNAVAILABLE,
}
# Said by the broker about the request, not about a message.
_CHECKS = {
    Reason.UNAUTHENTICATED.value,
    Reason.FORBIDDEN.value,
    Reason.NOT_FOUND.value,
    Reason.REQUEST_INVALID.value,
    Reason.METHOD.value,
}


class Failure(Exception):
    """A command ends without its result.

    ``rows`` are shown below the title, label first. The label ``try`` says what to do.
    """

    def __init__(
        self, title: str, exit_code: int = EXIT_CHECK, rows: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(title)
        self.title = title
        self.exit_code = exit_code
        self.rows = rows or {}


def from_error(error: BrokerError) -> Failure:
    """Return the failure that tells a user about ``error``."""
    words = explain(error.reason)
    where = ""
    if isinstance(error, Rejection):
        line = f"line {error.line}" if error.line else ""
        where = ", ".join(part for part in (error.pointer, line) if part)
    rows = {
        "where": where,
        "detail": error.detail,
        "why": words.cause,
        "try": words.cure,
        "code": error.reason.value,
    }
    return Failure(words.title, exit_for(error.reason.value), rows)


def from_problem(problem: Mapping[str, Any]) -> Failure:
    """Return the failure that tells a user about an RFC 9457 problem the broker answered."""
    code = str(problem.get("code", ""))
    line = f"line {problem['line']}" if problem.get("line") else ""
    rows = {
        "where": ", ".join(part for part in (str(problem.get("pointer") or ""), line) if part),
        "why": str(problem.get("detail") or ""),
        **_recipients(problem.get("recipients") or ()),
        "try": str(problem.get("cure") or ""),
        "code": code,
        "trace": str(problem.get("trace_id") or ""),
    }
    return Failure(str(problem.get("title") or "The broker said no"), exit_for(code), rows)


def exit_for(code: str) -> int:
    """Return the exit code for a reason's code."""
    return EXIT_CHECK if code in _CHECKS else _EXITS.get(code.partition(".")[0], EXIT_CHECK)


def show_failure(failure: Failure) -> int:
    """Write ``failure`` on standard error and return its exit code."""
    print(f"{failure.title}.", file=sys.stderr)
    for label, text in failure.rows.items():
        for number, line in enumerate(text.splitlines()):
            print(f"  {'' if number else label:9} {line}", file=sys.stderr)
    return failure.exit_code


def _recipients(recipients: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    lines = [
        ": ".join(str(one[key]) for key in ("recipient", "reason", "change") if one.get(key))
        for one in recipients
    ]
    return {"each": "\n".join(lines)} if lines else {}
