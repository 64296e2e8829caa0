"""`fame message`: sign, send, show, trace and replay."""

from base64 import b64decode
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from lxml import etree

from broker.cli.client import ask, client
from broker.cli.envelopes import signing_key, system_of
from broker.cli.failure import EXIT_CHECK, EXIT_USAGE, Failure
from broker.cli.home import (
    AgencyOption,
    Config,
    DryRun,
    Json,
    now,
    print_json,
    print_rows,
    read_input,
    write_output,
)
from broker.cli.operator import BROKER, dead_letters, replay_delivery
from broker.cli.sample import new_header
from broker.cli.views import show_message, show_receipt, timeline
from broker.core.agency import registered_key
from broker.core.envelope import ENVELOPE, PAYLOAD, parse
from broker.core.reduced_check import check_against, check_reduced
from broker.core.signature import SIGNATURE, verify_root
from broker.core.signing import build_envelope, sign_envelope

app = typer.Typer(rich_markup_mode=None)

STDIO = Path("-")

Source = Annotated[Path, typer.Option("--in", help="File; - is standard input.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The broker's id, as in the receipt.")]
Token = Annotated[
    bool, typer.Option("--token", help="By bearer token instead of the TLS certificate.")
]


@app.command()
def sign(
    agency: AgencyOption,
    source: Source = STDIO,
    out: Annotated[Path, typer.Option(help="File; - is standard output.")] = STDIO,
    to: Annotated[
        list[str] | None, typer.Option(help="For a bare payload: recipient, or TYPE:AREA.")
    ] = None,
    purpose: Annotated[str | None, typer.Option(help="For a bare payload: purpose code.")] = None,
    config: Config = None,
) -> None:
    """Sign an envelope; a bare payload is put into a new one first, with --to and --purpose."""
    content = read_input(source)
    root = parse(content)
    if root.tag != ENVELOPE:
        if not to or not purpose:
            rows = {"where": str(source), "try": "name --to and --purpose, or give an Envelope"}
            raise Failure("That is a payload without an envelope", EXIT_USAGE, rows)
        message_type = str(etree.QName(root).localname)
        system = system_of(config, agency)
        header = new_header(message_type, agency, to, purpose, system=system)
        content = build_envelope(header, content)
    elif root.find(SIGNATURE) is not None:
        rows = {"why": "an envelope has exactly one signature", "try": "fame message send"}
        raise Failure("That envelope is signed already", EXIT_USAGE, rows)
    write_output(out, sign_envelope(content, signing_key(config, agency)))


@app.command()
def send(
    agency: AgencyOption,
    source: Source = STDIO,
    wait: Annotated[
        float | None, typer.Option(min=0, help="Hold on so many seconds for the answers.")
    ] = None,
    receipt: Annotated[
        Path | None, typer.Option(help="Keep the signed receipt in this new file.")
    ] = None,
    token: Token = False,
    config: Config = None,
    as_json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Send a signed envelope and show what its receipt says of each recipient."""
    content = read_input(source)
    if dry_run:
        print(f"{len(content)} bytes would be sent as {agency}; nothing was.")
        return
    query = {} if wait is None else {"params": {"wait": f"{wait:g}"}}
    with client(config, agency, token=token) as made:
        answer = ask(
            made,
            "POST",
            "/messages",
            content=content,
            headers={"accept": "application/json"},
            **query,
        )
    body = answer.json()
    if receipt is not None:
        write_output(receipt, b64decode(body["signed"]))
    if as_json:
        print_json(body)
        return
    again = answer.status_code == 200 and "answers" not in body  # noqa: PLR2004 - HTTP's own
    show_receipt(body["receipt"], again=again)
    for reply in body.get("answers", ()):
        print(f"answer     {reply['message_type']} from {reply['sender']} ({reply['message_id']})")
    for silent in body.get("unanswered", ()):
        print(f"no answer  {silent}")


@app.command()
def show(
    submission: Id,
    agency: AgencyOption,
    token: Token = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show how a message stands, as one of its parties may know it."""
    with client(config, agency, token=token) as made:
        view = ask(made, "GET", f"/messages/{submission}").json()
    if as_json:
        print_json(view)
    else:
        show_message(view)


@app.command()
def trace(
    submission: Id,
    agency: AgencyOption,
    token: Token = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show what happened to a message, step by step, with the evidence there is."""
    with client(config, agency, token=token) as made:
        view = ask(made, "GET", f"/messages/{submission}").json()
        evidence = ask(made, "GET", f"/messages/{submission}/evidence").json()["evidence"]
    steps = timeline(view, evidence)
    if as_json:
        print_json([asdict(step) for step in steps])
        return
    print_rows(("at", "who", "step"), [(step.at, step.who, step.words) for step in steps])


Certificate = Annotated[Path, typer.Option(help="Certificate in PEM of whoever signed it.")]


@app.command("check-reduced")
def check_reduced_envelope(
    source: Annotated[Path, typer.Argument(metavar="FILE", help="The reduced envelope.")],
    broker_certificate: Certificate,
    original: Annotated[
        Path | None, typer.Option(help="The sender's envelope, if there is a dispute.")
    ] = None,
    sender_certificate: Annotated[
        Path | None, typer.Option(help="Certificate in PEM of the original's sender.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check what you were given of a message: signed by the broker, each value as committed to.

    Works without a broker. With the original, each value is as its sender signed it, too.
    """
    if (original is None) != (sender_certificate is None):
        raise Failure("--original and --sender-certificate go together", EXIT_USAGE)
    content = read_input(source)
    _signed_by(content, broker_certificate)
    root = parse(content)
    found = check_reduced(root)
    faults = found.faults
    if original is not None and sender_certificate is not None:
        sent = read_input(original)
        digest = _signed_by(sent, sender_certificate)
        payload = parse(sent).find(f"{PAYLOAD}/*")
        assert payload is not None  # what has a signature of the profile is an envelope
        faults += check_against(root, payload, digest)
    if as_json:
        print_json(asdict(found) | {"faults": faults})
    else:
        print(f"original   {found.original_digest}")
        print(f"proven     {len(found.proven)} values")
        for path, action in found.withheld:
            print(f"withheld   {path} ({action.lower()})")
    if faults:
        rows = {"where": str(source), "why": "; ".join(faults), "try": "ask the broker's operator"}
        raise Failure("Not all of it can be relied on", EXIT_CHECK, rows)


def _signed_by(content: bytes, certificate: Path) -> str:
    """Return the digest, in hex, of what the holder of ``certificate`` signed."""
    try:
        key = registered_key(read_input(certificate))
    except ValueError as error:
        raise Failure(
            "That is not a certificate", EXIT_USAGE, {"where": str(certificate)}
        ) from error
    return verify_root(parse(content), [key], now()).digest.hex()


@app.command()
def replay(
    submission: Id,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Put the given-up deliveries of a message back into the queue (operators only)."""
    with client(config, BROKER) as made:
        letters = [one for one in dead_letters(made) if one["submission_id"] == submission]
        if not letters:
            rows = {"where": submission, "try": "fame dlq ls"}
            raise Failure("No delivery of that message was given up", rows=rows)
        for letter in letters:
            if not dry_run:
                replay_delivery(made, letter["delivery_id"])
            word = "would be put back" if dry_run else "put back"
            print(f"{letter['delivery_id']} to {letter['recipient']}: {word}")
