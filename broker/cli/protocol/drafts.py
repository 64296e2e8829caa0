"""What the commands about drafts share: a draft in force, a period, the decisions on record."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import load_config

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from broker.config import BrokerConfig
    from broker.core.protocol import Register

Draft = Annotated[
    Path, typer.Argument(metavar="DRAFT", help="File of a draft, or a changed register's folder.")
]
Since = Annotated[str, typer.Option(metavar="DATE", help="First day, such as 2026-05-01.")]
Until = Annotated[str, typer.Option(metavar="DATE", help="Last day; otherwise up to now.")]


def with_draft(live: "Register", draft: Path) -> "tuple[Register, list[str]]":
    """Return ``live`` with the draft in force, and the references of what is drafted.

    Raises:
        Fault: the draft cannot be used.
        Failure: a folder holds no protocol that differs.
    """
    from broker.core.drafting import changed, with_drafts
    from broker.edge.registers import load_draft, load_register

    if not draft.is_dir():
        one = load_draft(draft, live)
        return with_drafts(live, [one]), [one.reference]
    register = load_register(draft)
    return with_drafts(register, changed(live, register)), [
        one.reference for one in changed(live, register)
    ]


def day(text: str, *, last: bool = False) -> datetime | None:
    """Return the instant at which the day begins in the United Kingdom; ``last``: ends.

    Raises:
        Failure: it is not a date.
    """
    from datetime import timedelta

    from broker.core.table import london_midnight

    if not text:
        return None
    try:
        found = date.fromisoformat(text)
    except ValueError as error:
        rows = {"try": "write a date as 2026-05-01"}
        raise Failure(f"{text!r} is not a date", EXIT_USAGE, rows) from error
    return london_midnight(found + timedelta(days=1) if last else found)


@contextmanager
def decisions_on_record(config: Path | None) -> Iterator["Connection"]:
    """Open the broker's database to read it, at one instant throughout.

    Raises:
        Fault: it is not there or not reachable.
        Failure: no broker is there, or it has not decided anything.
    """
    from sqlalchemy import inspect

    settings = load_config(config).config
    with store_to_read(settings) as conn:
        tables = inspect(conn)
        held = tables.get_columns("decision") if tables.has_table("decision") else []
        if all(column["name"] != "facts" for column in held):
            rows = {"where": settings.store.url, "try": "fame serve, which makes it ready"}
            raise Failure("No decision is on record here", rows=rows)
        yield conn


@contextmanager
def store_to_read(config: "BrokerConfig") -> Iterator["Connection"]:
    """Open the broker's database, whatever is in it, to read it.

    Raises:
        Fault: it is not there or not reachable.
    """
    from broker.app import store_settings
    from broker.edge.database import open_database, store_faults

    database = open_database(config.store.url, store_settings(config.store))
    engine = database.reading()
    try:
        with store_faults(), engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()
        database.close(sound=False)  # nothing was written that would have to be tidied
