"""Each rule beyond the schema: a message that keeps to it, and the same with one thing wrong.

Rules rely on the schema having been met, so the elements here hold what the rule reads and
no more.
"""

import base64
import hashlib

import pytest
from lxml import etree

from broker.core.errors import Transient
from broker.core.identifiers import nhs_number_valid
from broker.core.reasons import Reason
from broker.core.rules import RULES, Broken

CONTENT = base64.b64encode(b"minutes").decode()
DIGEST = hashlib.sha256(b"minutes").hexdigest()
OPEN = "<Vacancy><Employer><Code>E1</Code></Employer><VacancyRef>{}</VacancyRef><Status>OPEN</Status></Vacancy>"
VACANCY = (
    "<PostedOn>2026-05-01</PostedOn><ClosesAt>{closes}</ClosesAt>"
    "<Description>{text}</Description><ContractType>{kind}</ContractType>{term}"
)
SNAPSHOT = "<Employer><Code>E1</Code></Employer>"
HEARD = (
    "<HearingDate>2026-06-01</HearingDate><Result><Finding>{}</Finding>"
    "<Sentence>FINE</Sentence></Result><ReportRequest><DueBy>{}</DueBy></ReportRequest>"
)
PLACED = (
    "<AvailableOn>2026-06-01</AvailableOn><NoticeBy>{}</NoticeBy><GivenOn>{}</GivenOn>"
    "<Late>{}</Late>"
)
CHILD = "<Subject><BirthDate>2012-03-01</BirthDate></Subject>"


def vacancy(closes: str = "2026-06-01T12:00:00Z", text: str = "Help", kind: str = "FIXED_TERM", term: str = "<FixedTermMonths>6</FixedTermMonths>") -> str:  # fmt: skip
    return VACANCY.format(closes=closes, text=text, kind=kind, term=term)


def broken(name: str, content: str) -> Broken | None:
    element = etree.fromstring(f'<m xmlns="urn:x"><{name}>{content}</{name}></m>')[0]
    return RULES[name].check(element)


