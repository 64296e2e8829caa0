"""A child is cautioned in Gateshead and lives in Sunderland: from the police to a new team."""

from datetime import timedelta
from pathlib import Path

from lxml import etree

from tests.flow.journey import (
    COURT,
    CSC,
    FRIDAY,
    HEALTH,
    INDEX,
    OTHER_YOT,
    POLICE,
    SCHOOL,
    SECURE,
    YOT,
    Journey,
    Sent,
    journey,
    sample,
    saying,
)

KEPT = {"expires_at": FRIDAY + timedelta(days=30)}
JUSTICE, CHECKS = "ne-youth-justice@1", "ne-yot-checks@1"


async def notified(j: Journey) -> Sent:
    """Have the police tell the team of the home, and that of the place."""
    payload = sample("PoliceNotification", Event="YOUTH_CAUTION")
    return await j.send(POLICE, payload, YOT, OTHER_YOT, purpose="YJ-OOCD")


async def test_the_police_tell_the_team_of_the_home_and_of_the_place_within_a_day(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        sent = await notified(j)
        assert await j.clocks(sent, YOT) == {"PENY-24H": "running"}

        clause = f"{JUSTICE} police-notification"
        got = await j.gets(YOT, sent, clause, shows=["Offence/OffenceCode", "HomeArea"])
        assert got.says("Event") == ["YOUTH_CAUTION"]

        assert await j.clocks(sent, YOT) == {"PENY-24H": "met"}
        j.later(hours=25)
        assert await j.clocks(sent, OTHER_YOT) == {"PENY-24H": "overdue"}
        told = await j.told(OTHER_YOT, "ClockNotice", Clock="PENY-24H", State="OVERDUE")
        assert told.says("MessageId") == [sent.number]
        await j.gets(OTHER_YOT, sent, clause)
        assert await j.clocks(sent, OTHER_YOT) == {"PENY-24H": "met-late"}


async def test_a_notification_that_is_written_days_later_is_overdue_when_it_comes(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        happened = FRIDAY - timedelta(days=2)
        payload = sample(
            "PoliceNotification",
            edit=saying(
                EventAt=happened.isoformat(), NotifyBy=(happened + timedelta(days=1)).isoformat()
            ),
        )
        sent = await j.send(POLICE, payload, YOT, purpose="YJ-OOCD")

        assert await j.clocks(sent, YOT) == {"PENY-24H": "overdue"}
        for agency in (YOT, POLICE):
            await j.told(agency, "ClockNotice", Clock="PENY-24H", State="OVERDUE")
        await j.gets(YOT, sent, f"{JUSTICE} police-notification", shows=["EventAt"])
        assert await j.clocks(sent, YOT) == {"PENY-24H": "met-late"}


async def checked(j: Journey) -> Sent:
    """Have the team ask who knows the child."""
    payload = sample("YOTCheckRequest", Stage="OOCD")
    return await j.send(YOT, payload, CSC, SCHOOL, HEALTH, purpose="YJ")


async def test_the_team_asks_who_knows_the_child_and_each_is_told_what_it_needs(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        asked = await checked(j)
        await j.gets(CSC, asked, f"{CHECKS} check-request", shows=["Stage", "ItemsRequested/Item"])
        await j.gets(
            SCHOOL,
            asked,
            f"{CHECKS} check-request-school",
            shows=["Subject/Name/FamilyName", "ItemsRequested/Item"],
            lacks=["Stage", "Address/PostCode"],  # not what it is about, and not where
        )

        answer = await j.send(
            CSC,
            sample("YOTCheckResponse", Known="true", Status="CIN"),
            YOT,
            purpose="YJ",
            correlation_id=asked.number,
        )
        got = await j.gets(
            YOT,
            answer,
            f"{CHECKS} check-response-csc",
            shows=["Known", "Status", "Worker/Name/FamilyName"],
            lacks=["Attendance/Percent", "ParentalResponsibilityHolder/Phone"],
        )
        assert got.root.findtext(".//{*}CorrelationId") == asked.number


def without_ground(root: etree._Element) -> None:
    """Take out of the stated basis that harm is feared."""
    basis = root.find("{*}SharingBasis")
    assert basis is not None
    for name in ("Condition", "ConsentNotObtained"):
        for found in basis.findall(f"{{*}}{name}"):
            basis.remove(found)


async def test_health_answers_on_the_ground_of_harm_and_otherwise_only_that_it_may_not(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        asked = await checked(j)
        await j.gets(HEALTH, asked, f"{CHECKS} check-request")

        silent = sample("YOTCheckResponse", has=["HealthInvolvement"], edit=without_ground)
        answer = {"purpose": "YJ", "correlation_id": asked.number}
        await j.refused(await j.send(HEALTH, silent, YOT, **answer), YOT, "policy.no_consent")
        refusal = await j.send(
            HEALTH, sample("InformationRefusal", Reason="NO_CONSENT"), YOT, **answer
        )
        got = await j.gets(YOT, refusal, f"{CHECKS} refusal", shows=["Reason"])
        assert {etree.QName(one).localname for one in got.payload} == {
            "RequestId", "RefusedAt", "Subject", "Reason", "Explanation", "AppealContact",
        }  # fmt: skip

        known = sample("YOTCheckResponse", has=["HealthInvolvement"])
        feared = await j.send(HEALTH, known, YOT, **answer)
        await j.gets(
            YOT,
            feared,
            f"{CHECKS} check-response-health",
            shows=["Known", "HealthInvolvement/Provider", "SensitiveInvolvement/Contact/Phone"],
            lacks=["Status", "ParentalResponsibilityHolder/Name/FamilyName", "Attendance/Percent"],
        )


async def test_the_court_tells_the_team_which_tells_social_care_the_order_and_not_the_offence(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        heard = sample("CourtOutcome", Result__Sentence="REFERRAL_ORDER")
        sent = await j.send(COURT, heard, YOT, purpose="YJ-COURT")
        assert await j.clocks(sent, YOT) == {"COURT-RESULT": "running"}
        await j.gets(YOT, sent, f"{JUSTICE} court-outcome", shows=["Result/OffenceCode"])
        assert await j.clocks(sent, YOT) == {"COURT-RESULT": "met"}

        straight = await j.send(COURT, heard, CSC, purpose="YJ-COURT")
        await j.refused(straight, CSC, "policy.no_isp")
        onward = await j.send(YOT, heard, CSC, purpose="YJ-COURT")
        await j.gets(
            CSC,
            onward,
            f"{JUSTICE} court-outcome-social-care",
            shows=["Result/Sentence", "RemandStatus", "NextHearing/At"],
            lacks=["Result/OffenceCode", "Result/Description", "Result/Plea", "ReportRequest/Kind"],
        )


async def test_a_result_that_nobody_collects_is_due_overdue_and_escalated(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(COURT, sample("CourtOutcome"), YOT, purpose="YJ-COURT", **KEPT)
        for days, state in ((0, "running"), (3, "due"), (1, "overdue"), (1, "escalated")):
            j.later(days=days)  # from Friday to Monday, Tuesday and Wednesday
            assert await j.clocks(sent, YOT) == {"COURT-RESULT": state}

        await j.told(YOT, "ClockNotice", Clock="COURT-RESULT", State="ESCALATED")
        await j.told(COURT, "ClockNotice", Clock="COURT-RESULT", State="OVERDUE")
        await j.gets(YOT, sent, f"{JUSTICE} court-outcome")
        assert await j.clocks(sent, YOT) == {"COURT-RESULT": "met-late"}


async def test_on_custody_the_plans_reach_the_establishment_the_next_working_day(
    tmp_path: Path,
) -> None:
    async with journey(tmp_path) as j:
        sent = await j.send(YOT, sample("AssetPlusStageShare"), SECURE, purpose="YJ-CUSTODY")
        assert await j.clocks(sent, SECURE) == {"CUSTODY-PLAN": "running"}
        j.later(days=3, hours=13)  # Monday night
        assert await j.clocks(sent, SECURE) == {"CUSTODY-PLAN": "due"}
        got = await j.gets(SECURE, sent, f"{JUSTICE} stage-share", shows=["Document/Sha256"])
        assert got.says("Document/Kind") == ["ASSETPLUS", "EDUCATION_PLAN"]
        assert await j.clocks(sent, SECURE) == {"CUSTODY-PLAN": "met"}

        school = await j.send(YOT, sample("AssetPlusStageShare"), SCHOOL, purpose="YJ-CUSTODY")
        await j.refused(school, SCHOOL, "policy.type_not_covered")


async def test_a_case_moves_when_the_other_team_takes_it(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        moves = await j.send(YOT, sample("CaseTransfer"), OTHER_YOT, purpose="YJ")
        assert await j.clocks(moves, OTHER_YOT) == {"CASE-TRANSFER": "running"}
        got = await j.gets(
            OTHER_YOT, moves, f"{JUSTICE} case-transfer", shows=["Order/Sentence", "EffectiveFrom"]
        )
        await j.acknowledge(OTHER_YOT, got, "L3")
        assert await j.clocks(moves, OTHER_YOT) == {
            "CASE-TRANSFER": "running"
        }  # read, not answered

        taken = sample(
            "CaseTransferResponse",
            Decision="ACCEPTED",
            edit=saying(TransferId=got.says("TransferId")[0]),
        )
        answer = await j.send(OTHER_YOT, taken, YOT, purpose="YJ", correlation_id=moves.number)
        told = await j.gets(YOT, answer, f"{JUSTICE} case-transfer-response", shows=["Decision"])
        assert told.says("TransferId") == got.says("TransferId")
        assert await j.clocks(moves, OTHER_YOT) == {"CASE-TRANSFER": "met"}

        stage = await j.send(YOT, sample("AssetPlusStageShare"), OTHER_YOT, purpose="YJ")
        await j.gets(OTHER_YOT, stage, f"{JUSTICE} stage-share-team", shows=["Document/DocRef"])


async def test_the_team_puts_on_the_index_that_it_works_with_the_child(tmp_path: Path) -> None:
    async with journey(tmp_path) as j:
        begun = sample("InvolvementStarted", Involvement__ServiceType="YOT")
        sent = await j.send(YOT, begun, INDEX, purpose="INDEX")
        await j.gets(INDEX, sent, "ne-child-index@1 involvement", shows=["Involvement/StartedOn"])
