"""Read the schemas from disk; and, before they are published, check and seal them."""

import hashlib
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lxml import etree

from broker.core.catalogue import parse_catalogue
from broker.core.errors import Permanent, Rejection
from broker.core.reasons import Reason
from broker.core.samples import sample_payload
from broker.core.schema import SchemaSet, seal

CATALOGUE = "catalogue.toml"
SAMPLES = 5  # of each message type, when schemas are checked
_DIGESTS = "[sha256]\n"


def load_schemas(directory: Path) -> SchemaSet:
    """Return the sealed schemas in ``directory``.

    Raises:
        Permanent: the files cannot be read, or are not those of the catalogue.
    """
    try:
        catalogue = (directory / CATALOGUE).read_bytes()
        files = {path: (directory / path).read_bytes() for path in _schema_files(directory)}
    except OSError as error:
        raise Permanent(Reason.CATALOGUE, f"cannot read {error.filename}") from error
    return seal(catalogue, files)


def _schema_files(directory: Path) -> list[str]:
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*.xsd"))


@dataclass(frozen=True, slots=True)
class Checked:
    """What the two engines made of one message type or document; ``fault`` is empty if well."""

    name: str
    version: str
    samples: int
    fault: str = ""


def check_schemas(directory: Path) -> Iterator[Checked]:
    """Yield what both engines, lxml and xmlschema, make of every schema and of samples.

    Raises:
        Permanent: the schemas are not sealed, or lxml does not compile them.
    """
    schemas = load_schemas(directory)
    second = _SecondEngine(directory)
    for entry in schemas.catalogue.documents.values():
        yield Checked(entry.message_type, entry.version, 0, second.compile_fault(entry.file))
    for entry in schemas.catalogue.messages.values():
        fault, samples = second.compile_fault(entry.file), 0
        while not fault and samples < SAMPLES:
            payload = etree.fromstring(sample_payload(entry.message_type, samples))
            fault = _first_fault(schemas, entry.message_type, entry.version, payload)
            if not fault and not second.is_valid(entry.file, payload):
                fault = "xmlschema refuses a sample that lxml accepts"
            samples += 1
        yield Checked(entry.message_type, entry.version, samples, fault)


def _first_fault(
    schemas: SchemaSet, message_type: str, version: str, payload: etree._Element
) -> str:
    try:
        schemas.validate(message_type, version, payload)
    except Rejection as rejection:
        return f"a sample is refused: {rejection.detail} at {rejection.pointer}"
    return ""


class _SecondEngine:
    """xmlschema, on schemas that are sealed: each refers to files of the catalogue only.

    Its own sandbox ends at the folder of the file it compiles, where ours refer to ``base/``.
    So it may read local files, and nothing over a network.
    """

    def __init__(self, directory: Path) -> None:
        # Costs 170 ms to import, and nothing that serves messages needs it.
        import xmlschema  # noqa: PLC0415

        self._library = xmlschema
        self._directory = directory.resolve()
        self._compiled: dict[str, xmlschema.XMLSchema10] = {}

    def compile_fault(self, file: str) -> str:
        """Return why ``file`` is no schema, or ``""``."""
        if file in self._compiled:
            return ""
        try:
            self._compiled[file] = self._library.XMLSchema10(
                str(self._directory / file), allow="local", defuse="always"
            )
        except self._library.XMLSchemaException as error:
            return f"xmlschema does not compile it: {type(error).__name__}"
        return ""

    def is_valid(self, file: str, payload: etree._Element) -> bool:
        """Return whether ``payload`` follows ``file``."""
        return bool(self._compiled[file].is_valid(payload))


def seal_schemas(directory: Path, *, dry_run: bool = False) -> list[str]:
    """Write the digests of new and changed files into the catalogue; return their paths.

    Raises:
        Permanent: a file in a published folder was changed, added or removed, or the result
            would not be a sealed set.
    """
    path = directory / CATALOGUE
    try:
        text = path.read_text(encoding="utf-8")
        files = {name: (directory / name).read_bytes() for name in _schema_files(directory)}
        # As it will be: a message type of a file that has no digest yet is no mistake here.
        after = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        head = text.partition(_DIGESTS)[0]
        digests = "".join(f'"{name}" = "{after[name]}"\n' for name in sorted(after))
        sealed = head + _DIGESTS + digests
        published = parse_catalogue(sealed).published
        before = tomllib.loads(text).get("sha256", {})
    except OSError as error:
        raise Permanent(Reason.CATALOGUE, f"cannot read {error.filename}") from error
    except ValueError as error:
        raise Permanent(Reason.CATALOGUE, str(error)) from error
    changed = sorted(
        name for name in after.keys() | before.keys() if after.get(name) != before.get(name)
    )
    for name in changed:
        if name.rpartition("/")[0] in published:
            detail = f"{name} is published and stays as it is; make a new version"
            raise Permanent(Reason.CATALOGUE, detail)
    seal(sealed.encode(), files)
    if changed and not dry_run:
        path.write_text(sealed, encoding="utf-8")
    return changed
