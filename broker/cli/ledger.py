"""`fame ledger`: whether the record is whole, and whether it is still all of it."""

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_CHECK
from broker.cli.home import Config, Json, load_config, now, print_json, read_input
from broker.core.agency import registered_key
from broker.core.envelope import parse
from broker.core.receipt import receipt_json
from broker.core.signature import verify_root

if TYPE_CHECKING:
    from sqlalchemy import Connection

app = typer.Typer(rich_markup_mode=None)


@dataclass(frozen=True, slots=True)
class Held:
    """The place in the ledger that a receipt names, and for which message."""

    file: str
    message_id: str
    sequence: int
    leaf: str


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at one number; ``held`` is the receipt that shows it, if one does."""

    sequence: int
    words: str
    held: Held | None = None


@app.callback()
def ledger() -> None:
    """Whether the record is whole, and whether it is still all of it."""


@app.command()
def check(
    receipt: Annotated[
        list[Path] | None,
        typer.Option(help="A receipt that an agency holds; its entry must be there. May repeat."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check every entry; with receipts, that none is lost of what was acknowledged.

    A database that was set back to an older copy is whole in itself. Only what others hold
    shows that its end is gone: the newest receipts of agencies.
    """
    from broker.app import load_parts
    from broker.edge.key_files import read_file

    settings = load_config(config).config
    certificate = read_file(settings.keys.receipt_cert_file)
    held = [_held(file, certificate) for file in receipt or ()]

    async def checked() -> tuple[int, list[Finding]]:
        parts = load_parts(settings)
        try:
            return await parts.store.read(lambda conn: examine(conn, held))
        finally:
            await parts.store.close()

    entries, findings = asyncio.run(checked())
    if as_json:
        print_json({"entries": entries, "faults": [asdict(one) for one in findings]})
    else:
        print(f"{entries} entries, {len(held)} receipts compared")
        for one in findings:
            told = "" if one.held is None else f" ({one.held.message_id}, {one.held.file})"
            print(f"{one.sequence:<10} {one.words}{told}")
    if findings:
        raise typer.Exit(EXIT_CHECK)


def _held(file: Path, certificate: bytes) -> Held:
    """Return the place that the receipt in ``file`` names, if it is this broker's.

    Raises:
        Rejection: it is no receipt, or this broker did not sign it.
    """
    content = read_input(file)
    # What is read below is what was signed and nothing else.
    signed = verify_root(parse(content), (registered_key(certificate),), now())
    read = receipt_json(signed.signed)
    place = read["ledger"]
    assert isinstance(place, dict)
    return Held(str(file), str(read["message_id"]), place["sequence"], place["leaf"])


def examine(conn: "Connection", held: Sequence[Held]) -> tuple[int, list[Finding]]:
    """Return the number of entries, and what is wrong with them by themselves and by ``held``."""
    from sqlalchemy import select

    from broker.edge.ledger import verify_ledger
    from broker.edge.tables import ledger as entries

    whole = verify_ledger(conn)
    findings = [] if whole.first_bad is None else [Finding(whole.first_bad, whole.fault)]
    for one in held:
        leaf = conn.execute(select(entries.c.leaf).where(entries.c.seq == one.sequence)).scalar()
        if leaf is None:
            findings.append(Finding(one.sequence, "the entry of a receipt is missing", one))
        elif leaf.hex() != one.leaf:
            words = "another entry stands where a receipt has its own"
            findings.append(Finding(one.sequence, words, one))
    return whole.entries, findings
