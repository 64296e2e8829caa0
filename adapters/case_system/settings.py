"""Who we are, and whom we know: from a TOML file, or from the folder of a sandbox."""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from broker.core.agency import RegisteredKey, registered_key
from broker.core.identity import AgencyId, agency_id
from broker.core.signing import SigningKey, load_signing_key


@dataclass(frozen=True, slots=True)
class Settings:
    """What this system is told. ``keys`` are what the broker and other agencies sign with."""

    agency: AgencyId
    name: str
    system: str
    broker: AgencyId
    broker_url: str
    folder: Path
    authority: Path
    keys: Mapping[AgencyId, tuple[RegisteredKey, ...]] = field(repr=False)
    signing: SigningKey = field(repr=False)
    poll_s: float = 0.0  # 0: we are pushed to and do not poll

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read a settings file; ``folder`` in it holds our own keys, certificates and database."""
        given: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        here = file.parent
        folder = here / given["folder"]
        return cls(
            agency=agency_id(given["agency"]),
            name=given["name"],
            system=given["system"],
            broker=agency_id(given["broker"]),
            broker_url=given["broker_url"],
            folder=folder,
            authority=here / given["authority"],
            keys=_keys((name, here / path) for name, path in given["certificates"].items()),
            signing=_signing(folder),
            poll_s=float(given.get("poll_s", 0)),
        )

    @classmethod
    def sandbox(cls, home: Path, agency: str) -> Self:
        """Return the settings of ``agency`` in a sandbox that ``fame init`` made."""
        register, folder = home / "protocols", home / "agencies" / agency
        broker = tomllib.loads((home / "fame.toml").read_text(encoding="utf-8"))["broker"]
        record = tomllib.loads((register / "agencies" / f"{agency}.toml").read_text("utf-8"))
        known = (register / "certificates").glob("*/signing.cert.pem")
        return cls(
            agency=agency_id(agency),
            name=record["name"],
            system=record["system"][0]["system_id"],
            broker=agency_id(broker.get("id", "fame-broker")),
            broker_url=broker["url"],
            folder=folder,
            authority=home / "ca" / "ca.cert.pem",
            keys=_keys((path.parent.name, path) for path in known),
            signing=_signing(folder),
        )


def _keys(files: Iterable[tuple[str, Path]]) -> dict[AgencyId, tuple[RegisteredKey, ...]]:
    return {agency_id(name): (registered_key(path.read_bytes()),) for name, path in files}


def _signing(folder: Path) -> SigningKey:
    names = ("signing.key.pem", "signing.cert.pem")
    return load_signing_key(*((folder / name).read_bytes() for name in names))
