"""The AsyncAPI document: every topic, every message type, and nothing dangling."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from broker.core.asyncapi import HEADERS, asyncapi, event_type
from broker.core.catalogue import Catalogue, parse_catalogue
from broker.core.topics import Topics, parse_topics

ROOT = Path(__file__).parents[2]
BARE = """
prefix = "t."
[topic]
partitions = 1
replication = 1
[[acl]]
principal = "p"
resource = "topic"
operations = ["Read"]
[agency.hylton-school]
"""


@pytest.fixture
def topics() -> Topics:
    return parse_topics((ROOT / "deploy/kafka/topics.toml").read_text(encoding="utf-8"))


@pytest.fixture
def catalogue() -> Catalogue:
    return parse_catalogue((ROOT / "schemas/catalogue.toml").read_text(encoding="utf-8"))


@pytest.fixture
def document(topics: Topics, catalogue: Catalogue) -> dict[str, Any]:
    entries = catalogue.messages.values()
    return asyncapi(topics, entries, version="1.2.3", bootstrap="kafka.example:9094")


def references(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref":
                yield value
            else:
                yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def resolved(document: dict[str, Any], reference: str) -> object:
    found: Any = document
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def test_it_is_asyncapi_3_of_this_version(document: dict[str, Any]) -> None:
    assert document["asyncapi"] == "3.0.0"
    assert document["info"]["version"] == "1.2.3"
    assert document["servers"]["cluster"]["host"] == "kafka.example:9094"
    assert document["servers"]["cluster"]["protocol"] == "kafka-secure"
    assert json.loads(json.dumps(document)) == document


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    found = set(references(document))

    assert len(found) > 10
    assert all(resolved(document, reference) for reference in found)


def test_every_topic_is_a_channel_into_which_the_broker_sends(
    document: dict[str, Any], topics: Topics
) -> None:
    addresses = {channel["address"] for channel in document["channels"].values()}
    sent = {operation["channel"]["$ref"] for operation in document["operations"].values()}

    assert addresses == {topic.name for topic in topics.topics.values()}
    assert sent == {f"#/channels/{agency}" for agency in topics.topics}
    assert {operation["action"] for operation in document["operations"].values()} == {"send"}


def test_a_channel_says_what_its_topic_is_made_of(document: dict[str, Any]) -> None:
    binding = document["channels"]["northumbria-police"]["bindings"]["kafka"]

    assert binding["topic"] == "fame.deliver.northumbria-police"
    assert (binding["partitions"], binding["replicas"]) == (12, 3)
    assert binding["topicConfiguration"]["cleanup.policy"] == ["delete"]
    assert binding["topicConfiguration"]["max.message.bytes"] == 4194304


def test_every_message_type_is_in_every_channel(
    document: dict[str, Any], catalogue: Catalogue
) -> None:
    names = {f"{name}.{version}" for name, version in catalogue.messages}

    assert set(document["components"]["messages"]) == names
    for channel in document["channels"].values():
        assert set(channel["messages"]) == names
    types = {message["name"] for message in document["components"]["messages"].values()}
    assert types == {event_type(*key) for key in catalogue.messages}


def test_headers_are_described_and_required(document: dict[str, Any]) -> None:
    described = document["components"]["messageTraits"]["delivery"]["headers"]

    assert described["required"] == list(HEADERS)
    assert set(described["properties"]) == set(HEADERS)
    assert all(schema["type"] == "string" for schema in described["properties"].values())


def test_what_a_topic_does_not_set_is_not_claimed() -> None:
    document = asyncapi(parse_topics(BARE), [], version="1", bootstrap="h:1")

    binding = document["channels"]["hylton-school"]["bindings"]["kafka"]
    assert binding["topicConfiguration"] == {}
