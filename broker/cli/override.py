"""`fame override`: decisions to share without consent, their review, and their rate."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from broker.cli.client import ask, client
from broker.cli.home import AgencyOption, Config, DryRun, Json, print_json, print_rows
from broker.cli.operator import BROKER
from broker.core.override import OUTCOMES

app = typer.Typer(rich_markup_mode=None)

PAGE = 100
Outcome = StrEnum("Outcome", {name: name for name in OUTCOMES})  # type: ignore[misc]
Side = Annotated[
    str | None,
    typer.Option("--agency", "-a", help="One agency's own; otherwise all, for officers."),
]


@app.command("ls")
def list_overrides(
    agency: Side = None,
    overdue: Annotated[
        bool, typer.Option("--overdue", help="Only those that nobody reviewed in time.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """List decisions to share without consent, with their review or its deadline."""
    found: list[dict[str, Any]] = []
    path, own = _asked(agency)
    with client(config, agency or BROKER) as made:
        while True:
            after = {"after": found[-1]["override_id"]} if found else {}
            late = {"overdue": "true"} if overdue else {}
            params = {"limit": str(PAGE), **own, **after, **late}
            page = ask(made, "GET", path, params=params).json()["overrides"]
            found += page
            if len(page) < PAGE:
                break
    if as_json:
        print_json(found)
        return
    columns = ("override_id", "agency", "reason", "decided_by", "uses", "review_by", "review")
    print_rows(columns, [[str(one[column]) for column in columns] for one in found])


@app.command()
def review(
    override: Annotated[str, typer.Argument(metavar="OVERRIDE", help="Id: fame override ls.")],
    agency: AgencyOption,
    reviewer: Annotated[str, typer.Option(help="Id of who reviews, in the agency's system.")],
    outcome: Annotated[Outcome, typer.Option(help="Goes into the ledger for good.")],
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Record what the review of a decision found."""
    if dry_run:
        print(f"The review of {override} would be recorded; it was not.")
        return
    body = {"agency": agency, "reviewer": reviewer, "outcome": outcome.value}
    headers = {"content-type": "application/json"}
    with client(config, agency) as made:
        path = f"/overrides/{override}/review"
        done = ask(made, "POST", path, json=body, headers=headers).json()
    print(f"Reviewed {override}: {outcome.value}, {'in time' if done['in_time'] else 'late'}.")


@app.command()
def rate(
    agency: Side = None,
    days: Annotated[int, typer.Option(help="How far back.", min=1)] = 90,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show how many such decisions each practitioner made; nobody is named."""
    path, own = _asked(agency)
    with client(config, agency or BROKER) as made:
        found = ask(made, "GET", f"{path}/rate", params={**own, "days": str(days)}).json()["rate"]
    if as_json:
        print_json(found)
        return
    columns = ("agency", "decided_by", "made", "reviewed")
    print_rows(columns, [[str(one[column]) for column in columns] for one in found])


def _asked(agency: str | None) -> tuple[str, dict[str, str]]:
    return ("/operator/overrides", {}) if agency is None else ("/overrides", {"agency": agency})
