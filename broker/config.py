"""Every setting of the broker: its unit, bound, default and where its value came from.

Values come from `fame.toml`, then from the environment (``FAME_SECTION__KEY``), then from
the command line; the later wins. Paths are relative to the folder of the file. A secret is
never a setting: a setting names the file that holds it. An unknown key is an error.
This module alone reads the environment.
"""

import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

import broker
from broker.core.identity import agency_id
from broker.core.limits import LIMITS, Limits

ENVIRONMENT_PREFIX = "FAME_"
Fingerprints = tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...]


class ConfigError(Exception):
    """The configuration cannot be used. ``problems`` has one sentence for each fault."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


def data_dir(name: str) -> Path:
    """Return the folder of shipped data ``name``: beside the checkout, or of the wheel."""
    checkout = Path(broker.__file__).parents[1] / name
    return checkout if checkout.is_dir() else Path(sys.prefix) / "share" / "fame-broker" / name


def _database_url(url: str) -> str:
    """Return ``url`` if it names a database of ours and gives away no password."""
    parts = urlsplit(url)
    if parts.scheme not in {"sqlite", "postgresql", "postgresql+psycopg"}:
        raise ValueError("a url of sqlite: or postgresql:")
    if parts.password is not None or "password=" in parts.query:
        raise ValueError("holds a password: put it into a file and name that in password_file")
    return url


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BrokerSection(_Section):
    """Who this broker is."""

    id: Annotated[str, AfterValidator(agency_id)] = Field(
        default="fame-broker", description="agency id under which the broker itself is registered"
    )
    url: str = Field(
        default="https://localhost:8443",
        description="where peers reach it: audience of tokens, base of links",
    )
    sandbox: bool = Field(
        default=False, description="synthetic data only: real-looking identifiers are rejected"
    )


class HttpSection(_Section):
    """How peers reach the broker."""

    host: str = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(default=8443, ge=0, le=65535, description="port to listen on; 0 takes any")
    tls_cert_file: Path = Field(
        default=Path("keys/tls.cert.pem"), description="certificate chain of this server"
    )
    tls_key_file: Path = Field(default=Path("keys/tls.key.pem"), description="its private key")
    client_ca_file: Path = Field(
        default=Path("ca/ca.cert.pem"), description="authorities whose client certificates count"
    )
    in_flight_max: int = Field(
        default=1024, ge=1, le=100_000, description="submissions at once; beyond: 503, unparsed"
    )
    working_max: int = Field(
        default=24, ge=1, le=10_000, description="of them parsed, decided and written at once"
    )
    agency_in_flight_max: int = Field(
        default=512, ge=1, le=100_000, description="submissions of one agency; beyond: 429"
    )
    agency_rate_per_s: float = Field(
        default=0.0, ge=0, le=100_000, description="of one agency at this node; 0: no bound"
    )
    agency_burst: int = Field(
        default=200, ge=1, le=1_000_000, description="what an agency may send at once after a rest"
    )
    connections_max: int = Field(
        default=4096, ge=1, le=1_000_000, description="open connections; idle ones make room"
    )
    examine_threads: int = Field(
        default=2, ge=1, le=256, description="threads that examine large messages"
    )
    proxies: tuple[str, ...] = Field(
        default=(), description="networks of TLS proxies whose Client-Cert (RFC 9440) is believed"
    )
    proxy_fingerprints: Fingerprints = Field(
        default=(), description="SHA-256 of certificates they show; none: the address will do"
    )
    metrics_fingerprints: Fingerprints = Field(
        default=(), description="SHA-256 of certificates that may read /metrics, as operators may"
    )
    token_lifetime_s: int = Field(default=300, ge=30, le=600, description="life of a bearer token")
    shutdown_s: int = Field(
        default=10, ge=0, le=600, description="time given to requests in flight at the end"
    )


class StoreSection(_Section):
    """Where messages are kept."""

    url: Annotated[str, AfterValidator(_database_url)] = Field(
        default="sqlite:///data/fame.db",
        description="SQLite file, a relative path starts at the folder of this file; "
        "or postgresql://user@host/database?sslmode=verify-full&sslrootcert=/path",
    )
    password_file: Path = Field(
        default=Path("keys/database.password"),
        description="password of the user in a postgresql url, if there is such a file",
    )
    batch_max: int = Field(
        default=256, ge=1, le=10_000, description="submissions committed together at most"
    )
    queue_max: int = Field(
        default=2048, ge=1, le=1_000_000, description="submissions waiting for the writer"
    )
    readers: int = Field(default=2, ge=1, le=64, description="threads that read")
    busy_timeout_s: float = Field(
        default=2.0, ge=0, le=120, description="wait for another process's lock, then 503"
    )
    statement_timeout_s: float = Field(
        default=10.0, gt=0, le=600, description="PostgreSQL ends a longer statement, then 503"
    )
    payload_days: float = Field(
        default=30.0, ge=1, le=3650, description="payloads are erased so long after they came"
    )
    free_bytes_min: int = Field(
        default=256 * 1024 * 1024, ge=0, description="less free disk than this: not ready"
    )


class KeysSection(_Section):
    """Files that hold secrets. Each should be readable by the broker alone."""

    kek_file: Path = Field(
        default=Path("keys/kek.key"),
        description="wraps the data key of each message; 64 hex digits",
    )
    pseudonym_file: Path = Field(
        default=Path("keys/pseudonym.key"),
        description="keys the hash that stands for a person; 64 hex digits; never change it",
    )
    receipt_key_file: Path = Field(
        default=Path("keys/receipt.key.pem"), description="signs receipts and reduced envelopes"
    )
    receipt_cert_file: Path = Field(
        default=Path("keys/receipt.cert.pem"), description="its certificate, given to every agency"
    )
    token_key_file: Path = Field(
        default=Path("keys/token.key.pem"), description="signs the broker's own bearer tokens"
    )


class RegistersSection(_Section):
    """What is decided by."""

    schemas_dir: Path = Field(
        default_factory=lambda: data_dir("schemas"), description="sealed catalogue of message types"
    )
    protocols_dir: Path = Field(
        default_factory=lambda: data_dir("protocols"),
        description="agencies, gateways, purposes and sharing protocols",
    )
    reload_s: float = Field(
        default=2.0, ge=0, le=3600, description="look for changed protocols this often; 0: never"
    )
    coverage_min_percent: int = Field(
        default=80,
        ge=0,
        le=100,
        description="least coverage by its examples at which a protocol can be activated",
    )


def _limit(name: str, description: str) -> Any:  # noqa: ANN401 -- pydantic's Field is typed so
    return Field(default=getattr(LIMITS, name), ge=1, description=description)


class LimitsSection(_Section):
    """Bounds on one submission: see `broker.core.limits` for why."""

    body_bytes_max: int = _limit("body_bytes_max", "bytes of a submission")
    elements_max: int = _limit("elements_max", "XML elements of a submission")
    attributes_max: int = _limit("attributes_max", "XML attributes of a submission")
    attributes_of_element_max: int = _limit(
        "attributes_of_element_max", "XML attributes of one element"
    )
    depth_max: int = _limit("depth_max", "levels of nesting")
    recipients_max: int = _limit("recipients_max", "recipients after groups are resolved")
    clock_skew_s: int = _limit("clock_skew_s", "how far ahead a sender's clock may be")
    age_s_max: int = _limit("age_s_max", "oldest CreatedAt that is accepted")
    lifetime_s_default: int = _limit("lifetime_s_default", "ExpiresAt when a message has none")
    wait_s_max: int = _limit("wait_s_max", "longest ?wait= for answers")

    def limits(self) -> Limits:
        """Return the bounds as the core wants them."""
        return Limits(**self.model_dump())


class DeliverySection(_Section):
    """How messages are handed over."""

    transport: Literal["in-process", "kafka"] = Field(
        default="in-process",
        description='"in-process", or "kafka": `fame deliver` takes what is not for a mailbox',
    )
    attempts_max: int = Field(default=12, ge=1, le=1000, description="then: undeliverable")
    backoff_s_first: float = Field(
        default=1.0, gt=0, le=3600, description="wait after the first failure; doubles, with jitter"
    )
    backoff_s_max: float = Field(default=900.0, gt=0, le=86_400, description="longest wait")
    timeout_s: float = Field(default=15.0, gt=0, le=300, description="one attempt")
    drops_dir: Path = Field(
        default=Path("data/drops"), description="below it lie the directories of file drops"
    )
    per_recipient_max: int = Field(
        default=4, ge=1, le=256, description="attempts at once for one recipient"
    )
    poll_s: float = Field(
        default=1.0, gt=0, le=60, description="look for due retries at least this often"
    )
    lease_s: float = Field(
        default=60.0, gt=0, le=3600, description="an attempt not ended by then may be made again"
    )


class KafkaSection(_Section):
    """The cluster between `fame serve` and `fame deliver`; counts with that transport only."""

    bootstrap: str = Field(
        default="", description="host:port of several nodes, with commas: one alone may be down"
    )
    ca_file: Path = Field(
        default=Path("keys/kafka/ca.cert.pem"),
        description="authority of the nodes' certificates; there is no way in without TLS",
    )
    identity: Literal["scram", "tls"] = Field(
        default="scram", description='"scram" (a password) or "tls" (a client certificate)'
    )
    identity_dir: Path = Field(
        default=Path("keys/kafka"),
        description="holds PRINCIPAL.password, or PRINCIPAL.cert.pem and PRINCIPAL.key.pem",
    )
    principal: str = Field(default="fame-broker", description="who this broker is to the cluster")
    worker_principal: str = Field(
        default="fame-deliver-{agency}", description="who the worker of an agency is to it"
    )
    client_id: str = Field(default="fame", description="begins the name of each client in its logs")
    topics_file: Path = Field(
        default=Path("topics.toml"), description="the topics as data: see deploy/kafka/topics.toml"
    )
    agency_keys_dir: Path = Field(
        default=Path("agencies"),
        description="a worker opens its records with AGENCY/encryption*.key.pem from here",
    )
    lane_max: int = Field(
        default=256,
        ge=1,
        le=100_000,
        description="records of one topic that its workers have not dealt with; more wait here",
    )
    window_max: int = Field(
        default=64, ge=1, le=10_000, description="records that one worker has in work at a time"
    )
    watch_s: float = Field(
        default=1.0,
        gt=0,
        le=60,
        description="ask the cluster this often how far workers are behind",
    )
    request_s: float = Field(
        default=5.0, gt=0, le=120, description="one request to one node, then another is asked"
    )
    send_s: float = Field(
        default=15.0, gt=0, le=300, description="one record, all retries; then the outbox has it"
    )
    session_s: float = Field(
        default=10.0, ge=1, le=300, description="a worker silent for this long loses its partitions"
    )
    poll_s: float = Field(
        default=300.0,
        ge=1,
        le=3600,
        description="a worker that takes nothing for this long does too",
    )
    worker_host: str = Field(
        default="127.0.0.1", description="where a worker answers /livez, /readyz and /metrics"
    )
    worker_port: int = Field(
        default=0, ge=0, le=65535, description="on this port, in plain HTTP; 0: on none"
    )
    fetch_bytes_max: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="read ahead by one worker"
    )


class SignatureSection(_Section):
    """How signatures are verified."""

    verifier: Literal["profile", "signxml"] = Field(
        default="profile", description='"profile" (fast) or "signxml" (second opinion)'
    )


class BrokerConfig(_Section):
    """Every setting. Components are given the values they need, never this object."""

    broker: BrokerSection = BrokerSection()
    http: HttpSection = HttpSection()
    store: StoreSection = StoreSection()
    keys: KeysSection = KeysSection()
    registers: RegistersSection = RegistersSection()
    limits: LimitsSection = LimitsSection()
    delivery: DeliverySection = DeliverySection()
    kafka: KafkaSection = KafkaSection()
    signature: SignatureSection = SignatureSection()


@dataclass(frozen=True, slots=True)
class LoadedConfig:
    """A usable configuration; ``origins`` maps ``section.key`` to where its value came from."""

    config: BrokerConfig
    origins: Mapping[str, str]
    home: Path


def load(
    path: Path | None,
    *,
    env: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
) -> LoadedConfig:
    """Return the configuration of ``path`` (None: defaults), environment and ``overrides``.

    ``env`` None means that of this process. Override keys are ``section.key``.

    Raises:
        ConfigError: a file cannot be read, a key is unknown, or a value is not possible.
    """
    home = (path.parent if path else Path()).resolve()
    values: dict[str, dict[str, Any]] = {}
    origins = dict.fromkeys(_keys(), "default")
    problems: list[str] = []
    for key, value, origin in _given(path, os.environ if env is None else env, overrides or {}):
        if key not in origins:
            problems.append(f"{origin}: unknown key {key}.{_suggestion(key, origins)}")
            continue
        section, _, name = key.partition(".")
        values.setdefault(section, {})[name] = value
        origins[key] = origin
    config = _checked(values, origins, problems)
    return LoadedConfig(_anchored(config, home), origins, home)


def child_environment(**extra: str) -> dict[str, str]:
    """Return the environment for a process started here: this one's without settings."""
    kept = {name: value for name, value in os.environ.items() if not _is_setting(name)}
    return {**kept, **extra}


