"""Consents over HTTP and by signed message: what a school and a council live through."""

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from lxml import etree

from broker.core.samples import sample_payload
from broker.edge.ids import new_id
from tests.contract.running import (
    BROKER,
    COUNCIL,
    POLICE,
    SCHOOL,
    YOT,
    Running,
    envelope,
    header,
    running,
)

NOW = datetime.now(UTC)  # noqa: TID251 - tests may
JSON = {"content-type": "application/json"}


def nhs_number(seed: int = 1) -> str:
    found = etree.fromstring(sample_payload("Referral", seed)).find(".//{*}NHSNumber")
    assert found is not None
    assert found.text
    return found.text


def consent(**changed: object) -> dict[str, Any]:
    """What a 16-year-old says of early help."""
    return {
        "agency": SCHOOL,
        "subject": {"nhs_number": nhs_number()},
        "kind": "GDPR_BASIS",
        "given_by": "SUBJECT",
        "capacity": "16_17_PRESUMED",
        "purposes": ["EH"],
        "message_types": ["Referral"],
        "recipients": [COUNCIL],
        "form": "EXPLICIT_WRITTEN",
        "wording": "early-help-2026-1",
        "given_at": (NOW - timedelta(hours=1)).isoformat(),
        "review_at": (NOW + timedelta(days=300)).isoformat(),
        **changed,
    }


def referral(sender: Any = SCHOOL) -> bytes:
    return envelope(header(sender, "Referral", COUNCIL, purpose="EH"))


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as made:
        yield made


async def post(broker: Running, agency: Any, path: str, body: object) -> httpx2.Response:
    async with broker.client(agency) as client:
        return await client.post(path, content=json.dumps(body), headers=JSON)


async def recorded(broker: Running, **changed: object) -> str:
    given = consent(**changed)
    answer = await post(broker, given["agency"], "/consents", given)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["consent_id"])


async def withdrawn(broker: Running, consent_id: str, agency: Any = SCHOOL) -> httpx2.Response:
    return await post(broker, agency, f"/consents/{consent_id}/withdrawal", {"agency": agency})


async def code_of(broker: Running, sender: Any = SCHOOL) -> str:
    answer = await broker.post(sender, referral(sender))
    return "accepted" if answer.status_code == 202 else str(answer.json()["code"])


async def mailbox(broker: Running, agency: Any, kind: str, wanted: int = 0) -> list[dict[str, Any]]:
    """Return what of this kind lies ready, once as much is there as is wanted."""
    found = await _lying(broker, agency, kind)
    for _ in range(100):
        if len(found) >= wanted:
            break
        await asyncio.sleep(0.05)
        found = await _lying(broker, agency, kind)
    return found


async def _lying(broker: Running, agency: Any, kind: str) -> list[dict[str, Any]]:
    listed = (await broker.get(agency, f"/mailbox/{agency}")).json()["deliveries"]
    return [one for one in listed if one["message_type"] == kind]


async def disclosed(broker: Running, answer: httpx2.Response) -> etree._Element:
    """Return the newest referral as the council gets it."""
    assert answer.status_code == 202, answer.text
    lying = await mailbox(broker, COUNCIL, "Referral", 1)
    path = f"/mailbox/{COUNCIL}/{lying[-1]['delivery_id']}"
    return etree.fromstring((await broker.get(COUNCIL, path)).content)


def shows(envelope: etree._Element) -> set[str]:
    """Return which categories of a referral are there, by an element of each."""
    of = {"Subject": "identity", "School": "education", "HomeAddress": "address", "Reason": "worry"}
    (payload,) = next(envelope.iter("{*}Payload"))
    return {of[name] for name in of if next(payload.iter(f"{{*}}{name}"), None) is not None}


WHAT_THERE_IS = {"identity", "education", "address", "worry"}


async def test_a_consent_to_some_categories_lets_these_pass_and_no_byte_of_the_others(
    broker: Running,
) -> None:
    sent = referral()
    assert shows(etree.fromstring(sent)) == WHAT_THERE_IS
    street = next(etree.fromstring(sent).iter("{*}PostCode")).text or ""
    await recorded(broker, categories=["education"])

    answer = await broker.post(SCHOOL, sent, accept="application/json")
    got = await disclosed(broker, answer)

    assert shows(got) == {"identity", "education"}
    assert street.encode() not in etree.tostring(got)
    assert any("agreed to some" in one for one in answer.json()["receipt"]["warnings"])
    assert "Reason" in str(answer.json()["receipt"]["outcomes"][0]["withheld"])