KEPT = [
    ("NHSNumber", "9990000018"),
    ("UPN", "P391200025001"),
    ("ULN", "9276308686"),
    ("UPRN", "100012345678"),
    ("GivenName", "Zoë"),
    ("FamilyName", "O'Brien-Müller"),
    ("FamilyName", "李"),
    ("SharingBasis", "<DetrimentTest>DETRIMENTAL</DetrimentTest><DetrimentReason>r</DetrimentReason>"),
    ("SharingBasis", "<Condition>DPA-S1-18</Condition><ConsentNotObtained>CANNOT_GIVE</ConsentNotObtained>"),
    ("Attachment", f"<Content>{CONTENT}</Content><Sha256>{DIGEST}</Sha256>"),
    ("Attachment", "<Url>https://council.example/form.pdf</Url>"),
    ("Vacancy", vacancy()),
    ("Vacancy", vacancy(kind="PERMANENT", term="")),
    ("Salary", "<Min>20000</Min><Max>20000</Max>"),
    ("Salary", "<Min>1</Min><Max>2</Max><ScalePointMin>5</ScalePointMin><ScalePointMax>5</ScalePointMax>"),
    ("VacancyPublished", OPEN.format("a")),
    ("VacancyUpdated", "<Vacancy><Status>OPEN</Status><Version>2</Version></Vacancy>"),
    ("VacancySnapshot", SNAPSHOT + OPEN.format("a") + OPEN.format("b")),
    ("VacancyFeedbackReport", "<Item><Result>REJECTED</Result><Reason>r</Reason></Item><Item><Result>ACCEPTED</Result></Item>"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>CURRENT</AddressStatus><Address/>"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>LEFT_ENGLAND</AddressStatus><LeftEnglandIntent>UNKNOWN</LeftEnglandIntent>"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>CURRENT</AddressStatus><Shielding><Shielded>true</Shielded></Shielding>"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>NONE_KNOWN</AddressStatus><DeathDate>2012-03-01</DeathDate>"),
    ("Shielding", "<Shielded>true</Shielded><By>b</By><On>2026-01-01</On><ReviewOn>2026-07-01</ReviewOn>"),
    ("Shielding", "<Shielded>false</Shielded>"),
    ("InvolvementStarted", "<Involvement><StartedOn>2026-01-01</StartedOn></Involvement>"),
    ("WhoElseQuery", "<ReasonForAccess>EMERGENCY</ReasonForAccess><ReasonText>t</ReasonText>"),
    ("WhoElseQuery", "<ReasonForAccess>ASSESSMENT</ReasonForAccess>"),
    ("WhoElseResponse", "<MatchStatus>MATCH</MatchStatus><Involvement/>"),
    ("WhoElseResponse", "<MatchStatus>NO_MATCH</MatchStatus>"),
    ("BrokeredContactResult", "<Outcome>ACCEPTED</Outcome><Contact/>"),
    ("BrokeredContactResult", "<Outcome>DECLINED</Outcome>"),
    ("Referral", "<SubmittedAt>2026-05-02T09:00:00Z</SubmittedAt><ConfirmsTelephoneReferral><At>2026-05-02T09:00:00Z</At></ConfirmsTelephoneReferral>"),
    ("Referral", "<SubmittedAt>2026-05-02T09:00:00Z</SubmittedAt>"),
    ("Consent", "<ParentAware>false</ParentAware><ReasonIfNo>r</ReasonIfNo>"),
    ("Consent", "<ParentAware>true</ParentAware>"),
    ("ReferralAcknowledgement", "<ReceivedAt>2026-05-02T09:00:00Z</ReceivedAt><DecisionDueBy>2026-05-02T09:00:00Z</DecisionDueBy>"),
    ("ReferralOutcome", "<Decision>TRANSFER_LA</Decision><TransferredTo>t</TransferredTo>"),
    ("ReferralOutcome", "<Decision>NFA</Decision>"),
    ("ItemsRequested", "<Item>KNOWN</Item><Item>WORKER</Item>"),
    ("YOTCheckResponse", "<Known>true</Known><Refusal><Item>WORKER</Item></Refusal>"),
    ("YOTCheckResponse", "<Known>true</Known>"),
    ("Attendance", "<From>2026-01-01</From><Until>2026-01-01</Until>"),
    ("InformationResponse", "<Known>true</Known><Event/>"),
    ("InformationResponse", "<Known>false</Known>"),
    ("PoliceNotification", "<EventAt>2026-06-01T09:00:00+01:00</EventAt><NotifyBy>2026-06-02T08:00:00Z</NotifyBy>"),
    ("CourtOutcome", HEARD.format("GUILTY", "2026-06-01")),
    ("CourtOutcome", "<HearingDate>2026-06-01</HearingDate><Result><Finding>NOT_GUILTY</Finding></Result>"),
    ("AssetPlusStageShare", "<Document><Kind>ASSETPLUS</Kind></Document><Document><Kind>EDUCATION_PLAN</Kind></Document>"),
    ("CaseTransfer", "<OriginatingYOT>one-yot</OriginatingYOT><TargetYOT>other-yot</TargetYOT>"),
    ("CaseTransferResponse", "<Decision>ACCEPTED</Decision>"),
    ("CaseTransferResponse", "<Decision>DECLINED</Decision><DeclineReason>r</DeclineReason>"),
    ("HouseholdPlacementNotice", PLACED.format("2026-06-15", "2026-06-15", "false")),
    ("HouseholdPlacementNotice", PLACED.format("2026-06-15", "2026-06-16", "true")),
    ("RecordTransferOffer", "<FromAuthority>one-csc</FromAuthority><ToAuthority>other-csc</ToAuthority>"),
    ("RecordTransferResponse", "<Decision>ACCEPTED</Decision><ResponsibleFrom>2026-06-01</ResponsibleFrom>"),
    ("RecordTransferResponse", "<Decision>DECLINED</Decision><DeclineReason>r</DeclineReason>"),
    ("CorrectionNotice", "<Correction><Path>Subject/BirthDate</Path></Correction><Correction><Path>Subject/UPN</Path></Correction>"),
    ("PlanUpload", "<PlanType>CPP</PlanType>"),
]  # fmt: skip

