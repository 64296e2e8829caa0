import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
import rfc8785

from broker.core.decision import decide_facts
from broker.core.in_force import as_if_in_force
from broker.core.outcome import Permitted, Refused
from broker.core.policy_log import (
    canonical_agreement,
    designation,
    digest_of_agreement,
    import_key,
    read_log,
)
from broker.core.reasons import Reason
from broker.core.table import Mistake
from tests.unit.policy_world import CSC, FACTS, NOW, SHARING, WORLD
from tests.unit.signatories import EVERYBODY, START, Desk, other, person

STRONG = {**WORLD[SHARING]["flow"][0]["practitioner"], "authentication": "AAL3"}
WIDE_FLOW: dict[str, Any] = {"purposes": ["YJ"], "consent": "NOT_REQUIRED", "practitioner": None}


def reason(desk: Desk, now: datetime = NOW) -> Reason | None:
    decision = decide_facts(FACTS, CSC, desk.in_force().register, (), now)
    return decision.reason if isinstance(decision, Refused) else None


def flow_of(desk: Desk, **values: object) -> list[dict[str, Any]]:
    flow = copy.deepcopy(desk.files[SHARING]["flow"][0])
    flow.update(values)
    return [{key: value for key, value in flow.items() if value is not None}]


def test_what_every_party_signed_and_one_activated_is_in_force() -> None:
    desk = Desk().found()

    held = desk.in_force()

    assert isinstance(decide_facts(FACTS, CSC, held.register, (), NOW), Permitted)
    assert held.changed == ()
    protocol = held.register.protocols["checks@1"]
    assert [one.party for one in protocol.signatories] == ["yot", "csc"]
    assert protocol.signatories[0].name == "Person yot"
    ruling = held.policy.rulings["checks@1"]
    assert ruling.reference == "checks@1"
    assert protocol.in_force_from == ruling.activated_at
    assert reason(desk, START) is Reason.ISP_NOT_ACTIVE


def test_an_agreement_can_be_tried_as_if_it_had_begun_on_its_first_day() -> None:
    dated, undated = {"effective_from": date(2026, 7, 1), "status": "DRAFT"}, {"status": "DRAFT"}
    beside: dict[str, Any] = {"other": {"status": "DRAFT"}}

    tried = as_if_in_force({**beside, "this": dated}, "this")

    midnight = datetime(2026, 6, 30, 23, tzinfo=UTC)  # in London it is summer
    assert tried == {**beside, "this": {**dated, "status": "ACTIVE", "activated_at": midnight}}
    assert as_if_in_force({"this": undated}, "this") == {"this": {"status": "ACTIVE"}}


def test_without_signatures_a_file_that_calls_itself_active_is_a_draft() -> None:
    assert reason(Desk()) is Reason.ISP_NOT_ACTIVE


def test_the_operator_changes_nothing_by_changing_a_file() -> None:
    desk = Desk().found()
    digest = desk.in_force().register.digest

    desk.files[SHARING]["flow"] = flow_of(desk, practitioner=None, **{"from": ["YOT", "csc"]})
    held = desk.in_force()

    assert held.changed == (SHARING,)
    assert held.register.digest == digest
    assert reason(desk) is None
    del desk.files[SHARING]
    assert desk.in_force().register.digest == digest


def test_the_operator_stops_nothing_by_a_file_or_a_later_draft() -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=STRONG))
    desk.files[SHARING]["status"] = "SUSPENDED"

    assert reason(desk) is None


@pytest.mark.parametrize("signers", [("yot",), ("csc",)])
def test_a_first_version_needs_every_party(signers: tuple[str, ...]) -> None:
    desk = Desk()
    for party in EVERYBODY:
        desk.designate(party)
    desk.begin("checks@1", *signers)

    with pytest.raises(Mistake, match=r"is not signed by (csc|yot)"):
        desk.in_force()


def test_a_first_version_needs_a_party_that_sends_and_receives_nothing_by_it() -> None:
    desk = Desk()
    silent = {"agency": "camhs", "role": "CONTROLLER", "capacity": "BOTH"}
    desk.files[SHARING]["party"].append(silent)
    for party in EVERYBODY:
        desk.designate(party)
    for protocol in ("memorandum@1", "community@1"):
        desk.begin(protocol, *EVERYBODY)
    desk.begin("checks@1", "yot", "csc")

    with pytest.raises(Mistake, match="is not signed by camhs"):
        desk.in_force()


