"""`fame agency`: list, show, add and suspend the agencies of the partnership."""

import re
import tomllib
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import Config, DryRun, Json, load_config, now, print_json, print_rows
from broker.cli.protocol.common import Protocols, register_of

if TYPE_CHECKING:
    from broker.core.agency import Agency

app = typer.Typer(rich_markup_mode=None)

AgencyArgument = Annotated[str, typer.Argument(metavar="AGENCY", help="Id of an agency.")]
STATUS = re.compile(r'^status[ \t]*=[ \t]*"[^"\n]*"', re.MULTILINE)


@app.command("ls")
def list_agencies(
    protocols: Protocols = None, config: Config = None, as_json: Json = False
) -> None:
    """List the agencies: type, areas, status and how many keys are registered."""
    found = sorted(register_of(protocols, config).agencies.items())
    if as_json:
        print_json([document(agency) for _, agency in found])
        return
    rows = [
        (name, one.type, one.status, ",".join(one.areas) or "-", str(len(one.keys)), one.name)
        for name, one in found
    ]
    print_rows(("agency", "type", "status", "areas", "keys", "name"), rows)


@app.command()
def show(
    agency: AgencyArgument,
    protocols: Protocols = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Show one: what the law asks about it, its desks, systems, keys, and with whom it shares."""
    register = register_of(protocols, config)
    facts = document(_find(register.agencies, agency))
    to = sorted({pair[1] for pair in register.types_between if pair[0] == agency})
    sent_by = sorted({pair[0] for pair in register.types_between if pair[1] == agency})
    facts |= {"sends_to": to, "receives_from": sent_by}
    if as_json:
        print_json(facts)
        return
    for label, value in facts.items():
        for number, line in enumerate(_lines(value)):
            print(f"{'' if number else label:18} {line}")


def _lines(value: object) -> list[str]:
    if isinstance(value, dict):
        return [f"{key} = {one}" for key, one in value.items()] or ["-"]
    if isinstance(value, list):
        return [
            ", ".join(map(str, one.values())) if isinstance(one, dict) else str(one)
            for one in value
        ] or ["-"]
    return [str(value) or "-"]


def document(agency: "Agency") -> dict[str, Any]:
    """Return what the register says of ``agency``, for people and programs."""
    flags = agency.flags
    return {
        "agency": agency.agency_id,
        "name": agency.name,
        "type": agency.type,
        "status": agency.status,
        "areas": list(agency.areas),
        "flags": {
            "relevant_authority_115": flags.relevant_authority_115,
            "listed_16LA": flags.listed_16LA or "no",
            "pcsc_specified": flags.pcsc_specified,
            "health_or_social_care": flags.health_or_social_care,
            "competent_authority_le": flags.competent_authority_le,
            "acting_for": flags.acting_for or "nobody",
        },
        "delivery": agency.delivery.adapter,
        "contacts": [
            {"role": one.role, "name": one.name, "email": one.email, "telephone": one.telephone}
            for one in agency.contacts
        ],
        "systems": [
            {"system_id": one.system_id, "client_id": one.client_id or "no token client"}
            for one in agency.systems
        ],
        "encryption": [
            {
                "sha256": sha256(key.pem).hexdigest()[:16],
                "valid_from": key.valid_from.date().isoformat(),
            }
            for key in agency.encryption
        ],
        "keys": [
            {
                "fingerprint": key.fingerprint,
                "valid_until": key.valid_until.date().isoformat(),
                "state": "revoked" if key.revoked_at else "registered",
            }
            for key in agency.keys
        ],
    }


@app.command()
def suspend(
    agency: AgencyArgument,
    lift: Annotated[bool, typer.Option("--lift", help="Lift the suspension.")] = False,
    protocols: Protocols = None,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Suspend an agency: nothing passes from it or to it, deliveries that wait included."""
    status = "active" if lift else "suspended"
    file = (
        _folder(protocols, config)
        / f"{_find(register_of(protocols, config).agencies, agency).agency_id}.toml"
    )
    before = file.read_text(encoding="utf-8")
    line = f'status = "{status}"'
    after, changed = STATUS.subn(line, before, count=1)
    if not changed:
        after = f"{line}\n{before}"
    if after == before:
        print(f"{agency} is {status} already.")
        return
    if dry_run:
        print(f"{file} would say {line}; nothing was changed.")
        return
    _replace(file, after)
    register_of(protocols, config)
    print(f"{agency} is {status} in {file}; a running broker sees it at its next look.")


@app.command()
def add(
    agency: AgencyArgument,
    name: Annotated[str, typer.Option(help="Name of the organisation.")],
    kind: Annotated[str, typer.Option("--type", help="Agency type, such as SCHOOL.")],
    system: Annotated[str, typer.Option(help="Id of the system that speaks for it.")],
    email: Annotated[str, typer.Option(help="Mail address of its duty desk.")],
    area: Annotated[list[str] | None, typer.Option(help="GSS code; may be repeated.")] = None,
    protocols: Protocols = None,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Add an agency without flags, keys or agreements: nothing passes until it has them."""
    from broker.core.identity import AGENCY_ID

    register = register_of(protocols, config)
    if not AGENCY_ID.fullmatch(agency) or agency in register.agencies:
        rows = {"try": "a new id of 3 to 64 of a-z, 0-9 and -"}
        raise Failure(f"{agency!r} cannot be added", EXIT_USAGE, rows)
    if kind not in register.lists["AgencyType"]:
        rows = {"try": f"one of: {', '.join(sorted(register.lists['AgencyType']))}"}
        raise Failure(f"{kind!r} is no agency type", EXIT_USAGE, rows)
    file = _folder(protocols, config) / f"{agency}.toml"
    text = _new_file(agency, name, kind, system, email, area or [])
    if dry_run:
        print(text, end="")
        return
    _replace(file, text)
    print(f"Wrote {file}.")
    print(
        "Next: its flags in that file, its certificate, and a sharing protocol with it as a party."
    )


@app.command("encrypt-to")
def encrypt_to(
    agency: AgencyArgument,
    out: Annotated[Path, typer.Option(help="Folder of the agency's own for the private half.")],
    valid_from: Annotated[
        datetime | None,
        typer.Option("--from", help="UTC; the key before it is used until then. Default: now."),
    ] = None,
    protocols: Protocols = None,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Make a new key to encrypt an agency's deliveries to; the keys before it stay good.

    Give the private half to the agency's workers before the new key is in use, and take the
    old one away when nothing that was encrypted to it is on its way.
    """
    from broker.cli import pki

    name = _find(register_of(protocols, config).agencies, agency).agency_id
    file = _folder(protocols, config) / f"{name}.toml"
    start = (valid_from or now()).replace(tzinfo=UTC, microsecond=0)
    key = pki.new_ec_key()
    public = pki.public_pem(key)
    short = sha256(public).hexdigest()[:16]
    named = f"certificates/{name}/encryption.{short}.pub.pem"
    private = out / f"encryption.{short}.key.pem"
    entry = f'\n[[encryption]]\nfile = "{named}"\nvalid_from = {start.isoformat()}\n'
    text = file.read_text(encoding="utf-8") + entry
    tomllib.loads(text)  # a file that cannot be read must not replace one that can
    if dry_run:
        print(f"{private} would be written, and {file} would say:\n{entry}", end="")
        return
    try:
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        pki.write_secret(private, pki.key_pem(key))
        (file.parents[1] / named).parent.mkdir(parents=True, exist_ok=True)
        (file.parents[1] / named).write_bytes(public)
    except OSError as error:
        rows = {"where": str(error.filename), "why": error.strerror or ""}
        raise Failure("The key cannot be written", EXIT_USAGE, rows) from error
    _replace(file, text)
    register_of(protocols, config)
    print(f"Wrote {private}; {file} names its public half, in use from {start.isoformat()}.")


def _new_file(agency: str, name: str, kind: str, system: str, email: str, areas: list[str]) -> str:
    lines = [f"id = {_quoted(agency)}", f"name = {_quoted(name)}", f"type = {_quoted(kind)}"]
    lines.append('status = "active"')
    if areas:
        lines.append(f"areas = [{', '.join(_quoted(one) for one in areas)}]")
    lines += [
        "",
        "# What the law asks about this body: see RULES.md, step 4. All are false or absent.",
        "[flags]",
        "",
        "[delivery]",
        'adapter = "mailbox"',
        "",
        "[[contact]]",
        'role = "duty-desk"',
        'name = "Duty desk"',
        f"email = {_quoted(email)}",
        "",
        "[[system]]",
        f"system_id = {_quoted(system)}",
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """Return ``text`` as a TOML basic string; no control character is let through."""
    kept = "".join(character for character in text if character.isprintable())
    return '"' + kept.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _find(agencies: Any, agency: str) -> "Agency":  # noqa: ANN401 - the register's mapping
    if agency not in agencies:
        rows = {"try": f"name one of: {', '.join(sorted(agencies))}"}
        raise Failure(f"There is no agency {agency!r}", EXIT_USAGE, rows)
    found: Agency = agencies[agency]
    return found


def _folder(protocols: Path | None, config: Path | None) -> Path:
    base = protocols or load_config(config).config.registers.protocols_dir
    return base / "agencies"


def _replace(file: Path, text: str) -> None:
    """Write ``text`` whole or not at all: a broker may be reading."""
    beside = file.with_suffix(".new")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        rows = {"where": str(file), "why": error.strerror or ""}
        raise Failure("The agency's file cannot be written", EXIT_USAGE, rows) from error
