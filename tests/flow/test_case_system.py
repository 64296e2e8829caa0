"""The sample case system: it believes nobody without proof, answers once, and in order."""

import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from lxml import etree

from adapters import webhook
from adapters.case_system.__main__ import application, fill
from adapters.case_system.records import Child, Outgoing, Records
from adapters.case_system.settings import Settings
from adapters.case_system.system import CaseSystem
from adapters.contract import Delivery
from adapters.webhook import RequestSigner, Webhook
from broker.cli import init
from broker.core.decision import decide
from broker.core.envelope import parse, read_header
from broker.core.errors import Rejection
from broker.core.examine import examine
from broker.core.identity import AgencyId, MessageId
from broker.core.limits import LIMITS
from broker.core.message import ValidMessage
from broker.core.minimise import minimise
from broker.core.outcome import Permitted
from broker.core.samples import TODAY, sample_payload
from broker.core.samples.people import person
from broker.core.signature import ProfileVerifier
from broker.core.signing import sign_envelope
from broker.edge.clock import SystemClock
from broker.edge.ids import new_id
from tests.contract.pki import Authority, Leaf
from tests.contract.sink import Asked, Sink, answer, sink
from tests.flow.delivery_world import (
    BROKER,
    CSC,
    HR,
    OTHER_CSC,
    POLICE,
    PORTAL,
    SALT,
    SCHOOL,
    YOT,
    envelope,
    register,
    schemas,
    signing_key,
)

# The case system is a program of its own and reads the clock itself, so its tests do, too.
now = SystemClock().now
WITH_NUMBER = 0  # of the sample that gives the child's NHS number
ON_FILE = {"STATUS": "Status", "WORKER": "Worker", "PLAN_DATES": "Plan"}
URL = "https://case-system.example/deliveries"


class Desk:
    """A case system of social care, and the broker's side of its door."""

    def __init__(self, folder: Path, broker_url: str = "https://broker.invalid") -> None:
        authority = Authority(folder)
        self._leaf: Leaf = authority.issue("tls")
        for path, name in ((self._leaf.certificate, "cert"), (self._leaf.key, "key")):
            path.rename(folder / f"tls.{name}.pem")
        self.settings = Settings(
            agency=CSC,
            name="Sunderland children's social care",
            system="liquidlogic",
            broker=BROKER,
            broker_url=broker_url,
            folder=folder,
            authority=authority.certificate,
            keys={
                agency: register().agencies[agency].keys
                for agency in (BROKER, YOT, SCHOOL, HR, POLICE)
            },
            signing=signing_key(CSC),
        )
        self.records = Records.open(folder / "case_system.db")
        fill(self.records)
        self.system = CaseSystem(self.settings, self.records)
        transport = httpx2.ASGITransport(application(self.system))
        self._client = httpx2.AsyncClient(transport=transport)

    async def close(self) -> None:
        await self.system.aclose()
        await self._client.aclose()
        self.records.close()

    def request(
        self, body: bytes, *, signer: AgencyId = BROKER, **values: object
    ) -> httpx2.Request:
        """Return the request by which the broker, or ``signer``, pushes ``body``."""
        delivery = Delivery(
            delivery_id=new_id(),
            recipient=CSC,
            sender=YOT,
            message_id=MessageId(new_id()),
            message_type="YOTCheckRequest",
            body=body,
            attempt=1,
            reduced=False,
            traceparent="00-" + "a" * 32 + "-" + "b" * 16 + "-01",
        )
        key = signing_key(signer)
        sign = RequestSigner(key.fingerprint, key.private_key, now)
        adapter = Webhook(URL, ssl.create_default_context(), sign)
        return adapter._request(replace(delivery, **values))  # type: ignore[arg-type]

    async def push(self, request: httpx2.Request) -> int:
        return (await self._client.send(request)).status_code

    @property
    def answers(self) -> list[ValidMessage]:
        """Return the messages that wait to be sent, as the broker finds them."""
        return [
            examine(
                one.body,
                peer_agencies=frozenset({CSC}),
                agencies=register().agencies,
                schemas=schemas(),
                verifier=ProfileVerifier(),
                limits=LIMITS,
                now=now(),
            )
            for one in self.records.waiting()
            if one.path == "/messages"
        ]


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    made = Desk(tmp_path)
    yield made
    await made.close()


