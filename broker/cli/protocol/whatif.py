"""`fame protocol whatif`: a draft against the decisions of a period."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from broker.cli.home import Config, Json, print_json, print_rows
from broker.cli.protocol.common import Protocols, register_of, schemas_of
from broker.cli.protocol.drafts import Draft, Since, Until, day, decisions_on_record, with_draft

if TYPE_CHECKING:
    from broker.core.whatif import Flip, Outcome, PastDecision, WhatIf


def whatif(
    draft: Draft,
    since: Since = "",
    until: Until = "",
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say which past decisions a draft would turn, from metadata alone.

    The draft counts as signed and in force throughout. Nothing is changed, and no message is read.
    Of a folder, its agencies, gateways and purposes count, too; else they are those of today.
    """
    from broker.core.recorded import Records
    from broker.core.whatif import WhatIf, compared_of
    from broker.edge.past import count_decisions, past_decisions

    live = register_of(protocols, config)
    schemas = schemas_of(protocols, config)
    register, drafted = with_draft(live, draft)
    asked = WhatIf(live, register, schemas)
    period = day(since), day(until, last=True)
    unknown = 0
    with decisions_on_record(config) as conn:
        total = count_decisions(conn, *period)
        past = past_decisions(conn, Records(schemas), *period)
        for one in _watched(past, total.decisions):
            if one is None:
                unknown += 1
            else:
                asked.ask(one)
    document = {
        "draft": drafted,
        "compared": ["agreements", *compared_of(live, register)],
        "own_notices": total.own_notices,
        **_document(asked, unknown),
    }
    if as_json:
        print_json(document)
    else:
        _print(document)


def _watched(
    decisions: "Iterator[PastDecision | None]", total: int
) -> "Iterator[PastDecision | None]":
    """Yield the decisions with a bar on the terminal that says how far it is."""
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    quiet = not console.is_terminal
    words = "Deciding again"
    yield from track(decisions, words, total=total, console=console, transient=True, disable=quiet)


def _document(asked: "WhatIf", unknown: int) -> dict[str, Any]:
    flips = sorted(asked.flips.items(), key=lambda one: (-one[1], str(one[0])))
    turned = sum(count for flip, count in flips if not flip.anyway)
    return {
        "decisions": asked.asked,
        "turned": turned,
        "not_known": unknown,
        "consent_not_known": asked.consent_unknown,
        "flips": [{**_flip(flip), "count": count} for flip, count in flips],
    }


def _flip(flip: "Flip") -> dict[str, Any]:
    return {
        "turn": flip.turn.value,
        "from": flip.sender,
        "to": flip.recipient,
        "type": flip.message_type,
        "purpose": flip.purpose,
        "before": _outcome(flip.before),
        "after": _outcome(flip.after),
        "fields": list(flip.fields),
        "without_draft_too": flip.anyway,
    }


def _outcome(outcome: "Outcome") -> dict[str, Any]:
    return {
        "permitted": outcome.permitted,
        "reason": outcome.reason or None,
        "protocol": outcome.protocol or None,
        "clause": outcome.clause or None,
    }


def _print(document: dict[str, Any]) -> None:
    names = ", ".join(document["draft"]) or "the changed register"
    print(f"Of {document['decisions']} decisions, {document['turned']} would turn under {names}.")
    others = document["compared"][1:]
    if others:
        print(f"Of the register, {', '.join(others)} differ, too, and count as they stand there.")
    else:
        print("Agencies, gateways and purposes count as they are today.")
    if document["own_notices"]:
        words = "notices of the broker itself are left out: no agreement covers them"
        print(f"{document['own_notices']} {words}.")
    if document["not_known"]:
        print(f"{document['not_known']} more are too old or erased: what they rested on is gone.")
    if document["consent_not_known"]:
        words = "rest on consent that nobody looked up then, and count as refused"
        print(f"{document['consent_not_known']} {words}.")
    for anyway, title in ((False, ""), (True, "\nThe register of today turns these by itself:")):
        rows = [_row(one) for one in document["flips"] if one["without_draft_too"] is anyway]
        if rows:
            print(title)
            print_rows(("count", "turn", "from", "to", "type", "purpose", "before", "after"), rows)


def _row(flip: dict[str, Any]) -> tuple[str, ...]:
    after = ", ".join(flip["fields"]) or _words(flip["after"])
    return (
        str(flip["count"]),
        flip["turn"],
        flip["from"],
        flip["to"],
        flip["type"],
        flip["purpose"],
        _words(flip["before"]),
        after,
    )


def _words(outcome: dict[str, Any]) -> str:
    clause = f"{outcome['protocol']} {outcome['clause'] or ''}".strip()
    if outcome["reason"] is None:
        return clause
    return f"{outcome['reason']} ({clause})" if outcome["protocol"] else str(outcome["reason"])