def _keys() -> Iterator[str]:
    for section, field in BrokerConfig.model_fields.items():
        for name in field.annotation.model_fields:  # type: ignore[union-attr]
            yield f"{section}.{name}"


def _given(
    path: Path | None, env: Mapping[str, str], overrides: Mapping[str, str]
) -> Iterator[tuple[str, Any, str]]:
    """Yield ``(key, value, origin)``, the stronger origin later."""
    if path is not None:
        yield from _from_file(path)
    for name in sorted(env):
        if _is_setting(name):
            section, _, key = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition("__")
            yield from _worded(f"{section}.{key}", env[name], f"environment {name}")
    for key, value in overrides.items():
        yield from _worded(key, value, "command line")


def _worded(key: str, text: str, origin: str) -> Iterator[tuple[str, Any, str]]:
    """Yield a value given as text; a list is written with commas."""
    value: Any = text
    if key in _lists():
        value = [part.strip() for part in text.split(",") if part.strip()]
    yield key, value, origin


def _lists() -> frozenset[str]:
    sections = BrokerConfig().model_dump().items()
    return frozenset(
        f"{section}.{name}"
        for section, content in sections
        for name, value in content.items()
        if isinstance(value, tuple)
    )


def _is_setting(name: str) -> bool:
    # Names without a double underscore (FAME_CRASH_AT) belong to others.
    return name.startswith(ENVIRONMENT_PREFIX) and "__" in name