@pytest.mark.parametrize("signers", [("yot",), ("csc",)])
def test_a_later_version_that_widens_needs_both(signers: tuple[str, ...]) -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=None))
    desk.begin("checks@2", *signers)

    with pytest.raises(Mistake, match="checks@2 is not signed by"):
        desk.in_force()


def test_a_later_version_that_narrows_needs_one() -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=STRONG))
    desk.begin("checks@2", "csc")

    assert reason(desk) is Reason.PRACTITIONER


def test_a_later_version_that_narrows_needs_at_least_one() -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=STRONG))
    desk.act("activate", "csc", "checks@2")

    with pytest.raises(Mistake, match="not signed by any party"):
        desk.in_force()


def test_a_later_version_with_both_signatures_may_widen() -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=None))
    desk.begin("checks@2", "csc", "yot")

    decision = decide_facts(
        replace(FACTS, practitioner=None), CSC, desk.in_force().register, (), NOW
    )
    assert isinstance(decision, Permitted)
    assert decision.version == 2


def test_a_framework_always_needs_everybody() -> None:
    desk = Desk().found()
    desk.files["sharing/community.v2.toml"] = {
        **copy.deepcopy(desk.files["sharing/community.v1.toml"]),
        "version": 2,
    }
    desk.begin("community@2", *EVERYBODY[:4])

    with pytest.raises(Mistake, match="not signed by police"):
        desk.in_force()


def test_what_was_narrowed_is_not_brought_back_by_one_hand() -> None:
    desk = Desk().found()
    desk.amend(2, flow=flow_of(desk, practitioner=STRONG))
    desk.begin("checks@2", "csc")
    desk.act("activate", "yot", "checks@1")

    with pytest.raises(Mistake, match="version 2 is in the log"):
        desk.in_force()


def test_a_version_is_activated_once_and_what_stopped_it_stays() -> None:
    desk = Desk().found()
    desk.act("suspend", "csc", "checks@1", cause="incident")
    desk.act("activate", "yot", "checks@1")

    with pytest.raises(Mistake, match="version 1 is in the log"):
        desk.in_force()


def test_a_version_between_two_that_were_in_force_comes_too_late() -> None:
    desk = Desk().found()
    for version in (2, 3):
        desk.amend(version, flow=flow_of(desk, practitioner=STRONG))
    desk.begin("checks@3", "csc")
    desk.begin("checks@2", "csc")

    with pytest.raises(Mistake, match="version 3 is in the log"):
        desk.in_force()


@pytest.mark.parametrize("end", ["not_valid_before_utc", "not_valid_after_utc"])
def test_a_person_signs_from_the_first_instant_of_the_certificate_to_the_last(end: str) -> None:
    desk, bound = Desk(), getattr(person("yot")[1], end)
    desk.at = min(bound, START)
    desk.designate("yot")
    desk.at = bound
    desk.act("sign", "yot", "checks@1")
    assert len(desk.in_force().policy.signed) == 1
    desk.at = person("yot")[1].not_valid_after_utc + timedelta(seconds=1)
    desk.act("sign", "yot", "checks@1")

    with pytest.raises(Mistake, match="certificate of the signer was not valid then"):
        desk.in_force()


def test_one_party_suspends_and_all_bring_it_back() -> None:
    desk = Desk().found()
    desk.act("suspend", "csc", "checks@1", cause="incident")
    assert reason(desk) is Reason.ISP_SUSPENDED
    desk.act("resume", "csc", "checks@1")
    assert reason(desk) is Reason.ISP_SUSPENDED
    desk.act("suspend", "yot", "checks@1", cause="review")
    desk.act("resume", "yot", "checks@1")
    assert reason(desk) is Reason.ISP_SUSPENDED  # the other has to say so again
    desk.act("resume", "csc", "checks@1")
    assert reason(desk) is None


def test_one_party_ends_it_for_good() -> None:
    desk = Desk().found()
    desk.act("terminate", "yot", "checks@1", cause="notice")
    assert reason(desk) is Reason.ISP_EXPIRED
    desk.act("resume", "yot", "checks@1")

    with pytest.raises(Mistake, match="checks@1 has ended"):
        desk.in_force()


def test_only_the_lead_stops_what_all_stand_on() -> None:
    desk = Desk().found()
    desk.act("suspend", "csc", "community@1")
    assert reason(desk) is Reason.ISP_SUSPENDED
    desk.act("suspend", "yot", "memorandum@1")

    with pytest.raises(Mistake, match="stopped by its lead, csc"):
        desk.in_force()


