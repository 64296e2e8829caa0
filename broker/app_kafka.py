"""From the settings to the parts that talk to Kafka: what the composition roots share."""

import socket
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from pathlib import Path

from broker.config import BrokerConfig, KafkaSection
from broker.core.agency import AgencyLookup
from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge.attempts import Attempts
from broker.edge.jwe import OwnKeys, own_keys
from broker.edge.kafka import KafkaOutgoing, LagMeter, Observe, OnRoom
from broker.edge.kafka_client import KafkaSettings, MutualTls, Scram
from broker.edge.kafka_consumer import KafkaConsumer, Quarantine
from broker.edge.kafka_producer import SupervisedProducer
from broker.edge.key_files import read_file
from broker.edge.outgoing import MAILBOX
from broker.edge.parcels import Packing
from broker.edge.topic_file import TopicFile, topic_names

RECORD_BYTES_MAX = 4 * 1024 * 1024  # as max.message.bytes in topics.toml


def kafka_outgoing(
    config: BrokerConfig, attempts: Attempts, *, on_room: OnRoom, observe: Observe
) -> KafkaOutgoing:
    """Return the relay's end of the transport, for what is claimed in the name of ``attempts``.

    Raises:
        Permanent: a file is missing or cannot be used, or a setting is not given.
    """
    kafka = config.kafka
    settings = _settings(kafka, kafka.principal)
    packing = Packing(
        store=attempts.store,
        discloser=attempts.discloser,
        recorder=attempts.recorder,
        clock=attempts.clock,
        rng=attempts.rng,
        owner=attempts.owner,
    )
    return KafkaOutgoing(
        SupervisedProducer(settings),
        LagMeter(settings),
        TopicFile(kafka.topics_file),
        packing,
        lane_max=kafka.lane_max,
        on_lost=packing.lost,
        on_room=on_room,
        observe=observe,
    )


def kafka_consumer(config: BrokerConfig, agency: AgencyId, quarantine: Quarantine) -> KafkaConsumer:
    """Return the worker's end for ``agency``, and for no other.

    Raises:
        Permanent: a file is missing or cannot be used, or the agency has no topic.
    """
    kafka = config.kafka
    topic = topic_names(kafka.topics_file).get(agency)
    if topic is None:
        raise Permanent(Reason.TRANSPORT_REFUSED, f"{kafka.topics_file} has no topic for {agency}")
    settings = _settings(kafka, kafka.worker_principal.replace("{agency}", agency))
    keys = partial(_own_keys, kafka.agency_keys_dir / agency, agency)
    return KafkaConsumer(settings, topic, keys, quarantine, window_max=kafka.window_max)


def lacking(config: BrokerConfig, agencies: AgencyLookup, now: datetime) -> Iterator[str]:
    """Yield what keeps deliveries in the outbox for good, a sentence each.

    Raises:
        Permanent: the topics cannot be read.
    """
    topics = topic_names(config.kafka.topics_file)
    for name, agency in sorted(agencies.items()):
        if agency.delivery.adapter == MAILBOX:
            continue
        if name not in topics:
            yield f"{name} has no topic in {config.kafka.topics_file.name}"
        if agency.encryption_key(now) is None:
            yield f"{name} has no key to encrypt to"


async def ask_cluster(config: BrokerConfig) -> None:
    """Return if the cluster answers this broker.

    Raises:
        Fault: it does not, or a setting or file is missing.
    """
    kafka = config.kafka
    meter = LagMeter(_settings(kafka, kafka.principal))
    try:
        for topic in list(topic_names(kafka.topics_file).values())[:1]:
            await meter.lag(topic)
    finally:
        await meter.aclose()


def _settings(kafka: KafkaSection, principal: str) -> KafkaSettings:
    if not kafka.bootstrap:
        raise Permanent(Reason.INTERNAL, "kafka.bootstrap is not given")
    read_file(kafka.ca_file)
    return KafkaSettings(
        bootstrap=kafka.bootstrap,
        ca_file=kafka.ca_file,
        identity=_identity(kafka, principal),
        client_id=f"{kafka.client_id}-{principal}-{socket.gethostname()}",
        request_s=kafka.request_s,
        send_s=kafka.send_s,
        session_s=kafka.session_s,
        poll_s=kafka.poll_s,
        record_bytes_max=RECORD_BYTES_MAX,
        fetch_bytes_max=kafka.fetch_bytes_max,
    )


def _identity(kafka: KafkaSection, principal: str) -> Scram | MutualTls:
    folder = kafka.identity_dir
    if kafka.identity == "scram":
        password = read_file(folder / f"{principal}.password").decode("utf-8").strip()
        return Scram(principal, password)
    pair = MutualTls(folder / f"{principal}.cert.pem", folder / f"{principal}.key.pem")
    read_file(pair.certificate)
    read_file(pair.key)
    return pair


def _own_keys(folder: Path, agency: AgencyId) -> OwnKeys:
    files = sorted(folder.glob("encryption*.key.pem"))
    try:
        return own_keys(agency, [read_file(file) for file in files])
    except ValueError as error:
        detail = f"{folder}/encryption*.key.pem cannot be used: {error}"
        raise Permanent(Reason.INTERNAL, detail) from error
