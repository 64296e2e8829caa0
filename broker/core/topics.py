"""The topics between broker and adapters, as data, and what a cluster lacks of them.

`parse_topics` reads `deploy/kafka/topics.toml`; `plan` compares it with what a cluster was
found to have. What is not allowed there must not be possible, so a plan also takes away.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from broker.core.identity import AGENCY_ID, AgencyId
from broker.core.table import Table

FILE = "topics.toml"
AGENCY = "{agency}"
TOPIC, GROUP = "topic", "group"
OPERATIONS = frozenset({"Read", "Write", "Describe"})
LITERAL, PREFIXED = "literal", "prefixed"
EVERY_NAME = "*"
ALLOW = "Allow"
UNCLEAN = "unclean.leader.election.enable"
# What the cluster may be told. A name that is missing here may be a misspelt safeguard.
CONFIG_KEYS = frozenset(
    {
        "cleanup.policy",
        "compression.type",
        "max.message.bytes",
        "message.timestamp.type",
        "min.insync.replicas",
        "retention.bytes",
        "retention.ms",
        "segment.bytes",
        "segment.ms",
        UNCLEAN,
    }
)
# Kafka allows 249 characters of these; the longest agency id has 64.
PREFIX = re.compile(r"[a-z][a-z0-9.-]{0,127}\.")
PRINCIPAL = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}")


@dataclass(frozen=True, slots=True, eq=False)
class Topic:
    """The topic of one recipient agency; its consumer group has the same name."""

    name: str
    agency: AgencyId
    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True, order=True)
class Acl:
    """A rule of the cluster: ``principal`` is allowed (or denied) one operation on one name."""

    principal: str
    resource: str  # topic | group
    name: str
    operation: str
    pattern: str = LITERAL  # literal | prefixed
    permission: str = ALLOW  # Allow | Deny

    def reaches(self, resource: str, name: str) -> bool:
        """Return whether the rule says something about ``name``."""
        if self.resource != resource:
            return False
        if self.pattern == PREFIXED:
            return name.startswith(self.name)
        return self.name in {name, EVERY_NAME}


@dataclass(frozen=True, slots=True)
class Topics:
    """Everything that a cluster should have for the broker."""

    prefix: str
    topics: Mapping[AgencyId, Topic]
    acls: frozenset[Acl]

    @property
    def principals(self) -> tuple[str, ...]:
        """Return everybody who may do something, in order."""
        return tuple(sorted({acl.principal for acl in self.acls}))


@dataclass(frozen=True, slots=True)
class FoundTopic:
    """A topic as a cluster has it."""

    partitions: int
    replication: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Found:
    """What a cluster was found to have: topics by name, every rule, users with a password."""

    topics: Mapping[str, FoundTopic]
    acls: frozenset[Acl]


@dataclass(frozen=True, slots=True)
class Plan:
    """What has to be done to a cluster. ``blocked``: what nobody can do for the operator."""

    create: tuple[Topic, ...] = ()
    grow: tuple[Topic, ...] = ()
    configure: tuple[Topic, ...] = ()
    allow: tuple[Acl, ...] = ()
    forbid: tuple[Acl, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether the cluster is as it should be."""
        return not any(getattr(self, name) for name in self.__slots__)


def parse_topics(text: str) -> Topics:
    """Return the topics that ``text`` describes.

    Raises:
        Mistake: a key is missing, misspelt or not possible.
        ValueError: it is not TOML.
    """
    table = Table(tomllib.loads(text), FILE)
    prefix = table.text("prefix")
    if not PREFIX.fullmatch(prefix):
        raise table.mistake("prefix", "write a-z, 0-9, - and ., from a letter to a full stop")
    usual = _topic(table.table("topic"), prefix, AgencyId(""), None)
    below = table.table("agency")
    topics = {}
    for agency in below.content:
        if not AGENCY_ID.fullmatch(agency):
            raise below.mistake(agency, "this is not an agency id")
        topics[AgencyId(agency)] = _topic(below.table(agency), prefix, AgencyId(agency), usual)
    acls = frozenset(
        acl for rule in table.tables("acl") for acl in _acls(rule, list(topics.values()))
    )
    table.close()
    return Topics(prefix, MappingProxyType(topics), acls)


