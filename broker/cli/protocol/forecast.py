"""`fame protocol forecast`: what stops by a day, how much it carries, and whom to ask."""

from datetime import datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, Json, now, print_json
from broker.cli.protocol.common import Protocols, register_of
from broker.cli.protocol.drafts import day, decisions_on_record

if TYPE_CHECKING:
    from broker.core.forecast import Cause, FlowKey, Stop
    from broker.core.identity import AgencyId
    from broker.core.protocol import Register


def forecast(
    on: Annotated[str, typer.Option("--on", metavar="DATE", help="By which day.")],
    weeks: Annotated[int, typer.Option(min=1, help="Weeks past that the volume is taken of.")] = 4,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Say which flows stop by a day unless somebody acts, and whom to ask."""
    from broker.core.forecast import stops

    at, then = now(), day(on)
    if then is None or then <= at:
        rows = {"try": "name a day to come, such as --on 2027-03-31"}
        raise Failure("That day is past", EXIT_USAGE, rows)
    register = register_of(protocols, config)
    volumes = _volumes(config, at - timedelta(weeks=weeks), at)
    signing = _signing_days(protocols, config)
    document = {
        "on": on,
        "signing_days": signing,
        "causes": [
            _cause(cause, [stop.flow for stop in held], volumes, register)
            for cause, held in _by_cause(stops(register, at, then))
        ],
    }
    if as_json:
        print_json(document)
    else:
        _print(document, weeks)


def _volumes(config: Path | None, since: datetime, until: datetime) -> "dict[FlowKey, float]":
    """Return messages a week; nothing when nothing was ever decided."""
    from broker.core.forecast import weekly
    from broker.edge.past import carried

    try:
        with decisions_on_record(config) as conn:
            return weekly(carried(conn, since, until), since, until)
    except Failure:
        return {}


def _signing_days(protocols: Path | None, config: Path | None) -> float | None:
    from broker.cli.home import load_config
    from broker.core.forecast import signing_days
    from broker.core.policy_log import read_log
    from broker.edge.registers import read_sources

    folder = protocols or load_config(config).config.registers.protocols_dir
    return signing_days(read_log(read_sources(folder).log))


def _by_cause(found: "tuple[Stop, ...]") -> "list[tuple[Cause, list[Stop]]]":
    def key(stop: "Stop") -> tuple[datetime, str, str]:
        return stop.cause.at, stop.cause.kind, stop.cause.what

    ordered = sorted(found, key=key)
    grouped = [list(held) for _, held in groupby(ordered, key)]
    return [(held[0].cause, held) for held in grouped]


def _cause(
    cause: "Cause",
    flows: "list[FlowKey]",
    volumes: "dict[FlowKey, float]",
    register: "Register",
) -> dict[str, Any]:
    return {
        "kind": cause.kind,
        "what": cause.what,
        "at": cause.at,
        "a_week": round(sum(volumes.get(flow, 0.0) for flow in flows), 1),
        "flows": [
            {
                "from": flow[0],
                "to": flow[1],
                "type": flow[2],
                "purpose": flow[3],
                "a_week": round(volumes.get(flow, 0.0), 1),
            }
            for flow in flows
        ],
        "chase": [_desk(agency, cause, register) for agency in cause.chase],
    }


def _desk(agency: "AgencyId", cause: "Cause", register: "Register") -> dict[str, Any]:
    """Return whom to ask at one agency: who signed for it, and its desks."""
    protocol = register.protocols.get(cause.what)
    return {
        "agency": agency,
        "signed": [
            f"{one.name}, {one.position}"
            for one in (protocol.signatories if protocol else ())
            if one.party == agency
        ],
        "desks": [
            ", ".join(part for part in (one.role, one.email, one.telephone) if part)
            for one in register.agencies[agency].contacts
        ],
    }


_WORDS = {
    "expiry": "ends",
    "review": "lapses, for its review is overdue by then",
    "gateway": "is no longer in force",
    "certificate": "has no certificate left to sign with",
}


def _print(document: dict[str, Any], weeks: int) -> None:
    if not document["causes"]:
        print(f"Nothing stops by {document['on']}.")
        return
    for cause in document["causes"]:
        print(f"{cause['at']:%d %B %Y}: {cause['what']} {_WORDS[cause['kind']]}.")
        print(f"  {len(cause['flows'])} flows stop, {cause['a_week']} messages a week")
        for flow in cause["flows"]:
            asked = f"{flow['type']} from {flow['from']} to {flow['to']} for {flow['purpose']}"
            print(f"    {asked}: {flow['a_week']} a week")
        for one in cause["chase"]:
            whom = "; ".join((*one["signed"], *one["desks"])) or "no desk is registered"
            print(f"  ask {one['agency']}: {whom}")
    days = document["signing_days"]
    typical = "not known: nothing was signed here yet" if days is None else f"{days:.0f} days"
    print(f"Volumes are those of the last {weeks} weeks. Typical time to sign: {typical}.")
