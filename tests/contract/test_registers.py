"""Reading protocols/ from disk: the sandbox partnership, mistakes with their line, reloading."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from broker.core.decision import decide_facts
from broker.core.errors import Permanent
from broker.core.facts import DecisionFacts
from broker.core.identity import AgencyId
from broker.core.message import Practitioner
from broker.core.outcome import Permitted
from broker.core.plan import make_plan
from broker.core.protocol import Register
from broker.edge.registers import RegisterHolder, line_of, load_register
from broker.edge.schemas import load_schemas
from tests.unit.test_agency import pem

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
PEM = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@cache
def partnership() -> Register:
    return load_register(ROOT / "protocols")


@pytest.fixture
def protocols(tmp_path: Path) -> Path:
    return Path(shutil.copytree(ROOT / "protocols", tmp_path / "protocols"))


def edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def test_the_sandbox_partnership_is_read() -> None:
    register = partnership()

    assert set(register.agencies) == {
        "sunderland-csc",
        "gateshead-csc",
        "sunderland-yot",
        "gateshead-yot",
        "northumbria-police",
        "wearside-nhs",
        "hylton-school",
        "northern-lights",
        "gateshead-hr",
        "ne-jobs-portal",
        "regional-index",
        "gateshead-housing",
        "sunderland-housing",
        "wearside-youth-court",
        "wear-bridge-secure",
        "fame-broker",
    }
    assert len(register.digest) == 64


ASKED = DecisionFacts(
    AgencyId("sunderland-yot"),
    "YOTCheckRequest",
    "1.0",
    "YJ",
    practitioner=Practitioner("w-1", "WORKER", None, "AAL2"),
    reason_for_access="ASSESSMENT",
    has_subject=True,
    has_identifier=True,
    consent_reason="WOULD_PREJUDICE",
)


def outcome(sender: str, recipient: str, message_type: str, purpose: str, **facts: Any) -> str:
    """Return the clause that permits, or the reason that refuses."""
    asked = replace(
        ASKED, sender=AgencyId(sender), message_type=message_type, purpose=purpose, **facts
    )
    decision = decide_facts(asked, AgencyId(recipient), partnership(), [], NOW)
    return decision.clause if isinstance(decision, Permitted) else decision.reason.value


@pytest.mark.parametrize(
    ("sender", "recipient", "message_type", "purpose", "expected"),
    [
        ("sunderland-yot", "sunderland-csc", "YOTCheckRequest", "YJ", "check-request"),
        ("sunderland-yot", "gateshead-csc", "YOTCheckRequest", "YJ-OOCD", "check-request"),
        ("gateshead-yot", "northumbria-police", "YOTCheckRequest", "YJ", "check-request"),
        ("gateshead-yot", "wearside-nhs", "YOTCheckRequest", "YJ", "check-request"),
        ("sunderland-yot", "hylton-school", "YOTCheckRequest", "YJ", "check-request-school"),
        ("sunderland-csc", "sunderland-yot", "YOTCheckResponse", "YJ", "check-response-csc"),
        ("northumbria-police", "gateshead-yot", "YOTCheckResponse", "YJ", "check-response-police"),
        ("hylton-school", "sunderland-yot", "YOTCheckResponse", "YJ", "check-response-school"),
        ("wearside-nhs", "sunderland-yot", "YOTCheckResponse", "YJ", "policy.no_consent"),
        ("wearside-nhs", "sunderland-yot", "InformationRefusal", "YJ", "refusal"),
        ("sunderland-yot", "sunderland-csc", "YOTCheckRequest", "CP", "policy.purpose_not_covered"),
        ("sunderland-csc", "sunderland-yot", "YOTCheckRequest", "YJ", "policy.direction"),
        ("sunderland-yot", "northern-lights", "YOTCheckRequest", "YJ", "policy.no_isp"),
        ("hylton-school", "sunderland-csc", "Referral", "CP", "child-protection"),
        ("northumbria-police", "gateshead-csc", "Referral", "CP", "child-protection"),
        ("wearside-nhs", "sunderland-csc", "Referral", "CP", "child-protection"),
        ("sunderland-yot", "sunderland-csc", "Referral", "CP", "child-protection"),
        ("northern-lights", "gateshead-csc", "Referral", "CP", "child-protection"),
        ("northern-lights", "gateshead-csc", "Referral", "CIN", "child-in-need"),
        ("northern-lights", "gateshead-csc", "Referral", "EH", "policy.no_consent"),
        ("hylton-school", "northumbria-police", "Referral", "CP", "policy.no_isp"),
        ("sunderland-csc", "hylton-school", "ReferralAcknowledgement", "CP", "acknowledgement"),
        ("sunderland-csc", "hylton-school", "ReferralOutcome", "CP", "outcome"),
        ("gateshead-csc", "northern-lights", "ReferralOutcome", "CP", "outcome-charity"),
        ("gateshead-csc", "northern-lights", "ReferralOutcome", "EH", "outcome-early"),
        ("sunderland-csc", "northumbria-police", "InformationRequest", "CP", "request"),
        ("sunderland-csc", "hylton-school", "InformationRequest", "CP", "request"),
        ("wearside-nhs", "sunderland-csc", "InformationResponse", "CP", "response-health"),
        ("northumbria-police", "sunderland-csc", "InformationResponse", "CP", "response-police"),
        ("hylton-school", "sunderland-yot", "InformationRequest", "CP", "school-asks-yot"),
        ("sunderland-yot", "hylton-school", "InformationResponse", "CP", "yot-answers-school"),
        ("hylton-school", "northumbria-police", "InformationRequest", "CP", "policy.no_isp"),
        ("hylton-school", "regional-index", "WhoElseQuery", "INDEX", "query"),
        ("wearside-nhs", "regional-index", "WhoElseQuery", "CP", "query"),
        ("northern-lights", "regional-index", "WhoElseQuery", "INDEX", "query-charity"),
        ("regional-index", "hylton-school", "WhoElseResponse", "INDEX", "answer"),
        ("sunderland-csc", "regional-index", "ChildIndexUpdate", "INDEX", "update-csc"),
        ("hylton-school", "regional-index", "ChildIndexUpdate", "INDEX", "update"),
        ("wearside-nhs", "regional-index", "InvolvementStarted", "INDEX", "involvement"),
        ("gateshead-hr", "ne-jobs-portal", "VacancyPublished", "JOBS", "publish"),
        (
            "northumbria-police",
            "gateshead-yot",
            "PoliceNotification",
            "YJ-OOCD",
            "police-notification",
        ),
        ("wearside-youth-court", "sunderland-yot", "CourtOutcome", "YJ-COURT", "court-outcome"),
        (
            "sunderland-yot",
            "sunderland-csc",
            "CourtOutcome",
            "YJ-COURT",
            "court-outcome-social-care",
        ),
        ("wearside-youth-court", "sunderland-csc", "CourtOutcome", "YJ-COURT", "policy.no_isp"),
        (
            "sunderland-yot",
            "wear-bridge-secure",
            "AssetPlusStageShare",
            "YJ-CUSTODY",
            "stage-share",
        ),
        ("sunderland-yot", "gateshead-yot", "CaseTransfer", "YJ", "case-transfer"),
        (
            "gateshead-housing",
            "sunderland-housing",
            "HouseholdPlacementNotice",
            "TA-NOTICE",
            "notice",
        ),
        (
            "gateshead-housing",
            "northumbria-police",
            "HouseholdPlacementNotice",
            "CIN",
            "policy.no_isp",
        ),
        ("sunderland-csc", "gateshead-csc", "RecordTransferOffer", "CP", "offer"),
        ("wearside-nhs", "sunderland-csc", "AttendanceAlert", "HEALTH-ALERT", "attendance"),
        ("hylton-school", "sunderland-csc", "CorrectionNotice", "SAR", "to-social-care"),
        ("hylton-school", "northumbria-police", "CorrectionNotice", "SAR", "policy.no_isp"),
        ("gateshead-hr", "sunderland-csc", "VacancyPublished", "JOBS", "publish-councils"),
        ("ne-jobs-portal", "gateshead-hr", "VacancyFeedbackReport", "JOBS", "feedback"),
        ("ne-jobs-portal", "gateshead-hr", "VacancyPublished", "JOBS", "policy.direction"),
        ("fame-broker", "hylton-school", "NonDeliveryReport", "AUDIT", "report"),
    ],
)
def test_the_sandbox_partnership_decides_its_stories(
    sender: str, recipient: str, message_type: str, purpose: str, expected: str
) -> None:
    assert outcome(sender, recipient, message_type, purpose) == expected


def test_a_sensitive_service_is_named_to_the_index_by_consent_or_harm_only() -> None:
    asked = ("wearside-nhs", "regional-index", "InvolvementStarted", "INDEX")

    assert outcome(*asked, sensitive=True) == "policy.no_consent"
    assert outcome(*asked, sensitive=True, harm=True) == "involvement"


def test_health_services_answer_a_check_without_consent_only_to_prevent_harm() -> None:
    asked = ("wearside-nhs", "sunderland-yot", "YOTCheckResponse", "YJ")

    assert outcome(*asked, harm=True) == "check-response-health"


def test_the_index_is_asked_by_a_named_practitioner_with_a_reason() -> None:
    asked = ("hylton-school", "regional-index", "WhoElseQuery", "INDEX")

    assert outcome(*asked, practitioner=None) == "policy.practitioner"
    assert outcome(*asked, reason_for_access=None) == "policy.practitioner"
    weak = Practitioner("w-1", "WORKER", None, "AAL1")
    assert outcome(*asked, practitioner=weak) == "policy.practitioner"


def test_every_path_in_a_flow_is_in_a_schema_of_that_flow() -> None:
    schemas = load_schemas(ROOT / "schemas")

    for protocol in partnership().protocols.values():
        for flow in protocol.flows:
            known = {path for name in flow.message_types for path in schemas.categories(*name)}
            paths = {rule.target for rule in flow.items if ":" not in rule.target}
            assert paths <= known, (protocol.reference, flow.flow_id)


@pytest.mark.parametrize(
    ("sender", "recipient", "message_type", "gone", "kept"),
    [
        ("sunderland-csc", "sunderland-yot", "YOTCheckResponse", "HealthInvolvement", "Status"),
        ("sunderland-yot", "hylton-school", "InformationResponse", "Offending", "Safeguarding"),
        ("gateshead-csc", "northern-lights", "ReferralOutcome", "Reason", "FeedbackToReferrer"),
        ("hylton-school", "sunderland-yot", "YOTCheckResponse", "PreviousDisposals", "Attendance"),
    ],
)
def test_clauses_withhold_what_they_say(
    sender: str, recipient: str, message_type: str, gone: str, kept: str
) -> None:
    clauses = partnership().clauses(AgencyId(sender), AgencyId(recipient), message_type)
    categories = load_schemas(ROOT / "schemas").categories(message_type, "1.0")

    plans = [make_plan(clause.fields, categories) for clause in clauses]

    assert plans
    assert all(plan.child(gone).gone and not plan.child(kept).gone for plan in plans)


def test_a_referral_for_child_protection_goes_whole() -> None:
    clause = next(
        clause
        for clause in partnership().clauses(
            AgencyId("northern-lights"), AgencyId("sunderland-csc"), "Referral"
        )
        if clause.clause_id == "child-protection"
    )

    assert make_plan(
        clause.fields, load_schemas(ROOT / "schemas").categories("Referral", "1.0")
    ).whole


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        (
            "sharing/ne-vacancies.v1.toml",
            'consent = "NOT_APPLICABLE"',
            'consent = "NOT_APLICABLE"',
            "did you mean NOT_APPLICABLE",
        ),
        ("sharing/ne-vacancies.v1.toml", 'onward_sharing = "LISTED"', "", "is missing"),
        ("agencies/gateshead-hr.toml", 'adapter = "mailbox"', 'adapter = "post"', "'post'"),
        ("sharing/ne-vacancies.v1.toml", "version = 1", "version =", "not TOML"),
    ],
)
def test_a_mistake_names_file_and_line(
    protocols: Path, file: str, before: str, after: str, words: str
) -> None:
    path = protocols / file
    edit(path, before, after)
    line = next(
        (n for n, text in enumerate(path.read_text().splitlines(), 1) if after and text == after),
        None,
    )

    with pytest.raises(Permanent, match=words) as caught:
        load_register(protocols)

    assert path.name in caught.value.detail
    assert line is None or f"line {line}" in caught.value.detail


def test_the_line_of_a_key_is_found_below_its_own_heading(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'top = 1\n[flags] # words\na = 1\n[[flow]]\nid = "1"\n[[flow.item]]\ninclude = "X"\n'
        '[[flow]]\nid = "2"\n[[flow.item]]\ninclude = "X"\n[[flow.item]]\ninclude = "Y"\n'
    )

    assert line_of(file, "", "top") == 1
    assert line_of(file, "flags", "a") == 3
    assert line_of(file, "flow 2", "id") == 9
    assert line_of(file, "flow 2.item 1", "include") == 11
    assert line_of(file, "flow 2.item 2", "include") == 13
    assert line_of(file, "flow 2.item 2", "absent") == 12
    assert line_of(file, "flow 3", "id") is None
    assert line_of(tmp_path / "none.toml", "", "x") is None


def test_a_file_that_is_not_text_is_a_mistake(protocols: Path) -> None:
    (protocols / "purposes.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(Permanent, match=r"purposes.toml: cannot be read"):
        load_register(protocols)


def name_in(protocols: Path, text: str) -> None:
    agency = protocols / "agencies/hylton-school.toml"
    agency.write_text(agency.read_text() + text)


def test_certificates_and_client_keys_are_read_from_their_files(protocols: Path) -> None:
    folder = protocols / "certificates/hylton-school"
    folder.mkdir(parents=True)
    (folder / "signing.cert.pem").write_bytes(pem())
    keys: tuple[ec.EllipticCurvePublicKey, rsa.RSAPublicKey] = (
        ec.generate_private_key(ec.SECP256R1()).public_key(),
        rsa.generate_private_key(65537, 2048).public_key(),
    )
    (folder / "0.pub.pem").write_bytes(keys[0].public_bytes(*PEM))
    (folder / "1.pub.pem").write_bytes(keys[1].public_bytes(*PEM))
    inside = "certificates/hylton-school"
    name_in(
        protocols,
        f'client_id = "hylton"\ntls_certificates = ["{inside}/signing.cert.pem"]\n'
        f'client_keys = ["{inside}/0.pub.pem", "{inside}/1.pub.pem"]\n'
        f'[[certificate]]\nfile = "{inside}/signing.cert.pem"\n',
    )

    agency = load_register(protocols).agencies[AgencyId("hylton-school")]

    assert len(agency.keys) == 1
    assert agency.keys[0].fingerprint in agency.systems[0].tls_fingerprints
    assert agency.systems[0].jwks is not None
    found = agency.systems[0].jwks["keys"]
    assert isinstance(found, list)
    assert [(key["kty"], "d" in key, len(key["kid"])) for key in found] == [
        ("EC", False, 43),
        ("RSA", False, 43),
    ]


@pytest.mark.parametrize(
    ("named", "words"),
    [
        ('[[certificate]]\nfile = "none.pem"\n', "none.pem cannot be read"),
        ('[[certificate]]\nfile = "../../etc/hostname"\n', "lies outside the register"),
        ('client_keys = ["purposes.toml"]\n', "is not a public key in PEM"),
        ('tls_certificates = ["purposes.toml"]\n', "is not a certificate in PEM"),
    ],
)
def test_a_certificate_that_is_not_there_is_a_mistake(
    protocols: Path, named: str, words: str
) -> None:
    name_in(protocols, named)

    with pytest.raises(Permanent, match=words):
        load_register(protocols)


def test_a_reload_puts_the_new_register_in_force(protocols: Path) -> None:
    holder = RegisterHolder(protocols)
    before = holder.current
    edit(protocols / "agencies/hylton-school.toml", 'status = "active"', 'status = "suspended"')

    after = holder.take(holder.read())

    assert holder.current is after
    assert before.agencies[AgencyId("hylton-school")].active
    assert not after.agencies[AgencyId("hylton-school")].active
    assert before.digest != after.digest


def test_a_reload_that_fails_leaves_the_register_in_force(protocols: Path) -> None:
    holder = RegisterHolder(protocols)
    before = holder.current
    edit(protocols / "purposes.toml", 'code = "JOBS"', "code = 3")

    with pytest.raises(Permanent, match="quotation marks"):
        holder.take(holder.read())

    assert holder.current is before


def test_comments_do_not_change_the_digest(protocols: Path) -> None:
    path = protocols / "purposes.toml"
    path.write_text("# a comment\n" + path.read_text())

    assert load_register(protocols).digest == partnership().digest
