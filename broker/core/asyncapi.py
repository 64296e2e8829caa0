"""The AsyncAPI 3 document of the topics, for whoever attaches a consumer of their own.

It is made of `topics.toml` and the sealed catalogue, so it cannot say anything else than
what the broker does. Kafka bindings are of version 0.5.0.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from broker.core.catalogue import CatalogueEntry
from broker.core.topics import Topic, Topics

ASYNCAPI = "3.0.0"
BINDING = "0.5.0"
TYPE_PREFIX = "fame."
JOSE = "application/jose"
SERVER = "cluster"
UUID = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
# Header: (schema, what it means). The binary mode of the CloudEvents Kafka binding.
HEADERS: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "content-type": ({"const": JOSE}, "the value is a JWE in compact form"),
    "ce_specversion": ({"const": "1.0"}, "CloudEvents"),
    "ce_id": ({"pattern": UUID}, "delivery id: the same for every attempt, so do a thing once"),
    "ce_source": ({"format": "uri-reference"}, "the broker, by its agency id"),
    "ce_type": ({}, "message type and schema version"),
    "ce_time": ({"format": "date-time"}, "when the broker accepted the message"),
    "ce_partitionkey": ({}, "pseudonym, as in the key: records with the same one are in order"),
    "ce_recipient": ({}, "agency id, as in the topic's name and inside the JWE"),
    "ce_sender": ({}, "agency id"),
    "ce_messageid": ({"pattern": UUID}, "the sender's id of the message"),
    "ce_attempt": ({"pattern": "^[1-9][0-9]*$"}, "above 1 it may be a duplicate"),
    "ce_leaseuntil": ({"format": "date-time"}, "from then on another worker may have it"),
    "ce_reduced": ({"enum": ["true", "false"]}, "whether the broker withheld something"),
    "traceparent": ({}, "W3C trace context"),
}


def event_type(message_type: str, version: str) -> str:
    """Return the CloudEvents type of a message type and schema version."""
    return f"{TYPE_PREFIX}{message_type}.{version}"


def asyncapi(
    topics: Topics, entries: Iterable[CatalogueEntry], *, version: str, bootstrap: str
) -> dict[str, Any]:
    """Return the document. ``version`` is the broker's; ``bootstrap`` is host:port of a node."""
    messages = {
        _name(entry): _message(entry)
        for entry in sorted(entries, key=lambda e: (e.family, e.message_type, e.version))
    }
    return {
        "asyncapi": ASYNCAPI,
        "info": {
            "title": "FAME broker: deliveries",
            "version": version,
            "description": (
                "One topic for each recipient agency. A record is one message that the sharing "
                "protocol allows to that agency, less what was withheld. Names, keys and headers "
                "hold no personal data; the value is encrypted to the recipient. Deliveries come "
                "at least once: the delivery id says which are the same."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": JOSE,
        "servers": {SERVER: _server(bootstrap)},
        "channels": {topic.agency: _channel(topic, messages) for topic in topics.topics.values()},
        "operations": {
            f"deliver-{topic.agency}": _operation(topic) for topic in topics.topics.values()
        },
        "components": {
            "messages": messages,
            "messageTraits": {"delivery": _trait()},
            "schemas": {"sealed": _sealed()},
            "securitySchemes": {
                "scram": {"type": "scramSha512", "description": "a user for each principal"},
                "certificate": {"type": "X509", "description": "the name is the principal"},
            },
        },
    }


def _name(entry: CatalogueEntry) -> str:
    return f"{entry.message_type}.{entry.version}"


def _server(bootstrap: str) -> dict[str, Any]:
    return {
        "host": bootstrap,
        "protocol": "kafka-secure",
        "description": "TLS always; whoever comes without a password or certificate is refused",
        "security": [
            {"$ref": "#/components/securitySchemes/scram"},
            {"$ref": "#/components/securitySchemes/certificate"},
        ],
    }


def _message(entry: CatalogueEntry) -> dict[str, Any]:
    return {
        "name": event_type(entry.message_type, entry.version),
        "title": f"{entry.message_type} {entry.version}",
        "summary": f"{entry.pattern} of the family {entry.family}",
        "payload": {"$ref": "#/components/schemas/sealed"},
        "traits": [{"$ref": "#/components/messageTraits/delivery"}],
    }


def _trait() -> dict[str, Any]:
    properties = {
        name: {"type": "string", "description": meaning, **schema}
        for name, (schema, meaning) in HEADERS.items()
    }
    return {
        "contentType": JOSE,
        "headers": {"type": "object", "required": list(HEADERS), "properties": properties},
        "bindings": {
            "kafka": {
                "key": {"type": "string", "description": "pseudonym: order is kept for each"},
                "bindingVersion": BINDING,
            }
        },
    }


def _sealed() -> dict[str, Any]:
    return {
        "type": "string",
        "contentMediaType": JOSE,
        "pattern": "^[A-Za-z0-9_-]+(\\.[A-Za-z0-9_-]*){4}$",
        "description": (
            "JWE (RFC 7516), compact: ECDH-ES+A256KW and A256GCM to the recipient's key named by "
            "kid. Its protected header repeats recipient and delivery id. Inside: the signed "
            "envelope, application/xml, as the sender signed it or as the broker reduced it."
        ),
    }


def _channel(topic: Topic, messages: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": topic.name,
        "title": f"Deliveries to {topic.agency}",
        "servers": [{"$ref": f"#/servers/{SERVER}"}],
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in messages},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "replicas": topic.replication,
                "topicConfiguration": _configuration(topic.config),
                "bindingVersion": BINDING,
            }
        },
    }


def _configuration(config: Mapping[str, str]) -> dict[str, Any]:
    """Return what the binding can say of a topic's configuration."""
    said: dict[str, Any] = {
        key: int(config[key])
        for key in ("retention.ms", "retention.bytes", "max.message.bytes")
        if key in config
    }
    if "cleanup.policy" in config:
        said["cleanup.policy"] = config["cleanup.policy"].split(",")
    return said


def _operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{topic.agency}"},
        "summary": f"What the agreements allow to {topic.agency}",
        "bindings": {
            "kafka": {
                "groupId": {"type": "string", "enum": [topic.name]},
                "bindingVersion": BINDING,
            }
        },
    }
