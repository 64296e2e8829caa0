"""Rules of notifications, notices and transfers: police, court, housing, records, health alerts."""

from collections.abc import Mapping
from datetime import date, datetime, timedelta

from lxml import etree

from broker.core.rule import (
    Broken,
    Check,
    Rule,
    child_of,
    children_of,
    fields_of,
    has_child,
    text_of,
)

NOTIFY_WITHIN = timedelta(hours=24)  # police electronic notification
NOTICE_WITHIN = timedelta(days=14)  # Housing Act 1996 s.208(4)

_placement_fields = fields_of("AvailableOn", "NoticeBy", "GivenOn", "Late")


def _notification(element: etree._Element) -> Broken | None:
    happened = datetime.fromisoformat(text_of(element, "EventAt"))
    if datetime.fromisoformat(text_of(element, "NotifyBy")) != happened + NOTIFY_WITHIN:
        return Broken(child_of(element, "NotifyBy"), "NotifyBy is 24 hours after EventAt")
    return None


def _court_outcome(element: etree._Element) -> Broken | None:
    for result in children_of(element, "Result"):
        if has_child(result, "Sentence") and text_of(result, "Finding") != "GUILTY":
            return Broken(
                child_of(result, "Sentence"), "nobody is sentenced who was not found guilty"
            )
    for report in children_of(element, "ReportRequest"):
        if text_of(report, "DueBy") < text_of(element, "HearingDate"):
            return Broken(child_of(report, "DueBy"), "a report is not due before the hearing")
    return None


def _stage_share(element: etree._Element) -> Broken | None:
    kinds = [text_of(document, "Kind") for document in children_of(element, "Document")]
    if len(set(kinds)) != len(kinds):
        return Broken(element, "a kind of document is shared once")
    return None


def _two_sides(giver: str, taker: str) -> Check:
    def check(element: etree._Element) -> Broken | None:
        if text_of(element, giver) == text_of(element, taker):
            return Broken(child_of(element, taker), f"{taker} is another than {giver}")
        return None

    return check


def _answered(element: etree._Element) -> Broken | None:
    declined = text_of(element, "Decision") == "DECLINED"
    if declined != has_child(element, "DeclineReason"):
        return Broken(element, "DeclineReason goes with DECLINED, and with nothing else")
    return None


def _record_answered(element: etree._Element) -> Broken | None:
    accepted = text_of(element, "Decision") == "ACCEPTED"
    if accepted != has_child(element, "ResponsibleFrom"):
        return Broken(element, "ResponsibleFrom goes with ACCEPTED, and with nothing else")
    return _answered(element)


def _placement(element: etree._Element) -> Broken | None:
    texts = _placement_fields(element)
    due = date.fromisoformat(texts["AvailableOn"]) + NOTICE_WITHIN
    if date.fromisoformat(texts["NoticeBy"]) != due:
        return Broken(child_of(element, "NoticeBy"), "NoticeBy is 14 days after AvailableOn")
    late = date.fromisoformat(texts["GivenOn"]) > due
    if late != (texts["Late"] == "true"):
        return Broken(child_of(element, "Late"), "Late says whether GivenOn is after NoticeBy")
    return None


def _correction(element: etree._Element) -> Broken | None:
    paths = [text_of(item, "Path") for item in children_of(element, "Correction")]
    if len(set(paths)) != len(paths):
        return Broken(element, "an element is named once")
    return None


def _plan_upload(element: etree._Element) -> Broken | None:
    if text_of(element, "PlanType") == "CIN":
        return Broken(
            child_of(element, "PlanType"), "a child in need plan is not flagged to health"
        )
    return None


NOTICE_RULES: Mapping[str, Rule] = {
    "PoliceNotification": Rule("NotifyBy is 24 hours after EventAt.", _notification),
    "CourtOutcome": Rule(
        "A Sentence goes with GUILTY only. A report is not due before the hearing.", _court_outcome
    ),
    "AssetPlusStageShare": Rule("No kind of document is shared twice.", _stage_share),
    "CaseTransfer": Rule(
        "TargetYOT is another team than OriginatingYOT.", _two_sides("OriginatingYOT", "TargetYOT")
    ),
    "CaseTransferResponse": Rule(
        "DeclineReason goes with DECLINED, and with nothing else.", _answered
    ),
    "HouseholdPlacementNotice": Rule(
        "NoticeBy is 14 days after AvailableOn; Late says whether GivenOn is after it.", _placement
    ),
    "RecordTransferOffer": Rule(
        "ToAuthority is another than FromAuthority.", _two_sides("FromAuthority", "ToAuthority")
    ),
    "RecordTransferResponse": Rule(
        "ResponsibleFrom goes with ACCEPTED, DeclineReason with DECLINED, and with nothing else.",
        _record_answered,
    ),
    "CorrectionNotice": Rule("No element is named twice.", _correction),
    "PlanUpload": Rule("A child in need plan is not flagged.", _plan_upload),
}