async def test_a_no_to_a_category_is_heard_beside_a_yes_to_all(broker: Running) -> None:
    await recorded(broker)
    await recorded(broker, agency=POLICE, status="REFUSED", categories=["address"])

    got = await disclosed(broker, await broker.post(SCHOOL, referral()))

    assert shows(got) == WHAT_THERE_IS - {"address"}
    conflict = (await broker.get(BROKER, "/operator/consents/conflicts")).json()["conflicts"]
    assert [one["contradicted_by"]["categories"] for one in conflict] == [["address"]]


async def test_a_message_that_waits_is_reduced_to_what_the_person_still_agrees_to(
    broker: Running,
) -> None:
    first = await recorded(broker)
    answer = await broker.post(SCHOOL, referral())
    await mailbox(broker, COUNCIL, "Referral", 1)

    await recorded(broker, categories=["education"], supersedes=first)

    assert shows(await disclosed(broker, answer)) == {"identity", "education"}


async def test_who_took_it_back_when_and_with_whose_help_it_was_given_is_kept(
    broker: Running,
) -> None:
    consent_id = await recorded(broker, support="BSL_INTERPRETER")
    body = {
        "agency": SCHOOL,
        "withdrawn_by": "PR_HOLDER",
        "withdrawn_at": (NOW - timedelta(minutes=5)).isoformat(),
    }

    await post(broker, SCHOOL, f"/consents/{consent_id}/withdrawal", body)
    shown = (await broker.get(SCHOOL, f"/consents/{consent_id}")).json()

    assert (shown["support"], shown["withdrawn_by"]) == ("BSL_INTERPRETER", "PR_HOLDER")
    assert shown["withdrawn_at"] < shown["recorded_at"]


async def test_a_referral_passes_from_the_consent_until_its_withdrawal(broker: Running) -> None:
    assert await code_of(broker) == "policy.no_consent"

    consent_id = await recorded(broker)
    assert await code_of(broker) == "accepted"
    done = (await withdrawn(broker, consent_id)).json()

    assert (done["status"], done["version"]) == ("WITHDRAWN", 2)
    assert await code_of(broker) == "policy.consent_withdrawn"


async def test_withdrawal_stops_what_waits_and_tells_who_received(broker: Running) -> None:
    consent_id = await recorded(broker)
    await broker.post(SCHOOL, referral())
    await broker.post(SCHOOL, referral())
    read, waiting = await mailbox(broker, COUNCIL, "Referral")
    await broker.get(COUNCIL, f"/mailbox/{COUNCIL}/{read['delivery_id']}")

    done = (await withdrawn(broker, consent_id)).json()

    assert (done["stopped"], done["told"]) == (1, 1)
    gone = await broker.get(COUNCIL, f"/mailbox/{COUNCIL}/{waiting['delivery_id']}")
    assert gone.status_code == 404
    (notice,) = await mailbox(broker, COUNCIL, "ConsentNotice", 1)
    told = await broker.get(COUNCIL, f"/mailbox/{COUNCIL}/{notice['delivery_id']}")
    body = etree.fromstring(told.content)
    assert body.findtext(".//{*}ConsentId") == consent_id
    assert body.findtext(".//{*}Payload//{*}MessageId") == read["message_id"]
    assert nhs_number() not in told.text
    assert len(await mailbox(broker, SCHOOL, "NonDeliveryReport", 1)) == 1


async def test_a_refusal_that_takes_its_place_stops_and_tells_as_a_withdrawal_does(
    broker: Running,
) -> None:
    first = await recorded(broker)
    await broker.post(SCHOOL, referral())

    await recorded(broker, status="REFUSED", supersedes=first)

    assert not [
        one for one in await mailbox(broker, COUNCIL, "Referral") if one["state"] == "available"
    ]
    assert await code_of(broker) == "policy.consent_refused"


