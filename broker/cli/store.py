"""`fame store`: what is kept, and what is kept no longer."""

import asyncio
from dataclasses import asdict
from typing import Annotated

import typer

from broker.cli.home import Config, DryRun, Json, load_config, print_json

COUNT_MAX = 1_000_000

app = typer.Typer(rich_markup_mode=None)


@app.callback()
def store() -> None:
    """What is kept, and what is kept no longer."""


@app.command()
def prune(
    days: Annotated[
        float | None, typer.Option(min=1, help="Instead of store.payload_days.")
    ] = None,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Erase the payloads whose time is over, as a running broker does by itself.

    Decisions, receipts, evidence and the ledger stay.
    """
    from broker.app import load_parts
    from broker.edge.erasing import Eraser

    settings = load_config(config).config
    kept_days = settings.store.payload_days if days is None else days

    async def pruned() -> int:
        parts = load_parts(settings)
        eraser = Eraser(parts.store, parts.clock, kept_days)
        try:
            return await (eraser.due(COUNT_MAX) if dry_run else eraser.once())
        finally:
            await parts.store.close()

    count = asyncio.run(pruned())
    if as_json:
        print_json({"payloads": count, "days": kept_days, "erased": not dry_run})
    else:
        print(f"{count} payloads {'would be' if dry_run else 'were'} erased")


@app.command()
def restored(config: Config = None, dry_run: DryRun = False, as_json: Json = False) -> None:
    """Say that the database was set back to an older copy; before the broker is started.

    What is open in the copy may have been handed over since: each such delivery counts an
    attempt that is in doubt. Its route is paused until `fame route resume`.
    """
    from broker.app import load_parts
    from broker.edge.restoring import Restored, doubtful, mark_restored

    async def marked() -> Restored:
        parts = load_parts(load_config(config).config)
        try:
            if dry_run:
                return await parts.store.read(doubtful)
            at = parts.clock.now()
            return await parts.store.write(lambda conn, ledger: mark_restored(conn, ledger, at))
        finally:
            await parts.store.close()

    done = asyncio.run(marked())
    if as_json:
        print_json({**asdict(done), "done": not dry_run})
        return
    word = "would be" if dry_run else "are"
    print(f"{done.deliveries} deliveries {word} in doubt")
    print(f"routes that {word} paused: {', '.join(done.paused) or 'none'}")
