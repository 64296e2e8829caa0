"""`fame schema`: what may be sent, and whether the schemas are those that were sealed."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_CHECK, EXIT_USAGE, Failure
from broker.cli.home import DryRun, Json, print_json, print_rows

if TYPE_CHECKING:
    from broker.core.catalogue import CatalogueEntry
    from broker.core.schema import SchemaSet
    from broker.core.schema_docs import Message, Page

app = typer.Typer()

ENVELOPE = "envelope"
_TITLES = {
    "vacancy": "Job vacancy exchange",
    "child-index": "Child index",
    "referral": "Referral",
    "youth-offending": "Youth offending check and information requests",
    "report": "Reports of the broker",
    ENVELOPE: "Envelope, signature, receipts",
}
_INTRODUCTION = (
    "Made from the sealed schemas, catalogue {digest}. Times is how often an element occurs; "
    "* is any number. The category is what sharing protocols allow or withhold by."
)
_SAMPLE_SEEDS = range(6)

Schemas = Annotated[
    Path | None,
    typer.Option("--schemas", help="Folder with catalogue.toml; otherwise the broker's own."),
]


def _directory(given: Path | None) -> Path:
    from broker.config import data_dir

    return given or data_dir("schemas")


@app.command()
def ls(schemas: Schemas = None, as_json: Json = False) -> None:
    """List the message types that the broker accepts."""
    from broker.edge.schemas import load_schemas

    catalogue = load_schemas(_directory(schemas)).catalogue
    labels = ("type", "version", "family", "pattern", "responds to", "purposes", "namespace")
    rows = [
        (
            entry.message_type,
            entry.version,
            entry.family,
            entry.pattern,
            " ".join(entry.response_to),
            " ".join(entry.purposes),
            entry.namespace,
        )
        for entry in catalogue.messages.values()
    ]
    if as_json:
        print_json([dict(zip(labels, row, strict=True)) for row in rows])
    else:
        print_rows(labels, rows)


@app.command()
def check(schemas: Schemas = None, as_json: Json = False) -> None:
    """Check digests, compile everything with two engines, and validate samples with both."""
    from broker.edge.schemas import check_schemas

    checked = list(check_schemas(_directory(schemas)))
    labels = ("schema", "version", "samples", "result")
    rows = [(one.name, one.version, str(one.samples), one.fault or "good") for one in checked]
    if as_json:
        print_json([dict(zip(labels, row, strict=True)) for row in rows])
    else:
        print_rows(labels, rows)
    if any(one.fault for one in checked):
        rows_of = {"try": "mend the schema; a published one is replaced by a new version"}
        raise Failure("A schema is not good", EXIT_CHECK, rows_of)


@app.command()
def seal(schemas: Schemas = None, dry_run: DryRun = False) -> None:
    """Write the digests of folders that are not published yet into the catalogue."""
    from broker.edge.schemas import seal_schemas

    changed = seal_schemas(_directory(schemas), dry_run=dry_run)
    verb = "would be sealed" if dry_run else "sealed"
    for name in changed:
        print(f"{name} {verb}")
    if not changed:
        print("nothing has changed")


@app.command()
def docs(
    family: Annotated[
        str | None, typer.Argument(help="vacancy, referral, ..., or envelope; otherwise all.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for HTML and Markdown.")] = None,
    schemas: Schemas = None,
) -> None:
    """Write the message types out for people: Markdown here, or files with --out."""
    from broker.core.schema_docs import html, markdown
    from broker.edge.schemas import load_schemas

    loaded = load_schemas(_directory(schemas))
    pages = dict(_pages(loaded))
    if family is not None and family not in pages:
        rows = {"try": f"name one of: {', '.join(pages)}"}
        raise Failure(f"There is no family {family}", EXIT_USAGE, rows)
    chosen = pages if family is None else {family: pages[family]}
    if out is None:
        print("\n".join(markdown(page) for page in chosen.values()))
        return
    out.mkdir(parents=True, exist_ok=True)
    for name, page in chosen.items():
        (out / f"{name}.html").write_text(html(page), encoding="utf-8")
        (out / f"{name}.md").write_text(markdown(page), encoding="utf-8")
        print(out / f"{name}.html")


def _pages(schemas: "SchemaSet") -> Iterator[tuple[str, "Page"]]:
    from broker.core.schema_docs import Message, make_page

    introduction = _INTRODUCTION.format(digest=schemas.digest[:16])
    families: dict[str, list[Message]] = {}
    for entry in schemas.catalogue.messages.values():
        families.setdefault(entry.family, []).append(_message(schemas, entry))
    for name, messages in families.items():
        yield name, make_page(_TITLES.get(name, name), introduction, messages)
    documents = [
        Message(
            facts=(("Namespace", entry.namespace), ("Schema", entry.file)),
            root=schemas.document_models[entry.message_type],
        )
        for entry in schemas.catalogue.documents.values()
    ]
    yield ENVELOPE, make_page(_TITLES[ENVELOPE], introduction, documents)


def _message(schemas: "SchemaSet", entry: "CatalogueEntry") -> "Message":
    from broker.core.samples import sample_payload
    from broker.core.schema_docs import Message

    facts = (
        ("Version", entry.version),
        ("Namespace", entry.namespace),
        ("Schema", entry.file),
        ("Pattern", entry.pattern),
        ("Responds to", ", ".join(entry.response_to)),
        ("Usual purposes", ", ".join(entry.purposes)),
        ("About", entry.subject_path or "nobody"),
    )
    return Message(
        facts=tuple(fact for fact in facts if fact[1]),
        root=schemas.model(entry.message_type, entry.version),
        samples=tuple(sample_payload(entry.message_type, seed) for seed in _SAMPLE_SEEDS),
    )
