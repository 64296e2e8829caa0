"""Read protocols/ from disk; hold the register in force, which is swapped whole or not at all."""

import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from joserfc import jwk
from joserfc.errors import JoseError

from broker.core.assembly import AGENCIES, SHARING, build_register, certificate_files
from broker.core.drafting import parse_draft
from broker.core.errors import Permanent, Transient
from broker.core.examples import EXAMPLES, Example, parse_examples
from broker.core.in_force import InForce, Sources, as_if_in_force, in_force
from broker.core.policy_head import continued, head_of
from broker.core.policy_log import LOG
from broker.core.protocol import Register
from broker.core.reasons import Reason
from broker.core.sharing import SharingProtocol
from broker.core.table import Mistake, Table
from broker.core.two_keys import SIGNED


def load_register(directory: Path) -> Register:
    """Return the register that the files below ``directory`` describe, signed or not.

    It is what people look at while they write. A broker takes `load_in_force`.

    Raises:
        Permanent: a file cannot be read or says something that cannot be used; the words name
            file, line, table and key, and the cure.
    """
    sources = _all_read(read_sources(directory))
    with _placed(directory):
        return build_register(sources.files, sources.blobs, sources.keysets)


def _all_read(sources: Sources) -> Sources:
    """Return ``sources``, of which every file was read.

    Raises:
        Permanent: one was not.
    """
    for words in sources.unreadable.values():
        raise _unreadable(words)
    return sources


def load_in_force(directory: Path, until: datetime | None = None) -> InForce:
    """Return the register that the policy log has put in force, or had at ``until``.

    Raises:
        Permanent: as `load_register`; or the log or a signed agreement is not what was signed.
    """
    sources = read_sources(directory)
    with _placed(directory):
        return in_force(sources, until)


def read_sources(directory: Path) -> Sources:
    """Return what the files below ``directory`` hold.

    Raises:
        Permanent: one cannot be read, and it is not that of a sharing protocol.
    """
    unreadable: dict[str, str] = {}
    files: dict[str, dict[str, object]] = {}
    agreements: dict[str, dict[str, object]] = {}
    blobs: dict[str, bytes] = {}
    keysets: dict[str, dict[str, object]] = {}
    for path in sorted(directory.rglob("*.toml")):
        if path.parent == directory / EXAMPLES:
            continue  # what agreements are tried with decides nothing
        if path.parent == directory / SIGNED:
            agreements[path.stem] = _toml(path)
            continue
        name = path.relative_to(directory).as_posix()
        try:
            files[name] = _toml(path)
        except Permanent as error:
            if path.parent != directory / SHARING:
                raise
            unreadable[name] = error.detail
    with _placed(directory):
        for name, table in files.items():
            if name.startswith(f"{AGENCIES}/"):
                certificates, keys = certificate_files(table)
                blobs |= {file: _bytes(directory, name, file) for file in certificates}
                keysets |= {file: _keyset(directory, name, file) for file in keys}
    return Sources(files, blobs, keysets, agreements, _log(directory / LOG), unreadable)


@contextmanager
def _placed(directory: Path) -> Iterator[None]:
    """Add to a mistake the line of the file where it stands."""
    try:
        yield
    except Mistake as mistake:
        line = line_of(directory / mistake.file, mistake.table, mistake.key)
        if line is None:
            raise
        place = f"{mistake.file} line {line}"
        raise Mistake(place, mistake.table, mistake.key, mistake.cure) from mistake


def load_draft(file: Path, register: Register) -> SharingProtocol:
    """Return the sharing protocol in ``file``, read with what ``register`` knows.

    Raises:
        Permanent: it cannot be read or used; the words name line, table, key and cure.
    """
    content = _toml(file)
    with _placed(file.parent):
        return parse_draft(content, register, file.name)


def load_as_if_in_force(directory: Path, file: str) -> Register:
    """Return the register that there would be if the agreement of ``file`` were in force.

    Raises:
        Permanent: as `load_register`.
    """
    sources = _all_read(read_sources(directory))
    with _placed(directory):
        files = as_if_in_force(sources.files, file)
        return build_register(files, sources.blobs, sources.keysets)


