"""`fame doctor`: what is wrong, or soon will be, with the next step. It changes nothing."""

import asyncio
import shutil
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from broker.cli import cert
from broker.cli.failure import EXIT_CHECK
from broker.cli.home import Config, Json, load_config, now, print_json
from broker.config import BrokerConfig
from broker.core.errors import BrokerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

GREEN, AMBER, RED = "green", "amber", "red"

# The first SQLite in which two connections cannot lose a commit when a log is reset.
SQLITE_SOUND = (3, 51, 3)
KEY_MODE = 0o077  # nobody but the owner
CALENDAR_AHEAD = timedelta(days=90)  # well before a clock runs into a year not known
CLOCK_EPOCH = 1_760_000_000  # October 2025: an earlier clock is certainly wrong
CONNECT_S = 0.5


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``step`` says what to do unless all is well."""

    state: str
    what: str
    words: str
    step: str = ""


def command(config: Config = None, as_json: Json = False) -> None:
    """Look at settings, keys, certificates, register, schemas, disk, clock and port."""
    loaded = load_config(config).config
    findings = [finding for check in CHECKS for finding in check(loaded)]
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            print(f"{finding.state:6} {finding.what:13} {finding.words}")
            if finding.step:
                print(f"{'':20} next: {finding.step}")
    if any(finding.state == RED for finding in findings):
        raise typer.Exit(EXIT_CHECK)


def database(config: BrokerConfig) -> Iterator[Finding]:
    """What keeps the messages."""
    if _file(config) is None:
        yield from _postgres(config)
        return
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info < SQLITE_SOUND:
        words = f"SQLite {version} can, rarely, lose a commit when two processes write at once"
        step = "use a Python with SQLite 3.51.3 or newer; until then run one `fame serve`"
        yield Finding(AMBER, "sqlite", words, step)
    else:
        yield Finding(GREEN, "sqlite", f"SQLite {version}")


def _file(config: BrokerConfig) -> Path | None:
    """Return the file of an embedded database."""
    url = config.store.url
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else None


def _postgres(config: BrokerConfig) -> Iterator[Finding]:
    from broker.app import store_settings
    from broker.edge.database_postgres import examine

    try:
        found = examine(config.store.url, store_settings(config.store))
    except (BrokerError, ImportError) as error:
        words = error.detail if isinstance(error, BrokerError) else "its driver is not installed"
        step = "start it, check store.url, pip install 'fame-broker[postgres]'"
        yield Finding(RED, "postgres", words, step)
        return
    yield Finding(GREEN, "postgres", f"PostgreSQL {found.version}, schema {found.schema}")
    if not (found.encrypted or found.local):
        step = "add sslmode=verify-full and sslrootcert to store.url"
        yield Finding(AMBER, "postgres", "the connection is not encrypted", step)
    if found.unsafe:
        words = f"{', '.join(found.unsafe)} off: a power cut loses what was acknowledged"
        yield Finding(RED, "postgres", words, "set them on in postgresql.conf")
    if abs(found.behind_s) > config.limits.clock_skew_s:
        words = f"this clock and the database's are {abs(found.behind_s):.0f} s apart"
        yield Finding(AMBER, "postgres", words, "set both by NTP; the database's is the one used")


def keys(config: BrokerConfig) -> Iterator[Finding]:
    """Files that hold secrets: there, whole, and nobody else's to read."""
    from broker.edge.sealing import read_key

    section = config.keys
    for path in (section.kek_file, section.pseudonym_file):
        try:
            read_key(path)
        except BrokerError as error:
            yield Finding(RED, "keys", error.detail, "restore the file from its backup")
    private = (section.receipt_key_file, section.token_key_file, config.http.tls_key_file)
    for path in (section.kek_file, section.pseudonym_file, *private):
        if not path.is_file():
            yield Finding(
                RED,
                "keys",
                f"{path} is missing",
                "put the file there, or name its place in fame.toml",
            )
        elif stat.S_IMODE(path.stat().st_mode) & KEY_MODE:
            yield Finding(RED, "keys", f"{path} can be read by others", f"chmod 600 {path}")
        else:
            yield Finding(GREEN, "keys", path.name)


def certificates(config: BrokerConfig) -> Iterator[Finding]:
    """Certificates in use: those of the broker, and those registered for agencies."""
    own = [config.keys.receipt_cert_file, config.http.tls_cert_file, config.http.client_ca_file]
    registered = sorted((config.registers.protocols_dir / "certificates").glob("*/*.cert.pem"))
    found = [cert.examine(path, now()) for path in (*own, *registered)]
    for one in found:
        if one.state != GREEN:
            yield Finding(one.state, "certificates", f"{one.file}: {one.words}", "fame cert check")
    good = sum(one.state == GREEN for one in found)
    if good == len(found):
        yield Finding(GREEN, "certificates", f"{good} are good")


def register(config: BrokerConfig) -> Iterator[Finding]:
    """Agencies and sharing protocols can be read and do not contradict each other."""
    from broker.edge.registers import load_in_force

    try:
        held = load_in_force(config.registers.protocols_dir)
    except BrokerError as error:
        yield Finding(RED, "register", error.detail, "fame protocol lint")
        return
    loaded = held.register
    agencies = len(loaded.agencies)
    state = GREEN if agencies else AMBER
    step = "" if agencies else "register agencies in protocols/agencies/"
    yield Finding(state, "register", f"{agencies} agencies, digest {loaded.digest[:16]}", step)
    yield _calendar(loaded.calendar.years)
    for file, fault in held.unusable.items():
        yield Finding(AMBER, "register", f"left out: {file}: {fault}", "mend the draft")
    for name in held.changed:
        words = f"{name} says something else than what was signed, which stays in force"
        yield Finding(AMBER, "register", words, "fame protocol sign a later version")


