"""`fame protocol lint`: what is wrong with sharing protocols although they can be read."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from broker.cli.failure import EXIT_CHECK
from broker.cli.home import Config, Json, load_config, now, print_json
from broker.cli.protocol.common import Protocols, known_types, schemas_of

if TYPE_CHECKING:
    from broker.core.lint import Finding
    from broker.core.table import Mistake

Row = dict[str, str]


def lint_protocols(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """Look for what is wrong: contradictions, unreachable flows, gateways that do not bear them.

    The files are looked at as they stand, drafts too.
    """
    from broker.core.lint import ERROR, lint
    from broker.core.table import Mistake
    from broker.edge.registers import load_register

    directory = protocols or load_config(config).config.registers.protocols_dir
    try:
        register = load_register(directory)
    except Mistake as mistake:
        _tell([_unreadable(mistake)], as_json)
        raise typer.Exit(EXIT_CHECK) from mistake
    schemas = schemas_of(protocols, config)
    findings = lint(register, known_types(register, schemas), now())
    rows = [
        {
            "severity": one.severity,
            "code": one.code,
            "protocol": one.protocol,
            "flow": one.flow,
            "place": _place(directory, one),
            "words": one.words,
            "cure": one.cure,
        }
        for one in findings
    ]
    if rows or as_json:
        _tell(rows, as_json)
    else:
        print(f"{len(register.protocols)} sharing protocols, nothing found.")
    if any(finding.severity == ERROR for finding in findings):
        raise typer.Exit(EXIT_CHECK)


def _place(directory: Path, finding: "Finding") -> str:
    from broker.edge.registers import line_of

    line = line_of(directory / finding.file, finding.table, finding.key)
    place = finding.file if line is None else f"{finding.file} line {line}"
    return ", ".join(part for part in (place, finding.table, finding.key) if part)


def _unreadable(mistake: "Mistake") -> Row:
    """Return a file that cannot be used as a finding: nothing else can be found before."""
    place = ", ".join(part for part in (mistake.file, mistake.table, mistake.key) if part)
    return {
        "severity": "error",
        "code": "unreadable",
        "protocol": "",
        "flow": "",
        "place": place,
        "words": "the register cannot be read",
        "cure": mistake.cure,
    }


def _tell(rows: list[Row], as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    for row in rows:
        flow = f", flow {row['flow']}" if row["flow"] else ""
        about = f"{row['protocol']}{flow}: " if row["protocol"] else ""
        print(f"{row['severity']:7}  {row['code']}  {about}{row['words']}")
        print(f"         where: {row['place']}")
        print(f"         cure:  {row['cure']}")
