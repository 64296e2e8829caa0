"""`fame consent`: what people said of sharing about them, recorded for an agency."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from broker.cli.client import ask, client
from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import AgencyOption, Config, DryRun, Json, print_json, print_rows, read_input
from broker.cli.operator import BROKER
from broker.core.capacity import GIVERS

app = typer.Typer(rich_markup_mode=None)

Consent = Annotated[str, typer.Argument(metavar="CONSENT", help="Consent id: fame consent ls.")]
JSON_BODY = {"content-type": "application/json"}
PAGE = 100
Giver = StrEnum("Giver", {name: name for name in GIVERS})  # type: ignore[misc]


@app.command()
def record(
    file: Annotated[
        Path, typer.Argument(help="What the person said, as JSON; - is standard input.")
    ],
    agency: AgencyOption,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Record a consent or a refusal. The person is named in the file, never on this line."""
    try:
        said = orjson.loads(read_input(file))
    except orjson.JSONDecodeError as error:
        rows = {"where": f"line {error.lineno}", "try": "the example in broker/CONSENT.md"}
        raise Failure("The file is not JSON", EXIT_USAGE, rows) from error
    if not isinstance(said, dict):
        raise Failure("The file does not hold a JSON object", EXIT_USAGE)
    if dry_run:
        print("It would be recorded; it was not.")
        return
    with client(config, agency) as made:
        body = {**said, "agency": agency}
        done = ask(made, "POST", "/consents", json=body, headers=JSON_BODY).json()
    if as_json:
        print_json(done)
        return
    print(f"Recorded {done['consent_id']} ({done['status']}).")


@app.command()
def withdraw(
    consent: Consent,
    agency: AgencyOption,
    by: Annotated[
        Giver | None, typer.Option(help="Who conveyed it: the person, or who speaks for them.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Record that the person withdrew a consent: what waits is stopped, who received is told."""
    if dry_run:
        print(f"{consent} would be withdrawn; it was not.")
        return
    with client(config, agency) as made:
        path = f"/consents/{consent}/withdrawal"
        body = {"agency": agency} | ({} if by is None else {"withdrawn_by": by.value})
        done = ask(made, "POST", path, json=body, headers=JSON_BODY).json()
    if as_json:
        print_json(done)
        return
    print(f"Withdrew {consent}: {done['stopped']} stopped, {done['told']} told.")


@app.command()
def show(
    consent: Consent, agency: AgencyOption, config: Config = None, as_json: Json = False
) -> None:
    """Show one record of the agency, with its history."""
    with client(config, agency) as made:
        found = ask(made, "GET", f"/consents/{consent}").json()
    if as_json:
        print_json(found)
        return
    for label, value in found.items():
        if label == "history":
            for one in value:
                print(f"{'':16} {one['at']}  {one['version']}  {one['status']}")
        else:
            print(f"{label:16} {_text(value)}")


@app.command("ls")
def list_consents(agency: AgencyOption, config: Config = None, as_json: Json = False) -> None:
    """List what the agency recorded, as it stands now."""
    found: list[dict[str, Any]] = []
    with client(config, agency) as made:
        while True:
            after = {"after": found[-1]["consent_id"]} if found else {}
            params = {"agency": agency, "limit": str(PAGE), **after}
            page = ask(made, "GET", "/consents", params=params).json()["consents"]
            found += page
            if len(page) < PAGE:
                break
    if as_json:
        print_json(found)
        return
    columns = (
        "consent_id", "kind", "status", "purposes", "categories", "recipients", "review_at"
    )  # fmt: skip
    print_rows(columns, [[_text(one[column]) for column in columns] for one in found])


@app.command("conflicts")
def list_conflicts(
    agency: Annotated[
        str | None,
        typer.Option("--agency", "-a", help="Its own side only; otherwise both, for officers."),
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List records that contradict one another: nothing is shared on either."""
    if agency is None:
        path, params = "/operator/consents/conflicts", {}
    else:
        path, params = "/consents/conflicts", {"agency": agency}
    with client(config, agency or BROKER) as made:
        found = ask(made, "GET", path, params=params).json()["conflicts"]
    if as_json:
        print_json(found)
        return
    columns = ("consent", "status", "recorded_by", "contradicted_by", "status", "recorded_by")
    rows = []
    for one in found:
        other = one.get("contradicted_by", {})
        sides = (one["consent"], other)
        rows.append(
            [
                str(side.get(name, "another record" if name == "consent_id" else ""))
                for side in sides
                for name in ("consent_id", "status", "recorded_by")
            ]
        )
    print_rows(columns, rows)


def _text(value: object) -> str:
    return ", ".join(value) if isinstance(value, list) else "" if value is None else str(value)
