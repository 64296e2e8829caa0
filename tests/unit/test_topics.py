"""Topics as data: what may be written, and what a cluster lacks or has too much."""

from dataclasses import replace
from pathlib import Path

import pytest

from broker.core.identity import AgencyId
from broker.core.table import Mistake
from broker.core.topics import Acl, Found, FoundTopic, Plan, Topics, parse_topics, plan

ROOT = Path(__file__).parents[2]
TEXT = """
prefix = "fame.deliver."
[topic]
partitions = 6
replication = 3
[topic.config]
"min.insync.replicas" = "2"
"retention.ms" = "1000"
[[acl]]
principal = "fame-broker"
resource = "topic"
operations = ["Write", "Describe"]
[[acl]]
principal = "worker-{agency}"
resource = "topic"
operations = ["Read"]
[[acl]]
principal = "worker-{agency}"
resource = "group"
operations = ["Read"]
[agency.hylton-school]
[agency.sunderland-csc]
partitions = 12
[agency.sunderland-csc.config]
"retention.ms" = "2000"
"""
SCHOOL, COUNCIL = AgencyId("hylton-school"), AgencyId("sunderland-csc")
SCHOOL_TOPIC = "fame.deliver.hylton-school"


@pytest.fixture
def topics() -> Topics:
    return parse_topics(TEXT)


def as_wanted(topics: Topics) -> Found:
    there = {
        topic.name: FoundTopic(topic.partitions, topic.replication, dict(topic.config))
        for topic in topics.topics.values()
    }
    return Found(there, topics.acls)


def school(topics: Topics, changed: FoundTopic) -> Found:
    found = as_wanted(topics)
    return replace(found, topics={**found.topics, SCHOOL_TOPIC: changed})


def test_an_agency_has_what_every_topic_has_unless_it_says_otherwise(topics: Topics) -> None:
    plain, special = topics.topics[SCHOOL], topics.topics[COUNCIL]

    assert (plain.name, plain.partitions, plain.replication) == (SCHOOL_TOPIC, 6, 3)
    # Kept to whoever is in sync though the file says nothing of it.
    usual = {"min.insync.replicas": "2", "unclean.leader.election.enable": "false"}
    assert dict(plain.config) == {**usual, "retention.ms": "1000"}
    assert (special.partitions, special.replication) == (12, 3)
    assert dict(special.config) == {**usual, "retention.ms": "2000"}


def test_a_worker_is_allowed_its_own_topic_and_group_only(topics: Topics) -> None:
    allowed = {acl for acl in topics.acls if acl.principal == "worker-hylton-school"}

    assert allowed == {
        Acl("worker-hylton-school", "topic", SCHOOL_TOPIC, "Read"),
        Acl("worker-hylton-school", "group", SCHOOL_TOPIC, "Read"),
    }
    assert topics.principals == ("fame-broker", "worker-hylton-school", "worker-sunderland-csc")


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ('"fame.deliver."', '"fame.deliver"', "prefix"),
        ('"fame.deliver."', '"Fame."', "prefix"),
        ('"fame.deliver."', '"fame_deliver."', "prefix"),
        ('"min.insync.replicas"', '"min.insync.replica"', "[topic.config], min.insync.replica"),
        (
            '"min.insync.replicas"',
            '"unclean.leader.election.enable" = "true"\n"min.insync.replicas"',
            "[topic.config], unclean.leader.election.enable",
        ),
        ("partitions = 6", "partitions = 0", "[topic], partitions"),
        ("partitions = 6", "partition = 6", "[topic]"),
        ("replication = 3", "", "[topic], replication"),
        ("[agency.hylton-school]", "[agency.Hylton]", "[agency], Hylton"),
        ('resource = "group"', 'resource = "cluster"', "[acl 3], resource"),
        ('operations = ["Read"]', 'operations = ["All"]', "[acl 2], operations"),
        ('"fame-broker"', '"User:fame-broker"', "[acl 1], principal"),
        ('"fame-broker"', '"fame-{agencie}"', "[acl 1], principal"),
        ('"fame-broker"', '"fame-broker"\nhost = "h"', "[acl 1], host"),
        ("prefix", "owner = 1\nprefix", "owner"),
    ],
)
def test_what_is_not_possible_is_named_with_its_place(old: str, new: str, place: str) -> None:
    with pytest.raises(Mistake) as caught:
        parse_topics(TEXT.replace(old, new, 1))

    assert f"topics.toml, {place}" in caught.value.detail


def test_a_cluster_that_is_as_wanted_needs_nothing(topics: Topics) -> None:
    assert plan(topics, as_wanted(topics)).empty
    assert plan(topics, as_wanted(topics)) == Plan()


def test_an_empty_cluster_needs_everything(topics: Topics) -> None:
    todo = plan(topics, Found({}, frozenset()))

    assert todo.create == tuple(topics.topics.values())
    assert todo.allow == tuple(sorted(topics.acls))
    assert not todo.empty