def _from_file(path: Path) -> Iterator[tuple[str, Any, str]]:
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError((f"{path}: cannot be read: {why}",)) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((f"{path}: not TOML: {error}",)) from error
    lines = _lines(text)
    for section, content in document.items():
        if not isinstance(content, dict):
            yield section, content, f"{path.name} line {lines.get(section, 1)}"
            continue
        if section not in BrokerConfig.model_fields and not content:
            yield section, content, f"{path.name} line {lines.get(section, 1)}"
        for name, value in content.items():
            key = f"{section}.{name}"
            yield key, value, f"{path.name} line {lines.get(key, lines.get(section, 1))}"


_TABLE = re.compile(r"\s*\[\s*([\w-]+)\s*\]")
_ASSIGNMENT = re.compile(r"\s*([\w-]+)\s*=")


def _lines(text: str) -> dict[str, int]:
    """Return the line on which each table and key stands; tomllib does not tell."""
    found: dict[str, int] = {}
    section = ""
    for number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            section = table[1]
            found.setdefault(section, number)
        elif assignment := _ASSIGNMENT.match(line):
            found.setdefault(f"{section}.{assignment[1]}" if section else assignment[1], number)
    return found


def _suggestion(key: str, known: Mapping[str, str]) -> str:
    same_name = [other for other in known if other.partition(".")[2] == key.rpartition(".")[2]]
    close = get_close_matches(key, known, n=1, cutoff=0.6) or same_name
    return f" Did you mean {close[0]}?" if close else " `fame config show` lists every key."


def _checked(
    values: dict[str, dict[str, Any]], origins: Mapping[str, str], problems: list[str]
) -> BrokerConfig:
    config = BrokerConfig()
    try:
        config = BrokerConfig.model_validate(values)
    except ValidationError as error:
        for fault in error.errors(include_input=False, include_url=False):
            key = ".".join(str(part) for part in fault["loc"][:2])
            problems.append(f"{origins.get(key, 'default')}: {key}: {fault['msg']}")
    if problems:
        raise ConfigError(tuple(problems))
    return config


def _anchored(config: BrokerConfig, home: Path) -> BrokerConfig:
    """Return ``config`` with each relative path starting at ``home``."""
    sections: dict[str, Any] = {}
    for section in BrokerConfig.model_fields:
        content: _Section = getattr(config, section)
        paths = {name: home / path for name, path in content if isinstance(path, Path)}
        sections[section] = content.model_copy(update=paths)
    sections["store"] = sections["store"].model_copy(update={"url": _url(config.store.url, home)})
    return config.model_copy(update=sections)


def _url(url: str, home: Path) -> str:
    relative = url.removeprefix("sqlite:///")
    return url if relative == url else f"sqlite:///{home / relative}"
