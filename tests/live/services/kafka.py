"""A real Apache Kafka of three nodes (KRaft), as locked as a real one should be.

The jars come from Maven into a cache folder and are checked against pinned SHA-256 sums.
Clients come by SCRAM over TLS, or by mutual TLS; nodes know each other by mutual TLS only.
"""

import contextlib
import fcntl
import hashlib
import re
import secrets
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.contract.pki import Authority, Leaf
from tests.live.services.presence import cache_folder, environment, missing, need
from tests.live.services.process import Child, free_ports

HERE = Path(__file__).parent
READY = "Kafka Server started"
START_S = 60.0
ADMIN = "admin"
NODE = "node"  # the certificate holder's name of every node
NODES = (1, 2, 3)
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
# A small heap, and a compiler that does not try hard: these processes live for a minute.
JVM = ("-Xmx192m", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach a cluster as its administrator."""

    bootstrap: str
    ca_file: Path
    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Ports:
    """The listeners of one node, on loopback."""

    scram: int
    mutual: int
    internal: int
    controller: int
    roundabout: int  # as scram, for clients that come by way of the port below
    way: int  # nobody listens here but a test's `LossyWay`


@dataclass(slots=True)
class KafkaCluster:
    """A cluster. One that was named by the environment has no ``nodes`` of ours to break."""

    access: Access
    mutual_bootstrap: str = ""
    way_bootstrap: str = ""
    ways: dict[int, int] = field(default_factory=dict)  # to the port that each leads to
    authority: Authority | None = None
    nodes: dict[int, Child] = field(default_factory=dict)
    commands: dict[int, list[str]] = field(default_factory=dict)
    logged: dict[int, int] = field(default_factory=dict)  # bytes, before the last start
    _paused: set[int] = field(default_factory=set)

    def breakable(self) -> None:
        """Skip the test when the cluster is somebody else's."""
        if not self.nodes:
            pytest.skip("KAFKA_BOOTSTRAP names a cluster that is not ours to break")

    def certificate(self, name: str) -> Leaf:
        """Return a client certificate in the name of ``name``."""
        self.breakable()
        assert self.authority is not None
        return self.authority.issue(name)

    def kill(self, node: int) -> None:
        """End a node as a power cut would (the page cache survives)."""
        self.nodes[node].kill()

    def pause(self, node: int) -> None:
        """Stop a node where it is; its connections stay open and say nothing."""
        self.nodes[node].signal(signal.SIGSTOP)
        self._paused.add(node)

    def resume(self, node: int) -> None:
        """Let a paused node go on."""
        self.nodes[node].signal(signal.SIGCONT)
        self._paused.discard(node)

    def begin(self, *nodes: int) -> None:
        """Start nodes that do not run, and do not wait for them."""
        for node in nodes:
            log = self.nodes[node].log
            self.logged[node] = log.stat().st_size
            self.nodes[node] = Child.start(self.commands[node], log)

    def wait_started(self, *nodes: int) -> None:
        """Wait until nodes that were begun serve."""
        for node in nodes:
            self.nodes[node].wait_logged(READY, self.logged[node], START_S)

    def restart(self, node: int) -> None:
        """End a node, start it, and wait until it serves."""
        self.kill(node)
        self.begin(node)
        self.wait_started(node)

    def heal(self) -> None:
        """Have every node running again, whatever a test did."""
        for node in tuple(self._paused):
            self.resume(node)
        dead = [node for node, child in self.nodes.items() if not child.running]
        self.begin(*dead)
        self.wait_started(*dead)

    def stop(self) -> None:
        """End every node."""
        for child in self.nodes.values():
            child.kill()


def external_cluster() -> KafkaCluster | None:
    """Return the cluster that ``KAFKA_BOOTSTRAP`` names, if it names one.

    ``KAFKA_CA_FILE``, ``KAFKA_ADMIN_USER`` and ``KAFKA_ADMIN_PASSWORD_FILE`` go with it.
    """
    bootstrap = environment("KAFKA_BOOTSTRAP")
    if not bootstrap:
        return None
    password = Path(environment("KAFKA_ADMIN_PASSWORD_FILE")).read_text(encoding="utf-8").strip()
    ca_file = Path(environment("KAFKA_CA_FILE"))
    return KafkaCluster(Access(bootstrap, ca_file, environment("KAFKA_ADMIN_USER"), password))


def start_cluster(directory: Path) -> KafkaCluster:
    """Format and start three nodes below ``directory``, and wait until all serve."""
    java = need("java", "openjdk-17-jre-headless")
    classpath = f"{_jars()}/*"
    authority = Authority(directory, "kafka CA")
    leaf = authority.issue(NODE)
    keystore = directory / "node.pem"
    keystore.write_bytes(leaf.key.read_bytes() + leaf.certificate.read_bytes())
    taken = free_ports(6 * len(NODES))
    ports = {node: Ports(*taken[6 * (node - 1) :][:6]) for node in NODES}
    password = secrets.token_urlsafe(16)
    cluster = KafkaCluster(
        Access(
            ",".join(f"127.0.0.1:{ports[node].scram}" for node in NODES),
            authority.certificate,
            ADMIN,
            password,
        ),
        ",".join(f"127.0.0.1:{ports[node].mutual}" for node in NODES),
        ",".join(f"127.0.0.1:{ports[node].way}" for node in NODES),
        {ports[node].way: ports[node].roundabout for node in NODES},
        authority,
    )
    for node in NODES:
        properties = directory / f"n{node}.properties"
        properties.write_text(_properties(node, ports, directory, authority.certificate))
        log4j = f"-Dlog4j2.configurationFile={HERE / 'kafka.log4j2.properties'}"
        jvm = [java, *JVM, log4j, "-cp", classpath]
        cluster.commands[node] = [*jvm, "kafka.Kafka", str(properties)]
    try:
        _format(cluster, directory, password)
        for node in NODES:
            log = directory / f"n{node}.log"
            cluster.nodes[node] = Child.start(cluster.commands[node], log)
        for child in cluster.nodes.values():
            child.wait_logged(READY, 0, START_S)
    except BaseException:
        cluster.stop()
        raise
    return cluster


def _format(cluster: KafkaCluster, directory: Path, password: str) -> None:
    """Format the first node's folder, and the others like it but for their own ids: 1 s each."""
    *jvm, _main, properties = cluster.commands[1]
    scram = f"SCRAM-SHA-512=[name={ADMIN},password={password}]"
    tool = ["kafka.tools.StorageTool", "format", "-t", _uuid(), "-c", properties]
    subprocess.run([*jvm, *tool, "--add-scram", scram], check=True, capture_output=True)
    for node in NODES[1:]:
        shutil.copytree(directory / "data1", directory / f"data{node}")
        about = directory / f"data{node}" / "meta.properties"
        text = re.sub(r"node\.id=1\b", f"node.id={node}", about.read_text(encoding="utf-8"))
        text = re.sub(r"directory\.id=.*", f"directory.id={_uuid()}", text)
        about.write_text(text, encoding="utf-8")


def _uuid() -> str:
    return secrets.token_urlsafe(16)[:22]


def _jars() -> Path:
    """Return the folder of the jars, fetched once and checked each time."""
    sums = HERE / "kafka.jars.sha256"
    pinned = hashlib.sha256(sums.read_bytes()).hexdigest()[:16]
    folder = cache_folder("kafka")
    jars = folder / pinned
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test processes may start at once
        if not _complete(jars, sums):
            _fetch(jars)
    if not _complete(jars, sums):
        pytest.fail(f"the jars in {jars} are not the pinned ones")
    return jars


def _fetch(jars: Path) -> None:
    maven = need("mvn", "maven")
    goal = "dependency:copy-dependencies"
    options = ["-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    pom = str(HERE / "kafka.pom.xml")
    done = subprocess.run([maven, "-q", "-B", "-f", pom, goal, *options], check=False)
    if done.returncode:
        missing("Maven could not fetch the jars of Kafka")


def _complete(jars: Path, sums: Path) -> bool:
    pinned = {}
    for line in sums.read_text(encoding="utf-8").splitlines():
        digest, name = line.split()
        pinned[name] = digest
    there = {path.name: path for path in jars.glob("*")}
    return there.keys() == pinned.keys() and all(
        hashlib.sha256(path.read_bytes()).hexdigest() == pinned[name]
        for name, path in there.items()
    )


def _properties(node: int, ports: dict[int, Ports], directory: Path, ca_file: Path) -> str:
    mine = ports[node]
    voters = ",".join(f"{n}@127.0.0.1:{ports[n].controller}" for n in NODES)
    clients = f"SCRAM://127.0.0.1:{mine.scram},MUTUAL://127.0.0.1:{mine.mutual}"
    served = f"{clients},INTERNAL://127.0.0.1:{mine.internal}"
    roundabout = "ROUNDABOUT://127.0.0.1"
    settings = {
        "process.roles": "broker,controller",
        "node.id": node,
        "controller.quorum.voters": voters,
        "listeners": (
            f"{served},{roundabout}:{mine.roundabout},CONTROLLER://127.0.0.1:{mine.controller}"
        ),
        "advertised.listeners": f"{served},{roundabout}:{mine.way}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "INTERNAL",
        "listener.security.protocol.map": (
            "SCRAM:SASL_SSL,ROUNDABOUT:SASL_SSL,MUTUAL:SSL,INTERNAL:SSL,CONTROLLER:SSL"
        ),
        "log.dirs": directory / f"data{node}",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.scram.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
        "listener.name.roundabout.scram-sha-512.sasl.jaas.config": SCRAM_LOGIN,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": directory / "node.pem",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": ca_file,
        "ssl.principal.mapping.rules": "RULE:^CN=([a-z0-9.-]+).*$/$1/,DEFAULT",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.internal.ssl.client.auth": "required",
        "listener.name.controller.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": f"User:{ADMIN};User:{NODE}",
        "allow.everyone.if.no.acl.found": "false",
        "auto.create.topics.enable": "false",
        "default.replication.factor": 3,
        "min.insync.replicas": 2,
        "unclean.leader.election.enable": "false",
        "offsets.topic.replication.factor": 3,
        "offsets.topic.num.partitions": 3,
        "transaction.state.log.replication.factor": 3,
        "transaction.state.log.min.isr": 2,
        "transaction.state.log.num.partitions": 3,
        # Quick, so that a test sees a dead node or a silent consumer noticed.
        "group.initial.rebalance.delay.ms": 0,
        "group.min.session.timeout.ms": 1000,
        "broker.session.timeout.ms": 3000,
        "broker.heartbeat.interval.ms": 500,
        "replica.lag.time.max.ms": 4000,
        "num.network.threads": 2,
        "num.io.threads": 2,
        # The default of 128 MiB does not fit this heap: the node would start and then die.
        "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
    }
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def wait_until_well(cluster: KafkaCluster, timeout_s: float = START_S) -> None:
    """Wait until all nodes are in the cluster, and back in every set of in-sync replicas."""
    admin = AdminClient(librdkafka(cluster.access))
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with contextlib.suppress(KafkaException):
            found = admin.list_topics(timeout=5)
            partitions = [p for topic in found.topics.values() for p in topic.partitions.values()]
            well = all(len(p.isrs) == len(p.replicas) and p.leader >= 0 for p in partitions)
            # Somebody leads the controllers only when such a question gets an answer.
            if well and len(found.brokers) >= len(cluster.nodes) and _controlled(admin):
                return
        time.sleep(0.1)
    raise TimeoutError(f"some replicas are not in sync after {timeout_s} s")


def _controlled(admin: AdminClient) -> bool:
    described = admin.describe_cluster(request_timeout=5).result()
    return described.controller is not None


def librdkafka(access: Access) -> dict[str, str | int | float | bool]:
    """Return ``access`` in the words of librdkafka, for kcat and confluent-kafka."""
    return {
        "bootstrap.servers": access.bootstrap,
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": access.user,
        "sasl.password": access.password,
        "ssl.ca.location": str(access.ca_file),
        "log_level": "2",  # lost connections are what these tests are about
    }
