"""A small partnership on a real cluster: topics, rules and keys of two agencies."""

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TypeVar

from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.core.errors import Fault
from broker.core.identity import AgencyId, MessageId
from broker.core.topics import Topics, parse_topics, plan
from broker.edge.cloudevents import Card
from broker.edge.jwe import OwnKeys, RecipientKey, own_keys, recipient_key
from broker.edge.kafka import KafkaOutgoing, LagMeter, Parcel
from broker.edge.kafka_admin import ClusterAdmin
from broker.edge.kafka_client import KafkaSettings, Scram
from broker.edge.kafka_consumer import KafkaConsumer, Poison
from broker.edge.kafka_producer import SupervisedProducer
from broker.ports import Dispatch
from tests.live.services.kafka import Access, KafkaCluster, librdkafka

BROKER = "fame-broker"
SUNDERLAND = AgencyId("sunderland-csc")
GATESHEAD = AgencyId("gateshead-csc")
T = TypeVar("T")
KNOWN_S = 10.0
SOON_S = 20.0
PASSWORD = "only-for-tests"
NOW = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
CANARY = b"Canary-Surname"
BODY = b"<Envelope>" + CANARY + b"</Envelope>"

TOPICS = """
prefix = "{prefix}"
[topic]
partitions = 2
replication = 3
[topic.config]
"min.insync.replicas" = "2"
"max.message.bytes" = "4194304"
[[acl]]
principal = "fame-broker"
resource = "topic"
operations = ["Write", "Describe"]
[[acl]]
principal = "fame-broker"
resource = "group"
operations = ["Describe"]
[[acl]]
principal = "fame-deliver-{{agency}}"
resource = "topic"
operations = ["Read", "Describe"]
[[acl]]
principal = "fame-deliver-{{agency}}"
resource = "group"
operations = ["Read"]
[agency.sunderland-csc]
[agency.gateshead-csc]
"""


