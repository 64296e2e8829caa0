"""A consent that is taken back, a mistake that is put right, and three times a no."""

from pathlib import Path

from lxml import etree

from broker.edge.ids import new_id
from tests.flow.journey import (
    BROKER,
    CSC,
    HEALTH,
    HOUSING,
    OTHER_CSC,
    POLICE,
    SCHOOL,
    Journey,
    Sent,
    consent,
    journey,
    sample,
    saying,
    texts,
    withdrawal,
)

REFERRALS, CORRECTIONS = "ne-referrals@1", "ne-corrections@1"


# -- J7: consent is withdrawn ----------------------------------------------------------------


async def early_help(j: Journey) -> Sent:
    return await j.send(SCHOOL, sample("Referral", has=["Child/HomeAddress"]), CSC, purpose="EH")


async def test_a_child_takes_consent_back_and_early_help_stops_where_protection_goes_on(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        await j.refused(await early_help(j), CSC, "policy.no_consent")
        consent_id = await consent(j, SCHOOL)
        read, waiting = await early_help(j), await early_help(j)
        await j.gets(
            CSC, read, f"{REFERRALS} early-help", shows=["Reason/WorriesAndImpact"], lacks=OPINIONS
        )
        assert (await j.decided(read, CSC))["consents"] == [consent_id]
        await j.lies(CSC, waiting.number)

        await withdrawal(j, SCHOOL, consent_id)

        told = await j.told(CSC, "ConsentNotice", ConsentId=consent_id)
        assert told.says("MessageId") == [read.number]  # what it received, and not what it did not
        assert waiting.number not in [
            one["message_id"] for one in await j.mailbox(CSC) if one["state"] == "available"
        ]
        failed = await j.told(SCHOOL, "NonDeliveryReport", MessageId=waiting.number)
        assert failed.says("Reason") == ["policy.consent_withdrawn"]
        await j.refused(await early_help(j), CSC, "policy.consent_withdrawn")
        protects = await j.send(SCHOOL, sample("Referral"), CSC, purpose="CP")
        await j.gets(CSC, protects, f"{REFERRALS} child-protection", shows=["Reason/HarmLikely"])


OPINIONS = ["Reason/AnalysisOfRisk"]


# -- consent does not suffice, and a child is in danger --------------------------------------


async def decided(j: Journey) -> str:
    """Have two practitioners of the school decide to share; return the id of their decision."""
    decision = new_id()
    said = saying(DecisionId=decision, Recipient=OTHER_CSC, MadeAt=j.clock.at.isoformat())
    sent = await j.send(SCHOOL, sample("DisclosureDecision", edit=said), BROKER, purpose="CONSENT")
    assert sent.answer.status_code == 202, sent.answer.text
    return decision


async def test_two_decide_to_share_without_consent_for_a_day_and_answer_for_it(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        await withdrawal(j, SCHOOL, await consent(j, SCHOOL, Recipient=OTHER_CSC))
        payload = sample("Referral", has=["Child/HomeAddress"])
        decision = await decided(j)
        relied_on = {"purpose": "EH", "decision_ref": decision, "gateway": "CA04-10"}

        sent = await j.send(SCHOOL, payload, OTHER_CSC, **relied_on)
        got = await j.gets(
            OTHER_CSC,
            sent,
            f"{REFERRALS} early-help",
            shows=["Reason/WorriesAndImpact"],
            lacks=OPINIONS,  # it opens no field that the clause withholds
        )
        assert got.root.findtext(".//{*}DecisionRef") == decision
        assert (await j.decided(sent, OTHER_CSC))["override"] == decision
        for agency in (SCHOOL, OTHER_CSC, CSC):  # the last one leads the agreement
            told = await j.told(agency, "OverrideNotice", DecisionId=decision)
            assert told.says("MessageId") == [sent.number]
            assert told.says("Reason") == ["SIGNIFICANT_HARM"]

        other = await j.send(SCHOOL, payload, CSC, **relied_on)  # whom it does not name
        await j.refused(other, CSC, "policy.no_consent")
        j.later(hours=25)
        late = await j.send(SCHOOL, payload, OTHER_CSC, **relied_on)
        await j.refused(late, OTHER_CSC, "policy.consent_withdrawn")


async def overrides(j: Journey, query: str = "") -> list[str]:
    """Return which decisions to share without consent an operator sees."""
    answer = await j.broker.get(BROKER, f"/operator/overrides{query}")
    return [one["override_id"] for one in answer.json()["overrides"]]


async def reviewed(j: Journey, decision: str) -> bool:
    """Have a third person of the school review a decision; return whether it was in time."""
    body = {"agency": SCHOOL, "reviewer": "P-3", "outcome": "JUSTIFIED_WITH_LEARNING"}
    async with j.broker.client(SCHOOL) as client:
        answer = await client.post(f"/overrides/{decision}/review", json=body)
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["in_time"])


async def test_a_decision_that_nobody_reviews_is_asked_after(tmp_path: Path) -> None:
    clock = "OVERRIDE-REVIEW"
    async with journey(tmp_path) as j:
        done, forgotten = await decided(j), await decided(j)
        of_done, of_forgotten = j.sent[-2:]
        assert await j.clocks(of_forgotten, SCHOOL) == {clock: "running"}

        j.later(hours=55)  # of 72, the last quarter
        assert await j.clocks(of_done, SCHOOL) == {clock: "due"}
        await j.told(SCHOOL, "ClockNotice", MessageId=of_done.number, State="DUE")
        assert await reviewed(j, done)
        assert await j.clocks(of_done, SCHOOL) == {clock: "met"}
        assert await overrides(j, "?overdue=true") == []

        j.later(hours=18)
        assert await j.clocks(of_forgotten, SCHOOL) == {clock: "overdue"}
        assert await j.clocks(of_done, SCHOOL) == {clock: "met"}
        late = {"MessageId": of_forgotten.number, "Clock": clock, "State": "OVERDUE"}
        await j.told(SCHOOL, "ClockNotice", **late)
        assert await overrides(j, "?overdue=true") == [forgotten]
        assert await overrides(j) == sorted([done, forgotten])

        j.later(hours=72)
        assert await j.clocks(of_forgotten, SCHOOL) == {clock: "escalated"}
        for agency in (SCHOOL, CSC):  # the last one leads the agreement on consents
            escalated = late | {"State": "ESCALATED"}
            await j.told(agency, "ClockNotice", **escalated)
        assert not await reviewed(j, forgotten)
        assert await j.clocks(of_forgotten, SCHOOL) == {clock: "met-late"}
        assert await overrides(j, "?overdue=true") == []


# -- J8: something was wrong -----------------------------------------------------------------


async def received(j: Journey, sent: Sent, path: str) -> set[str]:
    """Return who was handed ``path`` of a message, as the broker tells its sender."""
    answer = await j.broker.get(sent.header.sender, f"/messages/{sent.submission}")
    return {
        one["recipient"]
        for one in answer.json()["recipients"]
        if one["level"] == "L2" and not any(path.startswith(gone) for gone in one["withheld"])
    }


async def test_a_correction_goes_to_all_who_received_what_was_wrong_and_to_nobody_else(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        notice = sample("HouseholdPlacementNotice", has=["Child/GPName"])
        wrong = await j.send(HOUSING, notice, CSC, SCHOOL, HEALTH, purpose="CIN")
        for agency in (CSC, SCHOOL, HEALTH):
            await j.take(agency, wrong.number)
        had = await received(j, wrong, "Child/GPName")
        assert had == {SCHOOL, HEALTH}  # from social care it was withheld
        assert await received(j, wrong, "Child/BirthDate") == {CSC, SCHOOL, HEALTH}

        for agency in (SCHOOL, HEALTH):
            said = saying(CorrectedMessage=wrong.number, Correction__Path="Child/GPName")
            sent = await j.send(
                HOUSING, sample("CorrectionNotice", edit=said), agency, purpose="SAR"
            )
            got = await j.gets(
                agency, sent, f"{CORRECTIONS} housing", shows=["Correction/Action", "ReplacedBy"]
            )
            assert got.says("CorrectedMessage") == [wrong.number]
            assert texts(notice, "Child/GPName")[0] not in got.body.decode()  # never the value
            assert await j.clocks(sent, agency) == {"CORRECTION-READ": "running"}
            await j.acknowledge(agency, got, "L3")
            assert await j.clocks(sent, agency) == {"CORRECTION-READ": "met"}


# -- three refusals --------------------------------------------------------------------------


async def test_a_school_that_turns_to_the_police_is_told_where_to_turn(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(SCHOOL, sample("Referral"), POLICE, purpose="CP")

        told = await j.refused(sent, POLICE, "policy.no_isp")
        assert sent.answer.status_code == 403
        assert "gateshead-csc or sunderland-csc" in told["change"]
        sent = await j.send(SCHOOL, sample("Referral"), CSC, purpose="CP")  # as it was told
        await j.gets(CSC, sent, f"{REFERRALS} child-protection")


def harmful(payload: etree._Element) -> None:
    """Let the sender say that to tell it would harm the child more than not to."""
    test = payload.find("{*}SharingBasis/{*}DetrimentTest")
    assert test is not None
    test.text = "DETRIMENTAL"
    reason = etree.Element(test.tag.replace("DetrimentTest", "DetrimentReason"))
    reason.text = "The family would break off the visits that keep the child safe."
    test.addnext(reason)


async def test_what_the_sender_judged_to_do_more_harm_than_good_goes_nowhere(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(SCHOOL, sample("Referral", edit=harmful), CSC, OTHER_CSC, purpose="CP")

        for agency in (CSC, OTHER_CSC):
            await j.refused(sent, agency, "policy.detrimental")


async def test_a_no_of_the_child_is_kept_and_nobody_hears_of_it(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        await consent(j, SCHOOL, Status="REFUSED")

        told = await j.refused(await early_help(j), CSC, "policy.consent_refused")

        assert "child" not in told["change"]
        assert await j.mailbox(CSC) == []
