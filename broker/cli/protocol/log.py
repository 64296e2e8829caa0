"""`fame protocol log`: who signed, activated and stopped what, checked line by line."""

from datetime import datetime

from broker.cli.home import Config, Json, load_config, print_json, print_rows
from broker.cli.protocol.common import Protocols


def log(protocols: Protocols = None, config: Config = None, as_json: Json = False) -> None:
    """Show the policy log. Chain, signatures and powers of every line are checked first."""
    from broker.edge.registers import load_in_force

    held = load_in_force(protocols or load_config(config).config.registers.protocols_dir)
    policy = held.policy
    rows = [
        {
            "line": act.number,
            "at": _at(act.at),
            "act": act.act,
            "party": act.party,
            "protocol": act.protocol,
            "digest": act.digest,
            "person": act.person,
            "name": policy.everybody[act.person].detail["name"],
            "detail": {key: value for key, value in act.detail.items() if key != "certificate"},
        }
        for act in policy.acts
    ]
    if as_json:
        print_json(rows)
        return
    header = ("line", "at", "act", "party", "protocol", "digest", "person")
    print_rows(header, [[str(row[name])[:20] or "-" for name in header] for row in rows])
    print(
        f"\n{len(rows)} lines, every one signed and in its place; register {held.register.digest}"
    )
    for name in held.changed:
        print(f"{name} says something else than what is in force: sign a later version")


def _at(instant: datetime) -> str:
    return instant.strftime("%Y-%m-%dT%H:%M:%SZ")
