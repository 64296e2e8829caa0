"""Sharing without consent, for the danger at hand: decided by two, told at once, reviewed."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from broker.core.samples import sample_payload
from broker.edge.ids import new_id
from tests.contract.running import BROKER, COUNCIL, POLICE, SCHOOL, Running, envelope, header
from tests.contract.running import running as start
from tests.contract.test_http_consents import NOW, code_of, mailbox, post, recorded, withdrawn

CANARY = "Canary-necessity-7f3a"


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with start(tmp_path) as made:
        yield made


def decision(decision_id: str, seed: int = 1, **texts: Any) -> bytes:
    """A decision about the child of the referral; ``MadeAt`` is a minute ago."""
    root = etree.fromstring(sample_payload("DisclosureDecision", 2, person_seed=seed))
    made_at = (NOW - timedelta(minutes=1)).isoformat()
    values = {"DecisionId": decision_id, "MadeAt": made_at, "Necessity": CANARY, **texts}
    for name, text in values.items():
        found = root.find(f"{{*}}{name}")
        assert found is not None
        found.text = text
    made = header(SCHOOL, "DisclosureDecision", BROKER, purpose="CONSENT")
    return envelope(made, etree.tostring(root))


def referral(decision_id: str, **changed: Any) -> bytes:
    values = {"decision_ref": decision_id, "gateway": "CA04-10", **changed}
    return envelope(header(SCHOOL, "Referral", COUNCIL, purpose="EH", **values))


async def decided(broker: Running, **texts: Any) -> str:
    decision_id = new_id()
    answer = await broker.post(SCHOOL, decision(decision_id, **texts))
    assert answer.status_code == 202, answer.text
    return decision_id


async def test_a_decision_of_two_carries_a_message_that_consent_does_not(broker: Running) -> None:
    await withdrawn(broker, await recorded(broker))
    assert await code_of(broker) == "policy.consent_withdrawn"

    decision_id = await decided(broker)
    answer = await broker.post(SCHOOL, referral(decision_id), accept="application/json")

    assert answer.status_code == 202, answer.text
    assert any("without consent" in one for one in answer.json()["receipt"]["warnings"])
    (waiting,) = await mailbox(broker, COUNCIL, "Referral")
    path = f"/mailbox/{COUNCIL}/{waiting['delivery_id']}"
    shown = etree.fromstring((await broker.get(COUNCIL, path)).content)
    assert shown.findtext(".//{*}DecisionRef") == decision_id
    for agency in (SCHOOL, COUNCIL):  # the sender; the recipient, which leads the agreement
        (notice,) = await mailbox(broker, agency, "OverrideNotice", 1)
        told = await broker.get(agency, f"/mailbox/{agency}/{notice['delivery_id']}")
        body = etree.fromstring(told.content)
        assert body.findtext(".//{*}Payload//{*}DecisionId") == decision_id
        assert body.findtext(".//{*}Payload//{*}Reason") == "SIGNIFICANT_HARM"
        assert CANARY not in told.text
    metrics = (await broker.get(BROKER, "/metrics")).text
    assert 'fame_policy_overrides_total{agreement="ne-referrals"} 1.0' in metrics


async def test_a_decision_is_reviewed_by_a_third_person_once(broker: Running) -> None:
    decision_id = await decided(broker)
    await broker.post(SCHOOL, referral(decision_id))
    path, body = (
        f"/overrides/{decision_id}/review",
        {"agency": SCHOOL, "reviewer": "P-3", "outcome": "JUSTIFIED"},
    )

    (before,) = (await broker.get(SCHOOL, f"/overrides?agency={SCHOOL}")).json()["overrides"]
    own = await post(broker, SCHOOL, path, {**body, "reviewer": "p-4711"})
    alike = await post(
        broker, SCHOOL, path, {**body, "reviewer": "\N{CYRILLIC CAPITAL LETTER ER}-4711"}
    )
    theirs = await post(broker, POLICE, path, {**body, "agency": POLICE})
    done = await post(broker, SCHOOL, path, body)
    again = await post(broker, SCHOOL, path, body)

    assert (before["override_id"], before["uses"], before["review"]) == (decision_id, 1, "DUE")
    assert own.json()["code"] == again.json()["code"] == "sender.override_unusable"
    assert alike.json()["code"] == "sender.request_invalid"
    assert theirs.status_code == 404
    assert done.json()["in_time"] is True
    (after,) = (await broker.get(BROKER, "/operator/overrides")).json()["overrides"]
    assert after["review"] == "JUSTIFIED"
    assert "P-4711" not in str(after)


async def test_the_rate_of_each_practitioner_shows_and_names_nobody(broker: Running) -> None:
    for who in ("P-1", "p-1", "P-2"):
        await decided(broker, DecidedBy=who)

    answer = await broker.get(SCHOOL, f"/overrides/rate?agency={SCHOOL}")

    assert [one["made"] for one in answer.json()["rate"]] == [2, 1]
    assert "P-1" not in answer.text
    assert (await broker.get(POLICE, f"/overrides/rate?agency={SCHOOL}")).status_code == 403
    everybody = await broker.get(BROKER, "/operator/overrides/rate")
    assert everybody.json() == answer.json()


@pytest.mark.parametrize(
    "texts",
    [
        {"ApprovedBy": "P-4711"},
        {"ApprovedBy": "p-4711"},
        {"DetrimentTest": "DETRIMENTAL"},
        {"Gateway": "NONE"},
        {"Recipient": "any-social-care"},
        {"MadeAt": (NOW - timedelta(days=2)).isoformat()},
    ],
)
async def test_a_decision_that_lacks_anything_is_not_kept(
    broker: Running, texts: dict[str, Any]
) -> None:
    answer = await broker.post(SCHOOL, decision(new_id(), **texts))

    assert answer.json()["code"] == "sender.override_unusable"
    assert (await broker.rows("message"), await broker.rows("disclosure_override")) == (0, 0)


async def test_a_decision_carries_nothing_that_it_does_not_name(broker: Running) -> None:
    about_another = new_id()
    await broker.post(SCHOOL, decision(about_another, seed=9))
    theirs = await decided(broker)

    for reference, changed in (
        (about_another, {}),
        (new_id(), {}),
        (theirs, {"decision_ref": None}),
    ):
        answer = await broker.post(SCHOOL, referral(reference, **changed))
        assert answer.json()["code"] == "policy.no_consent"
    unknown = header(SCHOOL, "Referral", POLICE, purpose="EH", decision_ref=theirs)
    assert (await broker.post(SCHOOL, envelope(unknown))).json()["code"].startswith("policy.")
    assert await broker.rows("override_use") == 0


async def test_the_words_of_necessity_stay_in_the_sealed_message(
    broker: Running, tmp_path: Path
) -> None:
    decision_id = await decided(broker)
    await broker.post(SCHOOL, referral(decision_id))

    written = b"".join(file.read_bytes() for file in tmp_path.glob("fame.db*"))

    assert decision_id.encode() in written
    assert CANARY.encode() not in written
    assert b"P-4711" not in written