def new_key() -> bytes:
    """Return a private key in PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def dispatch(recipient: AgencyId = SUNDERLAND, number: int = 1) -> Dispatch:
    """Return a dispatch with ids made of ``number``."""
    return Dispatch(
        delivery_id=f"00000000-0000-7000-8000-{number:012x}",
        recipient=recipient,
        order_key=f"{number % 7:032x}",
        attempt=1,
        lease_until=NOW + timedelta(minutes=10),
    )


def card(of: Dispatch) -> Card:
    """Return the open facts of a message for one of the dispatches."""
    return Card(
        dispatch=of,
        broker=AgencyId(BROKER),
        sender=AgencyId("hylton-school"),
        message_id=MessageId("0198f3a0-0000-7000-8000-000000000001"),
        message_type="Referral",
        schema_version="1.0",
        accepted_at=NOW,
        reduced=False,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


@dataclass
class Desk:
    """What the broker would look up: parcels, and where agencies want them encrypted."""

    keys: dict[AgencyId, RecipientKey]
    body: bytes = BODY
    withdrawn: set[str] = field(default_factory=set)
    lost: list[tuple[Dispatch, Fault]] = field(default_factory=list)
    room: list[AgencyId] = field(default_factory=list)

    async def parcel(self, of: Dispatch) -> Parcel | None:
        return None if of.delivery_id in self.withdrawn else Parcel(card(of), self.body)

    def key(self, recipient: AgencyId) -> RecipientKey:
        return self.keys[recipient]

    async def on_lost(self, of: Dispatch, fault: Fault) -> None:
        self.lost.append((of, fault))


@dataclass
class World:
    """The partnership, its cluster, and a way to make either side of the transport."""

    cluster: KafkaCluster
    admin: ClusterAdmin
    topics: Topics
    private: dict[AgencyId, bytes]
    desk: Desk
    poison: list[Poison] = field(default_factory=list)

    def settings(self, principal: str, **changes: float) -> KafkaSettings:
        access = self.cluster.access
        made = KafkaSettings(access.bootstrap, access.ca_file, Scram(principal, PASSWORD))
        quick = {"request_s": 2.0, "send_s": 10.0, "session_s": 6.0}
        return replace(made, **(quick | changes))  # type: ignore[arg-type]  # all are numbers

    def producer(self, principal: str = BROKER, **changes: float) -> SupervisedProducer:
        return SupervisedProducer(self.settings(principal, **changes))

    def outgoing(self, *, lane_max: int = 1000, **changes: float) -> KafkaOutgoing:
        return KafkaOutgoing(
            self.producer(BROKER, **changes),
            LagMeter(self.settings(BROKER)),
            {agency: topic.name for agency, topic in self.topics.topics.items()},
            self.desk,
            lane_max=lane_max,
            on_lost=self.desk.on_lost,
            on_room=self.desk.room.append,
        )

    def own_keys(self, agency: AgencyId) -> OwnKeys:
        return own_keys(agency, [self.private[agency]])

    def consumer(
        self,
        agency: AgencyId = SUNDERLAND,
        principal: str = "",
        *,
        window_max: int = 1000,
        **changes: float,
    ) -> KafkaConsumer:
        settings = self.settings(principal or f"fame-deliver-{agency}", **changes)
        topic = self.topics.topics[agency].name
        keys = partial(self.own_keys, agency)
        return KafkaConsumer(settings, topic, keys, self.set_aside, window_max=window_max)

    async def lag(self, agency: AgencyId = SUNDERLAND) -> int:
        """Return how many records the cluster thinks the worker has not dealt with."""
        meter = LagMeter(self.settings(BROKER))
        behind = await meter.lag(self.topics.topics[agency].name)
        await meter.aclose()
        return behind

    async def set_aside(self, poison: Poison) -> None:
        self.poison.append(poison)


def administer(access: Access) -> ClusterAdmin:
    """Return the administrator of a cluster."""
    return ClusterAdmin(
        KafkaSettings(access.bootstrap, access.ca_file, Scram(access.user, access.password))
    )


def make_world(cluster: KafkaCluster, written: str = TOPICS) -> World:
    """Put topics of their own on the cluster, so that tests do not see each other's."""
    admin = administer(cluster.access)
    topics = parse_topics(written.format(prefix=f"fame.t{uuid.uuid4().hex[:8]}."))
    lacking = set(topics.principals) - admin.users()
    if lacking:
        admin.set_passwords(dict.fromkeys(lacking, PASSWORD))
    admin.apply(plan(topics, admin.look(topics.prefix)))
    wait_until_known(cluster, topics)
    private = {agency: new_key() for agency in topics.topics}
    keys = {agency: recipient_key(pem) for agency, pem in private.items()}
    return World(cluster, admin, topics, private, Desk(keys))


async def soon(what: Awaitable[T]) -> T:
    """Wait for ``what``, and not for ever: a record that does not come fails the test."""
    async with asyncio.timeout(SOON_S):
        return await what


def wait_until_known(cluster: KafkaCluster, topics: Topics) -> None:
    """Wait until each node has heard of the rules, which go round after they are made."""
    until = time.monotonic() + KNOWN_S
    access = cluster.access
    (*_, topic) = topics.topics.values()
    worker = replace(access, user=f"fame-deliver-{topic.agency}", password=PASSWORD)
    for node in access.bootstrap.split(","):
        settings = librdkafka(replace(worker, bootstrap=node))
        while (
            AdminClient(settings).list_topics(topic.name, timeout=KNOWN_S).topics[topic.name].error
        ):
            if time.monotonic() > until:
                raise TimeoutError(f"{node} does not know the rules yet")


def scratch(directory: Path, name: str, content: str) -> Path:
    """Write a file for a program that takes one."""
    path = directory / name
    path.write_text(content, encoding="utf-8")
    return path
