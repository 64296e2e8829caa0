"""`fame reasons`: every code with its cause and cure; the page broker/REASONS.md is its output."""

from typing import Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure, exit_for
from broker.cli.home import Json, print_json
from broker.core.reasons import Reason, explain

ORIGINS = {
    "sender": "Sender: mend the message or the request",
    "policy": "Policy: an agreement, or its absence, says no",
    "recipient": "Recipient: the far system",
    "broker": "Broker: ours",
}

INTRODUCTION = """# Reasons

Every refusal, rejection and fault has a code.
A code is added, never renamed and never reused, so a system may act on it.
The part before the first dot says whose business it is.
*Again* says whether the same bytes may be sent again as they are.
This page is the output of `fame reasons --markdown`.
"""

HEAD = "| code | status | cause | cure | again |\n|---|---|---|---|---|\n"


def command(
    code: Annotated[str | None, typer.Argument(help="One code, such as policy.no_isp.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="As the page REASONS.md.")] = False,
    as_json: Json = False,
) -> None:
    """Show every code the broker gives, with cause and cure."""
    known = {reason.value: reason for reason in Reason}
    if code is not None and code not in known:
        from difflib import get_close_matches

        near = get_close_matches(code, known, n=1)
        rows = {"try": f"did you mean {near[0]}?" if near else "fame reasons lists them"}
        raise Failure(f"{code} is no reason", EXIT_USAGE, rows)
    chosen = [known[code]] if code else list(Reason)
    if as_json:
        print_json([as_mapping(reason) for reason in chosen])
    elif markdown:
        print(page(), end="")
    else:
        for reason in chosen:
            _show(reason)


def as_mapping(reason: Reason) -> dict[str, object]:
    """Return what is to be said of ``reason``."""
    words = explain(reason)
    return {
        "code": reason.value,
        "status": words.status,
        "title": words.title,
        "cause": words.cause,
        "cure": words.cure,
        "retry": words.retry,
        "exit_code": exit_for(reason.value),
    }


def page() -> str:
    """Return the whole table of reasons as Markdown."""
    parts = [INTRODUCTION]
    for origin, title in ORIGINS.items():
        parts.append(f"\n## {title}\n\n{HEAD}")
        for reason in Reason:
            if reason.value.partition(".")[0] == origin:
                words = explain(reason)
                again = "yes" if words.retry else "no"
                parts.append(
                    f"| `{reason.value}` | {words.status} | {words.title}: {words.cause} "
                    f"| {words.cure} | {again} |\n"
                )
    return "".join(parts)


def _show(reason: Reason) -> None:
    words = explain(reason)
    print(f"{reason.value}  ({words.status})  {words.title}")
    print(f"  cause  {words.cause}")
    print(f"  cure   {words.cure}{' The same bytes may be sent again.' if words.retry else ''}\n")
