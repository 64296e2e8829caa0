"""How the broker connects to Kafka, and what Kafka's errors mean.

TLS always, with a password (SCRAM-SHA-512) or a client certificate. Every default of aiokafka
that could lose, repeat or leak a record is set here by name, so that none is left to it.
"""

import contextlib
import logging
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from aiokafka import errors

from broker.core.errors import BrokerError, Fault, Permanent, Transient
from broker.core.reasons import Reason

WARNING_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Scram:
    """A user of the cluster and its password (RFC 5802, SHA-512)."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class MutualTls:
    """A client certificate, whose name is the principal, and its key. PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where the cluster is, who we are to it, and every bound on talking to it."""

    bootstrap: str  # host:port of several nodes, with commas: one alone may be down
    ca_file: Path
    identity: Scram | MutualTls
    client_id: str = "fame"
    request_s: float = 5.0  # one request to one node; a silent node is given up after this
    send_s: float = 15.0  # one record, all retries; then it is the outbox's again
    session_s: float = 10.0  # a worker that is silent for this long loses its partitions
    poll_s: float = 300.0  # a worker that takes nothing for this long does too
    record_bytes_max: int = 4 * 1024 * 1024  # as max.message.bytes of the topics
    fetch_bytes_max: int = 16 * 1024 * 1024  # of all partitions together, before they are taken


def connection(settings: KafkaSettings) -> dict[str, Any]:
    """Return what every client of aiokafka needs to connect."""
    context = ssl.create_default_context(cafile=str(settings.ca_file))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    made: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap,
        "client_id": settings.client_id,
        "ssl_context": context,
        "request_timeout_ms": round(settings.request_s * 1000),
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": 60_000,
    }
    if isinstance(settings.identity, MutualTls):
        context.load_cert_chain(settings.identity.certificate, settings.identity.key)
        return made | {"security_protocol": "SSL"}
    return made | {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": settings.identity.user,
        "sasl_plain_password": settings.identity.password,
    }


def producing(settings: KafkaSettings) -> dict[str, Any]:
    """Return how a producer is made that acknowledges only what two nodes have, once."""
    return connection(settings) | {
        "acks": "all",
        "enable_idempotence": True,
        "compression_type": None,  # ciphertext does not get smaller
        "max_request_size": settings.record_bytes_max,
        "max_batch_size": 256 * 1024,
        "linger_ms": 0,
    }


def consuming(settings: KafkaSettings, group: str) -> dict[str, Any]:
    """Return how a consumer is made that skips nothing and forgets nothing by itself."""
    return connection(settings) | {
        "group_id": group,
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "check_crcs": True,
        "session_timeout_ms": round(settings.session_s * 1000),
        "heartbeat_interval_ms": round(settings.session_s * 1000 / 4),
        "max_poll_interval_ms": round(settings.poll_s * 1000),
        "fetch_max_bytes": settings.fetch_bytes_max,
        "max_partition_fetch_bytes": settings.record_bytes_max,
        "fetch_max_wait_ms": 500,
    }


_REFUSED = (
    errors.AuthenticationFailedError,
    errors.AuthenticationMethodNotSupported,
    errors.ClusterAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.InvalidTopicError,
    errors.SaslAuthenticationFailed,
    errors.TopicAuthorizationFailedError,
    errors.UnknownTopicOrPartitionError,
    errors.UnsupportedSaslMechanismError,
)
_TOO_LARGE = (
    errors.MessageSizeTooLargeError,
    errors.RecordListTooLargeError,
    errors.RecordTooLargeError,
)


@contextlib.contextmanager
def kafka_faults() -> Iterator[None]:
    """Turn every error of Kafka into one of ours. No text of Kafka's is passed on.

    Raises:
        Transient: the cluster, or enough of it, cannot be reached now.
        Permanent: it does not let us, does not know the topic, or a record is too large.
    """
    try:
        yield
    except (errors.KafkaError, ssl.SSLError, OSError, TimeoutError) as error:
        raise as_fault(error) from error


def as_fault(error: BaseException) -> Fault:
    """Return what ``error`` means for whoever asked."""
    if isinstance(error, Fault):
        return error
    name = type(error).__name__
    if isinstance(error, _REFUSED):
        return Permanent(Reason.TRANSPORT_REFUSED, name)
    if isinstance(error, _TOO_LARGE):
        return Permanent(Reason.INTERNAL, f"a record is larger than the topic takes: {name}")
    assert not isinstance(error, BrokerError)
    return Transient(Reason.TRANSPORT_UNAVAILABLE, name, retry_after_s=5)


class OncePerMinute(logging.Filter):
    """Lets each line of a library's code log once a minute, and counts the rest.

    While a node is down, aiokafka logs every attempt to reach it: thousands a minute.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._seconds = seconds
        self._next: dict[tuple[str, int], float] = {}
        self._dropped: dict[tuple[str, int], int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether ``record`` is passed on; it then says how many were not."""
        place = (record.pathname, record.lineno)
        now = self._seconds()
        if now < self._next.get(place, 0.0):
            self._dropped[place] = self._dropped.get(place, 0) + 1
            return False
        self._next[place] = now + WARNING_EVERY_S
        dropped = self._dropped.pop(place, 0)
        if dropped:
            record.msg = f"{record.msg} (and {dropped} more like it)"
        return True


def quieten() -> None:
    """Limit the log lines of aiokafka, once for the whole process."""
    for name in list(logging.root.manager.loggerDict):
        if name.partition(".")[0] == "aiokafka":
            logger = logging.getLogger(name)
            if not any(isinstance(found, OncePerMinute) for found in logger.filters):
                logger.addFilter(OncePerMinute())