def test_partitions_can_be_added_and_not_be_taken_away(topics: Topics) -> None:
    config = dict(topics.topics[SCHOOL].config)

    fewer = plan(topics, school(topics, FoundTopic(5, 3, config)))
    more = plan(topics, school(topics, FoundTopic(7, 3, config)))

    assert fewer == Plan(grow=(topics.topics[SCHOOL],))
    assert more.grow == ()
    assert more.blocked == (f"{SCHOOL_TOPIC} has 7 partitions: none can be taken away",)


def test_copies_are_moved_by_hand(topics: Topics) -> None:
    config = dict(topics.topics[SCHOOL].config)

    todo = plan(topics, school(topics, FoundTopic(6, 1, config)))

    assert todo == Plan(blocked=(f"{SCHOOL_TOPIC} has 1 replicas: reassign its partitions",))


def test_a_setting_that_differs_is_set_and_others_of_the_cluster_are_left(topics: Topics) -> None:
    config = dict(topics.topics[SCHOOL].config)

    other = plan(topics, school(topics, FoundTopic(6, 3, config | {"segment.ms": "5"})))
    differs = plan(topics, school(topics, FoundTopic(6, 3, config | {"retention.ms": "5"})))

    assert other.empty
    assert differs == Plan(configure=(topics.topics[SCHOOL],))


@pytest.mark.parametrize(
    "acl",
    [
        Acl("stranger", "topic", SCHOOL_TOPIC, "Read"),
        Acl("fame-broker", "topic", SCHOOL_TOPIC, "Read"),
        Acl("worker-hylton-school", "topic", SCHOOL_TOPIC, "Read", permission="Deny"),
        Acl("stranger", "topic", "fame.deliver.agency-that-left", "Read"),
    ],
)
def test_what_is_not_wanted_on_our_names_is_taken_away(topics: Topics, acl: Acl) -> None:
    found = as_wanted(topics)

    todo = plan(topics, replace(found, acls=found.acls | {acl}))

    assert todo == Plan(forbid=(acl,))


@pytest.mark.parametrize(
    "acl",
    [
        Acl("stranger", "topic", "*", "Read"),
        Acl("stranger", "topic", "fame.", "Read", pattern="prefixed"),
        Acl("stranger", "group", "fame.deliver.h", "Read", pattern="prefixed"),
    ],
)
def test_a_wide_rule_that_reaches_our_names_is_told(topics: Topics, acl: Acl) -> None:
    found = as_wanted(topics)

    todo = plan(topics, replace(found, acls=found.acls | {acl}))

    assert todo.forbid == ()
    assert len(todo.blocked) == 1
    assert todo.blocked[0].startswith("stranger: Allow Read on ")


@pytest.mark.parametrize(
    "acl",
    [
        Acl("stranger", "topic", "payroll", "Read"),
        Acl("stranger", "topic", "pay", "Read", pattern="prefixed"),
        Acl("stranger", "cluster", "*", "Describe"),
    ],
)
def test_rules_about_other_names_are_none_of_our_business(topics: Topics, acl: Acl) -> None:
    found = as_wanted(topics)

    assert plan(topics, replace(found, acls=found.acls | {acl})).empty


def test_a_topic_of_an_agency_that_left_is_told_and_others_are_not(topics: Topics) -> None:
    found = as_wanted(topics)
    extra = {name: FoundTopic(1, 3, {}) for name in ("fame.deliver.old-agency", "payroll")}

    todo = plan(topics, replace(found, topics={**found.topics, **extra}))

    assert todo == Plan(
        blocked=(
            "fame.deliver.old-agency belongs to no agency here: delete it when it is not needed",
        )
    )


def test_the_shipped_topics_are_those_of_the_shipped_agencies() -> None:
    shipped = parse_topics((ROOT / "deploy/kafka/topics.toml").read_text(encoding="utf-8"))

    agencies = {path.stem for path in (ROOT / "protocols" / "agencies").glob("*.toml")}
    assert set(shipped.topics) == agencies


def test_the_shipped_topics_lose_nothing_with_one_node_down_and_let_only_the_worker_read() -> None:
    shipped = parse_topics((ROOT / "deploy/kafka/topics.toml").read_text(encoding="utf-8"))

    for agency, topic in shipped.topics.items():
        assert topic.replication == 3
        assert topic.config["min.insync.replicas"] == "2"
        assert topic.config["unclean.leader.election.enable"] == "false"
        readers = {
            a.principal for a in shipped.acls if a.operation == "Read" and a.name == topic.name
        }
        assert readers == {f"fame-deliver-{agency}"}
        writers = {
            a.principal for a in shipped.acls if a.operation == "Write" and a.name == topic.name
        }
        assert writers == {"fame-broker"}