def _topic(table: Table, prefix: str, agency: AgencyId, usual: Topic | None) -> Topic:
    config = dict(usual.config) if usual else {}
    given = table.table("config", optional=True)
    for key in given.content:
        if key not in CONFIG_KEYS:
            raise given.mistake(key, f"known here are {', '.join(sorted(CONFIG_KEYS))}")
        config[key] = given.text(key)
    # Said even where the file is silent, so that a cluster that was told otherwise is found out.
    if config.setdefault(UNCLEAN, "false") != "false":
        raise given.mistake(UNCLEAN, 'a node that missed records would speak for them: "false"')
    topic = Topic(
        name=prefix + agency,
        agency=agency,
        partitions=table.number("partitions", 1, usual.partitions if usual else None),
        replication=table.number("replication", 1, usual.replication if usual else None),
        config=MappingProxyType(config),
    )
    table.close()
    return topic


def _acls(rule: Table, topics: list[Topic]) -> list[Acl]:
    principal = rule.text("principal")
    resource = rule.choice("resource", {TOPIC, GROUP})
    operations = rule.choices("operations", OPERATIONS)
    rule.close()
    if not PRINCIPAL.fullmatch(principal.replace(AGENCY, "agency")):
        raise rule.mistake("principal", "write a-z, 0-9, - and ., with {agency} where its id goes")
    return [
        Acl(principal.replace(AGENCY, topic.agency), resource, topic.name, operation)
        for topic in topics
        for operation in operations
    ]


def plan(wanted: Topics, found: Found) -> Plan:
    """Return what has to be done so that the cluster is as ``wanted``."""
    there = {t: found.topics[t.name] for t in wanted.topics.values() if t.name in found.topics}
    forbid, blocked = _excess(wanted, found)
    return Plan(
        create=tuple(t for t in wanted.topics.values() if t not in there),
        grow=tuple(t for t, as_is in there.items() if as_is.partitions < t.partitions),
        configure=tuple(t for t, as_is in there.items() if _differs(t, as_is)),
        allow=tuple(sorted(wanted.acls - found.acls)),
        forbid=forbid,
        blocked=(*_unmovable(there), *blocked),
    )


def _differs(topic: Topic, there: FoundTopic) -> bool:
    return any(there.config.get(key) != value for key, value in topic.config.items())


def _unmovable(there: Mapping[Topic, FoundTopic]) -> list[str]:
    words = []
    for topic, as_is in there.items():
        if as_is.partitions > topic.partitions:
            words.append(f"{topic.name} has {as_is.partitions} partitions: none can be taken away")
        if as_is.replication != topic.replication:
            words.append(f"{topic.name} has {as_is.replication} replicas: reassign its partitions")
    return words


def _excess(wanted: Topics, found: Found) -> tuple[tuple[Acl, ...], tuple[str, ...]]:
    """Return the rules to remove, and what only the operator can judge."""
    names = {topic.name for topic in wanted.topics.values()}
    blocked = [
        f"{name} belongs to no agency here: delete it when it is not needed"
        for name in sorted(found.topics.keys() - names)
        if name.startswith(wanted.prefix)
    ]
    forbid = []
    for acl in sorted(found.acls - wanted.acls):
        if acl.pattern == LITERAL and acl.name.startswith(wanted.prefix):
            forbid.append(acl)
        elif any(acl.reaches(resource, name) for resource in (TOPIC, GROUP) for name in names):
            # It may be meant for somebody else's topics too, so it is not ours to remove.
            blocked.append(
                f"{acl.principal}: {acl.permission} {acl.operation} on {acl.resource} "
                f"{acl.name} ({acl.pattern}) reaches our topics: narrow it"
            )
    return tuple(forbid), tuple(blocked)
