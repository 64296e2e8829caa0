"""The sealed set of schemas, and the step from a verified payload to a valid one.

Sealed means: made from bytes whose digests the catalogue names, compiled once, and from then
on unable to read anything else. Nothing in a message can make it load a schema.
"""

import hashlib
import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from queue import SimpleQueue
from types import MappingProxyType

from lxml import etree

from broker.core.catalogue import Catalogue, CatalogueEntry, parse_catalogue
from broker.core.envelope import hardened_parser
from broker.core.errors import Permanent, Rejection
from broker.core.message import Subject
from broker.core.pointer import line_of, pointer_of
from broker.core.reasons import Reason
from broker.core.rules import RULES, Check
from broker.core.schema_errors import schema_rejection
from broker.core.schema_model import XS, Declaration, SchemaModel
from broker.core.subject import read_subject

_BASE_URL = "sealed:///"
_COPIES = 4  # of each compiled schema: threads that validate one message type at once
_REFERENCES = (f"{XS}include", f"{XS}import")
# The first three the two engines judge differently, so no contract may rest on them; the rest
# `SchemaModel` does not read, so that a category could be missed.
_FORBIDDEN = tuple(
    f"{XS}{name}"
    for name in (
        "key", "keyref", "unique", "redefine", "group", "attributeGroup", "all", "notation",
        "complexContent", "simpleContent", "list", "union",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _MessageSchema:
    """All that is needed to validate one message type in one version."""

    entry: CatalogueEntry
    compiled: "_Compiled"
    root: Declaration
    declarations: Mapping[str, Declaration]
    categories: Mapping[str, str]
    checks: Mapping[str, Check]  # by tag
    subject_tag: str | None


class _Compiled:
    """A schema compiled a few times: it keeps the log of its last validation.

    So one thread at a time may use each; more threads than there are wait. None is compiled
    later: libxml2 has one loader of included documents for the whole process, and lxml swaps
    it around every parse and compilation, so that a compilation beside other threads may find
    none that knows the sealed files.
    """

    def __init__(self, root: etree._Element) -> None:
        self._free: SimpleQueue[etree.XMLSchema] = SimpleQueue()
        for _ in range(_COPIES):
            self._free.put(etree.XMLSchema(root))

    def error(self, element: etree._Element) -> etree._LogEntry | None:
        """Return the first way in which ``element`` fails the schema, if it does."""
        compiled = self._free.get()
        try:
            if compiled.validate(element):
                return None
            log: Iterable[etree._LogEntry] = compiled.error_log  # type: ignore[assignment]  # stubs
            return next(iter(log))
        finally:
            self._free.put(compiled)


class SchemaSet:
    """Every schema the broker knows. ``digest`` is the catalogue's SHA-256 in hexadecimal."""

    def __init__(
        self,
        catalogue: Catalogue,
        digest: str,
        documents: Mapping[str, etree.XMLSchema],
        models: Mapping[str, Declaration],
        messages: Mapping[tuple[str, str], _MessageSchema],
    ) -> None:
        self.catalogue = catalogue
        self.digest = digest
        self.envelope = documents["Envelope"]
        self.documents = documents  # by root element, as the next
        self.document_models = models
        self._messages = messages

    def entry(self, message_type: str, version: str) -> CatalogueEntry:
        """Return what the catalogue says of a message type.

        Raises:
            Rejection: it is not in the catalogue.
        """
        return self._of(message_type, version).entry

    def model(self, message_type: str, version: str) -> Declaration:
        """Return the declaration of the payload's root with all below it.

        Raises:
            Rejection: it is not in the catalogue.
        """
        return self._of(message_type, version).root

    def categories(self, message_type: str, version: str) -> Mapping[str, str]:
        """Return the data category of every path below the payload's root, without positions.

        Raises:
            Rejection: it is not in the catalogue.
        """
        return self._of(message_type, version).categories

    def validate(self, message_type: str, version: str, payload: etree._Element) -> None:
        """Return if ``payload`` follows the schema and the rules of its message type.

        Raises:
            Rejection: it does not; the first fault found is told, without any value.
        """
        schema = self._of(message_type, version)
        if payload.tag != schema.entry.tag:
            detail = "the payload is not the element that MessageType and SchemaVersion name"
            raise Rejection(Reason.SCHEMA, detail, line=line_of(payload))
        error = schema.compiled.error(payload)
        if error is not None:
            raise schema_rejection(payload, error, schema.declarations)
        if not schema.checks:
            return  # no tags would mean every element
        for element in payload.iter(*schema.checks):
            broken = schema.checks[element.tag](element)
            if broken is not None:
                raise Rejection(
                    broken.reason,
                    broken.detail,
                    pointer=pointer_of(broken.element),
                    line=line_of(broken.element),
                )

    def subject(self, message_type: str, version: str, payload: etree._Element) -> Subject | None:
        """Return whom a valid ``payload`` is about, or ``None`` when its type is about nobody.

        Raises:
            Rejection: the message type is not in the catalogue.
        """
        tag = self._of(message_type, version).subject_tag
        return None if tag is None else read_subject(next(payload.iterchildren(tag)))

    def _of(self, message_type: str, version: str) -> _MessageSchema:
        schema = self._messages.get((message_type, version))
        if schema is None:
            # step 2, ISP-2.3: what the catalogue does not hold cannot be checked.
            raise Rejection(Reason.TYPE_UNKNOWN, pointer="/Envelope/Header/MessageType")
        return schema


def seal(catalogue: bytes, files: Mapping[str, bytes]) -> SchemaSet:
    """Return the schemas in ``files``, by path, if they are exactly those of ``catalogue``.

    Raises:
        Permanent: a file is missing, extra, changed, or not a schema that may be used.
    """
    try:
        read = parse_catalogue(catalogue.decode())
        _check_digests(read, files)
        parsed = {path: _parse(path, files) for path in files}
        for path, root in parsed.items():
            _check_schema(path, root, files)
        messages = _messages(read, parsed)
        models = {
            name: SchemaModel(entry.file, parsed).root(name)
            for (name, _), entry in read.documents.items()
        }
        documents = {
            name: etree.XMLSchema(parsed[e.file]) for (name, _), e in read.documents.items()
        }
    except (ValueError, etree.LxmlError) as error:
        detail = str(error) if isinstance(error, ValueError) else "a schema does not compile"
        raise Permanent(Reason.CATALOGUE, detail) from error
    if "Envelope" not in documents:
        raise Permanent(Reason.CATALOGUE, "the catalogue names no Envelope")
    return SchemaSet(read, hashlib.sha256(catalogue).hexdigest(), documents, models, messages)


def _check_digests(catalogue: Catalogue, files: Mapping[str, bytes]) -> None:
    for path in sorted(catalogue.sha256.keys() ^ files.keys()):
        state = "is missing" if path in catalogue.sha256 else "is not in the catalogue"
        raise ValueError(f"the schema {path} {state}")
    for path, content in files.items():
        if hashlib.sha256(content).hexdigest() != catalogue.sha256[path]:
            raise ValueError(f"the schema {path} is not the one that was sealed")


class _SealedResolver(etree.Resolver):
    """Answers for the sealed files, and with nothing for any other address."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files

    def resolve(  # type: ignore[override]  # the stubs leave out the context
        self,
        system_url: str,
        public_id: str,  # noqa: ARG002 - the parser passes it
        context: object,
    ) -> object:
        """Return the sealed file that ``system_url`` names, or an empty document."""
        content = self._files.get(system_url.removeprefix(_BASE_URL), b"")
        return self.resolve_string(content, context, base_url=system_url)


def _parse(path: str, files: Mapping[str, bytes]) -> etree._Element:
    parser = hardened_parser()
    parser.resolvers.add(_SealedResolver(files))
    root = etree.fromstring(files[path], parser, base_url=f"{_BASE_URL}{path}")
    information = root.getroottree().docinfo
    if information.internalDTD is not None or information.externalDTD is not None:
        raise ValueError(f"the schema {path} has a document type")
    return root


def _check_schema(path: str, root: etree._Element, files: Mapping[str, bytes]) -> None:
    for node in root.iter(*_FORBIDDEN):
        raise ValueError(f"the schema {path} uses {etree.QName(node).localname}")
    for node in root.iter(*_REFERENCES):
        location = node.get("schemaLocation", "")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), location))
        if target not in files:
            raise ValueError(f"the schema {path} refers to a file outside the catalogue")


def _messages(
    catalogue: Catalogue, parsed: Mapping[str, etree._Element]
) -> Mapping[tuple[str, str], _MessageSchema]:
    files = {entry.file for entry in catalogue.messages.values()}
    compiled = {file: _Compiled(parsed[file]) for file in files}
    models = {file: SchemaModel(file, parsed) for file in files}
    return MappingProxyType(
        {
            key: _message(entry, compiled[entry.file], models[entry.file])
            for key, entry in catalogue.messages.items()
        }
    )


def _message(entry: CatalogueEntry, compiled: _Compiled, model: SchemaModel) -> _MessageSchema:
    root = model.root(entry.message_type)
    declarations = {declaration.path: declaration for declaration in root.walk()}
    names = {declaration.name for declaration in declarations.values()}
    subject = entry.subject_path
    if subject is not None and subject not in declarations:
        raise ValueError(f"{entry.message_type} {entry.version}: no element {subject}")
    if any(name.startswith("@") for name in names):
        # Sharing protocols speak of elements; an attribute would pass unseen.
        raise ValueError(f"{entry.message_type} {entry.version}: a payload has no attributes")
    return _MessageSchema(
        entry=entry,
        compiled=compiled,
        root=root,
        declarations=MappingProxyType(declarations),
        categories=MappingProxyType(
            {path: declaration.category for path, declaration in declarations.items() if path}
        ),
        checks={
            f"{{{entry.namespace}}}{name}": rule.check
            for name, rule in RULES.items()
            if name in names
        },
        subject_tag=None if subject is None else f"{{{entry.namespace}}}{subject}",
    )
