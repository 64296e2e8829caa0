"""A real HAProxy with the shipped configuration, before two real nodes, all over mutual TLS."""

import base64
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from broker.core.identity import AgencyId
from tests.bench.bench_http import FLOWS, key_of, messages
from tests.contract.pki import Authority, Leaf
from tests.contract.running import BROKER, sandbox
from tests.live.harness import BrokerProcess, client_context
from tests.live.services.process import Child, free_ports
from tests.live.tools import require

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
SENDER = AgencyId("gateshead-hr")
OTHER = AgencyId("northumbria-police")
READY_S = 20.0
XML = {"content-type": "application/xml"}


@dataclass(frozen=True)
class Front:
    """The proxy and what stands behind it."""

    port: int
    nodes: tuple[BrokerProcess, ...]
    state: Path

    def client(self, agency: str | None, port: int | None = None) -> httpx2.Client:
        """A client that shows the certificate of ``agency`` (None: none)."""
        context = (
            ssl.create_default_context(cafile=str(self.state / "ca" / "ca.cert.pem"))
            if agency is None
            else client_context(self.state, agency)
        )
        base = f"https://localhost:{port or self.port}"
        return httpx2.Client(verify=context, base_url=base, headers=XML, timeout=20)

    def certificate(self, agency: str) -> bytes:
        """The certificate of ``agency`` as RFC 9440 writes it, which is no secret."""
        pem = (self.state / "agencies" / agency / "tls.cert.pem").read_text()
        return b":" + base64.b64encode(ssl.PEM_cert_to_DER_cert(pem)) + b":"

    def envelopes(self, count: int) -> list[bytes]:
        flow = FLOWS[0]
        assert flow.sender == SENDER
        return messages(flow, key_of(self.state, flow), count, 5000)


def combined(leaf: Leaf, path: Path) -> Path:
    path.write_bytes(leaf.certificate.read_bytes() + leaf.key.read_bytes())
    return path


def environment(folder: Path, state: Path, proxy: Path, port: int, nodes: list[int]) -> list[str]:
    """What the configuration leaves to the environment, as arguments of env(1)."""
    agency = state / "keys"
    server = folder / "server.pem"
    server.write_bytes(
        (agency / "tls.cert.pem").read_bytes() + (agency / "tls.key.pem").read_bytes()
    )
    given = {
        "FAME_LISTEN": f"127.0.0.1:{port}",
        "FAME_SERVER_PEM": server,
        "FAME_PEERS_CA": state / "ca" / "peers.pem",
        "FAME_PROXY_PEM": proxy,
        "FAME_NODES_CA": state / "ca" / "peers.pem",
        "FAME_NODE_NAME": "localhost",
        "FAME_NODE_1": f"127.0.0.1:{nodes[0]}",
        "FAME_NODE_2": f"127.0.0.1:{nodes[1]}",
        "FAME_STATS": f"127.0.0.1:{free_ports(1)[0]}",
    }
    return [f"{name}={value}" for name, value in given.items()]


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with standing(tmp_path_factory.mktemp("haproxy")) as made:
        yield made


@contextmanager
def standing(folder: Path) -> Iterator[Front]:
    """Start two nodes and the proxy before them; end them all."""
    haproxy = require("haproxy")
    authority = Authority(folder, "proxies")
    leaf = authority.issue("proxy")
    proxy = combined(leaf, folder / "proxy.pem")
    nodes = []
    for name in ("one", "two"):
        state = Path(shutil.copytree(sandbox(), folder / name))
        peers = (state / "ca" / "ca.cert.pem").read_bytes()
        # Nodes take the proxy's authority for the connection; only the register makes a peer.
        (state / "ca" / "peers.pem").write_bytes(peers)
        (state / "ca" / "ca.cert.pem").write_bytes(peers + authority.certificate.read_bytes())
        settings = state / "fame.toml"
        proxies = f'proxies = ["127.0.0.1/32"]\nproxy_fingerprints = ["{leaf.fingerprint}"]'
        settings.write_text(settings.read_text().replace("[http]", f"[http]\n{proxies}", 1))
        nodes.append(BrokerProcess.start(state))
    (port,) = free_ports(1)
    given = environment(folder, nodes[0].state, proxy, port, [node.port for node in nodes])
    child: Child | None = None
    try:
        for node in nodes:
            assert node.wait_ready()
        command = [require("env"), *given, haproxy, "-db", "-f", str(CONFIGURATION)]
        child = Child.start(command, folder / "haproxy.log")
        made = Front(port, tuple(nodes), nodes[0].state)
        wait_until_served(made)
        yield made
    finally:
        if child is not None:
            child.kill()
        for node in nodes:
            node.kill()