def test_the_rules_of_an_earlier_day_can_be_asked_for() -> None:
    desk = Desk().found()
    before = desk.at
    desk.act("suspend", "csc", "checks@1")

    assert (
        desk.in_force(before - timedelta(minutes=1)).policy.rulings["checks@1"].status == "ACTIVE"
    )
    assert desk.in_force(before).policy.rulings["checks@1"].status == "SUSPENDED"


def test_another_designated_person_is_named_by_one_before() -> None:
    desk = Desk().found()
    desk.designate("csc", "deputy", by="csc")
    desk.act("withdraw", "csc", by="deputy", person=desk.acts[1].person)
    desk.act("suspend", "csc", "checks@1", by="deputy")
    held = desk.in_force()

    assert held.policy.rulings["checks@1"].status == "SUSPENDED"
    assert held.register.protocols["checks@1"].signatories[1].name == "Person csc"
    desk.act("suspend", "csc", "checks@1")
    with pytest.raises(Mistake, match="not signed by a designated person of csc"):
        desk.in_force()


WRONG: list[tuple[str, Callable[[Desk], None], str]] = [
    ("a stranger", lambda d: d.act("suspend", "csc", "checks@1", by="stranger"), "not signed by"),
    ("another party", lambda d: d.act("suspend", "csc", "checks@1", by="yot"), "not signed by"),
    ("no party", lambda d: d.act("suspend", "police", "checks@1"), "police is no party"),
    (
        "never began",
        lambda d: d.act("suspend", "yot", "checks@2"),
        "not activated",
    ),
    ("not suspended", lambda d: d.act("resume", "yot", "checks@1"), "is not suspended"),
    ("self-made", lambda d: d.designate("csc", "operator"), "not signed by a designated person"),
    ("first by another", lambda d: d.designate("new", "new", by="yot"), "with their own key"),
    (
        "first forged",
        lambda d: d.act("designate", "new", **_brought("new"), forge=other(party="newer")),
        "with their own key",
    ),
    ("no certificate", lambda d: d.act("designate", "csc", name="x"), "names no certificate"),
    ("bad certificate", lambda d: d.act("designate", "csc", certificate="eHg="), "no certificate"),
    ("not theirs", lambda d: d.act("withdraw", "csc", person="0"), "of its own"),
    (
        "of another agency",
        lambda d: d.act("withdraw", "csc", person=d.acts[0].person),
        "of its own",
    ),
    (
        "changed after signing",
        lambda d: d.act("suspend", "csc", "checks@1", forge=other(act="terminate")),
        "not that of the person",
    ),
    (
        "no signature",
        lambda d: d.act("suspend", "csc", "checks@1", forge=other(signature="")),
        "not that of the person",
    ),
    (
        "another name",
        lambda d: d.act("sign", "csc", "checks@1", forge=other(protocol="checks@7")),
        "is not checks@7",
    ),
    (
        "another agreement",
        lambda d: d.act("sign", "csc", "checks@1", forge=other(digest="ab")),
        "signed/ab.toml is missing",
    ),
    (
        "out of time",
        lambda d: d.act("sign", "csc", "checks@1", days=9999),
        "not valid then",
    ),
]


def _brought(name: str) -> dict[str, str]:
    return designation(person(name)[1], name, "Head")


@pytest.mark.parametrize(
    ("act", "words"), [one[1:] for one in WRONG], ids=[one[0] for one in WRONG]
)
def test_an_act_that_is_not_the_persons_to_do_stops_the_log(
    act: Callable[[Desk], None], words: str
) -> None:
    desk = Desk().found()
    desk.amend(2)
    act(desk)

    with pytest.raises(Mistake, match=words):
        desk.in_force()


def test_a_signature_of_another_persons_certificate_does_not_count() -> None:
    desk = Desk().found()
    desk.act("suspend", "csc", "checks@1", by="yot", forge=other(person=desk.acts[1].person))

    with pytest.raises(Mistake, match="not that of the person named"):
        desk.in_force()


def test_a_signed_agreement_that_was_changed_is_refused() -> None:
    desk = Desk().found()
    digest = desk.in_force().policy.rulings["checks@1"].digest
    desk.agreements[digest] = {**desk.agreements[digest], "title": "Another"}

    with pytest.raises(Mistake, match="not what was signed"):
        desk.in_force()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda lines: lines[1:], "changed, moved or taken away"),
        (lambda lines: [lines[0], *lines[2:]], "changed, moved or taken away"),
        (lambda lines: [lines[1], lines[0]], "changed, moved or taken away"),
        (
            lambda lines: [lines[0], lines[1].replace('"number":2,', '"number":3,')],
            "changed, moved or taken away",
        ),
        (lambda _: ["{}"], "not a line of a policy log"),
        (lambda _: ["[]"], "not a line of a policy log"),
        (lambda _: ["no"], "not a line of a policy log"),
        (lambda lines: [lines[0].replace(":1,", ": 1,")], "as this log is written"),
        (lambda lines: [lines[0].replace("designate", "promote")], "as this log is written"),
    ],
)
def test_a_log_is_a_chain(change: Callable[[list[str]], list[str]], words: str) -> None:
    lines = Desk().found().sources.log.splitlines()

    with pytest.raises(Mistake, match=words):
        read_log("\n".join(change(lines)))


