from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from adapters.file_drop import FileDrop
from adapters.mailbox import Mailbox
from adapters.ways import Means, RouteError, Ways, make
from adapters.webhook import RequestSigner, Webhook
from broker.core.agency import Agency, DeliveryRoute
from broker.core.identity import AgencyId
from tests.contract.pki import Authority

URL = "https://case-system.example/inbox"


@pytest.fixture
def means(tmp_path: Path) -> Means:
    ca = Authority(tmp_path)
    leaf = ca.issue("broker")
    (tmp_path / "drops").mkdir()
    return Means(
        signer=RequestSigner("key", leaf.private_key, lambda: datetime(2026, 11, 20, tzinfo=UTC)),
        tls_certificate=leaf.certificate,
        tls_key=leaf.key,
        authority=ca.certificate,
        certificates=tmp_path,
        drops=tmp_path / "drops",
        timeout_s=5,
    )


def agency(route: DeliveryRoute) -> Agency:
    return Agency(AgencyId("hylton-school"), "School", "SCHOOL", delivery=route)


def test_each_route_gets_its_adapter(means: Means) -> None:
    assert isinstance(make(DeliveryRoute(), means), Mailbox)
    assert isinstance(make(DeliveryRoute("webhook", {"url": URL}), means), Webhook)
    assert isinstance(make(DeliveryRoute("file_drop", {"directory": "school"}), means), FileDrop)


@pytest.mark.parametrize(
    "route",
    [
        DeliveryRoute("pigeon"),
        DeliveryRoute("mailbox", {"url": URL}),
        DeliveryRoute("webhook"),
        DeliveryRoute("webhook", {"url": 1}),
        DeliveryRoute("webhook", {"url": ""}),
        DeliveryRoute("webhook", {"url": "http://case-system.example/inbox"}),
        DeliveryRoute("webhook", {"url": URL, "verify": 0}),
        DeliveryRoute("webhook", {"url": URL, "ca_file": "missing.pem"}),
        DeliveryRoute("webhook", {"url": URL, "ca_file": "../../etc/ssl/cert.pem"}),
        DeliveryRoute("file_drop"),
        DeliveryRoute("file_drop", {"directory": "../elsewhere"}),
        DeliveryRoute("file_drop", {"directory": "/etc"}),
    ],
    ids=str,
)
def test_settings_that_cannot_be_used_are_named(means: Means, route: DeliveryRoute) -> None:
    with pytest.raises(RouteError):
        make(route, means)


def test_a_link_out_of_the_drops_folder_is_not_a_drop_directory(means: Means) -> None:
    (means.drops / "school").symlink_to("/tmp")  # noqa: S108 - to show that it is not used

    with pytest.raises(RouteError, match="outside"):
        make(DeliveryRoute("file_drop", {"directory": "school"}), means)


def test_a_webhook_can_trust_an_authority_of_its_own(means: Means) -> None:
    route = DeliveryRoute("webhook", {"url": URL, "ca_file": means.authority.name})

    assert isinstance(make(route, means), Webhook)


async def test_an_agency_keeps_its_adapter_until_its_route_changes(means: Means) -> None:
    ways = Ways(means)
    school = agency(DeliveryRoute("webhook", {"url": URL}))

    first = ways.adapter(school)
    assert ways.adapter(replace(school, name="Renamed")) is first
    moved = replace(school, delivery=DeliveryRoute("webhook", {"url": URL + "/2"}))
    assert ways.adapter(moved) is not first

    await ways.aclose()
