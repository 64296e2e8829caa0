"""Who else works with a child, who begins to, and a worry that is referred."""

from pathlib import Path

from lxml import etree

from broker.core.identity import AgencyId
from tests.flow.journey import (
    CHARITY,
    CSC,
    HEALTH,
    INDEX,
    POLICE,
    SCHOOL,
    YOT,
    Got,
    Journey,
    Sent,
    consent,
    journey,
    sample,
    saying,
    withdrawal,
)

CHILD_INDEX, REFERRALS, ENQUIRIES = "ne-child-index@1", "ne-referrals@1", "ne-mash-enquiries@1"


# -- J1: who else is working with this child? ------------------------------------------------


async def asked(j: Journey, sender: AgencyId = SCHOOL, clause: str = "query") -> Sent:
    """Have a practitioner ask the index, and the index get the question."""
    sent = await j.send(sender, sample("WhoElseQuery"), INDEX, purpose="INDEX")
    await j.gets(INDEX, sent, f"{CHILD_INDEX} {clause}", shows=["OwnInvolvementRef"])
    return sent


async def test_a_school_learns_who_else_works_with_a_child(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        question = await asked(j)

        answer = await j.send(
            INDEX,
            sample("WhoElseResponse", MatchStatus="MATCH", has=["Involvement", "LeadProfessional"]),
            SCHOOL,
            purpose="INDEX",
            correlation_id=question.number,
        )
        got = await j.gets(
            SCHOOL, answer, f"{CHILD_INDEX} answer", shows=["Involvement/ServiceType", "CAF/Exists"]
        )
        assert got.says("Involvement/Contact/Name/FamilyName")
        assert "informed" in " ".join(question.answer.json()["receipt"]["warnings"])


async def test_a_charity_learns_which_desk_to_ring_and_no_name(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        question = await asked(j, CHARITY, "query-charity")

        answer = await j.send(
            INDEX,
            sample("WhoElseResponse", MatchStatus="MATCH"),
            CHARITY,
            purpose="INDEX",
            correlation_id=question.number,
        )
        await j.gets(
            CHARITY,
            answer,
            f"{CHILD_INDEX} answer-charity",
            shows=["Involvement/ServiceType", "Involvement/Contact/Phone"],
            lacks=["Involvement/Contact/Name/FamilyName", "Involvement/Contact/Email"],
        )


async def test_who_works_with_a_child_hears_who_looked(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        question = await asked(j)
        found = sample("WhoElseResponse", MatchStatus="MATCH", has=["Involvement/Contact/AgencyId"])
        for contact in found.iter("{*}AgencyId"):
            contact.text = SCHOOL
        named = next(found.iter("{*}AgencyId"))
        named.text = HEALTH
        answer = await j.send(INDEX, found, SCHOOL, purpose="INDEX", correlation_id=question.number)
        assert answer.answer.status_code == 202, answer.answer.text

        told = await j.told(HEALTH, "AccessNotice", MessageId=answer.number)
        assert told.says("ShownTo") == [SCHOOL]
        assert told.says("ShownBy") == [INDEX]
        assert told.says("ReasonForAccess") == [question.header.reason_for_access]
        subject = next(one["subject"] for one in await j.entries() if one["kind"] == "submission")
        assert told.says("SubjectRef") == [subject]
        for name in ("GivenName", "FamilyName", "NHSNumber", "BirthDate", "PostCode"):
            for element in found.iter(f"{{*}}{name}"):
                assert (element.text or "").encode() not in told.body
        for other in (SCHOOL, INDEX, CSC, POLICE):  # who looked, who showed it, who is not named
            types = [one["message_type"] for one in await j.mailbox(other)]
            assert "AccessNotice" not in types


async def test_whom_the_reader_was_not_shown_hears_nothing(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        question = await asked(j, CHARITY, "query-charity")
        named = ["Involvement/Contact/AgencyId", "LeadProfessional/AgencyId"]
        found = sample("WhoElseResponse", MatchStatus="MATCH", has=named)
        for contact in found.iter("{*}AgencyId"):
            contact.text = YOT
        for lead in found.iter("{*}LeadProfessional"):
            next(lead.iter("{*}AgencyId")).text = HEALTH
        answer = await j.send(
            INDEX, found, CHARITY, purpose="INDEX", correlation_id=question.number
        )

        told = await j.told(YOT, "AccessNotice", MessageId=answer.number)
        assert told.says("ShownTo") == [CHARITY]
        types = [one["message_type"] for one in await j.mailbox(HEALTH)]
        assert "AccessNotice" not in types  # a charity is not shown who leads


async def test_of_an_answer_that_does_not_pass_nobody_hears(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        found = sample("WhoElseResponse", MatchStatus="MATCH", has=["Involvement/Contact/AgencyId"])
        next(found.iter("{*}AgencyId")).text = HEALTH
        sent = await j.send(INDEX, found, SCHOOL, purpose="YJ")

        assert sent.outcome(SCHOOL)["decision"] == "REFUSED"
        written = [one for one in await j.entries() if one["kind"] == "submission"]
        assert len(written) == 1  # it, and no notice


async def test_the_index_is_not_asked_without_a_reason(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(
            SCHOOL, sample("WhoElseQuery"), INDEX, purpose="INDEX", reason_for_access=None
        )

        await j.refused(sent, INDEX, "policy.practitioner")


async def test_a_sensitive_service_that_declines_is_not_named(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        wish = sample("BrokeredContactRequest")
        first = await j.send(SCHOOL, wish, CSC, purpose="INDEX")
        await j.gets(CSC, first, f"{CHILD_INDEX} brokered-request", shows=["Reason"])
        onward = await j.send(CSC, wish, HEALTH, purpose="INDEX", causation_id=first.number)
        await j.gets(HEALTH, onward, f"{CHILD_INDEX} brokered-onward", shows=["Reason"])

        declined = sample("BrokeredContactResult", Outcome="DECLINED")
        answer = await j.send(HEALTH, declined, CSC, purpose="INDEX", correlation_id=onward.number)
        await j.gets(CSC, answer, f"{CHILD_INDEX} brokered-result", shows=["Outcome"])
        told = await j.send(CSC, declined, SCHOOL, purpose="INDEX", correlation_id=first.number)
        got = await j.gets(SCHOOL, told, f"{CHILD_INDEX} brokered-result-onward")

        names = {etree.QName(one).localname for one in got.payload}
        assert names == {"RequestId", "Subject", "DecidedAt", "Outcome"}
        assert HEALTH not in got.body.decode()


# -- J2: an involvement begins and ends ------------------------------------------------------


async def test_an_involvement_is_registered_and_ended(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        begun = sample("InvolvementStarted", has=["Involvement"])
        sent = await j.send(CSC, begun, INDEX, purpose="INDEX")
        got = await j.gets(
            INDEX, sent, f"{CHILD_INDEX} involvement", shows=["Involvement/ServiceType"]
        )

        number = got.says("InvolvementId")[0]
        over = sample("InvolvementEnded", edit=saying(InvolvementId=number))
        sent = await j.send(CSC, over, INDEX, purpose="INDEX", causation_id=sent.number)
        ended = await j.gets(INDEX, sent, f"{CHILD_INDEX} involvement", shows=["EndReason"])
        assert ended.says("InvolvementId") == [number]


async def test_a_sensitive_service_is_registered_with_consent_and_not_without(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        begun = sample(
            "InvolvementStarted", has=["SensitiveInvolvement"], edit=without_ground_of_harm
        )
        await j.refused(await j.send(HEALTH, begun, INDEX, purpose="INDEX"), INDEX, NO_CONSENT)

        consent_id = await consent(
            j, HEALTH, Purpose="INDEX", MessageType="InvolvementStarted", Recipient=INDEX
        )
        sent = await j.send(HEALTH, begun, INDEX, purpose="INDEX")
        await j.gets(
            INDEX,
            sent,
            f"{CHILD_INDEX} involvement",
            shows=["SensitiveInvolvement/ServiceType", "SensitiveInvolvement/Contact/Phone"],
        )
        assert (await j.decided(sent, INDEX))["consents"] == [consent_id]

        await withdrawal(j, HEALTH, consent_id)
        again = await j.send(HEALTH, begun, INDEX, purpose="INDEX")
        await j.refused(again, INDEX, "policy.consent_withdrawn")


NO_CONSENT = "policy.no_consent"


def without_ground_of_harm(root: etree._Element) -> None:
    for name in ("Condition", "ConsentNotObtained"):
        for found in root.findall(f"{{*}}SharingBasis/{{*}}{name}"):
            basis = found.getparent()
            assert basis is not None
            basis.remove(found)


# -- J3: a referral to the hub ---------------------------------------------------------------


async def referred(j: Journey) -> tuple[Sent, Got]:
    """Have the school refer the child, and the hub read it."""
    payload = sample("Referral", ReferralType="SAFEGUARDING")
    sent = await j.send(SCHOOL, payload, CSC, purpose="CP")
    got = await j.gets(CSC, sent, f"{REFERRALS} child-protection", shows=["Reason/HarmLikely"])
    return sent, got


async def test_a_referral_is_acknowledged_enquired_into_and_decided(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        sent, got = await referred(j)
        await j.acknowledge(CSC, got, "L3")
        assert await j.clocks(sent, CSC) == {
            "SAFEGUARDING-READ": "met", "MASH-ACK": "running", "REFERRAL-DECISION": "running",
        }  # fmt: skip
        number = saying(ReferralId=got.says("ReferralId")[0])
        answer = {"purpose": "CP", "correlation_id": sent.number}
        said = await j.send(CSC, sample("ReferralAcknowledgement", edit=number), SCHOOL, **answer)
        await j.gets(SCHOOL, said, f"{REFERRALS} acknowledgement", shows=["DecisionDueBy"])
        assert (await j.clocks(sent, CSC))["MASH-ACK"] == "met"

        await enquired(j)

        decided = sample("ReferralOutcome", Decision="S47", edit=number)
        outcome = await j.send(CSC, decided, SCHOOL, **answer)
        await j.gets(
            SCHOOL, outcome, f"{REFERRALS} outcome", shows=["Decision", "FeedbackToReferrer"]
        )
        assert set((await j.clocks(sent, CSC)).values()) == {"met"}


async def enquired(j: Journey) -> None:
    """Have the hub ask four agencies: three answer what their clause allows, one refuses."""
    asked_by = (POLICE, HEALTH, SCHOOL, YOT)
    question = await j.send(CSC, sample("InformationRequest"), *asked_by, purpose="CP")
    for agency in asked_by:
        await j.gets(agency, question, f"{ENQUIRIES} request", shows=["Question"])
    answer = {"purpose": "CP", "correlation_id": question.number}
    known = sample("InformationResponse", has=["SensitiveInvolvement"])
    for agency, clause, shown, withheld in (
        (POLICE, "police", ["Offending"], ["Health", "Education", "Opinion"]),
        (SCHOOL, "school", ["Education", "Opinion"], ["Health", "Offending"]),
        (YOT, "yot", ["Offending", "Education"], ["Health"]),
    ):
        sent = await j.send(agency, known, CSC, **answer)
        await j.gets(
            CSC,
            sent,
            f"{ENQUIRIES} response-{clause}",
            shows=["Safeguarding", *shown],
            lacks=[*withheld, "SensitiveInvolvement/ServiceType"],
        )
    refusal = sample("InformationRefusal", Reason="NOT_HELD")
    said = await j.send(HEALTH, refusal, CSC, **answer)
    await j.gets(CSC, said, f"{ENQUIRIES} refusal", shows=["Reason", "AppealContact/Phone"])


async def test_a_referral_that_nobody_acknowledges_is_escalated_to_school_and_hub(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        sent, _ = await referred(j)
        for days in (3, 1, 1):  # Monday, Tuesday, Wednesday
            j.later(days=days)
            await j.clocks(sent, CSC)

        assert (await j.clocks(sent, CSC))["MASH-ACK"] == "escalated"
        for agency in (SCHOOL, CSC):
            told = await j.told(agency, "ClockNotice", Clock="MASH-ACK", State="ESCALATED")
            assert told.says("MessageId") == [sent.number]
