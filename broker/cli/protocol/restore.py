"""`fame protocol restore`: go on with a policy log of which lines are lost for good."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, load_config, read_input
from broker.cli.protocol.acts import unsigned_act
from broker.cli.protocol.drafts import decisions_on_record

if TYPE_CHECKING:
    from broker.config import KeysSection
    from broker.core.policy_head import Head
    from broker.core.policy_log import Act, PrivateKey


def restore(
    all_lost: Annotated[
        bool, typer.Option("--nobody-has-a-copy", help="No node, party or backup has the lines.")
    ] = False,
    config: Config = None,
) -> None:
    """Go on with a policy log of which lines are lost for good. Everything is suspended by it.

    Put back the newest copy of the log first. Each agreement goes on when all its parties
    resume it; one that is signed but not in the log needs each of them to activate it. Who
    could sign when the lines were lost can sign, and nobody else.
    """
    from broker.core.policy_head import continued, require_same_people
    from broker.core.table import Mistake
    from broker.edge.policy_files import append
    from broker.edge.registers import load_in_force

    settings = load_config(config).config
    directory = settings.registers.protocols_dir
    recorded = _recorded(config)
    policy = load_in_force(directory).policy
    try:
        continued(policy, recorded)
    except Mistake:
        require_same_people(policy.designated, recorded)
    else:
        raise Failure("No line is lost", EXIT_USAGE, {"try": "fame serve"})
    if not all_lost:
        rows = {
            "why": f"line {recorded.lines} was in force, and {len(policy.acts)} lines are here",
            "try": "ask the parties for their copy; else repeat with --nobody-has-a-copy",
        }
        raise Failure("Everything would be suspended", EXIT_USAGE, rows)
    act, key = _act(settings.broker.id, settings.keys, recorded)
    done, after = append(directory, act, key)
    print(f"line {done.number}: the log goes on, {recorded.lines} lines were in force")
    stopped = [one for one in after.policy.rulings.values() if one.status == "SUSPENDED"]
    for one in stopped:
        print(f"{one.reference} is suspended: fame protocol resume, by all its parties")


def _recorded(config: Path | None) -> "Head":
    """Return how far the log had come by the ledger.

    Raises:
        Failure: the ledger says nothing of it.
    """
    from broker.edge.policy_book import last_head

    with decisions_on_record(config) as conn:
        recorded = last_head(conn)
    if recorded is None:
        raise Failure("No policy log is on record", EXIT_USAGE, {"try": "fame serve"})
    return recorded


def _act(broker: str, keys: "KeysSection", recorded: "Head") -> "tuple[Act, PrivateKey]":
    """Return the line that the broker signs, and the key."""
    from cryptography import x509

    from broker.core.policy_log import RESTORE, designation, import_key

    certificate = x509.load_pem_x509_certificate(read_input(keys.receipt_cert_file))
    lost = {"lines": str(recorded.lines), "digest": recorded.digest}
    detail = {**designation(certificate, broker, "broker"), **lost}
    act = unsigned_act(RESTORE, broker, certificate, detail=detail)
    return act, import_key(read_input(keys.receipt_key_file))