async def test_consent_given_anew_counts_and_its_withdrawal_reaches_what_passed_before(
    broker: Running,
) -> None:
    first = await recorded(broker)
    await broker.post(SCHOOL, referral())
    again = await recorded(broker, supersedes=first)
    assert await code_of(broker) == "accepted"

    done = (await withdrawn(broker, again)).json()

    assert done["stopped"] == 2


async def test_two_agencies_that_contradict_let_nothing_pass_and_both_are_shown(
    broker: Running,
) -> None:
    own = await recorded(broker)
    other = await recorded(broker, agency=POLICE, status="REFUSED", given_by="PR_HOLDER")

    assert await code_of(broker) == "policy.consent_refused"
    both = (await broker.get(BROKER, "/operator/consents/conflicts")).json()["conflicts"]
    assert [
        (one["consent"]["consent_id"], one["contradicted_by"]["consent_id"]) for one in both
    ] == [(own, other)]
    answer = await broker.get(SCHOOL, f"/consents/conflicts?agency={SCHOOL}")
    (mine,) = answer.json()["conflicts"]
    assert mine["consent"]["consent_id"] == own
    assert POLICE not in answer.text
    assert other not in answer.text


async def test_a_record_belongs_to_the_agency_that_made_it(broker: Running) -> None:
    consent_id = await recorded(broker)

    shown = await broker.get(SCHOOL, f"/consents/{consent_id}")
    assert [one["status"] for one in shown.json()["history"]] == ["ACTIVE"]
    listed = await broker.get(SCHOOL, f"/consents?agency={SCHOOL}")
    assert [one["consent_id"] for one in listed.json()["consents"]] == [consent_id]
    for agency in (POLICE, COUNCIL):
        assert (await broker.get(agency, f"/consents/{consent_id}")).status_code == 404
        assert (await withdrawn(broker, consent_id, agency)).status_code == 404
        assert (await broker.get(agency, f"/consents?agency={SCHOOL}")).status_code == 403
    taken = consent(agency=POLICE, supersedes=consent_id)
    assert (await post(broker, POLICE, "/consents", taken)).status_code == 422
    spoken_for = await post(broker, POLICE, "/consents", consent())
    assert spoken_for.status_code == 403


def untraced(answer: httpx2.Response) -> dict[str, Any]:
    return {name: value for name, value in answer.json().items() if name != "trace_id"}


async def test_no_answer_tells_whether_others_have_a_record_of_a_person(broker: Running) -> None:
    await recorded(broker)
    known, unknown = {"nhs_number": nhs_number()}, {"nhs_number": nhs_number(7)}
    assert known != unknown

    found = [
        await post(broker, POLICE, "/consents/search", {"agency": POLICE, "subject": person})
        for person in (known, unknown)
    ]
    theirs = await post(broker, SCHOOL, "/consents/search", {"agency": SCHOOL, "subject": known})

    assert found[0].status_code == found[1].status_code == 200
    assert found[0].content == found[1].content
    assert len(theirs.json()["consents"]) == 1
    real, invented = await recorded(broker), new_id()
    refusals = [await withdrawn(broker, name, POLICE) for name in (real, invented)]
    assert untraced(refusals[0]) == untraced(refusals[1])


@pytest.mark.parametrize(
    ("changed", "status"),
    [
        ({"capacity": "GILLICK_COMPETENT"}, 422),
        ({"given_by": "CARER_NO_PR", "capacity": "GILLICK_NOT_COMPETENT"}, 422),
        ({"form": "IMPLIED"}, 422),
        ({"recipients": ["any-social-care"]}, 422),
        ({"recipients": []}, 422),
        ({"given_at": (NOW + timedelta(days=1)).isoformat()}, 422),
        ({"subject": {"nhs_number": "1234567890"}}, 422),
        ({"subject": {}}, 400),
        ({"subject": {"family_name": "A", "given_name": "B"}}, 400),
        ({"kind": "BLANKET"}, 400),
        ({"given_at": "2026-01-01T00:00:00"}, 400),
        ({"supersedes": new_id()}, 422),
        ({"categories": ["secrets"]}, 422),
        ({"categories": ["Health!"]}, 400),
        ({"support": "Ms Example, neighbour"}, 400),
    ],
)
async def test_what_nobody_could_rely_on_is_refused_without_a_value(
    broker: Running, changed: dict[str, Any], status: int
) -> None:
    answer = await post(broker, SCHOOL, "/consents", consent(**changed))

    assert answer.status_code == status
    assert "1234567890" not in answer.text
    assert await broker.rows("consent") == 0


