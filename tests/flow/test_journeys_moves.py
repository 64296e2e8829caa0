"""A child moves to another authority, comes to unscheduled care, is placed with its household."""

from datetime import timedelta
from pathlib import Path

from lxml import etree

from tests.flow.journey import (
    CHILD,
    CSC,
    FRIDAY,
    HEALTH,
    HOUSING,
    OTHER_CSC,
    OTHER_HOUSING,
    POLICE,
    SCHOOL,
    Got,
    Journey,
    Sent,
    journey,
    sample,
    saying,
    texts,
)

RECORDS, ALERTS, PLACEMENTS = "ne-records@1", "ne-health-alerts@1", "ne-placements@1"


# -- J4: a child moves to another authority --------------------------------------------------


async def offered(j: Journey, shielded: str = "true") -> tuple[Sent, Got]:
    """Have one authority offer a record; the other gets no more than who and which plan."""
    offer = sample("RecordTransferOffer", Shielded=shielded, PlanType="CPP")
    sent = await j.send(CSC, offer, OTHER_CSC, purpose="CP", shielded=shielded == "true")
    got = await j.gets(OTHER_CSC, sent, f"{RECORDS} offer", shows=["Shielded", "PlanType"])
    return sent, got


async def test_a_record_follows_its_shield_once_the_other_authority_has_taken_it(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        offer, got = await offered(j)
        assert got.says("Shielded") == ["true"]  # before any of the record
        assert await j.clocks(offer, OTHER_CSC) == {"RECORD-TRANSFER": "running"}

        number = saying(TransferId=got.says("TransferId")[0], ShieldSet="true")
        taken = sample("RecordTransferResponse", Decision="ACCEPTED", edit=number)
        answer = await j.send(OTHER_CSC, taken, CSC, purpose="CP", correlation_id=offer.number)
        told = await j.gets(
            CSC, answer, f"{RECORDS} answer", shows=["Decision", "ResponsibleFrom", "ShieldSet"]
        )
        assert told.says("TransferId") == got.says("TransferId")
        assert await j.clocks(offer, OTHER_CSC) == {"RECORD-TRANSFER": "met"}

        whole = sample(
            "RecordTransfer",
            has=["SensitiveInvolvement", "Address/PostCode"],
            edit=saying(TransferId=got.says("TransferId")[0], Shielded="true"),
        )
        sent = await j.send(
            CSC, whole, OTHER_CSC, purpose="CP", causation_id=answer.number, shielded=True
        )
        record = await j.gets(
            OTHER_CSC,
            sent,
            f"{RECORDS} record",
            shows=["Shielded", "Plan/PlanType", "Summary", "Involvement/Provider"],
            lacks=["Address/PostCode", "SensitiveInvolvement/ServiceType"],
        )
        assert texts(whole, "Address/PostCode")[0] not in record.body.decode()


async def answered(j: Journey, offer: Sent, got: Got, **said: str) -> Sent:
    """Have the other authority answer an offer under its number."""
    says = {"TransferId": got.says("TransferId")[0], **said}
    payload = sample(
        "RecordTransferResponse",
        Decision=says.pop("Decision"),
        has=[name for name in says if name != "TransferId"],
        edit=saying(**says),
    )
    sent = await j.send(OTHER_CSC, payload, CSC, purpose="CP", correlation_id=offer.number)
    assert sent.answer.status_code == 202, sent.answer.text
    return sent


async def record(j: Journey, number: str, shielded: str = "false", person: int = CHILD) -> Sent:
    """Have the first authority send the record of a child under a number."""
    whole = sample(
        "RecordTransfer", person=person, edit=saying(TransferId=number, Shielded=shielded)
    )
    return await j.send(CSC, whole, OTHER_CSC, purpose="CP")


async def test_a_record_that_nobody_has_taken_is_not_sent(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        offer, got = await offered(j, shielded="false")
        number = got.says("TransferId")[0]
        told = await j.refused(await record(j, number), OTHER_CSC, "policy.not_taken")
        assert "offer it first" in told["change"]

        await answered(j, offer, got, Decision="DECLINED")
        await j.refused(await record(j, number), OTHER_CSC, "policy.not_taken")

        await answered(j, offer, got, Decision="ACCEPTED")
        for sent in (
            await record(j, "another-number"),
            await record(j, number, person=CHILD + 1),
        ):
            await j.refused(sent, OTHER_CSC, "policy.not_taken")
        assert (await record(j, number)).answer.status_code == 202
        said = [one for one in await j.entries() if one["kind"] == "handover"]
        assert [(one["by"], one["to"], one["taken"]) for one in said] == [
            (OTHER_CSC, CSC, False),
            (OTHER_CSC, CSC, True),
        ]


async def test_a_shielded_record_follows_only_where_the_shield_is_set(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        offer, got = await offered(j)
        number = got.says("TransferId")[0]
        await answered(j, offer, got, Decision="ACCEPTED", ShieldSet="false")
        await j.refused(await record(j, number, "true"), OTHER_CSC, "policy.not_taken")

        await answered(j, offer, got, Decision="ACCEPTED", ShieldSet="true")
        assert (await record(j, number, "true")).answer.status_code == 202


async def test_a_record_that_waits_is_not_handed_over_once_it_is_declined(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        offer, got = await offered(j, shielded="false")
        await answered(j, offer, got, Decision="ACCEPTED")
        sent = await record(j, got.says("TransferId")[0])
        listed = await j.lies(OTHER_CSC, sent.number)

        await answered(j, offer, got, Decision="DECLINED")
        path = f"/mailbox/{OTHER_CSC}/{listed['delivery_id']}"
        answer = await j.broker.get(OTHER_CSC, path)
        assert (answer.status_code, answer.json()["code"]) == (403, "policy.not_taken")


async def test_a_record_that_is_declined_stays_where_it_is(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        offer, _ = await offered(j, shielded="false")
        declined = sample("RecordTransferResponse", Decision="DECLINED")
        answer = await j.send(OTHER_CSC, declined, CSC, purpose="CP", correlation_id=offer.number)
        told = await j.gets(CSC, answer, f"{RECORDS} answer", shows=["DeclineReason"])

        assert told.says("ResponsibleFrom") == []
        assert await j.clocks(offer, OTHER_CSC) == {"RECORD-TRANSFER": "met"}


async def test_an_offer_that_nobody_answers_is_overdue_after_a_week(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        offer, got = await offered(j)
        await j.acknowledge(OTHER_CSC, got, "L4")  # to have dealt with it is not to answer
        j.later(days=7)  # the fifth working day
        assert await j.clocks(offer, OTHER_CSC) == {"RECORD-TRANSFER": "due"}
        j.later(days=1)
        assert await j.clocks(offer, OTHER_CSC) == {"RECORD-TRANSFER": "overdue"}
        await j.told(CSC, "ClockNotice", Clock="RECORD-TRANSFER", State="OVERDUE")


# -- J5: a child with a plan comes to unscheduled care ---------------------------------------


async def test_unscheduled_care_knows_of_a_plan_and_social_care_of_the_visit(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        flag = await j.send(
            CSC, sample("PlanUpload", PlanType="CPP"), HEALTH, purpose="HEALTH-ALERT"
        )
        got = await j.gets(
            HEALTH, flag, f"{ALERTS} plan", shows=["PlanType", "OutOfHoursPhone", "LACode"]
        )
        assert {etree.QName(one).localname for one in got.payload[0]} == {"NHSNumber", "BirthDate"}

        came = sample("AttendanceAlert", SettingType="EMERGENCY_DEPARTMENT")
        visit = await j.send(HEALTH, came, CSC, purpose="HEALTH-ALERT")
        alert = await j.gets(CSC, visit, f"{ALERTS} attendance", shows=["AttendedAt", "SettingODS"])
        assert alert.says("Subject/NHSNumber") == got.says("Subject/NHSNumber")
        assert await j.clocks(visit, CSC) == {"ATTENDANCE-READ": "running"}  # delivered, not read
        await j.acknowledge(CSC, alert, "L3")
        assert await j.clocks(visit, CSC) == {"ATTENDANCE-READ": "met"}

        ended = await j.send(CSC, sample("PlanEnd"), HEALTH, purpose="HEALTH-ALERT")
        await j.gets(HEALTH, ended, f"{ALERTS} plan", shows=["EndedOn"], lacks=["EndReason"])


async def test_a_visit_is_told_to_social_care_and_not_to_the_police(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(HEALTH, sample("AttendanceAlert"), POLICE, purpose="HEALTH-ALERT")

        await j.refused(sent, POLICE, "policy.no_isp")


# -- J6: a homeless household is placed out of its area --------------------------------------


async def placed(j: Journey, notice: etree._Element) -> tuple[Sent, Sent]:
    """Have the placing authority give its notice, and tell those who look after the children."""
    statutory = await j.send(HOUSING, notice, OTHER_HOUSING, purpose="TA-NOTICE")
    children = await j.send(HOUSING, notice, CSC, SCHOOL, HEALTH, purpose="CIN")
    return statutory, children


async def test_each_hears_of_a_placed_household_what_it_has_to_know(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        notice = sample(
            "HouseholdPlacementNotice",
            RiskMarker="CHILD_PROTECTION",
            Late="false",
            has=["Address/PostCode", "MovedFrom/PostCode"],
        )
        statutory, children = await placed(j, notice)

        await j.gets(
            OTHER_HOUSING,
            statutory,
            f"{PLACEMENTS} notice",
            shows=["Subject/Name/FamilyName", "Others/Number", "Address/PostCode", "AvailableOn"],
            lacks=["Subject/BirthDate", "Child/BirthDate", "MovedFrom/PostCode", "RiskMarker"],
        )
        assert await j.clocks(statutory, OTHER_HOUSING) == {"HA96-208-NOTICE": "met"}
        await j.gets(
            CSC,
            children,
            f"{PLACEMENTS} children-social-care",
            shows=["Child/BirthDate", "Child/SchoolName", "RiskMarker", "MovedFrom/PostCode"],
            lacks=["Child/GPName"],
        )
        for agency in (SCHOOL, HEALTH):
            await j.gets(
                agency,
                children,
                f"{PLACEMENTS} children-school-and-health",
                shows=["Child/Name/FamilyName", "Address/PostCode"],
                lacks=["Subject/Name/FamilyName", "RiskMarker", "Function", "MovedFrom/PostCode"],
            )


async def test_where_a_household_is_that_fled_domestic_abuse_nobody_is_told(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        notice = sample(
            "HouseholdPlacementNotice",
            has=["RiskMarker", "Address/PostCode", "MovedFrom/PostCode"],
            edit=saying(RiskMarker="DOMESTIC_ABUSE"),
        )
        statutory, children = await placed(j, notice)  # its sender forgot to mark it

        for sent, agency, clause in (
            (statutory, OTHER_HOUSING, "notice"),
            (children, CSC, "children-social-care"),
            (children, SCHOOL, "children-school-and-health"),
            (children, HEALTH, "children-school-and-health"),
        ):
            got = await j.gets(
                agency,
                sent,
                f"{PLACEMENTS} {clause}",
                shows=["HousingOfficer/Phone"],
                lacks=["Address/PostCode", "Address/UPRN"],
            )
            warnings = sent.answer.json()["receipt"]["warnings"]
            assert any("give it to a named person another way" in one for one in warnings)
            for path in ("Address/PostCode", "MovedFrom/PostCode", "Address/UPRN"):
                assert texts(notice, path)[0] not in got.body.decode()


async def test_a_notice_that_nobody_has_a_fortnight_after_the_day_is_overdue(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        monday = saying(AvailableOn="2026-11-16", NoticeBy="2026-11-30", Late="false")
        sent = await j.send(
            HOUSING,
            sample("HouseholdPlacementNotice", edit=monday),
            OTHER_HOUSING,
            purpose="TA-NOTICE",
            expires_at=FRIDAY + timedelta(days=30),
        )
        for days, state in ((0, "running"), (10, "due"), (1, "overdue")):
            j.later(days=days)  # to the last day of November, and the first of December
            assert await j.clocks(sent, OTHER_HOUSING) == {"HA96-208-NOTICE": state}
        for agency in (HOUSING, OTHER_HOUSING):
            await j.told(agency, "ClockNotice", Clock="HA96-208-NOTICE", State="OVERDUE")


async def test_a_notice_that_is_given_too_late_is_met_late_however_fast_it_comes(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        late = sample("HouseholdPlacementNotice", Late="true", has=["Child"])
        sent = await j.send(HOUSING, late, OTHER_HOUSING, purpose="TA-NOTICE")
        await j.take(OTHER_HOUSING, sent.number)

        assert await j.clocks(sent, OTHER_HOUSING) == {"HA96-208-NOTICE": "met-late"}