def asked(message_type: str = "YOTCheckRequest", sender: AgencyId = YOT, **more: object) -> bytes:
    purpose = "CP" if message_type in ("Referral", "InformationRequest") else "YJ"
    return envelope(
        message_type,
        sender,
        CSC,
        now=now(),
        **{"purpose": purpose, "person": 3, **more},  # type: ignore[arg-type]
    )


async def test_a_check_is_answered_by_a_message_that_the_broker_lets_pass(desk: Desk) -> None:
    request = asked()

    assert await desk.push(desk.request(request)) == 204

    (reply,) = desk.answers
    question = read_header(parse(request))
    assert reply.header.message_type == "YOTCheckResponse"
    assert reply.header.correlation_id == question.message_id
    assert reply.header.recipients[0].agency_id == YOT
    decision = decide(reply, YOT, register(), (), now(), schemas=schemas())
    assert isinstance(decision, Permitted)


def values(message: ValidMessage, path: str) -> list[str]:
    found = message.payload.iterfind("/".join(f"{{*}}{name}" for name in path.split("/")))
    return [element.text or "" for element in found]


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_on_file_is_told_if_asked_and_the_rest_is_refused_item_by_item(
    desk: Desk, seed: int
) -> None:
    request = asked(seed=seed)
    await desk.push(desk.request(request))

    (reply,) = desk.answers
    items = values_of_items(request)
    assert values(reply, "Known") == ["true"]
    assert values(reply, "Refusal/Item") == [
        item for item in items if item not in ON_FILE and item != "KNOWN"
    ]
    for item, name in ON_FILE.items():
        assert bool(reply.payload.findall(f"{{*}}{name}")) is (item in items)


def values_of_items(request: bytes) -> list[str]:
    return [item.text or "" for item in parse(request).iterfind(".//{*}ItemsRequested/{*}Item")]


def items_of(seed: int) -> list[str]:
    return values_of_items(sample_payload("YOTCheckRequest", seed, person_seed=3))


async def test_a_child_that_is_not_on_file_is_said_to_be_unknown(desk: Desk) -> None:
    await desk.push(desk.request(asked(person=77)))

    (reply,) = desk.answers
    assert values(reply, "Known") == ["false"]
    assert set(values(reply, "Refusal/Reason")) <= {"NOT_HELD"}


async def test_of_a_child_that_nothing_is_told_about_not_even_that_it_is_known_is_told(
    desk: Desk,
) -> None:
    number = person(3, TODAY).nhs_number
    desk.records.put_child(
        Child(number, "CIN", "2026-01-01", "A", "B", "0191 498 0123", "DETRIMENTAL")
    )
    everything = next(seed for seed in range(99) if ON_FILE.keys() <= set(items_of(seed)))
    await desk.push(desk.request(asked(seed=everything)))
    await desk.push(desk.request(asked("InformationRequest", POLICE, seed=WITH_NUMBER)))

    check, information = desk.answers
    for name in ("Known", *ON_FILE.values()):
        assert check.payload.findall(f"{{*}}{name}") == []
    assert set(values(check, "Refusal/Reason")) == {"DETRIMENTAL"}
    assert information.header.message_type == "InformationRefusal"
    assert values(information, "Reason") == ["DETRIMENTAL"]


async def test_an_information_request_and_a_referral_are_answered_in_their_own_type(
    desk: Desk,
) -> None:
    await desk.push(desk.request(asked("InformationRequest", POLICE)))
    await desk.push(desk.request(asked("Referral", SCHOOL)))

    assert [one.header.message_type for one in desk.answers] == [
        "InformationResponse",
        "ReferralAcknowledgement",
    ]


async def test_a_vacancy_is_filed_and_asks_for_no_answer(desk: Desk) -> None:
    body = envelope("VacancyPublished", HR, CSC, now=now())

    assert await desk.push(desk.request(body)) == 204

    assert desk.answers == []
    (word,) = desk.records.waiting()
    assert json.loads(word.body) == {"level": "L4", "code": "FILED"}


