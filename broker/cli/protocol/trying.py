"""`fame protocol test` and `coverage`: run the examples that travel with an agreement."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_CHECK, EXIT_USAGE, Failure
from broker.cli.home import Config, Json, load_config, now, print_json
from broker.cli.protocol.common import Protocols, find, known_types, schemas_of

if TYPE_CHECKING:
    from broker.core.coverage import Coverage, Run
    from broker.core.protocol import Register, SharingProtocol
    from broker.core.schema import SchemaSet

References = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROTOCOL]...", help="Id, or id@version; otherwise all."),
]


@dataclass(frozen=True, slots=True)
class Trial:
    """An agreement with its examples run."""

    protocol: "SharingProtocol"
    runs: "tuple[Run, ...]"
    coverage: "Coverage"

    @property
    def failures(self) -> list[dict[str, Any]]:
        """The examples of which something else became than was expected."""
        return [
            {
                "protocol": self.protocol.reference,
                "example": example.name,
                "difference": _difference(example.expect, outcome.result),
            }
            for example, outcome in self.runs
            if example.expect != outcome.result
        ]


def _difference(expected: Any, result: Any) -> str:  # noqa: ANN401 - two expectations
    parts = []
    for name in ("decision", "reason", "clause", "withheld"):
        wanted, got = getattr(expected, name), getattr(result, name)
        if wanted != got:
            parts.append(f"{name}: expected {_words(wanted)}, was {_words(got)}")
    return "; ".join(parts)


def _words(value: object) -> str:
    return ", ".join(value) or "none" if isinstance(value, tuple) else str(value) or "none"


def tried(directory: Path, protocol: "SharingProtocol", schemas: "SchemaSet") -> Trial:
    """Run the examples of ``protocol``, as if it were in force."""
    from broker.core.coverage import coverage_of
    from broker.core.examples import run_example
    from broker.edge.registers import load_as_if_in_force, load_examples

    register = load_as_if_in_force(directory, protocol.file)
    examples = load_examples(directory, protocol.protocol_id, protocol.version)
    runs = tuple((one, run_example(one, register, schemas)) for one in examples)
    return Trial(protocol, runs, coverage_of(protocol, runs, schemas))


def require_sound(protocol: "SharingProtocol", directory: Path, config: Path | None) -> None:
    """Return if ``protocol`` may be activated: no error of lint, and examples that hold.

    Raises:
        Failure: it may not.
    """
    from broker.core.lint import ERROR, lint
    from broker.edge.registers import load_as_if_in_force

    schemas = schemas_of(None, config)
    register = load_as_if_in_force(directory, protocol.file)
    found = [
        f"{one.words} ({one.code})"
        for one in lint(register, known_types(register, schemas), now())
        if one.protocol == protocol.reference and one.severity == ERROR
    ]
    trial = tried(directory, protocol, schemas)
    found += [f"{one['example']}: {one['difference']}" for one in trial.failures]
    least = load_config(config).config.registers.coverage_min_percent
    if trial.coverage.percent < least:
        found.append(f"its examples touch {trial.coverage.percent} % of it, not {least} %")
    if found:
        rows = {"why": "\n".join(found), "try": "fame protocol lint, test and coverage"}
        raise Failure(f"{protocol.reference} cannot be activated", EXIT_CHECK, rows)


def try_examples(
    references: References = None,
    write: Annotated[
        bool, typer.Option("--write", help="Make examples for agreements that have none.")
    ] = False,
    at: Annotated[str, typer.Option(help="Instant of the examples that are made.")] = "",
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Run the examples of an agreement, drafts too: does the broker do what the parties expect?"""
    directory, schemas, chosen = _chosen(references, protocols, config)
    if write:
        instant = datetime.fromisoformat(at) if at else now().replace(microsecond=0)
        for protocol in chosen:
            _write(directory, protocol, schemas, instant)
    trials = [tried(directory, protocol, schemas) for protocol in chosen]
    failures = [failure for trial in trials for failure in trial.failures]
    count = sum(len(trial.runs) for trial in trials)
    if as_json:
        print_json({"examples": count, "failures": failures})
    else:
        for failure in failures:
            print(f"failed  {failure['example']}: {failure['difference']}")
        print(f"{count} examples of {len(trials)} agreements, {len(failures)} failed.")
    if failures:
        raise typer.Exit(EXIT_CHECK)


def coverage(
    references: References = None,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say how much of an agreement its examples touch, and what they leave out."""
    directory, schemas, chosen = _chosen(references, protocols, config)
    trials = [tried(directory, protocol, schemas) for protocol in chosen]
    if as_json:
        print_json(
            [
                {
                    "protocol": one.protocol.reference,
                    "examples": len(one.runs),
                    "percent": one.coverage.percent,
                    "missing": one.coverage.missing,
                }
                for one in trials
            ]
        )
        return
    for one in trials:
        found = one.coverage
        words = f"{found.percent:3} %  {found.covered} of {found.total} clauses and rules"
        print(f"{one.protocol.reference}: {words}, {len(one.runs)} examples")
        for missing in found.missing:
            print(f"  {missing}")


def _chosen(
    references: list[str] | None, protocols: Path | None, config: Path | None
) -> "tuple[Path, SchemaSet, list[SharingProtocol]]":
    from broker.edge.registers import load_register

    directory = protocols or load_config(config).config.registers.protocols_dir
    register = load_register(directory)
    found = [find(register, one) for one in references or ()]
    chosen = found or sorted(register.protocols.values(), key=lambda one: one.reference)
    return directory, schemas_of(protocols, config), [one for one in chosen if one.flows]


def _write(
    directory: Path, protocol: "SharingProtocol", schemas: "SchemaSet", at: datetime
) -> None:
    from broker.core.example_maker import as_toml, make_examples
    from broker.core.examples import EXAMPLES
    from broker.edge.registers import load_as_if_in_force

    path = directory / EXAMPLES / f"{protocol.protocol_id}.v{protocol.version}.toml"
    if path.exists():
        return
    register: Register = load_as_if_in_force(directory, protocol.file)
    begins = register.protocols[protocol.reference].stands_from
    made = make_examples(protocol, register, schemas, max(at, begins))
    if not made:
        rows = {"try": "fame protocol lint", "why": "no message passes under any of its flows"}
        raise Failure(f"No example of {protocol.reference} can be made", EXIT_USAGE, rows)
    path.parent.mkdir(exist_ok=True)
    path.write_text(as_toml(protocol.reference, made) + "\n", encoding="utf-8")
    print(f"wrote {EXAMPLES}/{path.name}: {len(made)} examples")
