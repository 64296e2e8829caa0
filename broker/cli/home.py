"""Where a command finds the broker's folder and an agency's own keys."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.edge.clock import SystemClock

if TYPE_CHECKING:
    from broker.config import LoadedConfig

DEMO = Path("fame-demo")

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        envvar="FAME_CONFIG",
        help="The broker's fame.toml; otherwise the one here, or that of the demo.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
AgencyOption = Annotated[str, typer.Option("--agency", "-a", help="Id of the agency that acts.")]


def now() -> datetime:
    """Return the current instant."""
    return SystemClock().now()


def config_file(given: Path | None) -> Path:
    """Return the configuration file to use.

    Raises:
        Failure: none is given and none is in a usual place.
    """
    if given is not None:
        return given / "fame.toml" if given.is_dir() else given
    for folder in (Path(), DEMO):
        if (folder / "fame.toml").is_file():
            return folder / "fame.toml"
    rows = {
        "where": "fame.toml is neither here nor in fame-demo/",
        "try": "fame init DIR --sandbox, or name the file with --config",
    }
    raise Failure("Which broker is meant is not known", EXIT_USAGE, rows)


def load_config(given: Path | None, overrides: Mapping[str, str] | None = None) -> "LoadedConfig":
    """Return the configuration to use.

    Raises:
        Failure: there is none, or it cannot be used.
    """
    from broker.config import ConfigError, load

    try:
        return load(config_file(given), overrides=overrides)
    except ConfigError as error:
        rows = {"where": "\n".join(error.problems), "try": "fame config show --origin"}
        raise Failure("The configuration cannot be used", EXIT_USAGE, rows) from error


def agency_folder(given: Path | None, agency: str) -> Path:
    """Return the folder with the keys of ``agency``, as a sandbox keeps them.

    Raises:
        Failure: there is no such folder.
    """
    agencies = config_file(given).parent / "agencies"
    folder = agencies / agency
    if not folder.is_dir() or folder.parent != agencies:
        known = ", ".join(sorted(path.name for path in agencies.glob("*"))) or "none"
        rows = {"where": str(agencies), "try": f"name one of: {known}"}
        raise Failure(f"No keys of an agency {agency!r} are here", EXIT_USAGE, rows)
    return folder


def read_input(path: Path) -> bytes:
    """Return the bytes of ``path``; ``-`` is standard input.

    Raises:
        Failure: it cannot be read.
    """
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        rows = {"where": str(path), "why": error.strerror or ""}
        raise Failure("The file cannot be read", EXIT_USAGE, rows) from error


def write_output(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path``; ``-`` is standard output.

    Raises:
        Failure: it cannot be written.
    """
    if str(path) == "-":
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        path.write_bytes(content)
    except OSError as error:
        rows = {"where": str(path), "why": error.strerror or ""}
        raise Failure("The file cannot be written", EXIT_USAGE, rows) from error


def print_json(value: Any) -> None:  # noqa: ANN401 - whatever JSON can say
    """Print ``value`` as JSON for a program, one document."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table in columns that a person reads and `awk` takes."""
    widths = [max(len(row[n]) for row in [header, *rows]) for n in range(len(header))]
    for row in [header, *rows]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())
