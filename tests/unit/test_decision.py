"""The ten steps of the decision: a world where all is permitted, and one deviation each."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from broker.core.consent import Consent
from broker.core.identity import AgencyId
from broker.core.message import Practitioner
from broker.core.outcome import Permitted, Refused
from broker.core.reasons import Reason
from tests.unit.policy_world import (
    CAMHS,
    CHARITY,
    CONSENT,
    CSC,
    FACTS,
    NOW,
    POLICE,
    PRACTITIONER,
    SHARING,
    YOT,
    Change,
    Tables,
    amendment,
    decided,
    flow,
    gateway,
    more_gateways,
    new_gateway,
    permitted,
    protocol,
    table,
)

MICROSECOND = timedelta(microseconds=1)


def refused(*changes: Change, **facts: Any) -> tuple[Reason, int]:
    decision = decided(*changes, **facts)
    assert isinstance(decision, Refused)
    assert decision.change
    return decision.reason, decision.step


def signed_on(day: date) -> Change:
    def change(tables: Tables) -> None:
        tables[SHARING]["signatory"][0]["signed_on"] = day

    return change


def unsigned_by_one(tables: Tables) -> None:
    del tables[SHARING]["signatory"][0]


def test_the_world_permits_and_names_the_authority() -> None:
    decision = permitted()

    assert (decision.protocol, decision.version, decision.clause) == ("checks", 1, "check")
    assert decision.gateway == "CDA-115"
    assert [rule.target for rule in decision.fields] == [
        "category:identity",
        "Question",
        "category:health",
    ]
    assert decision.warnings == ()
    assert not decision.strip_location


@pytest.mark.parametrize("agency", ["yot", "csc"])
@pytest.mark.parametrize("status", ["suspended", "left"])
def test_an_agency_that_is_not_active_neither_sends_nor_receives(agency: str, status: str) -> None:
    changed = table(f"agencies/{agency}.toml", status=status)

    assert refused(changed) == (Reason.AGENCY_SUSPENDED, 1)
    decision = decided(changed)
    assert isinstance(decision, Refused)
    assert f"registrar has {agency} active" in decision.change


def test_a_recipient_that_is_not_in_the_partnership_is_unknown() -> None:
    assert refused(recipient=AgencyId("nobody")) == (Reason.RECIPIENT_UNKNOWN, 1)


def test_a_sender_that_is_not_in_the_partnership_is_not_active() -> None:
    assert refused(sender=AgencyId("nobody")) == (Reason.AGENCY_SUSPENDED, 1)


def test_a_protocol_says_nothing_about_the_other_direction() -> None:
    assert refused(sender=CSC, recipient=YOT) == (Reason.DIRECTION, 3)


def test_agencies_without_a_flow_have_no_protocol() -> None:
    assert refused(recipient=POLICE) == (Reason.NO_ISP, 3)
    assert refused(sender=CSC, recipient=POLICE) == (Reason.NO_ISP, 3)


def test_nobody_sends_to_itself() -> None:
    both = flow(**{"from": ["YOT", "LA_CSC"], "to": ["YOT", "LA_CSC"]})

    assert refused(both, recipient=YOT) == (Reason.NO_ISP, 3)


def test_where_nothing_is_agreed_the_agreed_recipients_are_offered() -> None:
    decision = decided(recipient=POLICE)

    assert isinstance(decision, Refused)
    assert decision.change.startswith("send it to csc, as agreed; or agree")
    other_type = decided(recipient=POLICE, message_type="Other")
    assert isinstance(other_type, Refused)
    assert other_type.change.startswith("agree a sharing protocol")


def test_another_message_type_is_not_covered() -> None:
    assert refused(message_type="Other") == (Reason.TYPE_NOT_COVERED, 3)


def test_another_version_of_the_message_type_is_not_covered() -> None:
    assert refused(schema_version="1.1") == (Reason.TYPE_NOT_COVERED, 3)


def test_two_versions_of_a_message_type_can_be_covered() -> None:
    both = flow(message_types=["Check/1.0", "Check/1.1"])

    assert isinstance(decided(both, schema_version="1.1"), Permitted)
    assert isinstance(decided(both, schema_version="1.0"), Permitted)


def test_a_purpose_is_matched_exactly() -> None:
    assert refused(purpose="CP") == (Reason.PURPOSE_NOT_COVERED, 3)
    assert refused(purpose="yj") == (Reason.PURPOSE_NOT_COVERED, 3)


def test_a_refusal_for_purpose_offers_the_covered_ones() -> None:
    decision = decided(purpose="CP")

    assert isinstance(decision, Refused)
    assert decision.change == "name purpose YJ, if that is what it is for"
    assert (decision.protocol, decision.clause) == ("checks@1", "check")


@pytest.mark.parametrize("named", ["checks", "checks@1"])
def test_a_message_may_name_the_protocol_it_relies_on(named: str) -> None:
    assert isinstance(decided(protocol=named), Permitted)


@pytest.mark.parametrize("named", ["checks@2", "other", "checks@"])
def test_a_message_that_names_another_protocol_is_refused(named: str) -> None:
    assert refused(protocol=named) == (Reason.NO_ISP, 3)


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ("DRAFT", Reason.ISP_NOT_ACTIVE),
        ("APPROVED", Reason.ISP_NOT_ACTIVE),
        ("SUSPENDED", Reason.ISP_SUSPENDED),
        ("TERMINATED", Reason.ISP_EXPIRED),
    ],
)
@pytest.mark.parametrize("which", ["memorandum", "community", "checks"])
def test_a_protocol_and_all_it_stands_on_must_be_in_force(
    which: str, status: str, reason: Reason
) -> None:
    changed = table(f"sharing/{which}.v1.toml", status=status)

    assert refused(changed) == (reason, 3)


def test_a_protocol_begins_at_the_first_instant_of_its_first_day_in_london() -> None:
    summer = datetime(2026, 4, 30, 23, tzinfo=UTC)
    first_day = protocol(effective_from=date(2026, 5, 1))

    assert isinstance(decided(first_day, now=summer), Permitted)
    assert refused(first_day, now=summer - MICROSECOND) == (Reason.ISP_NOT_ACTIVE, 3)


def test_a_protocol_ends_after_its_last_day() -> None:
    last_day = protocol(last_day=date(2026, 7, 31))
    end = datetime(2026, 7, 31, 23, tzinfo=UTC)

    assert isinstance(decided(last_day, now=end - MICROSECOND), Permitted)
    assert refused(last_day, now=end) == (Reason.ISP_EXPIRED, 3)


def test_a_protocol_begins_only_with_its_last_signature() -> None:
    late = signed_on(date(2026, 6, 2))

    assert refused(late) == (Reason.ISP_NOT_ACTIVE, 3)
    assert isinstance(decided(late, now=NOW + timedelta(days=1)), Permitted)


def test_a_protocol_that_a_party_has_not_signed_is_not_in_force() -> None:
    assert refused(unsigned_by_one) == (Reason.ISP_NOT_ACTIVE, 3)


def test_past_its_review_date_a_protocol_holds_for_ninety_days_with_a_warning() -> None:
    review = protocol(review_date=date(2026, 3, 3))
    lapse = datetime(2026, 5, 31, 23, tzinfo=UTC)  # 1 June in London

    overdue = decided(review, now=lapse - MICROSECOND)

    assert isinstance(overdue, Permitted)
    assert overdue.warnings == ("checks@1 is overdue for review by csc",)
    assert refused(review, now=lapse) == (Reason.ISP_EXPIRED, 3)


def test_a_protocol_is_overdue_from_its_review_date() -> None:
    review = protocol(review_date=date(2026, 6, 1))
    begins = datetime(2026, 5, 31, 23, tzinfo=UTC)

    before, after = decided(review, now=begins - MICROSECOND), decided(review, now=begins)

    assert isinstance(before, Permitted)
    assert isinstance(after, Permitted)
    assert (len(before.warnings), len(after.warnings)) == (0, 1)


@pytest.mark.parametrize("which", ["memorandum", "community"])
def test_what_a_protocol_stands_on_ends_and_grows_old_too(which: str) -> None:
    file = f"sharing/{which}.v1.toml"

    ended = refused(table(file, last_day=date(2026, 5, 31)))
    old = decided(table(file, review_date=date(2026, 5, 1)))

    assert ended == (Reason.ISP_EXPIRED, 3)
    assert isinstance(old, Permitted)
    assert old.warnings == (f"{which}@1 is overdue for review by csc",)


def test_a_protocol_marked_overdue_still_holds_with_a_warning() -> None:
    decision = decided(protocol(status="OVERDUE"))

    assert isinstance(decision, Permitted)
    assert decision.warnings


def test_an_amendment_replaces_the_version_before_it_from_its_first_day() -> None:
    narrower = amendment(2, effective_from=date(2026, 6, 10))
    begins = datetime(2026, 6, 9, 23, tzinfo=UTC)

    before, after = decided(narrower, now=begins - MICROSECOND), decided(narrower, now=begins)

    assert isinstance(before, Permitted)
    assert isinstance(after, Permitted)
    assert (before.version, after.version) == (1, 2)


def test_suspending_an_amendment_does_not_bring_back_what_it_replaced() -> None:
    reason, step = refused(amendment(2, status="SUSPENDED"))

    assert (reason, step) == (Reason.ISP_SUSPENDED, 3)


def test_a_version_is_ended_by_the_first_of_the_later_ones_to_begin() -> None:
    changes = (
        protocol(effective_from=date(2026, 1, 1)),
        amendment(2, effective_from=date(2026, 8, 1)),
        amendment(3, effective_from=date(2026, 5, 1), status="TERMINATED"),
    )

    assert refused(*changes) == (Reason.ISP_EXPIRED, 3)


def test_a_draft_amendment_replaces_nothing() -> None:
    decision = decided(amendment(2, status="DRAFT"))

    assert isinstance(decision, Permitted)
    assert decision.version == 1


def test_the_earliest_of_several_amendments_ends_the_first_version() -> None:
    changes = (
        amendment(2, effective_from=date(2026, 5, 1)),
        amendment(3, effective_from=date(2026, 8, 1)),
    )

    now, later = decided(*changes), decided(*changes, now=NOW + timedelta(days=90))

    assert isinstance(now, Permitted)
    assert isinstance(later, Permitted)
    assert (now.version, later.version) == (2, 3)


def test_a_gateway_holds_from_its_first_day_to_its_last() -> None:
    dated = gateway(in_force_from=date(2026, 6, 1), last_day=date(2026, 6, 30))
    first = datetime(2026, 5, 31, 23, tzinfo=UTC)
    end = datetime(2026, 6, 30, 23, tzinfo=UTC)

    assert isinstance(decided(dated, now=first), Permitted)
    assert isinstance(decided(dated, now=end - MICROSECOND), Permitted)
    assert refused(dated, now=first - MICROSECOND) == (Reason.GATEWAY_NOT_EFFECTIVE, 4)
    assert refused(dated, now=end) == (Reason.GATEWAY_NOT_EFFECTIVE, 4)


def test_a_gateway_that_has_not_commenced_carries_nothing() -> None:
    assert refused(gateway(in_force_from=None)) == (Reason.GATEWAY_NOT_EFFECTIVE, 4)


def test_a_gateway_reaches_the_agencies_its_statute_names_and_no_other() -> None:
    from_police = gateway(route=[{"from": ["POLICE"], "to": ["any"]}])
    to_police = gateway(
        route=[{"from": ["any"], "to": ["POLICE"]}], recipient_refusal="GATEWAY_PARTIES"
    )

    assert refused(from_police) == (Reason.GATEWAY_PARTIES, 4)
    assert refused(to_police) == (Reason.GATEWAY_PARTIES, 4)


def test_a_gateway_does_not_mix_the_ends_of_two_routes() -> None:
    crossed = gateway(
        route=[{"from": ["YOT"], "to": ["POLICE"]}, {"from": ["POLICE"], "to": ["LA_CSC"]}],
        recipient_refusal="GATEWAY_PARTIES",
    )

    assert refused(crossed) == (Reason.GATEWAY_PARTIES, 4)


def test_section_115_reaches_relevant_authorities_only() -> None:
    changed = table("agencies/csc.toml", flags={"health_or_social_care": True})

    assert refused(changed) == (Reason.RECIPIENT_NOT_RELEVANT_AUTHORITY, 4)


def test_section_115_reaches_a_body_that_acts_for_a_relevant_authority() -> None:
    acting = table("agencies/csc.toml", flags={"acting_for": "police"})
    acting_for_none = table("agencies/csc.toml", flags={"acting_for": "charity"})

    assert isinstance(decided(acting), Permitted)
    assert refused(acting_for_none) == (Reason.RECIPIENT_NOT_RELEVANT_AUTHORITY, 4)


def test_a_gateway_serves_its_purposes_only() -> None:
    assert refused(gateway(purposes=["CP"])) == (Reason.GATEWAY_PARTIES, 4)
    assert isinstance(decided(gateway(purposes=["any"])), Permitted)


def test_a_carve_out_for_a_kind_of_sender_bites() -> None:
    carved = gateway(carve_out=[{"from": ["YOT"], "text": "not from such"}])
    other = gateway(carve_out=[{"from": ["POLICE"], "text": "not from such"}])

    assert refused(carved) == (Reason.GATEWAY_CARVEOUT, 4)
    assert isinstance(decided(other), Permitted)


def test_a_carve_out_for_a_kind_of_recipient_bites() -> None:
    carved = gateway(
        carve_out=[{"to": ["LA_CSC"], "reason": "GATEWAY_PARTIES", "text": "not to such"}]
    )
    other = gateway(carve_out=[{"to": ["POLICE"], "text": "not to such"}])

    assert refused(carved) == (Reason.GATEWAY_PARTIES, 4)
    assert isinstance(decided(other), Permitted)


def test_a_carve_out_bites_only_where_all_that_it_names_is_so() -> None:
    carved = gateway(carve_out=[{"from": ["YOT"], "to": ["POLICE"], "text": "never together"}])

    assert isinstance(decided(carved), Permitted)


def test_a_carve_out_for_health_information_bites_when_the_payload_may_hold_some() -> None:
    carved = gateway(carve_out=[{"categories": ["health"], "text": "no patient information"}])
    health = frozenset({"identity", "health"})

    assert refused(carved, categories=health) == (Reason.GATEWAY_CARVEOUT, 4)
    assert refused(carved, categories=None) == (Reason.GATEWAY_CARVEOUT, 4)
    assert isinstance(decided(carved, categories=frozenset({"identity"})), Permitted)
    assert isinstance(decided(carved, categories=frozenset()), Permitted)


def test_what_the_sender_judged_detrimental_never_passes() -> None:
    assert refused(detriment="DETRIMENTAL") == (Reason.DETRIMENTAL, 4)


def test_a_gateway_with_the_detriment_test_asks_for_its_outcome() -> None:
    asked = gateway(detriment_test=True)

    assert isinstance(decided(asked), Permitted)
    assert refused(asked, detriment=None) == (Reason.GATEWAY_CARVEOUT, 4)


def test_the_first_gateway_that_carries_the_message_is_relied_on() -> None:
    two = (more_gateways(new_gateway("CA04-10")), flow(gateways=["CDA-115", "CA04-10"]))

    both = decided(*two)
    only_second = decided(*two, gateway(in_force_from=None))

    assert isinstance(both, Permitted)
    assert isinstance(only_second, Permitted)
    assert (both.gateway, only_second.gateway) == ("CDA-115", "CA04-10")


def test_a_message_may_name_the_gateway_it_relies_on() -> None:
    two = (more_gateways(new_gateway("CA04-10")), flow(gateways=["CDA-115", "CA04-10"]))

    decision = decided(*two, gateway="CA04-10")

    assert isinstance(decision, Permitted)
    assert decision.gateway == "CA04-10"
    assert refused(*two, gateway="CA89-47") == (Reason.GATEWAY_PARTIES, 4)


def test_of_two_gateways_that_fail_the_one_that_came_further_is_told() -> None:
    carved = new_gateway("CA04-10", carve_out=[{"from": ["YOT"], "text": "not from such"}])
    two = (more_gateways(carved), flow(gateways=["CDA-115", "CA04-10"]))

    assert refused(*two, gateway(in_force_from=None)) == (Reason.GATEWAY_CARVEOUT, 4)
    other_way = (more_gateways(carved), flow(gateways=["CA04-10", "CDA-115"]))
    assert refused(*other_way, gateway(in_force_from=None)) == (Reason.GATEWAY_CARVEOUT, 4)


def test_of_two_gateways_that_fail_alike_the_first_is_told() -> None:
    late = date(2030, 1, 1)
    two = (more_gateways(new_gateway("CA04-10", in_force_from=late)), gateway(in_force_from=late))

    first = decided(*two, flow(gateways=["CDA-115", "CA04-10"]))
    other = decided(*two, flow(gateways=["CA04-10", "CDA-115"]))

    assert isinstance(first, Refused)
    assert isinstance(other, Refused)
    assert first.change.endswith("CDA-115 is not in force")
    assert other.change.endswith("CA04-10 is not in force")


def test_a_refusal_for_a_gateway_offers_the_others_of_the_clause() -> None:
    late = new_gateway("CA04-10", in_force_from=date(2027, 1, 1))
    two = (more_gateways(late), flow(gateways=["CDA-115", "CA04-10"]))

    decision = decided(*two, gateway="CA04-10")
    alone = decided(gateway(in_force_from=None))

    assert isinstance(decision, Refused)
    assert decision.change == "rely on CDA-115: CA04-10 is not in force"
    assert isinstance(alone, Refused)
    assert alone.change == "none while CDA-115 (Statute CDA-115) is not in force"


@pytest.mark.parametrize(
    "person",
    [
        None,
        replace(PRACTITIONER, role="CLERK"),
        replace(PRACTITIONER, clearance=None),
        replace(PRACTITIONER, clearance="DBS_BASIC"),
        replace(PRACTITIONER, authentication=None),
        replace(PRACTITIONER, authentication="AAL1"),
        replace(PRACTITIONER, authentication="strong"),
    ],
)
def test_a_practitioner_must_be_named_in_a_role_cleared_and_signed_in_well_enough(
    person: Practitioner | None,
) -> None:
    assert refused(practitioner=person) == (Reason.PRACTITIONER, 5)


def test_a_practitioner_may_be_signed_in_better_than_asked() -> None:
    assert isinstance(decided(practitioner=replace(PRACTITIONER, authentication="AAL3")), Permitted)


def test_a_reason_for_access_must_be_given_where_it_is_asked() -> None:
    assert refused(reason_for_access=None) == (Reason.PRACTITIONER, 5)
    not_asked = flow(practitioner={"reason_for_access": False})
    assert isinstance(decided(not_asked, reason_for_access=None), Permitted)
    assert refused(not_asked, practitioner=None) == (Reason.PRACTITIONER, 5)
    named = replace(PRACTITIONER, role="CLERK", clearance=None, authentication=None)
    assert isinstance(decided(not_asked, practitioner=named), Permitted)


def test_a_flow_that_asks_nothing_of_the_practitioner_needs_none() -> None:
    assert isinstance(decided(flow(practitioner=None), practitioner=None), Permitted)


def test_a_refusal_for_the_practitioner_lists_what_is_asked() -> None:
    decision = decided(practitioner=None)
    bare = decided(flow(practitioner={}), practitioner=None)

    assert isinstance(decision, Refused)
    assert decision.change == (
        "name the practitioner, in role YOT_OFFICER, with clearance DBS_ENHANCED, "
        "authenticated at AAL2 or better, and give ReasonForAccess"
    )
    assert isinstance(bare, Refused)
    assert bare.change == "name the practitioner"


EXPLICIT = flow(consent="EXPLICIT_REQUIRED", conditions=None)
OR_HARM = flow(consent="EXPLICIT_OR_HARM", conditions=None)


@pytest.mark.parametrize("model", [EXPLICIT, OR_HARM])
@pytest.mark.parametrize(
    ("consents", "reason"),
    [
        ((), Reason.NO_CONSENT),
        ((replace(CONSENT, status="EXPIRED"),), Reason.NO_CONSENT),
        ((replace(CONSENT, status="SUPERSEDED"),), Reason.NO_CONSENT),
        ((replace(CONSENT, kind="SERVICE_AGREEMENT"),), Reason.NO_CONSENT),
        ((replace(CONSENT, form="IMPLIED"),), Reason.NO_CONSENT),
        ((replace(CONSENT, given_at=NOW + MICROSECOND),), Reason.NO_CONSENT),
        ((replace(CONSENT, expires_at=NOW),), Reason.NO_CONSENT),
        ((replace(CONSENT, status="REFUSED"),), Reason.CONSENT_REFUSED),
        ((replace(CONSENT, status="WITHDRAWN"),), Reason.CONSENT_WITHDRAWN),
        ((CONSENT, replace(CONSENT, status="WITHDRAWN")), Reason.CONSENT_WITHDRAWN),
        ((CONSENT, replace(CONSENT, status="REFUSED")), Reason.CONSENT_REFUSED),
        ((replace(CONSENT, purposes=frozenset({"CP"})),), Reason.CONSENT_SCOPE),
        ((replace(CONSENT, message_types=frozenset({"Other"})),), Reason.CONSENT_SCOPE),
        ((replace(CONSENT, recipients=frozenset({CAMHS})),), Reason.CONSENT_SCOPE),
    ],
)
def test_doubt_of_any_kind_about_consent_is_no(
    model: Change, consents: tuple[Consent, ...], reason: Reason
) -> None:
    assert refused(model, consents=consents) == (reason, 6)


def test_a_clause_says_which_kind_of_consent_it_rests_on() -> None:
    waiver = replace(CONSENT, kind="CONFIDENTIALITY")
    confided = flow(consent="EXPLICIT_REQUIRED", consent_kind="CONFIDENTIALITY")

    assert refused(EXPLICIT, consents=(waiver,)) == (Reason.NO_CONSENT, 6)
    assert refused(confided, consents=(CONSENT,)) == (Reason.NO_CONSENT, 6)
    assert isinstance(decided(confided, consents=(waiver,)), Permitted)


@pytest.mark.parametrize("model", [EXPLICIT, OR_HARM])
@pytest.mark.parametrize(
    "consent",
    [
        CONSENT,
        replace(CONSENT, expires_at=None),
        replace(CONSENT, given_at=NOW, expires_at=NOW + MICROSECOND),
        replace(CONSENT, form="EXPLICIT_VERBAL"),
    ],
)
def test_an_explicit_consent_in_force_and_in_scope_carries_the_message(
    model: Change, consent: Consent
) -> None:
    decision = decided(model, consents=(consent,))

    assert isinstance(decision, Permitted)
    assert decision.warnings == ()


def test_a_withdrawal_for_another_recipient_does_not_count() -> None:
    elsewhere = replace(CONSENT, status="WITHDRAWN", recipients=frozenset({CAMHS}))

    assert isinstance(decided(EXPLICIT, consents=(CONSENT, elsewhere)), Permitted)


def test_harm_opens_a_sensitive_service_and_nothing_else() -> None:
    decision = decided(OR_HARM, harm=True)

    assert isinstance(decision, Permitted)
    assert len(decision.warnings) == 1
    assert refused(EXPLICIT, harm=True) == (Reason.NO_CONSENT, 6)


def test_a_sensitive_service_named_in_the_payload_has_its_own_consent_model() -> None:
    stricter = flow(sensitive_consent="EXPLICIT_OR_HARM")

    assert isinstance(decided(stricter), Permitted)
    assert refused(stricter, sensitive=True) == (Reason.NO_CONSENT, 6)
    assert isinstance(decided(stricter, sensitive=True, harm=True), Permitted)


def test_without_a_model_of_its_own_a_sensitive_service_has_that_of_the_flow() -> None:
    assert isinstance(decided(sensitive=True), Permitted)
    assert refused(EXPLICIT, sensitive=True) == (Reason.NO_CONSENT, 6)


def test_informed_only_passes_and_says_so() -> None:
    decision = decided(flow(consent="INFORMED_ONLY"))

    assert isinstance(decision, Permitted)
    assert decision.warnings == ("rests on the person having been informed of this use",)


def test_paragraph_18_asks_why_consent_was_not_obtained() -> None:
    assert refused(consent_reason=None) == (Reason.NO_CONSENT, 6)
    assert isinstance(decided(consent_reason=None, consent_said=True), Permitted)
    assert isinstance(decided(flow(conditions=None), consent_reason=None), Permitted)


@pytest.mark.parametrize(
    ("consents", "change"),
    [
        ((), "record the person's consent to"),
        ((replace(CONSENT, status="REFUSED"),), "none by asking again"),
        ((replace(CONSENT, purposes=frozenset({"CP"})),), "record consent that names"),
    ],
)
def test_a_refusal_for_consent_says_what_would_help(
    consents: tuple[Consent, ...], change: str
) -> None:
    explicit, or_harm = decided(EXPLICIT, consents=consents), decided(OR_HARM, consents=consents)

    assert isinstance(explicit, Refused)
    assert isinstance(or_harm, Refused)
    assert explicit.change.startswith(change)
    assert "harm" not in explicit.change
    assert "ground of harm" in or_harm.change


def test_the_identifier_or_the_reason_for_leaving_it_out_is_asked() -> None:
    assert refused(has_identifier=False) == (Reason.IDENTIFIER_MISSING, 7)
    assert isinstance(decided(has_identifier=False, omission_reason="UNKNOWN_DELAY"), Permitted)


def test_before_commencement_a_missing_identifier_is_a_warning() -> None:
    for rule in (gateway(1, in_force_from=None), gateway(1, in_force_from=date(2026, 6, 2))):
        decision = decided(rule, has_identifier=False)

        assert isinstance(decision, Permitted)
        assert len(decision.warnings) == 1


def test_a_register_without_the_identifier_rule_warns() -> None:
    def removed(tables: Tables) -> None:
        del tables["gateways.toml"]["gateway"][1]

    decision = decided(removed, has_identifier=False)

    assert isinstance(decision, Permitted)
    assert decision.warnings


def test_the_identifier_is_asked_of_messages_about_a_child_only() -> None:
    def jobs(tables: Tables) -> None:
        tables[SHARING]["purpose"][0]["code"] = "JOBS"
        flow(purposes=["JOBS"])(tables)
        gateway(purposes=["JOBS"])(tables)

    assert isinstance(decided(jobs, purpose="JOBS", has_identifier=False), Permitted)
    assert isinstance(decided(has_subject=False, has_identifier=False), Permitted)


def test_of_a_shielded_person_the_location_is_stripped() -> None:
    assert permitted(shielded=True).strip_location


def test_a_flow_without_meaning_but_for_the_place_refuses_a_shielded_person() -> None:
    refuses = flow(shielded="REFUSE")

    assert refused(refuses, shielded=True) == (Reason.SHIELDED, 8)
    assert isinstance(decided(refuses), Permitted)


def test_a_mandatory_item_must_be_there() -> None:
    assert refused(paths=frozenset({"Subject"})) == (Reason.INCOMPLETE, 9)
    decision = decided(paths=frozenset({"Subject"}))
    assert isinstance(decision, Refused)
    assert decision.change == "add Question"


def test_what_the_payload_holds_is_not_asked_when_it_was_not_looked_up() -> None:
    assert isinstance(decided(paths=None), Permitted)


# A change of the world, or a fact of the message, that stops it at each step in turn.
FAULTS: tuple[tuple[tuple[Change, ...], dict[str, Any], Reason], ...] = (
    ((table("agencies/csc.toml", status="suspended"),), {}, Reason.AGENCY_SUSPENDED),
    ((), {"purpose": "CP"}, Reason.PURPOSE_NOT_COVERED),
    ((), {"schema_version": "2.0"}, Reason.TYPE_NOT_COVERED),
    ((protocol(status="SUSPENDED"),), {}, Reason.ISP_SUSPENDED),
    ((gateway(last_day=date(2026, 5, 1)),), {}, Reason.GATEWAY_NOT_EFFECTIVE),
    ((), {"practitioner": None}, Reason.PRACTITIONER),
    ((), {"consent_reason": None}, Reason.NO_CONSENT),
    ((), {"has_identifier": False}, Reason.IDENTIFIER_MISSING),
    ((flow(shielded="REFUSE"),), {"shielded": True}, Reason.SHIELDED),
    ((), {"paths": frozenset()}, Reason.INCOMPLETE),
)


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_of_several_faults_the_one_of_the_earliest_step_is_told(first: int) -> None:
    changes = [change for fault in FAULTS[first:] for change in fault[0]]
    facts = {name: value for fault in FAULTS[first:] for name, value in fault[1].items()}

    assert refused(*changes, **facts)[0] is FAULTS[first][2]


def second_flow(**values: object) -> Change:
    def change(tables: Tables) -> None:
        flows = tables[SHARING]["flow"]
        flows.append({**flows[0], "id": "second", **values})

    return change


def test_of_several_clauses_the_one_that_permits_is_chosen() -> None:
    decision = decided(EXPLICIT, second_flow(consent="NOT_REQUIRED"))

    assert isinstance(decision, Permitted)
    assert decision.clause == "second"


def test_of_several_clauses_that_permit_the_first_is_chosen() -> None:
    decision = decided(second_flow())

    assert isinstance(decision, Permitted)
    assert decision.clause == "check"


def test_of_several_clauses_that_refuse_the_one_that_came_furthest_is_told() -> None:
    decision = decided(second_flow(purposes=["YJ"]), flow(purposes=["YJ"]), practitioner=None)
    assert isinstance(decision, Refused)
    assert decision.clause == "check"

    further = decided(
        gateway(route=[{"from": ["POLICE"], "to": ["any"]}]),
        more_gateways(new_gateway("CA04-10")),
        second_flow(gateways=["CA04-10"]),
        practitioner=None,
    )
    assert isinstance(further, Refused)
    assert (further.clause, further.reason) == ("second", Reason.PRACTITIONER)


def test_the_charity_of_the_world_is_reached_by_nobody() -> None:
    assert refused(recipient=CHARITY)[0] is Reason.NO_ISP
    assert FACTS.sender != CHARITY
