"""The catalogue of schemas: what `schemas/catalogue.toml` says, read and checked.

It names every schema file with its SHA-256, and for every message type and version its
file, its namespace and how it is used. Nothing outside it exists for the broker.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

PATTERNS = frozenset({"event", "request", "response", "command", "report"})


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A message type in one version, or one of the broker's own documents (no pattern)."""

    message_type: str
    version: str
    namespace: str
    file: str
    family: str = ""
    pattern: str = ""
    response_to: tuple[str, ...] = ()
    purposes: tuple[str, ...] = ()  # usual ones; what is allowed, the sharing protocols say
    subject_path: str | None = None

    @property
    def tag(self) -> str:
        """The root element, in lxml's notation."""
        return f"{{{self.namespace}}}{self.message_type}"


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Everything the broker may validate against. ``sha256`` is by path below ``schemas/``."""

    sha256: Mapping[str, str]
    published: frozenset[str]  # folders, such as ``vacancy/1.0``
    messages: Mapping[tuple[str, str], CatalogueEntry]
    documents: Mapping[tuple[str, str], CatalogueEntry]


def parse_catalogue(text: str) -> Catalogue:
    """Return the catalogue that ``text`` describes.

    Raises:
        ValueError: it is not TOML, or an entry is incomplete or contradicts another.
    """
    table = tomllib.loads(text)
    if table.keys() != {"published", "document", "message", "sha256"}:
        raise ValueError("a catalogue has published, document, message and sha256")
    sha256 = {str(path): str(digest) for path, digest in table["sha256"].items()}
    catalogue = Catalogue(
        sha256=MappingProxyType(sha256),
        published=frozenset(table["published"]),
        messages=_entries(table["message"], sha256),
        documents=_entries(table["document"], sha256),
    )
    for entry in catalogue.messages.values():
        _check_message(entry, {message_type for message_type, _ in catalogue.messages})
    return catalogue


def _entries(
    table: Mapping[str, Mapping[str, Mapping[str, Any]]], sha256: Mapping[str, str]
) -> Mapping[tuple[str, str], CatalogueEntry]:
    entries = [
        _entry(name, version, row)
        for name, versions in table.items()
        for version, row in versions.items()
    ]
    for entry in entries:
        if entry.file not in sha256:
            raise ValueError(f"{entry.message_type} {entry.version} names a file without a digest")
    return MappingProxyType({(entry.message_type, entry.version): entry for entry in entries})


def _entry(name: str, version: str, row: Mapping[str, Any]) -> CatalogueEntry:
    fields = dict(row)
    if fields.pop("root", name) != name:
        raise ValueError(f"{name} {version}: the root element is named as the message type is")
    for key in ("response_to", "purposes"):
        fields[key] = tuple(fields.get(key, ()))
    try:
        return CatalogueEntry(message_type=name, version=version, **fields)
    except TypeError:
        raise ValueError(f"{name} {version}: a key is missing or not known") from None


def _check_message(entry: CatalogueEntry, message_types: Iterable[str]) -> None:
    name = f"{entry.message_type} {entry.version}"
    if not entry.family or not entry.purposes:
        raise ValueError(f"{name}: family and purposes are needed")
    if entry.pattern not in PATTERNS:
        raise ValueError(f"{name}: pattern is one of {', '.join(sorted(PATTERNS))}")
    if (entry.pattern == "response") != bool(entry.response_to):
        raise ValueError(f"{name}: a response, and nothing else, says what it responds to")
    if not set(entry.response_to) <= set(message_types):
        raise ValueError(f"{name}: it responds to a message type that is not in the catalogue")
