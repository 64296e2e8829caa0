"""Sharing protocols and the register they compile into: what is accepted, and each mistake."""

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from typing import Any

import pytest

from broker.core.agency import MAILBOX
from broker.core.assembly import build_register, certificate_files, digest_of
from broker.core.identity import AgencyId
from broker.core.message import Address
from broker.core.table import Mistake
from tests.unit.policy_world import (
    CHARITY,
    CSC,
    SHARING,
    WORLD,
    YOT,
    Change,
    Tables,
    amendment,
    files,
    flow,
    plain,
    protocol,
    register,
    table,
)
from tests.unit.test_agency import P256 as PUBLIC
from tests.unit.test_agency import pem


def party(number: int, **values: object) -> Change:
    return lambda tables: tables[SHARING]["party"][number].update(values)


def item(number: int, **values: object) -> Change:
    return lambda tables: tables[SHARING]["flow"][0]["item"][number].update(values)


def without(file: str) -> Change:
    def change(tables: Tables) -> None:
        del tables[file]

    return change


def twice_a_flow(tables: Tables) -> None:
    tables[SHARING]["flow"] *= 2


def twice_an_item(tables: Tables) -> None:
    tables[SHARING]["flow"][0]["item"] *= 2


def without_list(tables: Tables) -> None:
    del tables["code-lists.toml"]["list"][1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (protocol(tier=4), r"tier: write 0 \(memorandum\)"),
        (protocol(status="VALID"), "status: 'VALID' is not known"),
        (protocol(review_date=None), "review_date: this key is missing"),
        (
            protocol(parent="community@2"),
            "parent: name a sharing protocol that exists: community@1",
        ),
        (protocol(parent="memorandum@1"), "parent: name one of tier 1"),
        (protocol(lead_organisation="scc"), "lead_organisation: 'scc' is not known: did you mean"),
        (protocol(purpose=[]), "purpose: write one table or more"),
        (protocol(retention=None), "retention: this key is missing"),
        (protocol(retention={"period": "1 year"}), r"\[retention\], trigger: this key is missing"),
        (protocol(subject_categories=["ADULT"]), "subject_categories: 'ADULT' is not known"),
        (protocol(dpia_ref=None), "dpia_ref: this key is missing"),
        (protocol(titel="x"), "titel: this key is not known: did you mean title"),
        (protocol(id="other"), r"a file named sharing/other.v1.toml"),
        (protocol(version=2), r"a file named sharing/checks.v2.toml"),
        (party(0, agency="yots"), r"\[party 1\], agency: 'yots' is not known"),
        (party(1, role="OWNER"), r"\[party 2\], role"),
        (party(0, capacity="RECEIVER"), r"\[flow 1\], from: 'YOT' is not known"),
        (party(1, capacity="SENDER"), r"\[flow 1\], to: 'csc' is not known"),
        (flow(message_types=["Check"]), "message_types: write type and version"),
        (flow(message_types=["/1.0"]), "message_types: write type and version"),
        (flow(message_types=["Check/"]), "message_types: write type and version"),
        (flow(purposes=["CP"]), "purposes: 'CP' is not known"),
        (flow(gateways=["DPA-S1-18"]), "gateways: 'DPA-S1-18' is not known"),
        (flow(conditions=["CDA-115"]), "conditions: 'CDA-115' is not known"),
        (flow(consent="ASKED"), "consent: 'ASKED' is not known"),
        (flow(to=["POLICE"]), "to: 'POLICE' is not known"),
        (flow(item=[]), r"\[\[flow 1.item\]\]"),
        (flow(practitioner={"authentication": "AAL4"}), r"\[flow 1.practitioner\], authentication"),
        (flow(practitioner={"rolls": ["X"]}), "rolls: this key is not known: did you mean roles"),
        (item(0, targets=["category:identiy"]), "did you mean category:identity"),
        (item(0, include="MANDATORY"), "MANDATORY names a path, not a category"),
        (item(0, transform="BLUR"), r"\[flow 1.item 1\], transform: 'BLUR'"),
        (item(0, necessity=""), "necessity: write a text"),
        (twice_a_flow, "flow: give every flow an id of its own"),
        (twice_an_item, "category:identity has a rule in this flow already"),
        (without("gateways.toml"), "gateways.toml: this file is missing"),
        (without_list, "the list DataCategory is missing"),
        (table("agencies/yot.toml", id="tot"), "id: an id of a-z"),
        (table("agencies/yot.toml", id="Yot"), "id: an id of a-z"),
        (table("agencies/yot.toml", type="YOTT"), "type: 'YOTT' is not known: did you mean YOT"),
        (table("agencies/yot.toml", system=[]), "system: write one table or more"),
        (table("agencies/yot.toml", flags={"acting_for": "x"}), r"acting_for: x is not an agency"),
        (table("agencies/yot.toml", flags={"listed_16LA": "D"}), "listed_16LA: 'D' is not known"),
        (table("agencies/yot.toml", delivery={"adapter": "post"}), "adapter: 'post'"),
        (
            table("agencies/yot.toml", delivery={"settings": {"url": ["x"]}}),
            "settings: url is a text or a whole number",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_cure(change: Change, words: str) -> None:
    with pytest.raises(Mistake, match=words) as caught:
        register(change)

    assert ".toml" in caught.value.detail


def test_a_party_must_be_bound_by_what_its_protocol_stands_on() -> None:
    def leave(tables: Tables) -> None:
        community = tables["sharing/community.v1.toml"]
        community["party"] = [one for one in community["party"] if one["agency"] != "csc"]
        community["signatory"] = [one for one in community["signatory"] if one["party"] != "csc"]

    with pytest.raises(Mistake, match="csc must first become a party of community@1"):
        register(leave)


def test_somebody_who_is_no_party_cannot_sign() -> None:
    def stranger(tables: Tables) -> None:
        tables[SHARING]["signatory"][0]["party"] = "police"

    with pytest.raises(Mistake, match=r"\[signatory 1\], party: 'police' is not known"):
        register(stranger)


def test_the_index_is_by_sender_recipient_and_type() -> None:
    held = plain()

    assert [clause.clause_id for clause in held.clauses(YOT, CSC, "Check")] == ["check"]
    assert held.clauses(CSC, YOT, "Check") == ()
    assert held.clauses(YOT, CSC, "Other") == ()
    assert held.types_between == {(YOT, CSC): frozenset({"Check"})}
    assert held.reach == {(YOT, "Check"): (CSC,)}


def test_a_type_in_a_flow_stands_for_the_parties_of_that_type_only() -> None:
    by_type = register(flow(to=["LA_CSC", "YOT"]))

    assert set(by_type.index) == {(YOT, CSC, "Check")}


def test_capacity_limits_what_a_type_stands_for() -> None:
    both = flow(**{"from": ["YOT", "LA_CSC"], "to": ["YOT", "LA_CSC"]})

    assert len(register(both).index) == 2
    sender_only = register(
        flow(**{"from": ["YOT", "LA_CSC"], "to": ["LA_CSC"]}), party(0, capacity="SENDER")
    )
    assert set(sender_only.index) == {(YOT, CSC, "Check")}


def test_a_flow_of_several_types_is_a_clause_for_each() -> None:
    held = register(flow(message_types=["Check/1.0", "Check/1.1", "Other/1.0"]))

    assert held.clauses(YOT, CSC, "Check")[0].versions == {"1.0", "1.1"}
    assert held.clauses(YOT, CSC, "Other")[0].versions == {"1.0"}


def test_a_clause_knows_what_its_flow_asks() -> None:
    clause = plain().clauses(YOT, CSC, "Check")[0]

    assert clause.mandatory == ("Question",)
    assert clause.asks_consent_reason
    assert not clause.asks_categories
    assert [one.protocol_id for one in clause.chain] == ["checks", "community", "memorandum"]
    assert not register(flow(conditions=None)).clauses(YOT, CSC, "Check")[0].asks_consent_reason


def test_versions_are_indexed_newest_first() -> None:
    held = register(amendment(2, effective_from=date(2027, 1, 1)))

    assert [one.protocol.version for one in held.clauses(YOT, CSC, "Check")] == [2, 1]


def test_an_agency_is_as_its_file_says() -> None:
    held = register(
        table(
            "agencies/yot.toml",
            status="suspended",
            capabilities=["QUERIES_INDEX"],
            ico_registration="Z1",
            delivery={"adapter": "webhook", "settings": {"url": "https://yot.example", "port": 1}},
        )
    )

    agency = held.agencies[YOT]
    assert not agency.active
    assert (agency.name, agency.type, agency.areas) == ("Yot", "YOT", ("E08000024",))
    assert agency.capabilities == {"QUERIES_INDEX"}
    assert agency.delivery.settings == {"url": "https://yot.example", "port": 1}
    assert agency.contacts[0].role == "duty-desk"
    assert held.agencies[CSC].delivery == MAILBOX


def test_an_agency_id_stands_for_itself_known_or_not() -> None:
    assert plain().resolve(Address(CSC)) == (CSC,)
    assert plain().resolve(Address(AgencyId("nobody"))) == (AgencyId("nobody"),)


def test_a_type_and_an_area_stand_for_the_active_agencies_that_serve_it() -> None:
    second = {**WORLD["agencies/charity.toml"], "id": "a-charity"}

    def more(tables: Tables) -> None:
        tables["agencies/a-charity.toml"] = second

    asked = Address(agency_type="VCS", area="E08000024")

    assert register(more).resolve(asked) == ("a-charity", CHARITY)
    assert plain().resolve(Address(agency_type="VCS", area="E08000037")) == ()
    assert plain().resolve(Address(agency_type="GP", area="E08000024")) == ()
    suspended = register(table("agencies/charity.toml", status="suspended"))
    assert suspended.resolve(asked) == ()


CERTIFICATE = "certificates/yot/signing.cert.pem"


def with_certificate(**values: Any) -> Change:
    return table("agencies/yot.toml", certificate=[{"file": CERTIFICATE, **values}])


def test_certificates_are_registered_from_their_files() -> None:
    held = build_register(files(with_certificate()), {CERTIFICATE: pem()}, {})

    assert len(held.agencies[YOT].keys) == 1


@pytest.mark.parametrize("blobs", [{}, {CERTIFICATE: b"nothing"}])
def test_a_certificate_that_cannot_be_read_is_a_mistake(blobs: dict[str, bytes]) -> None:
    with pytest.raises(Mistake, match="is not a certificate in PEM"):
        build_register(files(with_certificate()), blobs, {})


def with_encryption(**values: Any) -> Change:
    return table("agencies/yot.toml", encryption=[{"file": "k.pub.pem", **values}])


def test_keys_to_encrypt_to_are_registered_from_their_files() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    held = build_register(files(with_encryption(valid_from=start)), {"k.pub.pem": PUBLIC}, {})

    (key,) = held.agencies[YOT].encryption
    assert (key.pem, key.valid_from) == (PUBLIC, start)


@pytest.mark.parametrize("blobs", [{}, {"k.pub.pem": b"nothing"}])
def test_a_key_to_encrypt_to_that_cannot_be_read_is_a_mistake(blobs: dict[str, bytes]) -> None:
    with pytest.raises(Mistake, match="is not a public key on P-256"):
        build_register(files(with_encryption()), blobs, {})


def system(**values: object) -> Change:
    return table("agencies/yot.toml", system=[{"system_id": "s", **values}])


def test_a_system_has_its_certificates_and_client_keys() -> None:
    tables = files(system(tls_certificates=[CERTIFICATE], client_id="yot-s", client_keys=["k.pem"]))

    held = build_register(tables, {CERTIFICATE: pem()}, {"k.pem": {"kty": "EC"}})

    made = held.agencies[YOT].systems[0]
    assert len(made.tls_fingerprints) == 1
    assert made.client_id == "yot-s"
    assert made.jwks == {"keys": [{"kty": "EC"}]}
    bare = plain().agencies[YOT].systems[0]
    assert (bare.tls_fingerprints, bare.client_id, bare.jwks) == (frozenset(), None, None)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (system(tls_certificates=["x.pem"]), "tls_certificates: x.pem is not a certificate"),
        (system(client_keys=["x.pem"]), "client_keys: x.pem is not a public key"),
    ],
)
def test_a_system_without_its_files_is_a_mistake(change: Change, words: str) -> None:
    with pytest.raises(Mistake, match=words):
        register(change)