async def test_a_competent_child_consents_once_assessed(broker: Running) -> None:
    assessment = {
        "assessor": "school-nurse",
        "at": (NOW - timedelta(hours=2)).isoformat(),
        "factors": [
            "MATURITY",
            "UNDERSTANDS_ISSUE",
            "UNDERSTANDS_RISKS",
            "KNOWS_ALTERNATIVES",
            "ADVISED",
        ],
    }

    await recorded(broker, capacity="GILLICK_COMPETENT", assessment=assessment)

    assert await code_of(broker) == "accepted"


# -- by signed message -----------------------------------------------------------------------


def message(kind: str, payload: bytes, sender: Any = SCHOOL) -> bytes:
    return envelope(header(sender, kind, BROKER, purpose="CONSENT"), payload)


def said(consent_id: str, **texts: str) -> bytes:
    return _with(sample_payload("ConsentRecorded", 1), ConsentId=consent_id, **texts)


def took_back(consent_id: str, seed: int = 1) -> bytes:
    payload = sample_payload("ConsentWithdrawn", seed, person_seed=1)
    return _with(payload, ConsentId=consent_id)


def _with(payload: bytes, **texts: str) -> bytes:
    root = etree.fromstring(payload)
    for name, text in texts.items():
        found = root.find(f"{{*}}{name}")
        assert found is not None
        found.text = text
    return etree.tostring(root)


async def test_signed_messages_record_and_withdraw_in_the_transaction_that_keeps_them(
    broker: Running,
) -> None:
    consent_id = new_id()

    told = await broker.post(SCHOOL, message("ConsentRecorded", said(consent_id)))
    assert told.status_code == 202, told.text
    assert await code_of(broker) == "accepted"
    ended = await broker.post(SCHOOL, message("ConsentWithdrawn", took_back(consent_id)))
    assert ended.status_code == 202, ended.text

    assert await code_of(broker) == "policy.consent_withdrawn"
    assert not [
        one for one in await mailbox(broker, COUNCIL, "Referral") if one["state"] == "available"
    ]
    view = (await broker.get(SCHOOL, told.headers["location"])).json()
    assert [one["state"] for one in view["recipients"]] == ["delivered"]


async def test_the_same_message_again_records_nothing_again(broker: Running) -> None:
    raw = message("ConsentRecorded", said(new_id()))

    answers = [await broker.post(SCHOOL, raw) for _ in range(2)]

    assert [one.status_code for one in answers] == [202, 200]
    assert await broker.rows("consent") == 1


@pytest.mark.parametrize(
    ("texts", "code"),
    [
        ({"Recipient": "any-social-care"}, "sender.consent_unusable"),
        ({"GivenBy": "PR_HOLDER"}, "sender.consent_unusable"),
        ({"Form": "IMPLIED"}, "sender.consent_unusable"),
    ],
)
async def test_a_message_that_cannot_be_recorded_is_not_kept(
    broker: Running, texts: dict[str, str], code: str
) -> None:
    answer = await broker.post(SCHOOL, message("ConsentRecorded", said(new_id(), **texts)))

    assert answer.json()["code"] == code
    assert (await broker.rows("message"), await broker.rows("consent")) == (0, 0)


async def test_nobody_withdraws_by_message_what_another_recorded(broker: Running) -> None:
    consent_id = new_id()
    await broker.post(SCHOOL, message("ConsentRecorded", said(consent_id)))

    answer = await broker.post(YOT, message("ConsentWithdrawn", took_back(consent_id), YOT))
    again = await broker.post(SCHOOL, message("ConsentRecorded", said(consent_id)))

    assert answer.json()["code"] == "sender.not_found"
    assert again.json()["code"] == "sender.consent_unusable"
    assert await broker.rows("message") == 1
