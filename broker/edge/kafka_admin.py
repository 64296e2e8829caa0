"""Look at a Kafka cluster and bring it into the state that `topics.toml` describes.

For the operator's command only. aiokafka has neither access rules nor passwords, so this is
confluent-kafka, which the extra ``kafka-admin`` brings. Its calls block.
"""

import contextlib
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from broker.core.errors import Permanent, Transient
from broker.core.reasons import Reason
from broker.core.topics import Acl, Found, FoundTopic, Plan, Topic
from broker.edge.kafka_client import KafkaSettings, Scram

ITERATIONS = 8192
CONNECT_STEP_S = 0.5
# Retrying helps where the cluster, and not what was asked of it, is the cause.
_TRANSIENT = frozenset(
    {"_TRANSPORT", "_ALL_BROKERS_DOWN", "_TIMED_OUT", "_TIMED_OUT_QUEUE", "REQUEST_TIMED_OUT"}
)


class ClusterAdmin:
    """A connection of an operator who may administer the cluster."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._timeout_s = settings.send_s
        self._connect_s = settings.request_s
        self._errors: set[str] = set()
        self._admin = AdminClient(librdkafka(settings) | {"error_cb": self._heard})

    def look(self, prefix: str) -> Found:
        """Return the topics whose names begin with ``prefix``, and every access rule.

        Raises:
            Fault: the cluster cannot be reached, or does not let us.
        """
        self._connect()
        with admin_faults():
            listed = self._admin.list_topics(timeout=self._timeout_s).topics
            ours = {name: topic for name, topic in listed.items() if name.startswith(prefix)}
            configs = self._configs(list(ours))
            everything = AclBindingFilter(
                ResourceType.ANY,
                None,
                ResourcePatternType.ANY,
                None,
                None,
                AclOperation.ANY,
                AclPermissionType.ANY,
            )
            bindings = self._admin.describe_acls(
                everything, request_timeout=self._timeout_s
            ).result()
        topics = {
            name: FoundTopic(
                partitions=len(topic.partitions),
                replication=min(len(p.replicas) for p in topic.partitions.values()),
                config=configs[name],
            )
            for name, topic in ours.items()
        }
        return Found(topics, frozenset(_acl(binding) for binding in bindings))

    def apply(self, plan: Plan) -> None:
        """Carry out ``plan``. Rules go before topics: nothing is ever open that should not be.

        Raises:
            Fault: a step failed. What was done stays done; plan and apply again.
        """
        with admin_faults():
            if plan.forbid:
                filters = [_filter(acl) for acl in plan.forbid]
                _wait(self._admin.delete_acls(filters, request_timeout=self._timeout_s))
            if plan.create:
                new = [_new_topic(topic) for topic in plan.create]
                _wait(self._admin.create_topics(new, request_timeout=self._timeout_s))
            if plan.grow:
                more = [NewPartitions(topic.name, topic.partitions) for topic in plan.grow]
                _wait(self._admin.create_partitions(more, request_timeout=self._timeout_s))
            if plan.configure:
                changed = [_config(topic) for topic in plan.configure]
                _wait(
                    self._admin.incremental_alter_configs(changed, request_timeout=self._timeout_s)
                )
            if plan.allow:
                rules = [_binding(acl) for acl in plan.allow]
                _wait(self._admin.create_acls(rules, request_timeout=self._timeout_s))

    def users(self) -> frozenset[str]:
        """Return everybody who has a SCRAM-SHA-512 password.

        Raises:
            Fault: the cluster cannot be reached, or does not let us.
        """
        with admin_faults():
            described = self._admin.describe_user_scram_credentials(
                request_timeout=self._timeout_s
            ).result()
        return frozenset(
            user
            for user, found in described.items()
            if any(
                info.mechanism is ScramMechanism.SCRAM_SHA_512
                for info in found.scram_credential_infos
            )
        )

    def set_passwords(self, passwords: Mapping[str, str]) -> None:
        """Give each user its password, whether it had one or not.

        Raises:
            Fault: the cluster cannot be reached, or does not let us.
        """
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, ITERATIONS)
        changes = [
            UserScramCredentialUpsertion(user, info, password.encode())
            for user, password in passwords.items()
        ]
        with admin_faults():
            _wait(
                self._admin.alter_user_scram_credentials(changes, request_timeout=self._timeout_s)
            )

    def _connect(self) -> None:
        """Reach any node. librdkafka would try a wrong password until the time is up."""
        until = time.monotonic() + self._connect_s
        while True:
            try:
                with admin_faults():
                    self._admin.list_topics(timeout=CONNECT_STEP_S)
            except Transient:
                self._admin.poll(0)
                if "_AUTHENTICATION" in self._errors:
                    raise Permanent(Reason.TRANSPORT_REFUSED, "_AUTHENTICATION") from None
                if time.monotonic() > until:
                    raise
            else:
                return

    def _heard(self, error: KafkaError) -> None:
        self._errors.add(error.name())

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        asked = [ConfigResource(ConfigResource.Type.TOPIC, name) for name in names]
        futures = self._admin.describe_configs(asked, request_timeout=self._timeout_s)
        return {
            resource.name: {key: str(entry.value) for key, entry in future.result().items()}
            for resource, future in futures.items()
        }


def librdkafka(settings: KafkaSettings) -> dict[str, Any]:
    """Return ``settings`` in the words of librdkafka."""
    made: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap,
        "client.id": settings.client_id,
        "ssl.ca.location": str(settings.ca_file),
        "socket.timeout.ms": round(settings.request_s * 1000),
        "log_level": 2,  # what matters comes as an error of a call
    }
    if isinstance(settings.identity, Scram):
        return made | {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": settings.identity.user,
            "sasl.password": settings.identity.password,
        }
    return made | {
        "security.protocol": "SSL",
        "ssl.certificate.location": str(settings.identity.certificate),
        "ssl.key.location": str(settings.identity.key),
    }


@contextlib.contextmanager
def admin_faults() -> Iterator[None]:
    """Turn every error of librdkafka into one of ours, with its name and none of its text.

    Raises:
        Transient: the cluster cannot be reached now.
        Permanent: it does not let us, or does not take what we ask.
    """
    try:
        yield
    except KafkaException as error:
        name = error.args[0].name()
        if name in _TRANSIENT:
            raise Transient(Reason.TRANSPORT_UNAVAILABLE, name, retry_after_s=5) from error
        raise Permanent(Reason.TRANSPORT_REFUSED, name) from error


def _wait(futures: Mapping[Any, "Future[Any]"]) -> None:
    for future in futures.values():
        future.result()


def _new_topic(topic: Topic) -> NewTopic:
    return NewTopic(
        topic.name,
        num_partitions=topic.partitions,
        replication_factor=topic.replication,
        config=dict(topic.config),
    )


def _config(topic: Topic) -> ConfigResource:
    entries = [
        ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        for key, value in topic.config.items()
    ]
    return ConfigResource(ConfigResource.Type.TOPIC, topic.name, incremental_configs=entries)


def _acl(binding: AclBinding) -> Acl:
    return Acl(
        principal=binding.principal.removeprefix("User:"),
        resource=binding.restype.name.lower(),
        name=binding.name,
        operation=_title(binding.operation.name),
        pattern=binding.resource_pattern_type.name.lower(),
        permission=_title(binding.permission_type.name),
    )


def _title(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _enumerated(acl: Acl) -> tuple[Any, ...]:
    return (
        ResourceType[acl.resource.upper()],
        acl.name,
        ResourcePatternType[acl.pattern.upper()],
        f"User:{acl.principal}",
    )


def _binding(acl: Acl) -> AclBinding:
    operation, permission = _operation(acl)
    return AclBinding(*_enumerated(acl), "*", operation, permission)


def _filter(acl: Acl) -> AclBindingFilter:
    operation, permission = _operation(acl)
    # From whichever host: a rule for one host lets that host in.
    return AclBindingFilter(*_enumerated(acl), None, operation, permission)


def _operation(acl: Acl) -> tuple[AclOperation, AclPermissionType]:
    named = {_title(operation.name): operation for operation in AclOperation}
    return named[acl.operation], AclPermissionType[acl.permission.upper()]