def wait_until_served(front: Front) -> None:
    transport = httpx2.HTTPTransport(verify=client_context(front.state, SENDER), retries=10)
    with httpx2.Client(transport=transport, timeout=READY_S) as client:
        answer = client.get(f"https://localhost:{front.port}/readyz")
    assert answer.status_code == 200


def test_haproxy_finds_nothing_wrong_with_its_configuration(tmp_path: Path) -> None:
    haproxy = require("haproxy")
    proxy = combined(Authority(tmp_path).issue("proxy"), tmp_path / "proxy.pem")
    state = Path(shutil.copytree(sandbox(), tmp_path / "state"))
    shutil.copy(state / "ca" / "ca.cert.pem", state / "ca" / "peers.pem")
    given = environment(tmp_path, state, proxy, 8443, [1, 2])

    done = subprocess.run(
        [require("env"), *given, haproxy, "-c", "-f", str(CONFIGURATION)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr


def test_a_peer_is_who_its_certificate_says_and_both_nodes_work(front: Front) -> None:
    served = [0, 0]
    with front.client(SENDER) as client:
        for body in front.envelopes(8):
            answer = client.post("/messages", content=body)
            assert answer.status_code == 202
            for number, node in enumerate(front.nodes):
                with front.client(SENDER, node.port) as direct:
                    served[number] += direct.get(answer.headers["location"]).status_code == 200

    assert sum(served) == 8
    assert min(served) >= 1


@pytest.mark.parametrize("name", ["Client-Cert", "client-cert", "CLIENT-CERT", "Client_Cert"])
def test_a_forged_certificate_header_makes_nobody_a_peer(front: Front, name: str) -> None:
    forged = {name: front.certificate(SENDER).decode()}
    (body,) = front.envelopes(1)

    with front.client(None) as stranger, front.client(OTHER) as other:
        unknown = stranger.post("/messages", content=body, headers=forged)
        police = other.post("/messages", content=body, headers=forged)

    assert (unknown.status_code, unknown.json()["code"]) == (401, "sender.unauthenticated")
    assert (police.status_code, police.json()["code"]) == (403, "sender.peer_not_sender")


def test_a_node_believes_the_header_from_the_proxy_alone(front: Front) -> None:
    """Both come from the proxy's address; neither shows the proxy's certificate."""
    forged = {"client-cert": front.certificate(SENDER).decode()}
    (body,) = front.envelopes(1)
    port = front.nodes[0].port

    with front.client(None, port) as stranger, front.client(OTHER, port) as other:
        unknown = stranger.post("/messages", content=body, headers=forged)
        police = other.post("/messages", content=body, headers=forged)

    assert unknown.status_code == 401
    assert (police.status_code, police.json()["code"]) == (403, "sender.peer_not_sender")


def test_the_proxy_itself_is_no_peer(front: Front) -> None:
    with front.client(None) as nobody:
        answer = nobody.get("/mailbox")

    assert answer.status_code in {401, 404}


def test_a_certificate_of_a_foreign_authority_ends_the_handshake(
    front: Front, tmp_path: Path
) -> None:
    leaf = Authority(tmp_path, "strangers").issue("stranger")
    context = ssl.create_default_context(cafile=str(front.state / "ca" / "peers.pem"))
    context.load_cert_chain(leaf.certificate, leaf.key)

    with (
        httpx2.Client(verify=context) as client,
        pytest.raises(httpx2.TransportError),
    ):
        client.get(f"https://localhost:{front.port}/readyz")


def test_what_is_for_operators_is_not_served_to_peers(front: Front) -> None:
    with front.client(SENDER) as client:
        assert client.get("/metrics").status_code == 404
        assert client.get("/metrics/x").status_code == 404
    with front.client(SENDER, front.nodes[0].port) as direct:
        assert direct.get("/metrics").status_code == 403
    with front.client(BROKER, front.nodes[0].port) as operator:
        assert operator.get("/metrics").status_code == 200


def test_a_node_that_dies_is_not_noticed_by_senders(tmp_path: Path) -> None:
    with standing(tmp_path) as front, front.client(SENDER) as client:
        bodies = iter(front.envelopes(6))
        client.post("/messages", content=next(bodies))
        front.nodes[1].kill()

        statuses = [client.post("/messages", content=body).status_code for body in bodies]

    # The kept connection to the dead node may fail one request: its sender sends it again.
    assert statuses.count(202) >= 4
    assert statuses[-3:] == [202, 202, 202]
