"""`fame protocol shadow`: a draft beside what is in force, on the messages that really come."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, Json, load_config, print_json, print_rows
from broker.cli.protocol.drafts import decisions_on_record

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from broker.core.protocol import Register
    from broker.core.sharing import SharingProtocol
    from broker.edge.ledger import Ledger
    from broker.edge.shadow_rows import Finding, ShadowRow, Tally

    Act = Callable[[Connection, Ledger, datetime], Any]

T = TypeVar("T")
OPERATOR = "command"  # who did it, in the ledger
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Id, or id@version: fame protocol shadow ls.")
]

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def shadow() -> None:
    """Try a draft beside what is in force, on real messages. It decides nothing."""


@app.command()
def start(
    draft: Annotated[Path, typer.Argument(metavar="DRAFT", help="File of a draft.")],
    config: Config = None,
) -> None:
    """Put a draft beside what is in force, on every node that shares the database.

    It counts there as signed and in force. What it would decide is compared and counted.
    """
    from broker.edge import shadow_rows

    row = _row(draft, config)

    def begin(conn: "Connection", ledger: "Ledger", at: "datetime") -> "ShadowRow | None":
        from dataclasses import replace

        begun = replace(row, started_at=at)
        return shadow_rows.start(conn, ledger, begun, operator=OPERATOR)

    if _written(begin, config) is None:
        most = shadow_rows.ACTIVE_MAX
        rows = {"why": f"it goes on already, or {most} do", "try": "fame protocol shadow ls"}
        raise Failure(f"{row.protocol} was not begun", rows=rows)
    print(f"{row.protocol} is compared with what is in force; it decides nothing.")
    print(f"digest of what it says: {row.digest}")
    print(f"next: fame protocol shadow report {row.protocol}")


@app.command("ls")
def list_shadows(config: Config = None, as_json: Json = False) -> None:
    """List the drafts that are, or were, compared with what is in force."""
    from broker.edge.shadow_rows import shadows

    with decisions_on_record(config) as conn:
        rows = [_about(one) for one in shadows(conn)]
    if as_json:
        print_json(rows)
        return
    columns = ("protocol", "state", "started_at", "ended_at", "digest")
    print_rows(columns, [[_cell(row[name]) for name in columns] for row in rows])


@app.command()
def report(name: Name, config: Config = None, as_json: Json = False) -> None:
    """Say what a draft would have decided differently: by pair, purpose and clause."""
    from broker.edge.shadow_rows import findings

    with decisions_on_record(config) as conn:
        row = _named(conn, name)
        found = findings(conn, row.shadow_id)
    document = {**_about(row), **_counted(found), "findings": [_finding(*one) for one in found]}
    if as_json:
        print_json(document)
    else:
        _print(document)


@app.command()
def drop(
    name: Name,
    forget: Annotated[
        bool, typer.Option("--forget", help="Remove what it found, instead of in its time.")
    ] = False,
    config: Config = None,
) -> None:
    """End a shadow. What it found is kept for store.payload_days."""
    from broker.edge.shadow_rows import DROPPED

    row = _end(name, DROPPED, config, forget=forget)
    kept = "is forgotten" if forget else "stays for store.payload_days"
    print(f"{row.protocol} is compared no more; what was found {kept}.")


@app.command()
def promote(name: Name, config: Config = None) -> None:
    """End a shadow and lay its draft before those who sign. It does not take effect by this.

    The draft that was compared, byte for byte, goes among the sharing protocols, for `fame
    protocol sign` by the parties and `activate` by one of them.
    """
    from broker.edge.shadow_rows import PROMOTED

    directory = load_config(config).config.registers.protocols_dir
    with decisions_on_record(config) as conn:
        row = _active(conn, name)
    draft = _still_good(row, directory)
    file = directory / "sharing" / f"{draft.protocol_id}.v{draft.version}.toml"
    if file.exists() and _digest(file) != row.digest:
        rows = {"where": str(file), "try": "move it away, or compare that file in a new shadow"}
        raise Failure("Another draft lies there", rows=rows)
    if not file.exists():
        part = file.with_suffix(".part")
        part.write_text(row.draft, encoding="utf-8")
        part.replace(file)  # a broker that looks sees all of it or nothing
    _end(name, PROMOTED, config)
    print(f"{row.protocol} lies in {file.name}; nothing is in force by it yet.")
    print(f"digest of what is signed: {row.digest}")
    print("next:")
    print(f"  fame protocol test {row.protocol} --write")
    for party in draft.parties:
        print(f"  fame protocol sign {row.protocol} --agency {party.agency}")
    print(f"  fame protocol activate {row.protocol} --agency {draft.parties[0].agency}")


def _row(draft: Path, config: Path | None) -> "ShadowRow":
    """Return the shadow that ``draft`` would be.

    Raises:
        Fault: it cannot be used with what is in force.
        Failure: it is in force already, or not newer than what is.
    """
    from broker.cli.home import now, read_input
    from broker.core.drafting import with_drafts
    from broker.core.policy_log import digest_of_agreement
    from broker.edge.registers import load_draft
    from broker.edge.shadow_rows import ShadowRow

    live = _live(load_config(config).config.registers.protocols_dir)
    one = load_draft(draft, live)
    with_drafts(live, [one])
    _require_newer(one, live)
    text = read_input(draft).decode()
    return ShadowRow("", one.reference, text, digest_of_agreement(one.terms), now())


def _live(directory: Path) -> "Register":
    from broker.edge.registers import load_in_force

    return load_in_force(directory).register


def _require_newer(draft: "SharingProtocol", live: "Register") -> None:
    from broker.core.sharing import UNSIGNED_STATES

    held = [
        one.version
        for one in live.protocols.values()
        if one.protocol_id == draft.protocol_id and one.status not in UNSIGNED_STATES
    ]
    if held and draft.version <= max(held):
        rows = {"why": f"version {max(held)} was activated", "try": f"version = {max(held) + 1}"}
        raise Failure(f"{draft.reference} is not newer than what is in force", EXIT_USAGE, rows)


def _still_good(row: "ShadowRow", directory: Path) -> "SharingProtocol":
    """Return the draft of ``row``, if it can be used with what is in force now."""
    import tomllib

    from broker.core.drafting import parse_draft, with_drafts

    live = _live(directory)
    draft = parse_draft(tomllib.loads(row.draft), live, row.protocol)
    with_drafts(live, [draft])
    _require_newer(draft, live)
    return draft


def _digest(file: Path) -> str:
    import tomllib

    from broker.cli.home import read_input
    from broker.core.policy_log import digest_of_agreement

    return digest_of_agreement(tomllib.loads(read_input(file).decode()))


def _named(conn: "Connection", name: str) -> "ShadowRow":
    """Return the newest shadow of that name, one that goes on before others.

    Raises:
        Failure: there is none.
    """
    from broker.edge.shadow_rows import shadows

    held = shadows(conn)
    found = [one for one in held if name in (one.protocol, one.protocol.partition("@")[0])]
    if not found:
        known = ", ".join(dict.fromkeys(one.protocol for one in held)) or "none was begun"
        raise Failure(f"There is no shadow {name!r}", EXIT_USAGE, {"try": f"one of: {known}"})
    return next((one for one in found if not one.ended), found[0])


def _active(conn: "Connection", name: str) -> "ShadowRow":
    row = _named(conn, name)
    if row.ended:
        raise Failure(f"{row.protocol} was {row.ended} at {row.ended_at:%Y-%m-%d}", EXIT_USAGE)
    return row


def _end(name: str, how: str, config: Path | None, *, forget: bool = False) -> "ShadowRow":
    from broker.edge import shadow_rows

    def ended(conn: "Connection", ledger: "Ledger", at: "datetime") -> "ShadowRow":
        row = _named(conn, name) if forget else _active(conn, name)
        shadow_rows.end(conn, ledger, row, how, operator=OPERATOR, at=at, forget=forget)
        return row

    return _written(ended, config)


def _written(act: "Callable[[Connection, Ledger, datetime], T]", config: Path | None) -> T:
    """Do ``act`` in a transaction of the broker's store, whether or not a broker runs."""
    from broker.app import load_parts

    settings = load_config(config).config

    async def done() -> T:
        parts = load_parts(settings)
        try:
            return await parts.store.write(
                lambda conn, ledger: act(conn, ledger, parts.clock.now())
            )
        finally:
            await parts.store.close()

    return asyncio.run(done())