async def test_the_same_delivery_again_changes_nothing(desk: Desk) -> None:
    body, delivery_id = asked(), new_id()

    first = await desk.push(desk.request(body, delivery_id=delivery_id))
    again = await desk.push(desk.request(body, delivery_id=delivery_id, attempt=2))
    other = await desk.push(desk.request(body))

    assert (first, again, other) == (204, 409, 409)
    assert len(desk.answers) == 1


async def test_what_a_restart_finds_is_answered_with_the_same_bytes(desk: Desk) -> None:
    await desk.push(desk.request(asked()))
    before = desk.records.waiting()
    desk.records.close()
    desk.records = Records.open(desk.settings.folder / "case_system.db")

    assert desk.records.waiting() == before


def reduced_by(signer: AgencyId) -> bytes:
    raw = envelope("VacancyPublished", HR, OTHER_CSC, now=now())
    message = examine(
        raw,
        peer_agencies=None,
        agencies=register().agencies,
        schemas=schemas(),
        verifier=ProfileVerifier(),
        limits=LIMITS,
        now=now(),
    )
    decision = decide(message, OTHER_CSC, register(), (), now(), schemas=schemas())
    assert isinstance(decision, Permitted)
    body = minimise(message, decision, schemas(), SALT).body
    assert body is not None
    return sign_envelope(body, signing_key(signer))


async def test_a_reduced_envelope_is_believed_when_the_broker_signed_it(desk: Desk) -> None:
    assert await desk.push(desk.request(reduced_by(BROKER))) == 204


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(lambda: reduced_by(HR), id="reduced by the sender itself"),
        pytest.param(
            lambda: envelope("VacancyPublished", PORTAL, CSC, now=now()), id="sender not known here"
        ),
        pytest.param(lambda: asked().replace(b"CDA-115", b"CDA-116"), id="changed after signing"),
        pytest.param(lambda: b"<Envelope/>", id="no envelope"),
        pytest.param(lambda: b"not xml", id="not XML"),
        pytest.param(
            lambda: sign_envelope(unsigned(asked()), signing_key(POLICE)), id="another's signature"
        ),
    ],
)
async def test_an_envelope_that_nobody_known_signed_is_turned_away(
    desk: Desk, body: object
) -> None:
    assert await desk.push(desk.request(body())) == 403  # type: ignore[operator]
    assert desk.records.waiting() == []


def unsigned(raw: bytes) -> bytes:
    root = parse(raw)
    root.remove(root[-1])
    return etree.tostring(root)


async def test_a_request_that_is_not_the_brokers_is_turned_away(desk: Desk) -> None:
    body = asked()
    plain = desk.request(body)
    for name in ("signature", "signature-input"):
        del plain.headers[name]
    renamed = desk.request(body)
    renamed.headers["fame-delivery-id"] = new_id()
    elsewhere = desk.request(body)
    elsewhere.url = httpx2.URL("https://case-system.example/deliveries?x=1")

    for request in (
        plain,
        renamed,
        elsewhere,
        desk.request(body, signer=HR),
        desk.request(body, recipient=OTHER_CSC),
    ):
        assert await desk.push(request) in (403, 404)
    assert desk.records.waiting() == []


async def test_a_signature_that_leaves_a_header_out_is_turned_away(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = tuple(name for name in webhook.COVERED if name != "fame-delivery-id")
    monkeypatch.setattr(webhook, "COVERED", few)

    assert await desk.push(desk.request(asked())) == 403


async def test_a_body_without_end_is_cut_off(desk: Desk) -> None:
    assert await desk.push(desk.request(b"x" * (4 * 1024 * 1024 + 1))) == 413


# -- towards the broker --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reached", "left"),
    [(202, True, 0), (200, True, 0), (503, False, 2), (429, False, 2), (403, True, 0)],
)
async def test_what_waits_is_sent_until_the_broker_has_said_something_final(
    tmp_path: Path, status: int, *, reached: bool, left: int
) -> None:
    problem = b'{"code": "policy.no_isp"}'
    async with sink(None, answer(status, body=problem)) as broker:
        desk = Desk(tmp_path, broker.url.removesuffix("/inbox"))
        await desk.push(desk.request(asked()))

        assert await desk.system.send_waiting() is reached
        assert len(desk.records.waiting()) == left
        await desk.close()