def test_who_has_signed_is_known_before_anything_is_activated() -> None:
    desk = Desk()
    desk.designate("yot")
    desk.act("sign", "yot", "checks@1")
    policy = desk.in_force().policy

    assert policy.signers(desk.acts[-1].digest) == {"yot"}
    assert policy.signers("ab") == set()
    assert policy.rulings == {}


def test_only_a_key_signs() -> None:
    with pytest.raises(ValueError, match="not a key that can sign"):
        import_key(b"no key")


def test_a_log_does_not_go_back_in_time() -> None:
    desk = Desk()
    desk.designate("yot")
    desk.at = START - timedelta(hours=1)
    desk.designate("csc")

    with pytest.raises(Mistake, match="earlier than the line before"):
        read_log(desk.sources.log)


def test_what_is_signed_is_the_agreement_in_the_form_of_rfc_8785() -> None:
    content = Desk().files[SHARING]
    plain = json.loads(json.dumps(content, default=date.isoformat))
    about = ("status", "signatory")

    expected = rfc8785.dumps({key: value for key, value in plain.items() if key not in about})

    assert canonical_agreement(content) == expected
    assert digest_of_agreement({**content, "status": "DRAFT"}) == digest_of_agreement(content)


def test_a_local_flow_that_narrows_needs_one_and_takes_the_place_of_its_parents() -> None:
    desk = Desk().found()
    desk.files["sharing/local.v1.toml"] = local(desk, consent="EXPLICIT_REQUIRED")
    desk.begin("local@1", "csc")

    assert reason(desk) is Reason.NO_CONSENT
    desk.act("suspend", "csc", "local@1")
    assert reason(desk) is Reason.ISP_SUSPENDED


def local(desk: Desk, **flow: object) -> dict[str, Any]:
    parent = desk.files[SHARING]
    keys = ("title", "instrument", "status", "effective_from", "review_date", "party", "purpose")
    return {
        **{key: copy.deepcopy(parent[key]) for key in (*keys, "lead_organisation", "signatory")},
        "id": "local",
        "version": 1,
        "tier": 3,
        "parent": "checks@1",
        "flow": flow_of(desk, **flow),
    }


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        ({"practitioner": None}, "only narrows checks@1: no practitioner"),
        ({"id": "another"}, "give it the id"),
        ({"message_types": ["Check/1.0", "Check/2.0"]}, "Check in more versions"),
    ],
)
def test_a_local_flow_never_widens(flow: dict[str, object], words: str) -> None:
    desk = Desk().found()
    desk.files["sharing/local.v1.toml"] = local(desk, **flow)

    refused_once_signed(desk, words)


def refused_once_signed(desk: Desk, words: str) -> None:
    """As a draft it is left out and told of, and nothing else changes."""
    held = desk.in_force()
    assert words in held.unusable["sharing/local.v1.toml"]
    assert reason(desk) is None
    desk.begin("local@1", "csc", "yot")
    with pytest.raises(Mistake, match=words):
        desk.in_force()


def test_a_local_flow_is_for_no_more_purposes() -> None:
    desk = Desk().found()
    made = local(desk, purposes=["YJ", "CP"])
    made["purpose"].append({"code": "CP", "statement": "To protect", "benefits": "In time"})
    desk.files["sharing/local.v1.toml"] = made

    refused_once_signed(desk, "for more purposes")


def test_drafts_that_cannot_be_used_are_left_out_one_by_one() -> None:
    desk = Desk().found()
    before = desk.in_force().register.digest
    desk.files["sharing/odd.v1.toml"] = {"id": "odd"}
    desk.files["sharing/strange.v1.toml"] = {**desk.files[SHARING], "id": "another"}

    held = desk.in_force()

    assert set(held.unusable) == {"sharing/odd.v1.toml", "sharing/strange.v1.toml"}
    assert held.register.digest == before
    del desk.files["gateways.toml"]
    with pytest.raises(Mistake, match=r"gateways\.toml"):
        desk.in_force()