def _cell(value: "str | datetime | None") -> str:
    if value is None:
        return "-"
    return value[:25] if isinstance(value, str) else f"{value:%Y-%m-%d %H:%M}"


def _about(row: "ShadowRow") -> dict[str, Any]:
    return {
        "protocol": row.protocol,
        "state": row.ended or "compared",
        "started_at": row.started_at,
        "ended_at": row.ended_at,
        "digest": row.digest,
    }


_COUNTS = {
    "agrees": "agreed",
    "passes": "newly_passes",
    "stops": "newly_stops",
    "reduced differently": "reduced_differently",
    "other reason": "other_reason",
    "failed": "failed",
    "skipped": "skipped",
}


def _counted(found: "list[tuple[Finding, Tally]]") -> dict[str, int]:
    from broker.core.shadow import COMPARED

    counts = dict.fromkeys(_COUNTS.values(), 0)
    for finding, tally in found:
        if not finding.path:
            counts[_COUNTS[finding.found]] += tally.count
    compared = sum(counts[_COUNTS[one.value]] for one in COMPARED)
    return {"compared": compared, **counts}


def _finding(finding: "Finding", tally: "Tally") -> dict[str, Any]:
    return {
        "found": finding.found,
        "count": tally.count,
        "from": finding.sender,
        "to": finding.recipient,
        "type": finding.message_type,
        "purpose": finding.purpose,
        "live": _side(finding.live_reason, finding.live_protocol, finding.live_clause),
        "draft": _side(finding.draft_reason, finding.draft_protocol, finding.draft_clause),
        "path": finding.path or None,
        "examples": sorted({one for one in (tally.first, tally.last) if one is not None}),
    }