async def test_an_answer_sent_twice_is_the_same_message(tmp_path: Path) -> None:
    async with sink(None, answer(503)) as broker:
        desk = Desk(tmp_path, broker.url.removesuffix("/inbox"))
        desk.records.queue(Outgoing("/messages", "application/xml", b"<Envelope/>"))
        await desk.system.send_waiting()
        await desk.system.send_waiting()
        await desk.close()

    first, second = (one.body for one in broker.asked)
    assert first == second


async def test_a_broker_that_is_away_is_waited_for(tmp_path: Path) -> None:
    async with sink(None, answer(202)) as broker:
        pass
    desk = Desk(tmp_path, broker.url.removesuffix("/inbox"))
    desk.system.publish(sample_payload("VacancyPublished"), PORTAL)

    assert await desk.system.send_waiting() is False
    assert len(desk.answers) == 1
    await desk.close()


async def test_polling_takes_each_message_once_and_leaves_what_it_does_not_believe(
    tmp_path: Path,
) -> None:
    good, bad = asked(), asked().replace(b"CDA-115", b"CDA-116")
    bodies = {f"/mailbox/{CSC}/{name}": body for name, body in (("good", good), ("bad", bad))}
    listing = json.dumps({"deliveries": [{"delivery_id": "good"}, {"delivery_id": "bad"}]})

    async def mailbox(asked: Asked, writer: object) -> None:
        await answer(200, body=bodies.get(asked.target, listing.encode()))(asked, writer)  # type: ignore[arg-type]

    async with sink(None, mailbox) as broker:
        desk = Desk(tmp_path, broker.url.removesuffix("/inbox"))
        assert await desk.system.poll() == 1
        assert await desk.system.poll() == 0
        assert len(desk.answers) == 1
        await desk.close()
    assert isinstance(broker, Sink)


async def test_an_invented_vacancy_passes_the_broker(desk: Desk, tmp_path: Path) -> None:
    council = CaseSystem(
        replace(desk.settings, agency=HR, system="itrent", signing=signing_key(HR)), desk.records
    )
    council.publish(sample_payload("VacancyPublished"), PORTAL)

    (waiting,) = desk.records.waiting()
    message = examine(
        waiting.body,
        peer_agencies=frozenset({HR}),
        agencies=register().agencies,
        schemas=schemas(),
        verifier=ProfileVerifier(),
        limits=LIMITS,
        now=now(),
    )
    assert isinstance(decide(message, PORTAL, register(), (), now(), schemas=schemas()), Permitted)
    await council.aclose()


# -- settings --------------------------------------------------------------------------------


def test_a_sandbox_has_everything_that_a_case_system_needs(tmp_path: Path) -> None:
    init.make(tmp_path / "home", sandbox=True, port=8443, at=now())

    settings = Settings.sandbox(tmp_path / "home", CSC)

    assert (settings.agency, settings.system) == (CSC, "liquidlogic")
    assert settings.broker == BROKER
    assert {BROKER, YOT, SCHOOL} <= set(settings.keys)


def test_outside_a_sandbox_a_file_says_the_same(tmp_path: Path) -> None:
    home = tmp_path / "home"
    init.make(home, sandbox=True, port=8443, at=now())
    file = home / "case_system.toml"
    file.write_text(
        f"""
agency = "{CSC}"
name = "Social care"
system = "liquidlogic"
broker = "fame-broker"
broker_url = "https://localhost:8443"
folder = "agencies/{CSC}"
authority = "ca/ca.cert.pem"
poll_s = 2

[certificates]
fame-broker = "keys/receipt.cert.pem"
sunderland-yot = "protocols/certificates/sunderland-yot/signing.cert.pem"
""",
        encoding="utf-8",
    )

    settings = Settings.load(file)

    sandbox = Settings.sandbox(home, CSC)
    assert settings.keys[BROKER][0].fingerprint == sandbox.keys[BROKER][0].fingerprint
    assert settings.signing.fingerprint == sandbox.signing.fingerprint
    assert settings.poll_s == 2


def test_a_settings_file_with_an_id_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "case_system.toml"
    file.write_text('agency = "../etc"\nfolder = "."\n', encoding="utf-8")

    with pytest.raises((ValueError, Rejection)):
        Settings.load(file)
