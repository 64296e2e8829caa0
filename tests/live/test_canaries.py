"""No value of a payload leaves by the side door: logs, errors, metrics, headers, ids, store.

Every text and attribute that the schema leaves free is replaced by a canary. The messages
then go every way a message can go, and everything that came out, but for the envelope that
the recipient is meant to have, is searched byte by byte, the database file included.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
from lxml import etree

from broker.cli.init import make
from broker.core.errors import Rejection
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, Practitioner
from broker.core.samples import sample_payload
from broker.core.schema import SchemaSet
from broker.core.signing import SigningKey, build_envelope, load_signing_key, sign_envelope
from broker.edge.ids import new_id
from broker.edge.schemas import load_schemas
from tests.bench.bench_http import Flow
from tests.contract.running import BROKER
from tests.live.harness import BrokerProcess, client_context, running

FLOWS = (
    Flow("hylton-school", "sims", "sunderland-csc", "Referral", "CP"),
    Flow("sunderland-yot", "careworks", "sunderland-csc", "YOTCheckRequest", "YJ"),
    Flow("sunderland-csc", "liquidlogic", "northumbria-police", "InformationRequest", "CP"),
    Flow("gateshead-hr", "itrent", "ne-jobs-portal", "VacancyPublished", "JOBS"),
    Flow("hylton-school", "sims", "regional-index", "ChildIndexUpdate", "INDEX"),
    Flow("hylton-school", "sims", "regional-index", "WhoElseQuery", "INDEX"),
)
CANARY_FREE_MIN = 3  # a message in which fewer places took a canary proves nothing


@dataclass(slots=True)
class Nest:
    """A payload whose free places hold canaries, and the canaries."""

    payload: bytes
    canaries: tuple[bytes, ...]


def nest(schemas: SchemaSet, message_type: str) -> Nest:
    """Return a valid payload with a canary in every place that will take one."""
    root = etree.fromstring(sample_payload(message_type, 3))
    canaries: list[bytes] = []
    for element in root.iter():
        before = element.text
        if before is None or not before.strip() or len(element):
            continue
        canary = "Zq" + "".join(secrets.choice("abcdefghijkmnpqrstuvwxyz") for _ in range(10))
        element.text = canary
        try:
            schemas.validate(message_type, "1.0", root)
        except Rejection:
            element.text = before
        else:
            canaries.append(canary.encode())
    return Nest(etree.tostring(root), tuple(canaries))


@dataclass(slots=True)
class Outside:
    """What anybody but the recipient of the envelope could see."""

    seen: list[bytes] = field(default_factory=list)

    def keep(self, answer: httpx2.Response, *, body: bool = True) -> httpx2.Response:
        self.seen.append(str(answer.headers).encode() + str(answer.url).encode())
        if body:
            self.seen.append(answer.content)
        return answer


def key_of(state: Path, agency: str) -> SigningKey:
    folder = state / "agencies" / agency
    return load_signing_key(
        (folder / "signing.key.pem").read_bytes(), (folder / "signing.cert.pem").read_bytes()
    )


def envelope(flow: Flow, key: SigningKey, payload: bytes, purpose: str = "") -> bytes:
    header = Header(
        message_id=MessageId(new_id()),
        message_type=flow.message_type,
        schema_version="1.0",
        sender=AgencyId(flow.sender),
        system=flow.system,
        recipients=(Address(agency_id=AgencyId(flow.recipient)),),
        purpose=purpose or flow.purpose,
        created_at=datetime.now(UTC),  # noqa: TID251 - a sender stamps its messages
        practitioner=Practitioner("practitioner-1", "CASE_WORKER", "DBS enhanced", "AAL2"),
        reason_for_access="ASSESSMENT",
    )
    return sign_envelope(build_envelope(header, payload), key)


def ways(flow: Flow, key: SigningKey, nested: Nest) -> Iterator[bytes]:
    """Yield the message in every condition that leads to another answer."""
    good = envelope(flow, key, nested.payload)
    yield good
    yield good  # the same again
    yield good.replace(nested.canaries[0], nested.canaries[0] + b"x", 1)  # changed after signing
    yield good[: len(good) // 2]  # cut short
    yield good.replace(b"<fame:Payload>", b"<fame:Payload><!-- " + nested.canaries[0] + b" -->", 1)
    yield envelope(flow, key, nested.payload, purpose="SAR")  # not covered by the agreement
    root = etree.fromstring(nested.payload)
    for element in list(root.iter())[1:]:
        if element.text and element.text.encode() in nested.canaries:
            broken = etree.fromstring(nested.payload)
            place = broken.find(root.getroottree().getelementpath(element))
            assert place is not None
            etree.SubElement(place, "unexpected").text = element.text
            yield envelope(flow, key, etree.tostring(broken))
            place.set("attribute", element.text)
            yield envelope(flow, key, etree.tostring(broken))


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    state = tmp_path_factory.mktemp("canaries") / "broker"
    make(state, sandbox=True, port=0, at=datetime.now(UTC))  # noqa: TID251 - a new sandbox
    with running(state) as process:
        yield process


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.message_type)
def test_no_value_of_a_payload_leaves_by_the_side_door(flow: Flow, broker: BrokerProcess) -> None:
    nested = nest(load_schemas(Path(__file__).parents[2] / "schemas"), flow.message_type)
    assert len(nested.canaries) >= CANARY_FREE_MIN
    outside = Outside()
    base = f"https://localhost:{broker.port}"
    statuses: set[int] = set()
    with httpx2.Client(verify=client_context(broker.state, flow.sender), base_url=base) as sender:
        key = key_of(broker.state, flow.sender)
        for number, message in enumerate(ways(flow, key, nested)):
            accept = ("application/json", "application/xml")[number % 2]
            answer = outside.keep(
                sender.post(
                    "/messages",
                    content=message,
                    headers={"content-type": "application/xml", "accept": accept},
                )
            )
            statuses.add(answer.status_code)
            if "location" in answer.headers:
                outside.keep(sender.get(answer.headers["location"]))
                outside.keep(sender.get(answer.headers["location"] + "/receipt"))
    with httpx2.Client(verify=client_context(broker.state, BROKER), base_url=base) as operator:
        for path in ("/metrics", "/readyz?verbose"):
            assert outside.keep(operator.get(path)).status_code == 200
    _collect(broker, flow, base, outside)

    files = [path for path in broker.state.rglob("*") if path.is_file()]
    outside.seen += [path.read_bytes() for path in files]
    assert {202, 200, 400, 403, 422} <= statuses
    leaks = {c for c in nested.canaries for seen in outside.seen if c in seen}
    assert not leaks


def _collect(broker: BrokerProcess, flow: Flow, base: str, outside: Outside) -> None:
    """Read and acknowledge what came, keeping all but the envelope itself."""
    context = client_context(broker.state, flow.recipient)
    with httpx2.Client(verify=context, base_url=base) as recipient:
        listed = outside.keep(recipient.get(f"/mailbox/{flow.recipient}")).json()
        assert listed["deliveries"]
        for item in listed["deliveries"]:
            where = f"/mailbox/{flow.recipient}/{item['delivery_id']}"
            body = outside.keep(recipient.get(where), body=False)
            assert body.status_code == 200
            said = recipient.post(f"{where}/acknowledgements", json={"level": "L3"})
            outside.keep(said)