def _side(reason: str, protocol: str, clause: str) -> dict[str, Any]:
    return {"reason": reason or None, "protocol": protocol or None, "clause": clause or None}


_COLUMNS = ("count", "found", "from", "to", "type", "purpose", "in force", "draft", "example")


def _print(document: dict[str, Any]) -> None:
    name, compared = document["protocol"], document["compared"]
    print(f"{name} ({document['state']} since {document['started_at']:%d %B %Y %H:%M} UTC)")
    print(f"Of {compared} decisions on real messages, {document['agreed']} agree.")
    for key in ("newly_passes", "newly_stops", "reduced_differently", "other_reason"):
        if document[key]:
            print(f"  {key.replace('_', ' ')}: {document[key]}")
    if document["failed"]:
        print(f"{document['failed']} more could not be decided under the draft.")
    if document["skipped"]:
        print(f"{document['skipped']} more were not compared, so that no message waits.")
    rows = [_words(one) for one in document["findings"] if one["found"] != "agrees"]
    if rows:
        print()
        print_rows(_COLUMNS, rows)


def _words(one: dict[str, Any]) -> tuple[str, ...]:
    return (
        str(one["count"]),
        one["found"],
        one["from"],
        one["to"],
        one["type"],
        one["purpose"],
        _outcome(one["live"]),
        one["path"] or _outcome(one["draft"]),
        one["examples"][-1] if one["examples"] else "-",
    )


def _outcome(side: dict[str, Any]) -> str:
    clause = f"{side['protocol'] or ''} {side['clause'] or ''}".strip()
    return " ".join(part for part in (side["reason"], clause) if part) or "-"
