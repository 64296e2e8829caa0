"""What needs no cluster: settings, errors, log lines, and how far offsets may be committed."""

import logging
import ssl
from pathlib import Path

import pytest
from aiokafka import TopicPartition, errors

from broker.core.errors import Permanent, Transient
from broker.core.reasons import Reason
from broker.edge.kafka_client import (
    KafkaSettings,
    MutualTls,
    OncePerMinute,
    Scram,
    connection,
    consuming,
    kafka_faults,
    producing,
    quieten,
)
from broker.edge.kafka_consumer import Progress
from tests.contract.pki import Authority

AT = TopicPartition("t", 0)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def settings(authority: Authority) -> KafkaSettings:
    return KafkaSettings("h:1,h:2", authority.certificate, Scram("u", "p-a-s-s"))


def test_a_producer_acknowledges_only_what_enough_nodes_have(settings: KafkaSettings) -> None:
    made = producing(settings)

    assert made["acks"] == "all"
    assert made["enable_idempotence"] is True
    assert made["max_request_size"] == 4 * 1024 * 1024


def test_a_consumer_skips_nothing_and_commits_nothing_by_itself(settings: KafkaSettings) -> None:
    made = consuming(settings, "g")

    assert made["group_id"] == "g"
    assert made["enable_auto_commit"] is False
    assert made["auto_offset_reset"] == "earliest"
    assert made["isolation_level"] == "read_committed"
    assert made["check_crcs"] is True
    assert made["fetch_max_bytes"] == 16 * 1024 * 1024
    assert made["heartbeat_interval_ms"] * 3 < made["session_timeout_ms"]


def test_a_cluster_is_verified_whoever_we_are(
    settings: KafkaSettings, authority: Authority
) -> None:
    leaf = authority.issue("fame-broker")
    mutual = KafkaSettings("h:1", authority.certificate, MutualTls(leaf.certificate, leaf.key))

    for made, protocol in [(connection(settings), "SASL_SSL"), (connection(mutual), "SSL")]:
        assert made["security_protocol"] == protocol
        assert made["ssl_context"].verify_mode is ssl.CERT_REQUIRED
        assert made["ssl_context"].check_hostname
        assert made["ssl_context"].minimum_version >= ssl.TLSVersion.TLSv1_2
    assert connection(settings)["sasl_mechanism"] == "SCRAM-SHA-512"


def test_a_password_is_not_shown(settings: KafkaSettings) -> None:
    assert "p-a-s-s" not in repr(settings)


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (errors.TopicAuthorizationFailedError("t"), Permanent, Reason.TRANSPORT_REFUSED),
        (errors.GroupAuthorizationFailedError("g"), Permanent, Reason.TRANSPORT_REFUSED),
        (errors.AuthenticationFailedError("secret"), Permanent, Reason.TRANSPORT_REFUSED),
        (errors.UnknownTopicOrPartitionError(), Permanent, Reason.TRANSPORT_REFUSED),
        (errors.MessageSizeTooLargeError("9"), Permanent, Reason.INTERNAL),
        (errors.NotEnoughReplicasError(), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (errors.OutOfOrderSequenceNumber(), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (errors.KafkaConnectionError("secret"), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (errors.ProducerClosed(), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (ssl.SSLError("secret"), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (ConnectionResetError("secret"), Transient, Reason.TRANSPORT_UNAVAILABLE),
        (TimeoutError(), Transient, Reason.TRANSPORT_UNAVAILABLE),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_errors_are_ours_and_their_text_is_left_out(
    error: Exception, kind: type[Exception], reason: Reason
) -> None:
    with pytest.raises(kind) as caught, kafka_faults():
        raise error

    assert isinstance(caught.value, Permanent | Transient)
    assert caught.value.reason is reason
    assert "secret" not in str(caught.value)


def test_a_fault_of_ours_passes_as_it_is() -> None:
    fault = Transient(Reason.STORE_FULL)

    with pytest.raises(Transient) as caught, kafka_faults():
        raise fault

    assert caught.value is fault


def test_a_line_of_a_library_is_logged_once_a_minute_with_a_count() -> None:
    seconds = [100.0]
    limit = OncePerMinute(lambda: seconds[0])

    def passed(line: int = 1) -> str | None:
        record = logging.LogRecord("aiokafka.conn", 30, "conn.py", line, "lost %s", ("n1",), None)
        return record.getMessage() if limit.filter(record) else None

    assert [passed(), passed(), passed(2), passed()] == ["lost n1", None, "lost n1", None]
    seconds[0] += 60
    assert passed() == "lost n1 (and 2 more like it)"
    seconds[0] += 60
    assert passed() == "lost n1"


def test_the_lines_of_aiokafka_are_limited_once() -> None:
    quieten()
    quieten()

    filters = logging.getLogger("aiokafka.conn").filters
    assert [type(found) for found in filters].count(OncePerMinute) == 1


def test_offsets_are_committed_up_to_the_first_that_is_in_work() -> None:
    progress = Progress()
    for offset in (3, 4, 7):  # a log has gaps
        progress.taken(AT, offset)

    progress.ended(AT, 4)
    assert progress.due() == {AT: 3}
    progress.ended(AT, 3)
    assert progress.due() == {AT: 7}
    progress.ended(AT, 7)
    assert progress.due() == {AT: 8}
    assert progress.in_work == 0


def test_what_is_committed_is_not_committed_again() -> None:
    progress = Progress()
    progress.taken(AT, 3)
    progress.ended(AT, 3)

    progress.committed(progress.due())

    assert progress.due() == {}


def test_a_record_that_is_returned_holds_the_offset() -> None:
    progress = Progress()
    progress.taken(AT, 3)
    progress.ended(AT, 3)
    progress.taken(AT, 4)

    progress.returned(AT, 4)

    assert progress.due() == {AT: 4}
    assert progress.in_work == 0


def test_a_partition_that_is_not_ours_any_more_is_forgotten() -> None:
    progress = Progress()
    progress.taken(AT, 3)

    progress.forget([AT])
    progress.committed({AT: 4})

    assert progress.due() == {}
    assert progress.in_work == 0