BROKEN = [
    ("NHSNumber", "9990000019", "NHSNumber"),
    ("UPN", "A391200025001", "UPN"),
    ("ULN", "9276308687", "ULN"),
    ("UPRN", "0", "UPRN"),
    ("GivenName", "Zoë2", "GivenName"),
    ("FamilyName", "Brien ", "FamilyName"),
    ("SharingBasis", "<DetrimentTest>DETRIMENTAL</DetrimentTest>", "SharingBasis"),
    ("SharingBasis", "<DetrimentTest>NOT_DETRIMENTAL</DetrimentTest><DetrimentReason>r</DetrimentReason>", "SharingBasis"),
    ("SharingBasis", "<Condition>DPA-S1-18</Condition>", "SharingBasis"),
    ("Attachment", f"<Content>QUJ</Content><Sha256>{DIGEST}</Sha256>", "Content"),
    ("Attachment", f"<Content>{CONTENT}</Content><Sha256>{'0' * 64}</Sha256>", "Sha256"),
    ("Vacancy", vacancy(closes="2026-04-30T23:59:59Z"), "ClosesAt"),
    ("Vacancy", vacancy(text="&lt;script&gt;"), "Description"),
    ("Vacancy", vacancy(kind="PERMANENT"), "FixedTermMonths"),
    ("Salary", "<Min>2</Min><Max>1</Max>", "Max"),
    ("Salary", "<Min>1</Min><Max>2</Max><ScalePointMin>6</ScalePointMin><ScalePointMax>5</ScalePointMax>", "ScalePointMax"),
    ("VacancyPublished", "<Vacancy><Status>CLOSED</Status></Vacancy>", "Status"),
    ("VacancyUpdated", "<Vacancy><Status>DRAFT</Status><Version>2</Version></Vacancy>", "Status"),
    ("VacancyUpdated", "<Vacancy><Status>OPEN</Status><Version>1</Version></Vacancy>", "Version"),
    ("VacancySnapshot", SNAPSHOT + OPEN.format("a") * 2, "VacancyRef"),
    ("VacancySnapshot", "<Employer><Code>E2</Code></Employer>" + OPEN.format("a"), "Employer"),
    ("VacancySnapshot", SNAPSHOT + OPEN.format("a").replace("OPEN", "FILLED"), "Status"),
    ("VacancyFeedbackReport", "<Item><Result>REJECTED</Result></Item>", "Item"),
    ("VacancyFeedbackReport", "<Item><Result>ACCEPTED</Result><Reason>r</Reason></Item>", "Item"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>LEFT_ENGLAND</AddressStatus>", "ChildIndexUpdate"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>NONE_KNOWN</AddressStatus><Address/>", "Address"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>LAST_KNOWN</AddressStatus>", "ChildIndexUpdate"),
    ("ChildIndexUpdate", CHILD + "<AddressStatus>NONE_KNOWN</AddressStatus><DeathDate>2012-02-29</DeathDate>", "DeathDate"),
    ("Shielding", "<Shielded>true</Shielded><By>b</By><On>2026-01-01</On>", "Shielding"),
    ("InvolvementStarted", "<SensitiveInvolvement/>", "SensitiveInvolvement"),
    ("WhoElseQuery", "<ReasonForAccess>EMERGENCY</ReasonForAccess>", "ReasonForAccess"),
    ("WhoElseResponse", "<MatchStatus>MULTIPLE</MatchStatus><Involvement/>", "WhoElseResponse"),
    ("WhoElseResponse", "<MatchStatus>NO_MATCH</MatchStatus><BrokeredContactAvailable>true</BrokeredContactAvailable>", "WhoElseResponse"),
    ("BrokeredContactResult", "<Outcome>ACCEPTED</Outcome>", "BrokeredContactResult"),
    ("BrokeredContactResult", "<Outcome>DECLINED</Outcome><Contact/>", "BrokeredContactResult"),
    ("Referral", "<SubmittedAt>2026-05-02T09:00:00Z</SubmittedAt><ConfirmsTelephoneReferral><At>2026-05-02T09:00:01Z</At></ConfirmsTelephoneReferral>", "ConfirmsTelephoneReferral"),
    ("Consent", "<ParentAware>false</ParentAware>", "Consent"),
    ("ReferralAcknowledgement", "<ReceivedAt>2026-05-02T09:00:00Z</ReceivedAt><DecisionDueBy>2026-05-02T08:59:59Z</DecisionDueBy>", "DecisionDueBy"),
    ("ReferralOutcome", "<Decision>TRANSFER_LA</Decision>", "ReferralOutcome"),
    ("ReferralOutcome", "<Decision>NFA</Decision><TransferredTo>t</TransferredTo>", "ReferralOutcome"),
    ("ItemsRequested", "<Item>KNOWN</Item><Item>KNOWN</Item>", "ItemsRequested"),
    ("YOTCheckResponse", "<Worker/><Refusal><Item>WORKER</Item></Refusal>", "Refusal"),
    ("YOTCheckResponse", "<Refusal><Item>SEND</Item></Refusal><Refusal><Item>SEND</Item></Refusal>", "Refusal"),
    ("YOTCheckResponse", "<Other/>", "YOTCheckResponse"),
    ("Attendance", "<From>2026-01-02</From><Until>2026-01-01</Until>", "Until"),
    ("InformationResponse", "<Known>false</Known><Event/>", "Known"),
    ("PoliceNotification", "<EventAt>2026-06-01T09:00:00+01:00</EventAt><NotifyBy>2026-06-02T09:00:00Z</NotifyBy>", "NotifyBy"),
    ("CourtOutcome", HEARD.format("NOT_GUILTY", "2026-06-01"), "Sentence"),
    ("CourtOutcome", HEARD.format("GUILTY", "2026-05-31"), "DueBy"),
    ("AssetPlusStageShare", "<Document><Kind>ASSETPLUS</Kind></Document>" * 2, "AssetPlusStageShare"),
    ("CaseTransfer", "<OriginatingYOT>one-yot</OriginatingYOT><TargetYOT>one-yot</TargetYOT>", "TargetYOT"),
    ("CaseTransferResponse", "<Decision>DECLINED</Decision>", "CaseTransferResponse"),
    ("CaseTransferResponse", "<Decision>ACCEPTED</Decision><DeclineReason>r</DeclineReason>", "CaseTransferResponse"),
    ("HouseholdPlacementNotice", PLACED.format("2026-06-14", "2026-06-14", "false"), "NoticeBy"),
    ("HouseholdPlacementNotice", PLACED.format("2026-06-15", "2026-06-16", "false"), "Late"),
    ("HouseholdPlacementNotice", PLACED.format("2026-06-15", "2026-06-15", "true"), "Late"),
    ("RecordTransferOffer", "<FromAuthority>one-csc</FromAuthority><ToAuthority>one-csc</ToAuthority>", "ToAuthority"),
    ("RecordTransferResponse", "<Decision>ACCEPTED</Decision>", "RecordTransferResponse"),
    ("RecordTransferResponse", "<Decision>DECLINED</Decision><DeclineReason>r</DeclineReason><ResponsibleFrom>2026-06-01</ResponsibleFrom>", "RecordTransferResponse"),
    ("RecordTransferResponse", "<Decision>DECLINED</Decision>", "RecordTransferResponse"),
    ("CorrectionNotice", "<Correction><Path>Subject/BirthDate</Path></Correction>" * 2, "CorrectionNotice"),
    ("PlanUpload", "<PlanType>CIN</PlanType>", "PlanType"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content"), KEPT)
def test_what_keeps_to_the_rule_passes(name: str, content: str) -> None:
    assert broken(name, content) is None


@pytest.mark.parametrize(("name", "content", "place"), BROKEN)
def test_what_breaks_the_rule_is_found_at_its_place(name: str, content: str, place: str) -> None:
    found = broken(name, content)

    assert found is not None
    assert etree.QName(found.element).localname == place
    identifier = name in {"NHSNumber", "UPN", "ULN", "UPRN"}
    assert found.reason is (Reason.IDENTIFIER_INVALID if identifier else Reason.RULE)


@pytest.mark.parametrize(("started", "ok"), [("2026-01-02", False), ("2026-01-01", True)])
def test_nothing_ends_before_it_starts(started: str, ok: bool) -> None:  # noqa: FBT001
    both = f"<m><StartedOn>{started}</StartedOn><EndedOn>2026-01-01</EndedOn></m>"

    assert (RULES["EndedOn"].check(etree.fromstring(both)[1]) is None) is ok


def test_an_end_without_a_start_is_the_schemas_business() -> None:
    alone = etree.fromstring("<m><EndedOn>2026-01-01</EndedOn></m>")

    assert RULES["EndedOn"].check(alone[0]) is None


def test_every_rule_is_tested_both_ways() -> None:
    assert {name for name, _ in KEPT} >= RULES.keys() - {"EndedOn", "Suffix", "RequestedName"}
    assert {name for name, _, _ in BROKEN} >= RULES.keys() - {"EndedOn", "Suffix", "RequestedName"}
    assert nhs_number_valid("9990000026")


def test_a_passing_fault_says_when_to_come_again() -> None:
    fault = Transient(Reason.OVERLOADED, retry_after_s=7)

    assert (fault.reason, fault.retry_after_s) == (Reason.OVERLOADED, 7)
