"""`fame protocol diff`: what newly passes and what newly stops, each with a message to show it."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, Json, now, print_json, write_output
from broker.cli.protocol.common import Protocols, find, register_of, schemas_of

if TYPE_CHECKING:
    from broker.core.contrast import Example, Fate, Group
    from broker.core.protocol import Register
    from broker.core.sharing import SharingProtocol

Side = "file, folder of a register, or id@version"


def diff(
    old: Annotated[str, typer.Argument(metavar="OLD", help=f"Before: {Side}.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help=f"After: {Side}.")],
    examples: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write each example's envelope there.")
    ] = None,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say what newly passes and what newly stops, with a made-up message for each.

    Two versions are compared as if each were in force throughout; two folders as they stand.
    """
    from broker.core.contrast import Contrast, grouped
    from broker.core.widening import compare

    before, after = _sides(old, new, protocols, config)
    contrast = Contrast(before, after, schemas_of(protocols, config))
    at = now()
    found = [(one, contrast.example(one.change, at)) for one in grouped(compare(before, after))]
    if examples is not None:
        examples.mkdir(parents=True, exist_ok=True)
        for number, (_, example) in enumerate(found, 1):
            if example is not None:
                write_output(examples / f"example-{number}.xml", example.envelope)
    if as_json:
        print_json([_document(*one) for one in found])
    else:
        _print(found)


def _sides(
    old: str, new: str, protocols: Path | None, config: Path | None
) -> "tuple[Register, Register]":
    """Return the two registers.

    Raises:
        Failure: the two are not of one kind, or not of one agreement.
        Fault: one cannot be used.
    """
    from broker.core.drafting import with_drafts
    from broker.edge.registers import load_register

    folders = [Path(old).is_dir(), Path(new).is_dir()]
    if all(folders):
        return load_register(Path(old)), load_register(Path(new))
    if any(folders):
        rows = {"try": "compare two folders, or two versions of one sharing protocol"}
        raise Failure("A folder and a sharing protocol cannot be compared", EXIT_USAGE, rows)
    live = register_of(protocols, config)
    first, second = (_version(one, live) for one in (old, new))
    if first.protocol_id != second.protocol_id:
        rows = {"where": f"{first.protocol_id}, {second.protocol_id}"}
        raise Failure("These are two agreements, not two versions of one", EXIT_USAGE, rows)
    return with_drafts(live, [first]), with_drafts(live, [second])


def _version(named: str, live: "Register") -> "SharingProtocol":
    """Return one version as it was written, without the end that a later one gave it."""
    from broker.core.drafting import parse_draft
    from broker.edge.registers import load_draft

    if Path(named).is_file():
        return load_draft(Path(named), live)
    protocol = find(live, named)
    return parse_draft(protocol.terms, live, protocol.file)


def _document(group: "Group", example: "Example | None") -> dict[str, Any]:
    change = group.change
    return {
        "direction": change.direction,
        "aspect": change.aspect,
        "words": change.words,
        "protocol": change.protocol,
        "flow": change.flow,
        "concerns": [asdict(key) for key in group.keys],
        "example": None
        if example is None
        else {
            "at": example.at,
            "consent": example.consent,
            "before": _fate(example.before),
            "after": _fate(example.after),
            "envelope": example.envelope.decode(),
        },
    }


def _fate(fate: "Fate") -> dict[str, Any]:
    outcome = fate.outcome
    return {
        "permitted": outcome.permitted,
        "reason": outcome.reason or None,
        "clause": outcome.clause or None,
        "withheld": list(fate.withheld),
    }


def _print(found: "list[tuple[Group, Example | None]]") -> None:
    if not found:
        print("Nothing passes that did not, and nothing stops.")
    for direction, title in (("wider", "Newly passes"), ("narrower", "Newly stops")):
        chosen = [
            (number, *one)
            for number, one in enumerate(found, 1)
            if one[0].change.direction == direction
        ]
        if chosen:
            print(f"{title}:")
        for number, group, example in chosen:
            _print_group(number, group, example)


def _print_group(number: int, group: "Group", example: "Example | None") -> None:
    change, key = group.change, group.change.key
    print(f"  {number}. {change.words}  ({change.aspect}; {change.protocol}, flow {change.flow})")
    others = len(group.keys) - 1
    more = f", and {others} more" if others else ""
    asked = f"{key.message_type}/{key.version} from {key.sender} to {key.recipient}"
    print(f"     {asked} for {key.purpose}{more}")
    if example is None:
        print("     example: none of the made-up messages shows it")
    else:
        fates = f"before {_words(example.before)}; after {_words(example.after)}"
        consent = ", with consent" if example.consent else ""
        print(f"     example on {example.at:%d %B %Y}{consent}: {fates}")


def _words(fate: "Fate") -> str:
    if not fate.outcome.permitted:
        return f"refused ({fate.outcome.reason})"
    withheld = ", ".join(fate.withheld)
    return f"passes without {withheld}" if withheld else "passes whole"