def test_the_files_an_agency_names_are_found() -> None:
    agency = {
        "certificate": [{"file": "a.pem"}],
        "encryption": [{"file": "d.pem"}],
        "system": [{"tls_certificates": ["b.pem"], "client_keys": ["c.pem"]}, {}],
    }

    assert certificate_files(agency) == (["a.pem", "d.pem", "b.pem"], ["c.pem"])
    assert certificate_files({}) == ([], [])


def test_the_digest_changes_with_anything_that_is_said() -> None:
    said = digest_of(WORLD, {"a.pem": b"1"})

    assert len(said) == 64
    assert plain().digest == digest_of(WORLD, {})
    assert said != digest_of(WORLD, {"a.pem": b"2"})
    assert said != digest_of(files(flow(consent="INFORMED_ONLY")), {"a.pem": b"1"})
    assert said == digest_of(dict(reversed(WORLD.items())), {"a.pem": b"1"})


def test_a_register_cannot_be_changed() -> None:
    held = plain()

    for one in (held, held.clauses(YOT, CSC, "Check")[0], held.protocols["checks@1"]):
        assert is_dataclass(one)
        with pytest.raises(AttributeError):
            setattr(one, fields(one)[0].name, None)


def test_changes_of_the_world_do_not_stay() -> None:
    change: Callable[[Tables], None] = flow(consent="INFORMED_ONLY")
    register(change)

    assert WORLD[SHARING]["flow"][0]["consent"] == "NOT_REQUIRED"


@pytest.mark.parametrize(
    ("consent", "sensitive", "asks"),
    [
        ("NOT_REQUIRED", "NOT_REQUIRED", False),
        ("INFORMED_ONLY", "INFORMED_ONLY", False),
        ("NOT_REQUIRED", "EXPLICIT_OR_HARM", True),
        ("EXPLICIT_REQUIRED", "EXPLICIT_REQUIRED", True),
    ],
)
def test_a_flow_asks_consent_if_some_messages_pass_only_with_it(
    consent: str, sensitive: str, *, asks: bool
) -> None:
    held = register(flow(consent=consent, sensitive_consent=sensitive))

    assert held.protocols["checks@1"].flows[0].asks_consent is asks
