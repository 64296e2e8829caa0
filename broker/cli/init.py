"""`fame init`: a broker's folder, made whole or not at all."""

import os
import secrets
import shutil
import tomllib
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import pki
from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.founding import found, make_designated_key
from broker.cli.home import DryRun, now
from broker.config import data_dir

BROKER = "fame-broker"
KEY_BYTES = 32

PUBLISHED = ("signing.cert.pem", "tls.cert.pem", "client.pub.pem", "encryption.pub.pem")

# What a partnership decides for itself: a plain folder starts without the sandbox's.
PARTNERSHIP = ("agencies", "sharing")

SETTINGS = """# The broker's settings; `fame config show` lists all. Paths start at this folder.

[broker]
url = "https://localhost:{port}"
sandbox = {sandbox}

[http]
host = "127.0.0.1"
port = {port}

[store]
url = "sqlite:///data/fame.db"

[registers]
protocols_dir = "protocols"
"""


def command(
    folder: Annotated[Path, typer.Argument(help="Folder to make; it must be new or empty.")],
    sandbox: Annotated[
        bool,
        typer.Option(
            "--sandbox",
            help="With an authority, a believable partnership and every agency's keys.",
        ),
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8443,
    dry_run: DryRun = False,
) -> None:
    """Make a broker's folder: settings, keys, agreements; with --sandbox a whole partnership."""
    _refuse_to_overwrite(folder)
    if dry_run:
        print(f"{folder} would be made{' as a sandbox' if sandbox else ''}; nothing was written.")
        return
    make(folder, sandbox=sandbox, port=port, at=now())
    agencies = len(list((folder / "agencies").glob("*")))
    print(f"Made {folder}{f' with {agencies} agencies' if agencies else ''}.")
    print(f"Next: fame {'serve' if sandbox else 'doctor'} --config {folder / 'fame.toml'}")


def make(folder: Path, *, sandbox: bool, port: int, at: datetime) -> None:
    """Make ``folder``: all of it, or, when anything fails, nothing.

    Raises:
        Failure: the folder is there and not empty, or cannot be made.
    """
    _refuse_to_overwrite(folder)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(mode=0o700, parents=True)
        _fill(part, sandbox=sandbox, port=port, at=at)
        part.rename(folder)
    except OSError as error:
        rows = {"where": str(folder), "why": error.strerror or ""}
        raise Failure("The folder cannot be made", rows=rows) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _refuse_to_overwrite(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        rows = {
            "where": str(folder),
            "why": "keys in it could be lost: what they protect would be lost with them",
            "try": "name a new folder, or move this one away",
        }
        raise Failure("There is something in that place already", EXIT_USAGE, rows)


def _fill(home: Path, *, sandbox: bool, port: int, at: datetime) -> None:
    settings = SETTINGS.format(port=port, sandbox=str(sandbox).lower())
    (home / "fame.toml").write_text(settings, encoding="utf-8")
    for name in ("data", "keys"):
        (home / name).mkdir(mode=0o700)
    _broker_secrets(home / "keys", at)
    protocols = home / "protocols"
    shutil.copytree(data_dir("protocols"), protocols)
    if sandbox:
        _sandbox(home, at)
        return
    for name in PARTNERSHIP:
        for path in (protocols / name).glob("*.toml"):
            if path.stem != BROKER:
                path.unlink()
    registered = protocols / "certificates" / BROKER
    registered.mkdir(parents=True)
    shutil.copy(home / "keys" / "receipt.cert.pem", registered / "signing.cert.pem")
    register_certificates(protocols / "agencies" / f"{BROKER}.toml")


def _broker_secrets(keys: Path, at: datetime) -> None:
    for name in ("kek.key", "pseudonym.key"):
        pki.write_secret(keys / name, f"{secrets.token_hex(KEY_BYTES)}\n".encode())
    receipt = pki.new_ec_key()
    certificate = pki.self_signed(receipt, f"{BROKER} receipts", at)
    pki.write_secret(keys / "receipt.key.pem", pki.key_pem(receipt))
    (keys / "receipt.cert.pem").write_bytes(pki.certificate_pem(certificate))
    pki.write_secret(keys / "token.key.pem", pki.key_pem(pki.new_ec_key()))


def _sandbox(home: Path, at: datetime) -> None:
    authority = pki.new_authority("FAME sandbox authority, not for live use", at)
    (home / "ca").mkdir(mode=0o700)
    pki.write_secret(home / "ca" / "ca.key.pem", pki.key_pem(authority.key))
    (home / "ca" / "ca.cert.pem").write_bytes(pki.certificate_pem(authority.certificate))

    server = pki.new_ec_key()
    certificate = pki.tls_certificate(
        authority,
        server,
        BROKER,
        at,
        hosts=pki.LOOPBACK,
        client=True,  # it calls webhooks, too
    )
    pki.write_secret(home / "keys" / "tls.key.pem", pki.key_pem(server))
    (home / "keys" / "tls.cert.pem").write_bytes(pki.certificate_pem(certificate))

    for number, path in enumerate(sorted((home / "protocols" / "agencies").glob("*.toml"))):
        agency = path.stem
        registered = home / "protocols" / "certificates" / agency
        registered.mkdir(parents=True)
        folder = home / "agencies" / agency
        make_agency(folder, authority, at)
        if agency == BROKER:
            # What the broker sends it signs with the key of its receipts; here is its operator.
            shutil.copy(home / "keys" / "receipt.cert.pem", folder / "signing.cert.pem")
        else:
            make_signing_key(folder, authority, at, rsa=number % 2 == 0)
        make_designated_key(folder, authority, at)
        publish(folder, registered)
        register_certificates(path)
    found(home / "protocols", home / "agencies", at)


def make_agency(folder: Path, authority: pki.Authority, at: datetime) -> None:
    """Write an agency's own keys: for TLS, as an OAuth client, and to open what is sent to it."""
    folder.mkdir(mode=0o700, parents=True)
    tls, client, encryption = pki.new_ec_key(), pki.new_ec_key(), pki.new_ec_key()
    # One certificate serves both ends: a sandbox agency calls, and is called at its webhook.
    certificate = pki.tls_certificate(
        authority, tls, f"{folder.name} system", at, hosts=pki.LOOPBACK, client=True
    )
    pki.write_secret(folder / "tls.key.pem", pki.key_pem(tls))
    (folder / "tls.cert.pem").write_bytes(pki.certificate_pem(certificate))
    pki.write_secret(folder / "client.key.pem", pki.key_pem(client))
    (folder / "client.pub.pem").write_bytes(pki.public_pem(client))
    pki.write_secret(folder / "encryption.key.pem", pki.key_pem(encryption))
    (folder / "encryption.pub.pem").write_bytes(pki.public_pem(encryption))


def make_signing_key(folder: Path, authority: pki.Authority, at: datetime, *, rsa: bool) -> None:
    """Write the key with which an agency signs its messages, and its certificate."""
    key = pki.new_rsa_key() if rsa else pki.new_ec_key()
    certificate = pki.signing_certificate(authority, key, f"{folder.name} messages", at)
    pki.write_secret(folder / "signing.key.pem", pki.key_pem(key))
    (folder / "signing.cert.pem").write_bytes(pki.certificate_pem(certificate))


def publish(agency_folder: Path, registered: Path) -> None:
    """Copy what the partnership may know of an agency's keys: the public parts."""
    for name in PUBLISHED:
        shutil.copy(agency_folder / name, registered / name)


def register_certificates(agency_file: Path) -> None:
    """Name an agency's certificates in its file, as the registrar does after seeing them.

    The first system of the file is the one that calls, so it gets the certificate for TLS
    and the OAuth client. Comments and order of the file stay as they are.
    """
    agency = agency_file.stem
    folder = f"certificates/{agency}"
    text = agency_file.read_text(encoding="utf-8")
    systems = tomllib.loads(text).get("system", ())
    calls = (agency_file.parents[1] / folder / "tls.cert.pem").exists()
    lines: list[str] = []
    for line in text.splitlines():
        lines.append(line)
        if calls and line.replace(" ", "").startswith("system_id="):
            first = line.partition('"')[2].partition('"')[0]
            if first == systems[0]["system_id"]:
                lines += [
                    f'tls_certificates = ["{folder}/tls.cert.pem"]',
                    f'client_id = "{agency}"',
                    f'client_keys = ["{folder}/client.pub.pem"]',
                ]
    lines += ["", "[[certificate]]", f'file = "{folder}/signing.cert.pem"', ""]
    if (agency_file.parents[1] / folder / "encryption.pub.pem").exists():
        lines += ["[[encryption]]", f'file = "{folder}/encryption.pub.pem"', ""]
    written = "\n".join(lines)
    tomllib.loads(written)  # a file that cannot be read must not replace one that can
    replacement = agency_file.with_suffix(".new")
    replacement.write_text(written, encoding="utf-8")
    os.replace(replacement, agency_file)  # noqa: PTH105 - says atomic
