"""`fame sample`: synthetic messages to try a broker with. Nobody in them exists.

NHS numbers are from the range 999, which is never given to a person.
"""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.client import async_client, on_loopback
from broker.cli.envelopes import addresses, agency, signing_key, system_of
from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import (
    Config,
    DryRun,
    Json,
    load_config,
    now,
    print_json,
    print_rows,
    read_input,
    write_output,
)
from broker.cli.tampering import Tampering, tampered
from broker.core.identity import MessageId
from broker.core.message import Header, Practitioner
from broker.core.signing import build_envelope, sign_envelope
from broker.edge.ids import new_id

app = typer.Typer(rich_markup_mode=None)

RATE_MAX = 1000
COUNT_MAX = 10_000
STDIO = Path("-")

From = Annotated[str, typer.Option("--from", help="Sending agency.")]
To = Annotated[
    list[str], typer.Option("--to", help="Recipient, or TYPE:AREA; may be given more than once.")
]
Purpose = Annotated[str, typer.Option("--purpose", help="Purpose code, as in protocols/.")]


@app.command("list")
def list_types(config: Config = None, as_json: Json = False) -> None:
    """List the message types that samples can be made of."""
    from broker.edge.schemas import load_schemas

    schemas = load_schemas(load_config(config).config.registers.schemas_dir)
    labels = ("type", "version", "family", "pattern", "purposes")
    rows = [
        (entry.message_type, entry.version, entry.family, entry.pattern, " ".join(entry.purposes))
        for entry in schemas.catalogue.messages.values()
    ]
    if as_json:
        print_json([dict(zip(labels, row, strict=True)) for row in rows])
    else:
        print_rows(labels, rows)


@app.command()
def make(
    message_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="Message type: fame sample list.")
    ],
    sender: From,
    to: To,
    purpose: Purpose,
    seed: Annotated[int, typer.Option(help="The same seed gives the same payload.")] = 1,
    respond_in_s: Annotated[
        int | None, typer.Option(min=1, help="Ask for an answer within so many seconds.")
    ] = None,
    correlation: Annotated[str | None, typer.Option(help="Message id of the request.")] = None,
    sign: Annotated[bool, typer.Option("--sign", help="Signed with the sender's key.")] = False,
    out: Annotated[Path, typer.Option(help="File; - is standard output.")] = STDIO,
    config: Config = None,
) -> None:
    """Make one message with a synthetic payload, ready to sign or, with --sign, to send."""
    header = new_header(
        message_type,
        sender,
        to,
        purpose,
        system=system_of(config, sender),
        respond_in_s=respond_in_s,
        correlation=correlation,
    )
    envelope = build_envelope(header, payload_of(message_type, seed))
    if sign:
        envelope = sign_envelope(envelope, signing_key(config, sender))
    write_output(out, envelope)


@app.command()
def tamper(
    kind: Annotated[Tampering, typer.Argument(help="How to damage it.")],
    source: Annotated[
        Path, typer.Option("--in", help="Signed message; - is standard input.")
    ] = STDIO,
    out: Annotated[Path, typer.Option(help="File; - is standard output.")] = STDIO,
) -> None:
    """Damage a signed message: a broker that takes the result is broken."""
    write_output(out, tampered(read_input(source), kind))


@app.command()
def storm(
    sender: From,
    to: To,
    purpose: Purpose,
    message_type: Annotated[str, typer.Option("--type", help="Message type.")] = "VacancyPublished",
    rate: Annotated[int, typer.Option(min=1, max=RATE_MAX, help="Messages a second.")] = 50,
    count: Annotated[int, typer.Option(min=1, max=COUNT_MAX, help="Messages in all.")] = 200,
    config: Config = None,
    dry_run: DryRun = False,
    as_json: Json = False,
) -> None:
    """Send many signed samples to a broker on this machine, and count the answers."""
    url = load_config(config).config.broker.url
    if not on_loopback(url):
        rows = {"where": url, "why": "a storm is for a broker of one's own, on this machine"}
        raise Failure("That broker is not on this machine", EXIT_USAGE, rows)
    header = new_header(message_type, sender, to, purpose, system=system_of(config, sender))
    key, payload = signing_key(config, sender), payload_of(message_type, 1)
    headers = [replace(header, message_id=MessageId(new_id())) for _ in range(count)]
    messages = [sign_envelope(build_envelope(one, payload), key) for one in headers]
    if dry_run:
        print(f"{count} messages of {len(messages[0])} bytes would be sent to {url}; none was.")
        return
    answers = sorted(asyncio.run(_storm(config, sender, messages, rate)).items())
    if as_json:
        print_json({str(status): number for status, number in answers})
    else:
        print_rows(("status", "answers"), [(str(status), str(n)) for status, n in answers])


def payload_of(message_type: str, seed: int) -> bytes:
    """Return a synthetic payload.

    Raises:
        Failure: no sample of this type can be made.
    """
    from broker.core.samples import sample_payload

    try:
        return sample_payload(message_type, seed)
    except KeyError as error:
        rows = {"try": "fame sample list"}
        raise Failure(f"No sample of {message_type!r} can be made", EXIT_USAGE, rows) from error


def new_header(
    message_type: str,
    sender: str,
    to: list[str],
    purpose: str,
    *,
    system: str,
    respond_in_s: int | None = None,
    correlation: str | None = None,
) -> Header:
    """Return the header of a new message that ``sender`` makes now, asking for L2."""
    at = now()
    return Header(
        message_id=MessageId(new_id()),
        message_type=message_type,
        schema_version="1.0",
        sender=agency(sender),
        system=system,
        recipients=addresses(to),
        purpose=purpose,
        created_at=at,
        correlation_id=correlation,
        practitioner=Practitioner("sandbox-practitioner-1", "CASE_WORKER", "OFFICIAL", "AAL2"),
        reason_for_access="ASSESSMENT",
        respond_by=None if respond_in_s is None else at + timedelta(seconds=respond_in_s),
    )


async def _storm(
    config: Path | None, sender: str, messages: list[bytes], rate: int
) -> Counter[int]:
    answers: Counter[int] = Counter()
    loop = asyncio.get_running_loop()
    async with async_client(config, sender) as client, asyncio.TaskGroup() as group:

        async def send(message: bytes) -> None:
            answers[(await client.post("/messages", content=message)).status_code] += 1

        start = loop.time()
        for number, message in enumerate(messages):
            await asyncio.sleep(max(0.0, start + number / rate - loop.time()))
            group.create_task(send(message))
    return answers
