"""Make and sign envelopes with the keys a sandbox keeps for its agencies."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from broker.cli.failure import EXIT_USAGE, Failure
from broker.cli.home import agency_folder, config_file, load_config
from broker.core.identity import AgencyId, agency_id
from broker.core.message import Address
from broker.core.signing import SigningKey, load_signing_key


def signing_key(config: Path | None, agency: str) -> SigningKey:
    """Return the key with which ``agency`` signs.

    Raises:
        Failure: it is not here, or is no signing key.
    """
    folder = agency_folder(config, agency)
    try:
        key = (folder / "signing.key.pem").read_bytes()
        return load_signing_key(key, (folder / "signing.cert.pem").read_bytes())
    except (OSError, ValueError) as error:
        rows = {"where": str(folder), "try": f"fame cert issue {agency} --out {folder}"}
        raise Failure("The agency's signing key cannot be used", EXIT_USAGE, rows) from error


def system_of(config: Path | None, agency: str) -> str:
    """Return the id of the first system registered for ``agency``.

    Raises:
        Failure: the agency or its system is not registered.
    """
    folder = load_config(config_file(config)).config.registers.protocols_dir / "agencies"
    try:
        document = tomllib.loads((folder / f"{agency}.toml").read_text(encoding="utf-8"))
        return str(document["system"][0]["system_id"])
    except (OSError, tomllib.TOMLDecodeError, LookupError) as error:
        rows = {"where": str(folder), "try": "name the sending system with --system"}
        raise Failure(f"No system of {agency!r} is registered here", EXIT_USAGE, rows) from error


def agency(text: str) -> AgencyId:
    """Return ``text`` as an agency id.

    Raises:
        Failure: it is not one.
    """
    try:
        return agency_id(text)
    except ValueError as error:
        raise Failure(f"{text!r} is no agency id", EXIT_USAGE, {"why": str(error)}) from error


def addresses(recipients: Sequence[str]) -> tuple[Address, ...]:
    """Return addresses of texts such as ``gateshead-csc`` or ``YOT:E08000024``.

    Raises:
        Failure: one of them is neither.
    """
    return tuple(_address(text) for text in recipients)


def _address(text: str) -> Address:
    kind, colon, area = text.partition(":")
    return Address(agency_type=kind, area=area) if colon else Address(agency_id=agency(text))