def policy(config: BrokerConfig) -> Iterator[Finding]:
    """The policy log goes on from what the ledger remembers of it."""
    from broker.core.policy_head import continued
    from broker.edge.policy_book import last_head
    from broker.edge.registers import load_in_force

    try:
        with _looked_into(config) as conn:
            recorded = last_head(conn)
    except BrokerError:
        return  # no broker has begun here, or its database is told of above
    try:
        held = load_in_force(config.registers.protocols_dir).policy
        if recorded is not None:
            continued(held, recorded)
    except BrokerError as error:
        yield Finding(RED, "policy", error.detail, "RUNBOOK: the policy log is refused")
        return
    yield Finding(GREEN, "policy", f"{len(held.acts)} lines, none lost")


@contextmanager
def _looked_into(config: BrokerConfig) -> Iterator["Connection"]:
    """Open the database; that of a file in a way that leaves no trace on it.

    Raises:
        Fault: it is not there or not reachable.
    """
    from sqlalchemy import create_engine

    from broker.cli.protocol.drafts import store_to_read
    from broker.edge.database import store_faults

    file = _file(config)
    if file is None:
        with store_to_read(config) as conn:
            yield conn
        return
    uri = f"{file.absolute().as_uri()}?mode=ro"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(uri, uri=True))
    try:
        with store_faults(), engine.connect() as conn:
            yield conn
    finally:
        engine.dispose()


def _calendar(years: frozenset[int]) -> Finding:
    """Bank holidays are known as far ahead as a clock that starts now can run."""
    wanted = (now() + CALENDAR_AHEAD).year
    if wanted in years:
        return Finding(GREEN, "calendar", f"bank holidays are known to the end of {max(years)}")
    words = f"the bank holidays of {wanted} are not known: only weekends will be left out"
    return Finding(AMBER, "calendar", words, "add the year to protocols/bank-holidays.toml")


def schemas(config: BrokerConfig) -> Iterator[Finding]:
    """The sealed catalogue is whole."""
    from broker.edge.schemas import load_schemas

    try:
        loaded = load_schemas(config.registers.schemas_dir)
    except BrokerError as error:
        yield Finding(RED, "schemas", error.detail, "fame schema check")
    else:
        yield Finding(GREEN, "schemas", f"digest {loaded.digest[:16]}")


def kafka(config: BrokerConfig) -> Iterator[Finding]:
    """With that transport: a topic and a key for whoever needs one, and a cluster that answers."""
    if config.delivery.transport != "kafka":
        return
    try:
        from broker.app_kafka import ask_cluster, lacking
    except ImportError:
        step = "pip install 'fame-broker[kafka]'"
        yield Finding(RED, "kafka", "the library for Kafka is not installed", step)
        return
    from broker.edge.registers import load_in_force

    try:
        held = load_in_force(config.registers.protocols_dir).register
        for words in lacking(config, held.agencies, now()):
            yield Finding(RED, "kafka", words, "fame topics apply; fame agency encrypt-to")
        asyncio.run(ask_cluster(config))
    except BrokerError as error:
        words = error.detail or error.reason.value
        yield Finding(RED, "kafka", words, f"fame reasons {error.reason.value}")
    else:
        yield Finding(GREEN, "kafka", "the cluster answers")


def disk(config: BrokerConfig) -> Iterator[Finding]:
    """Room for more messages."""
    path = _file(config)
    if path is None:
        return
    folder = next(parent for parent in path.parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    words = f"{free // (1024 * 1024):,} MiB free in {folder}"
    if free < config.store.free_bytes_min:
        yield Finding(RED, "disk", words, "make room, or lower store.free_bytes_min")
    elif free < 4 * config.store.free_bytes_min:
        yield Finding(AMBER, "disk", words, "make room soon")
    else:
        yield Finding(GREEN, "disk", words)


def clock(config: BrokerConfig) -> Iterator[Finding]:
    """The clock is not certainly wrong: messages are judged by it."""
    file = _file(config)
    written = file.stat().st_mtime if file is not None and file.is_file() else 0.0
    at = time.time()
    if at < CLOCK_EPOCH or at < written - config.limits.clock_skew_s:
        words = f"{now():%Y-%m-%d %H:%M:%S} UTC is behind what is already stored"
        yield Finding(RED, "clock", words, "set the clock by NTP")
    else:
        yield Finding(GREEN, "clock", f"{now():%Y-%m-%d %H:%M:%S} UTC")


def port(config: BrokerConfig) -> Iterator[Finding]:
    """Whether somebody listens where the broker would."""
    address = (config.http.host, config.http.port)
    try:
        socket.create_connection(address, CONNECT_S).close()
    except OSError:
        step = f"fame serve --port {config.http.port}"
        yield Finding(AMBER, "port", f"nobody listens on {address[0]}:{address[1]}", step)
    else:
        yield Finding(GREEN, "port", f"somebody listens on {address[0]}:{address[1]}")


CHECKS: tuple[Callable[[BrokerConfig], Iterator[Finding]], ...] = (
    database,
    keys,
    certificates,
    register,
    policy,
    schemas,
    kafka,
    disk,
    clock,
    port,
)
