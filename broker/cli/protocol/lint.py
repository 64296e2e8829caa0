"""`fame protocol lint`: what is wrong with sharing protocols although they can be read."""

import typer

from broker.cli.failure import EXIT_CHECK
from broker.cli.home import Config, Json, now, print_json, print_rows
from broker.cli.protocol.common import Protocols, register_of, schemas_of


def lint_protocols(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """Look for what is wrong: unreachable flows, gateways that do not bear them, absent fields."""
    from broker.core.lint import ERROR, lint

    register = register_of(protocols, config)
    schemas = schemas_of(protocols, config)
    types = {
        key
        for protocol in register.protocols.values()
        for flow in protocol.flows
        for key in flow.message_types
    }
    known = {key: schemas.categories(*key) for key in types if key in schemas.catalogue.messages}
    findings = lint(register, known, now())
    if as_json:
        print_json(
            [
                {"severity": f.severity, "protocol": f.protocol, "flow": f.flow, "words": f.words}
                for f in findings
            ]
        )
    elif findings:
        rows = [(f.severity, f.protocol, f.flow or "-", f.words) for f in findings]
        print_rows(("severity", "protocol", "flow", ""), rows)
    else:
        print(f"{len(register.protocols)} sharing protocols, nothing found.")
    if any(finding.severity == ERROR for finding in findings):
        raise typer.Exit(EXIT_CHECK)
