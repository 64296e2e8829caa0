"""Every other route: who may call it, what it says, and what it keeps to itself."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey
from lxml import etree

from broker.core.errors import Transient
from broker.core.identity import AgencyId
from broker.core.reasons import Reason
from broker.edge import http
from broker.edge.ids import new_id
from broker.edge.routes.system import Probes, anybody, system_routes
from broker.edge.tokens import ASSERTION_TYPE
from tests.contract.pki import Authority, Leaf
from tests.contract.running import (
    BROKER,
    COUNCIL,
    HR,
    OTHER_COUNCIL,
    POLICE,
    PORTAL,
    XML,
    YOT,
    Running,
    check_request,
    copied_sandbox,
    running,
    vacancy,
)
from tests.flow.delivery_world import FrozenClock

NOBODYS = "01990000-0000-7000-8000-000000000000"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


async def sent(broker: Running, *recipients: AgencyId) -> str:
    """Send a check request and return the path of the submission."""
    answer = await broker.post(YOT, check_request(*(recipients or (COUNCIL,))))
    assert answer.status_code == 202
    return str(answer.headers["location"])


async def delivery_of(broker: Running, agency: AgencyId = COUNCIL) -> str:
    """Return the one delivery for ``agency``, wherever it has got to."""
    from broker.edge.tables import delivery

    store = broker.app.submitting.collector.store
    rows = await store.read(
        lambda conn: (
            conn.execute(
                delivery.select()
                .with_only_columns(delivery.c.id)
                .where(delivery.c.recipient == agency)
            )
            .scalars()
            .all()
        )
    )
    assert len(rows) == 1
    return str(rows[0])


def untraced(answer: Any) -> dict[str, Any]:
    told = dict(answer.json())
    del told["trace_id"]
    return told


# -- messages --------------------------------------------------------------------------------


async def test_the_parties_of_a_message_see_how_it_stands_and_nobody_else_does(
    broker: Running,
) -> None:
    path = await sent(broker, COUNCIL, POLICE)

    by = {agency: await broker.get(agency, path) for agency in (YOT, COUNCIL, POLICE)}
    others = await broker.get(OTHER_COUNCIL, path)
    unknown = await broker.get(OTHER_COUNCIL, f"/messages/{NOBODYS}")

    assert [answer.status_code for answer in by.values()] == [200, 200, 200]
    assert POLICE in by[YOT].text
    assert POLICE not in by[COUNCIL].text
    assert others.status_code == unknown.status_code == 404
    assert untraced(others) == untraced(unknown)


async def test_receipts_are_the_senders(broker: Running) -> None:
    path = await sent(broker)

    mine = await broker.get(YOT, f"{path}/receipt")
    as_json = await broker.get(YOT, f"{path}/receipt", accept="application/json")

    assert etree.fromstring(mine.content).tag == "{urn:fame:receipt:1.0}Receipt"
    assert as_json.json()["receipt"]["sender"] == YOT
    assert (await broker.get(COUNCIL, f"{path}/receipt")).status_code == 404
    assert (await broker.get(None, f"{path}/receipt")).status_code == 401


async def test_evidence_of_each_level_is_there_for_both_parties(broker: Running) -> None:
    path = await sent(broker, COUNCIL, POLICE)
    delivery = await delivery_of(broker)
    await broker.get(COUNCIL, f"/mailbox/{COUNCIL}/{delivery}")
    async with broker.client(COUNCIL) as client:
        acknowledged = await client.post(
            f"/mailbox/{COUNCIL}/{delivery}/acknowledgements", json={"level": "L3"}
        )
    assert acknowledged.status_code == 200

    listed = (await broker.get(YOT, f"{path}/evidence")).json()["evidence"]

    assert [(one["recipient"], one["level"]) for one in listed] == [
        (COUNCIL, "L2"),
        (COUNCIL, "L3"),
    ]
    for one in listed:
        for agency in (YOT, COUNCIL):
            document = await broker.get(agency, one["document"])
            assert etree.fromstring(document.content).tag == "{urn:fame:receipt:1.0}Evidence"
        assert (await broker.get(POLICE, one["document"])).status_code == 404
        assert (await broker.get(HR, one["document"])).status_code == 404
    assert (await broker.get(POLICE, f"{path}/evidence")).json() == {"evidence": []}
    assert (await broker.get(HR, f"{path}/evidence")).status_code == 404
    assert (await broker.get(YOT, f"{path}/evidence/{COUNCIL}/L4")).status_code == 404


# -- mailbox ---------------------------------------------------------------------------------


async def test_a_message_is_collected_from_the_mailbox_as_it_was_sent(broker: Running) -> None:
    body = vacancy()
    await broker.post(HR, body)
    delivery = await delivery_of(broker, PORTAL)

    got = await broker.get(PORTAL, f"/mailbox/{PORTAL}/{delivery}")

    assert got.status_code == 200
    assert got.headers["content-type"] == "application/xml"
    assert got.headers["cache-control"] == "no-store"
    assert got.content == body


async def test_a_mailbox_is_its_agencys_alone(broker: Running) -> None:
    await sent(broker)
    delivery = await delivery_of(broker)

    for path in (f"/mailbox/{COUNCIL}", f"/mailbox/{COUNCIL}/{delivery}"):
        theirs = await broker.get(YOT, path)
        nobodys = await broker.get(YOT, path.replace(COUNCIL, "no-such-agency"))
        assert theirs.status_code == nobodys.status_code == 403
        assert untraced(theirs) == untraced(nobodys)
    own = await broker.get(YOT, f"/mailbox/{YOT}/{delivery}")
    assert (own.status_code, own.json()["code"]) == (404, "sender.not_found")


@pytest.mark.parametrize("query", ["?limit=0", "?limit=201", "?limit=x", "?after=Jane%20Canary"])
async def test_a_page_that_cannot_be_is_rejected_without_repeating_it(
    broker: Running, query: str
) -> None:
    answer = await broker.get(COUNCIL, f"/mailbox/{COUNCIL}{query}")

    assert (answer.status_code, answer.json()["code"]) == (400, "sender.request_invalid")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "Canary" not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"level":"L1"}',
        b'{"level":"L2"}',
        b'{"level":"L5"}',
        b'{"level":"L3","note":"Jane Canary"}',
        b'{"level":"L4","code":"Jane Canary"}',
        b'{"level":["L3"]}',
    ],
)
async def test_an_acknowledgement_that_is_none_is_rejected_without_repeating_it(
    broker: Running, body: bytes
) -> None:
    await sent(broker)
    path = f"/mailbox/{COUNCIL}/{await delivery_of(broker)}/acknowledgements"

    async with broker.client(COUNCIL) as client:
        answer = await client.post(path, content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (400, "sender.request_invalid")
    assert "Canary" not in answer.text
    assert "pointer" in answer.json()


# -- operators -------------------------------------------------------------------------------

OPERATOR = [
    ("GET", "/operator/dead-letters", None),
    ("POST", f"/operator/deliveries/{NOBODYS}/replay", None),
    ("POST", f"/operator/deliveries/{NOBODYS}/discard", {"why": "not-wanted"}),
    ("POST", "/operator/register/reload", None),
    ("GET", "/operator/clocks", None),
    ("GET", "/operator/clocks/performance", None),
    ("GET", f"/operator/clocks/{NOBODYS}", None),
]


async def test_why_a_delivery_is_let_go_is_a_code_and_never_free_text(broker: Running) -> None:
    path = f"/operator/deliveries/{NOBODYS}/discard"
    async with broker.client(BROKER) as operator:
        coded = await operator.post(path, json={"why": "duplicate"})
        told = await operator.post(path, json={"why": "Jane Canary moved away"})

    assert coded.json()["code"] == "sender.not_found"
    assert told.json()["code"] == "sender.request_invalid"
    assert "Canary" not in told.text


@pytest.mark.parametrize(("method", "path", "body"), OPERATOR)
async def test_only_the_brokers_own_peers_are_operators(
    broker: Running, method: str, path: str, body: Any
) -> None:
    answers = {}
    for agency in (BROKER, COUNCIL, None):
        async with broker.client(agency) as client:
            answers[agency] = (await client.request(method, path, json=body)).status_code

    assert answers[COUNCIL] == 403
    assert answers[None] == 401
    assert answers[BROKER] in (200, 404)


async def test_a_reload_puts_the_changed_register_in_force(tmp_path: Path) -> None:
    home = copied_sandbox(tmp_path)
    async with running(tmp_path, home=home) as broker:
        before = (await broker.get(None, "/version")).json()["register"]
        file = home / "protocols" / "agencies" / "hylton-school.toml"
        file.write_text(file.read_text().replace('status = "active"', 'status = "suspended"'))

        async with broker.client(BROKER) as client:
            answer = await client.post("/operator/register/reload")

        after = (await broker.get(None, "/version")).json()["register"]
    assert answer.json() == {"register": after}
    assert after != before


async def test_a_register_that_cannot_be_used_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    home = copied_sandbox(tmp_path)
    async with running(tmp_path, home=home) as broker:
        before = (await broker.get(None, "/version")).json()["register"]
        (home / "protocols" / "agencies" / "hylton-school.toml").write_text("id = 1")

        async with broker.client(BROKER) as client:
            answer = await client.post("/operator/register/reload")

        assert answer.status_code == 503
        assert (await broker.get(None, "/version")).json()["register"] == before
        assert (await broker.post(HR, vacancy())).status_code == 202


# -- tokens ----------------------------------------------------------------------------------


def form(broker: Running, agency: AgencyId, **changed: str) -> dict[str, str]:
    key = ECKey.import_key((broker.home / "agencies" / agency / "client.key.pem").read_bytes())
    at = int(time.time())
    claims = {
        "iss": agency,
        "sub": agency,
        "aud": f"{broker.config.broker.url}/oauth/token",
        "jti": new_id(),
        "exp": at + 60,
    }
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": jwt.encode({"alg": "ES256"}, claims, key),
    } | changed


async def asked(broker: Running, given: dict[str, str], shown: AgencyId | None = None) -> Any:
    async with broker.client(shown) as client:
        return await client.post("/oauth/token", data=given)


async def test_a_token_carries_a_message_in_place_of_a_certificate(broker: Running) -> None:
    issued = await asked(broker, form(broker, HR))

    assert issued.headers["cache-control"] == "no-store"
    told = issued.json()
    assert (told["token_type"], told["scope"]) == ("Bearer", HR)
    answer = await broker.post(None, vacancy(), authorization=f"Bearer {told['access_token']}")
    assert answer.status_code == 202


async def test_a_token_asked_for_with_a_certificate_is_bound_to_it(broker: Running) -> None:
    issued = await asked(broker, form(broker, HR), HR)
    bearer = f"Bearer {issued.json()['access_token']}"

    assert (await broker.post(HR, vacancy(), authorization=bearer)).status_code == 202
    assert (await broker.post(None, vacancy(), authorization=bearer)).status_code == 401
    assert (await broker.post(PORTAL, vacancy(), authorization=bearer)).status_code == 401


async def test_an_assertion_is_good_for_one_token(broker: Running) -> None:
    given = form(broker, HR)

    first, second = await asked(broker, given), await asked(broker, given)

    assert (first.status_code, second.status_code) == (200, 401)
    assert second.json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"client_assertion_type": "x"}, "invalid_client"),
        ({"client_assertion": "x"}, "invalid_client"),
        ({"client_id": "somebody"}, "invalid_client"),
        ({"scope": COUNCIL}, "invalid_scope"),
    ],
)
async def test_a_form_that_is_wrong_in_one_part_gets_no_token(
    broker: Running, changed: dict[str, str], error: str
) -> None:
    answer = await asked(broker, form(broker, HR, **changed))

    assert answer.status_code in (400, 401)
    assert answer.json()["error"] == error


@pytest.mark.parametrize(
    "body",
    [b"", b"a", b"grant_type=client_credentials&grant_type=password", b"\xff=1", b"&a=1" * 9],
)
async def test_a_form_that_cannot_be_read_gets_no_token(broker: Running, body: bytes) -> None:
    async with broker.client(None) as client:
        media_type = {"content-type": "application/x-www-form-urlencoded"}
        answer = await client.post("/oauth/token", content=body, headers=media_type)
        as_json = await client.post("/oauth/token", json=form(broker, HR))

    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
    assert (as_json.status_code, as_json.json()["error"]) == (400, "invalid_request")


# -- the system ------------------------------------------------------------------------------


async def test_probes_and_version_are_for_anybody(broker: Running) -> None:
    assert (await broker.get(None, "/livez")).json() == {"status": "ok"}
    assert (await broker.get(None, "/readyz")).json() == {"status": "ok"}
    assert (await broker.get(None, "/healthz")).status_code == 200
    assert (await broker.get(BROKER, "/readyz?verbose")).json()["checks"] == {
        "database": "ok",
        "policy": "ok",
        "disk": "ok",
        "drafts": "ok",
        "log": "ok",
    }
    told = (await broker.get(None, "/version")).json()
    assert told["sandbox"] is True
    assert told["limits"]["body_bytes_max"] == 2 * 1024 * 1024
    assert len(told["schemas"]) == len(told["register"]) == 64


# What the certificate of something that collects metrics gets.
WATCHED = {"/metrics": 200, "/readyz?verbose": 200, "/operator/dead-letters": 401}


async def as_leaf(broker: Running, leaf: Leaf, path: str) -> httpx2.Response:
    """Ask with a certificate that is registered for nobody."""
    shown = {"extensions": {"tls": {"client_cert_chain": [leaf.certificate.read_text()]}}}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await broker.app({**scope, **shown}, receive, send)

    asgi = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=asgi, base_url="https://localhost") as client:
        return await client.get(path)


@pytest.mark.parametrize("path", ["/metrics", "/readyz?verbose", "/readyz?verbose=0"])
async def test_how_the_broker_is_doing_is_not_for_anybody(broker: Running, path: str) -> None:
    """From numbers that grow a peer could tell who just sent what."""
    answers = [await broker.get(who, path) for who in (None, HR, COUNCIL, BROKER)]

    assert [answer.status_code for answer in answers] == [401, 403, 403, 200]
    for answer in answers[:3]:
        assert "database" not in answer.text
        assert "fame_" not in answer.text.replace("fame_broker", "")


async def test_what_collects_metrics_is_named_and_is_no_operator(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    leaf, other = authority.issue("prometheus"), authority.issue("other")
    async with running(tmp_path, http__metrics_fingerprints=leaf.fingerprint) as broker:
        answers = {path: await as_leaf(broker, leaf, path) for path in WATCHED}
        stranger = await as_leaf(broker, other, "/metrics")

    assert {path: answer.status_code for path, answer in answers.items()} == WATCHED
    assert stranger.status_code == 401


async def test_what_collects_metrics_is_refused_when_its_certificate_has_ended(
    tmp_path: Path,
) -> None:
    leaf = Authority(tmp_path).issue("prometheus")
    late = FrozenClock()
    late.at = datetime(2047, 1, 1, tzinfo=UTC)
    async with running(tmp_path, clock=late, http__metrics_fingerprints=leaf.fingerprint) as broker:
        answer = await as_leaf(broker, leaf, "/metrics")

    assert answer.status_code == 401


async def test_a_full_disk_is_not_ready(tmp_path: Path) -> None:
    async with running(tmp_path, store__free_bytes_min=str(2**60)) as broker:
        answer = await broker.get(BROKER, "/readyz?verbose")

    assert answer.status_code == 503
    assert answer.json()["checks"]["disk"] == "failed"


async def test_metrics_have_labels_from_the_register_only(broker: Running) -> None:
    await broker.post(HR, vacancy())
    await broker.post(HR, b"<Canary/>")
    await broker.get(None, "/Canary")

    text = (await broker.get(BROKER, "/metrics")).text

    assert f'fame_messages_received_total{{agency="{HR}",type="VacancyPublished"}} 1.0' in text
    assert 'fame_messages_rejected_total{code="sender.envelope",stage="sender"} 1.0' in text
    assert 'fame_policy_decisions_total{agreement="ne-vacancies",decision="permitted"} 1.0' in text
    assert "fame_pipeline_stage_duration_seconds_bucket" in text
    assert f'fame_certificate_expiry_timestamp_seconds{{agency="{HR}"}}' in text
    assert "fame_build_info" in text
    assert "Canary" not in text


async def test_metrics_tell_what_waits_and_how_large_the_ledger_is(broker: Running) -> None:
    await broker.post(HR, vacancy())

    text = (await broker.get(BROKER, "/metrics")).text

    assert 'fame_queue_depth_messages{route="ne-jobs-portal"} 1.0' in text
    assert 'fame_oldest_undelivered_seconds{route="ne-jobs-portal"}' in text
    assert "fame_dead_letters{" not in text
    assert "fame_ledger_entries 2.0" in text  # the policy log, and the message


async def test_collecting_metrics_often_does_not_read_the_store_often(broker: Running) -> None:
    before = (await broker.get(BROKER, "/metrics")).text
    await broker.post(HR, vacancy())

    again = (await broker.get(BROKER, "/metrics")).text

    assert "fame_ledger_entries 1.0" in before
    assert "fame_ledger_entries 1.0" in again


async def test_every_reason_is_explained_at_its_own_address(broker: Running) -> None:
    listed = (await broker.get(None, "/reasons")).json()

    assert {one["code"] for one in listed} == {reason.value for reason in Reason}
    one = (await broker.get(None, "/reasons/sender.stale")).json()
    assert one["cure"]
    assert (await broker.get(None, "/reasons/sender.nothing")).status_code == 404


async def test_the_openapi_document_names_every_route(broker: Running) -> None:
    document = (await broker.get(None, "/openapi.json")).json()

    assert document["openapi"].startswith("3.1")
    assert {"application/xml", "text/xml"} == set(
        document["paths"]["/messages"]["post"]["requestBody"]["content"]
    )
    assert {
        "/messages/{submission_id}",
        "/messages/{submission_id}/receipt",
        "/messages/{submission_id}/evidence",
        "/messages/{submission_id}/evidence/{recipient}/{level}",
        "/mailbox/{agency}",
        "/mailbox/{agency}/{delivery_id}",
        "/mailbox/{agency}/{delivery_id}/acknowledgements",
        "/operator/dead-letters",
        "/operator/register/reload",
        "/oauth/token",
        "/version",
    } <= set(document["paths"])


# -- every route, every stranger -------------------------------------------------------------

OPEN = {"/livez", "/readyz", "/version", "/reasons", "/reasons/{code}", "/oauth/token"}
FILLED = {
    "submission_id": NOBODYS,
    "delivery_id": NOBODYS,
    "consent_id": NOBODYS,
    "override_id": NOBODYS,
    "agency": COUNCIL,
    "recipient": COUNCIL,
    "level": "L2",
}


async def test_whoever_is_unknown_gets_no_further_than_the_open_routes(broker: Running) -> None:
    document = (await broker.get(None, "/openapi.json")).json()
    closed = 0

    for path, methods in document["paths"].items():
        for method in methods:
            if path in OPEN:
                continue
            async with broker.client(None) as client:
                answer = await client.request(
                    method, path.format(**FILLED), content=b"<x/>", headers=XML
                )
            assert answer.status_code == 401, (method, path)
            assert answer.json()["code"] == "sender.unauthenticated"
            closed += 1
    assert closed >= 12


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "PUT", "DELETE", "PATCH", "BREW", "HEAD"])
@pytest.mark.parametrize("path", ["/messages", "/livez", f"/mailbox/{COUNCIL}"])
async def test_other_methods_are_refused(broker: Running, method: str, path: str) -> None:
    async with broker.client(COUNCIL) as client:
        answer = await client.request(method, path)

    assert answer.status_code == 405
    assert answer.headers["allow"]


async def test_the_wrong_one_of_the_methods_is_refused_with_the_right_one(broker: Running) -> None:
    answer = await broker.get(COUNCIL, "/messages")
    async with broker.client(COUNCIL) as client:
        posted = await client.post("/livez")

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (posted.status_code, posted.headers["allow"]) == (405, "GET")
    assert posted.json()["code"] == "sender.method_not_allowed"


async def test_what_is_not_there_is_a_problem_like_any_other(broker: Running) -> None:
    answer = await broker.get(COUNCIL, "/nowhere", accept="application/xml")

    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+xml"
    assert etree.fromstring(answer.content).tag == "{urn:ietf:rfc:7807}problem"


async def test_every_answer_carries_the_trace_and_may_not_be_kept(broker: Running) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    for path in ("/livez", "/nowhere", f"/mailbox/{COUNCIL}", "/openapi.json"):
        answer = await broker.get(COUNCIL, path, traceparent=parent, **{"x-request-id": "r-1"})
        assert answer.headers["traceparent"].startswith("00-4bf92f3577b34da6a3ce929d0e0e4736-")
        assert answer.headers["x-request-id"] == "r-1"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_body_over_the_limit_of_small_requests_is_rejected(broker: Running) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b"x" * 5000

    async with broker.client(None) as client:
        announced = await client.post("/oauth/token", content=b"x" * 70_000)
        streamed = await client.post("/oauth/token", content=parts())

    assert (announced.status_code, announced.json()["code"]) == (413, "sender.too_large")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "sender.too_large")


async def test_a_small_body_that_does_not_come_is_given_up(
    broker: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BODY_S_MAX", 0.05)
    sending: list[dict[str, Any]] = []

    async def never() -> dict[str, Any]:
        import asyncio

        await asyncio.Event().wait()
        return {}

    async def send(event: Any) -> None:
        sending.append(event)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/oauth/token",
        "raw_path": b"/oauth/token",
        "query_string": b"",
        "root_path": "",
        "scheme": "https",
        "http_version": "1.1",
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")],
    }
    await broker.app(scope, never, send)

    assert sending[0]["status"] == 408
    assert json.loads(sending[1]["body"])["code"] == "sender.too_slow"


async def test_what_nobody_expected_is_told_as_ours_and_without_its_words(
    broker: Running,
) -> None:
    @broker.app.api.get("/broken")
    async def broken() -> None:
        raise RuntimeError("Jane Canary, 1 Elm Street")

    answer = await broker.get(COUNCIL, "/broken")

    assert (answer.status_code, answer.json()["code"]) == (500, "broker.internal")
    assert "Canary" not in answer.text


async def test_a_check_that_fails_names_no_cause() -> None:
    async def failing() -> None:
        raise Transient(Reason.STORE_UNAVAILABLE, "/secret/path")

    router = system_routes(None, None, failing, Probes(anybody, {"one": failing}))  # type: ignore[arg-type]
    ready = next(route for route in router.routes if getattr(route, "path", "") == "/readyz")

    class Asked:
        query_params = {"verbose": ""}  # noqa: RUF012 - what a request has

    answer = await ready.endpoint(Asked())  # type: ignore[attr-defined]

    assert answer.status_code == 503
    assert json.loads(answer.body) == {"status": "unavailable", "checks": {"one": "failed"}}