def load_examples(directory: Path, protocol_id: str, version: int) -> tuple[Example, ...]:
    """Return the examples that travel with an agreement; none if there is no file of them.

    Raises:
        Permanent: the file cannot be used, or is about another agreement.
    """
    path = directory / EXAMPLES / f"{protocol_id}.v{version}.toml"
    if not path.exists():
        return ()
    table = Table(_toml(path), f"{EXAMPLES}/{path.name}")
    with _placed(directory):
        reference, examples = parse_examples(table)
        if reference != f"{protocol_id}@{version}":
            raise table.mistake("protocol", f"this file is about {protocol_id}@{version}")
    return examples


class RegisterHolder:
    """The register in force. Readers take ``current`` once and keep it for one submission.

    ``is_last``: no other node has put a later policy in force.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.held = load_in_force(directory)
        self.current = self.held.register
        self.is_last = True

    @property
    def deciding(self) -> Register:
        """The register in force, to decide by.

        Raises:
            Transient: another node follows a later policy, which has not come here yet.
        """
        if not self.is_last:
            detail = "another node follows a later policy log than the one here"
            raise Transient(Reason.REGISTER_UNAVAILABLE, detail, retry_after_s=5)
        return self.current

    def read(self) -> InForce:
        """Return what the files say now; it is in force once `take` is given it.

        Raises:
            Permanent: they cannot be used, or the policy log lost something.
        """
        loaded = load_in_force(self._directory)
        continued(loaded.policy, head_of(self.held.policy))
        return loaded

    def take(self, held: InForce) -> Register:
        """Put ``held`` in force and return its register."""
        self.held = held
        self.current = held.register
        self.is_last = True
        return held.register

    @property
    def unusable(self) -> Mapping[str, str]:
        """The drafts that were left out of the register, with what is wrong with them."""
        return self.held.unusable

    @property
    def changed(self) -> tuple[str, ...]:
        """The files that say something else than what was signed and is in force."""
        return self.held.changed


def line_of(path: Path, table: str, key: str) -> int | None:
    """Return the 1-based line where ``key`` of ``table`` stands, or else that of the heading.

    ``table`` is named as `broker.core.table.Table` does: ``flow 2.item 3``, or empty.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    names: dict[str, str] = {}  # heading to the name of the latest table under it
    counts: Counter[str] = Counter()
    here, found = "", None
    for number, line in enumerate(lines, 1):
        if line.startswith("["):
            heading = line.partition("#")[0].strip().strip("[]")
            parent, _, last = heading.rpartition(".")
            here = f"{names[parent]}.{last}" if parent in names else heading
            if line.startswith("[["):
                counts[here] += 1
                here = f"{here} {counts[here]}"
            names[heading] = here
            found = number if here == table else found
        elif here == table and line.partition("=")[0].strip() == key:
            return number
    return found


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(f"{path.name}: cannot be read as UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise _unreadable(f"{path.name}: not TOML: {error}") from error


def _log(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8") if path.exists() else ""
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(f"{path.name}: cannot be read as UTF-8 text") from error


def _bytes(directory: Path, name: str, file: str) -> bytes:
    path = directory / file
    if not path.resolve().is_relative_to(directory.resolve()):
        raise Mistake(name, "", "file", f"{file} lies outside the register")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Mistake(name, "", "file", f"{file} cannot be read") from error


def _keyset(directory: Path, name: str, file: str) -> dict[str, object]:
    pem = _bytes(directory, name, file)
    for kind in ("EC", "RSA", "OKP"):
        try:
            key = jwk.import_key(pem.decode("ascii"), kind)
        except (ValueError, JoseError):
            continue
        return {**key.as_dict(private=False), "kid": key.thumbprint()}
    raise Mistake(name, "", "client_keys", f"{file} is not a public key in PEM")


def _unreadable(detail: str) -> Permanent:
    return Permanent(Reason.REGISTER_UNAVAILABLE, detail)
