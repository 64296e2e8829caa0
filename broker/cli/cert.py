"""`fame cert`: issue in a sandbox, show one, check those that are registered."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from broker.cli import pki
from broker.cli.failure import EXIT_CHECK, EXIT_USAGE, Failure
from broker.cli.home import (
    Config,
    DryRun,
    Json,
    agency_folder,
    config_file,
    load_config,
    now,
    print_json,
    print_rows,
    read_input,
)
from broker.core.trust import strong

app = typer.Typer(rich_markup_mode=None)

# People get a month to renew, as the alerts of other gateways give them.
SOON = timedelta(days=30)


class Use(StrEnum):
    """What a certificate is for."""

    SIGNING = "signing"
    TLS = "tls"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found about one certificate; ``state`` is green, amber or red."""

    file: str
    state: str
    words: str


@app.command()
def issue(
    agency: Annotated[str, typer.Argument(help="Agency id.")],
    out: Annotated[Path, typer.Option(help="New folder for the key and the certificate.")],
    use: Annotated[Use, typer.Option(help="What it is for.")] = Use.SIGNING,
    use_rsa: Annotated[
        bool, typer.Option("--rsa", help="RSA-2048 instead of ECDSA P-256.")
    ] = False,
    days: Annotated[
        int, typer.Option(min=1, max=3650, help="How long it is good.")
    ] = pki.LEAF_DAYS,
    config: Config = None,
    dry_run: DryRun = False,
) -> None:
    """Issue a new key and certificate by the sandbox's authority; the old one stays good."""
    agency_folder(config, agency)
    try:
        authority = pki.load_authority(config_file(config).parent / "ca")
    except (OSError, ValueError) as error:
        rows = {
            "why": "only a sandbox has its authority's key; a live partnership's is elsewhere",
            "try": "fame init DIR --sandbox",
        }
        raise Failure("There is no authority here", EXIT_USAGE, rows) from error
    files = (out / f"{use}.key.pem", out / f"{use}.cert.pem")
    if dry_run:
        print(f"{files[0]} and {files[1]} would be written; nothing was.")
        return
    key = pki.new_rsa_key() if use_rsa else pki.new_ec_key()
    if use is Use.SIGNING:
        certificate = pki.signing_certificate(authority, key, f"{agency} messages", now(), days)
    else:
        certificate = pki.tls_certificate(
            authority, key, f"{agency} system", now(), hosts=pki.LOOPBACK, client=True, days=days
        )
    _write(files, pki.key_pem(key), pki.certificate_pem(certificate))
    print(f"Wrote {files[0]} and {files[1]}.")
    print(f"Next: the registrar names the certificate in protocols/agencies/{agency}.toml.")


@app.command()
def show(
    file: Annotated[Path, typer.Argument(help="Certificate in PEM; - is standard input.")],
    as_json: Json = False,
) -> None:
    """Show a certificate: holder, issuer, key, validity and fingerprint."""
    facts = describe(_load(file))
    if as_json:
        print_json(facts)
        return
    for label, value in facts.items():
        print(f"{label:12} {', '.join(value) if isinstance(value, list) else value}")


@app.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Certificates; otherwise all that are in use here.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Check certificates: strong key, right use, valid now and not about to end."""
    paths = files or in_use(config)
    findings = [examine(path, now()) for path in paths]
    if as_json:
        print_json([{"file": f.file, "state": f.state, "words": f.words} for f in findings])
    else:
        print_rows(("state", "certificate", ""), [(f.state, f.file, f.words) for f in findings])
    if any(finding.state == "red" for finding in findings):
        raise typer.Exit(EXIT_CHECK)


def in_use(config: Path | None) -> list[Path]:
    """Return the certificates that the broker of ``config`` relies on."""
    loaded = load_config(config).config
    own = [loaded.keys.receipt_cert_file, loaded.http.tls_cert_file, loaded.http.client_ca_file]
    registered = loaded.registers.protocols_dir / "certificates"
    return [*own, *sorted(registered.glob("*/*.cert.pem"))]


def examine(path: Path, at: datetime) -> Finding:
    """Return what is to be said of the certificate at ``path`` at the instant ``at``."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        return Finding(str(path), "red", f"cannot be read: {error.strerror}")
    except ValueError:
        return Finding(str(path), "red", "is not a certificate in PEM")
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if not strong(certificate.public_key()):
        return Finding(str(path), "red", "its key is too weak: RSA-2048 or P-256 is the least")
    if at < first:
        return Finding(str(path), "red", f"is not valid before {first:%Y-%m-%d}")
    if at >= last:
        return Finding(
            str(path), "red", f"ended on {last:%Y-%m-%d}: renew it and register the new one"
        )
    if last - at < SOON:
        left = (last - at).days
        return Finding(
            str(path), "amber", f"ends in {left} days: renew it now, both are good a while"
        )
    return Finding(str(path), "green", f"valid to {last:%Y-%m-%d}")


def describe(certificate: x509.Certificate) -> dict[str, Any]:
    """Return what a person wants to know of ``certificate``."""
    return {
        "holder": certificate.subject.rfc4514_string(),
        "issuer": certificate.issuer.rfc4514_string(),
        "key": _key_words(certificate),
        "from": certificate.not_valid_before_utc.isoformat(),
        "until": certificate.not_valid_after_utc.isoformat(),
        "uses": _uses(certificate),
        "fingerprint": certificate.fingerprint(hashes.SHA256()).hex(),
    }


def _load(file: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_input(file))
    except ValueError as error:
        rows = {"where": str(file), "try": "a file that begins with -----BEGIN CERTIFICATE-----"}
        raise Failure("That is not a certificate in PEM", EXIT_USAGE, rows) from error


def _write(files: tuple[Path, Path], key: bytes, certificate: bytes) -> None:
    folder = files[0].parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        pki.write_secret(files[0], key)
        files[1].write_bytes(certificate)
    except OSError as error:
        rows = {
            "where": str(error.filename),
            "why": error.strerror or "",
            "try": "a new folder: a key is never written over",
        }
        raise Failure("The certificate cannot be written", EXIT_USAGE, rows) from error


def _key_words(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA {key.key_size}"
    return f"ECDSA {key.curve.name}" if isinstance(key, ec.EllipticCurvePublicKey) else "other"


def _uses(certificate: x509.Certificate) -> list[str]:
    found = []
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage) and value.digital_signature:
            found.append("digitalSignature")
        if isinstance(value, x509.KeyUsage) and value.key_cert_sign:
            found.append("keyCertSign")
        if isinstance(value, x509.ExtendedKeyUsage):
            found += [use._name for use in value]  # noqa: SLF001 - its only readable name
    return found
