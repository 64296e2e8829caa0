"""What a clause withholds is withheld: by path, by category, in every form, without a trace."""

import hmac
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.core import minimise as minimising
from broker.core.consent import WHOLE, Reach
from broker.core.identity import AgencyId, MessageId
from broker.core.message import Address, Header, ValidMessage, VerifiedMessage
from broker.core.minimise import UNTOUCHED, Minimised, minimise
from broker.core.outcome import FieldRule, Permitted
from broker.core.plan import Action, make_plan
from broker.core.protocol import Clause, Register
from broker.core.samples import sample_payload
from broker.core.schema import SchemaSet
from broker.core.signing import build_envelope, sign_envelope
from broker.edge.registers import load_register
from broker.edge.schemas import load_schemas
from tests.unit.policy_world import NOW, ROOT, message
from tests.unit.signing_world import signing_key

SALT_KEY = b"s" * 32
TELLING = 8  # characters: a shorter value, such as true or 1, may stand elsewhere too
E = "{urn:fame:envelope:1.0}"

CATEGORIES = {
    "Ref": "administrative",
    "Child": "identity",
    "Child/Name": "identity",
    "Child/BirthDate": "identity",
    "Child/Address": "address",
    "Child/Address/Line": "address",
    "Child/Address/PostCode": "address",
    "Child/Address/UPRN": "location",
    "Health": "health",
    "Health/Note": "health",
    "Health/SeenAt": "health",
    "Secret": "sensitive-involvement",
    "Secret/Service": "sensitive-involvement",
}
PAYLOAD = """<Check xmlns="urn:x"><Ref>R-1</Ref><Child><Name>Ada</Name>
<BirthDate>2011-05-06</BirthDate><Address><Line>1 Elm St</Line><Line>Hylton</Line>
<PostCode>NE1 4ST</PostCode><UPRN>77</UPRN></Address>
</Child><Health><Note>Asthma</Note><SeenAt>2026-05-06T10:11:12Z</SeenAt></Health></Check>"""
SECRET = "<Secret><Service>CAMHS</Service></Secret></Check>"


class World:
    """The categories of one message type."""

    def __init__(self, categories: Mapping[str, str]) -> None:
        self._categories = categories

    def categories(self, message_type: str, version: str) -> Mapping[str, str]:
        assert (message_type, version) == ("Check", "1.0")
        return self._categories


def rules(
    *targets: str, include: str = "ALLOWED", transform: str = "NONE"
) -> tuple[FieldRule, ...]:
    return tuple(FieldRule(target, include, transform) for target in targets)


EVERYTHING = rules(*(f"category:{name}" for name in sorted(set(CATEGORIES.values()))))


def reduced(
    fields: tuple[FieldRule, ...],
    payload: str = PAYLOAD,
    *,
    strip_location: bool = False,
    reach: Reach = WHOLE,
) -> Minimised:
    permitted = Permitted(
        "checks", 1, "check", "CDA-115", fields, strip_location=strip_location, reach=reach
    )
    return minimise(message(payload), permitted, World(CATEGORIES), SALT_KEY)


def text_of(minimised: Minimised) -> dict[str, str]:
    """Return the values of the reduced payload by path."""
    return {path: leaf.text or "" for path, leaf in leaves(root_of(minimised)[1][0])}


def root_of(minimised: Minimised) -> etree._Element:
    assert minimised.body is not None
    return etree.fromstring(minimised.body)


def leaves(element: etree._Element, prefix: str = "") -> Iterator[tuple[str, etree._Element]]:
    for child in element:
        path = prefix + etree.QName(child).localname
        if len(child):
            yield from leaves(child, path + "/")
        else:
            yield path, child


def withheld(minimised: Minimised) -> list[tuple[str, str]]:
    return [(part.path, part.action) for part in minimised.withheld]


def said(minimised: Minimised) -> list[tuple[str | None, ...]]:
    """Return what the recipient is told was withheld."""
    return [tuple(x.text for x in part) for part in root_of(minimised).iter(f"{E}Withheld")]


def test_where_all_is_allowed_the_original_goes_untouched() -> None:
    assert reduced(EVERYTHING) is UNTOUCHED


def test_what_no_rule_reaches_is_forbidden() -> None:
    minimised = reduced(rules("category:administrative"))

    assert text_of(minimised) == {"Ref": "R-1"}
    assert withheld(minimised) == [("Child", "REMOVED"), ("Health", "REMOVED")]


def test_a_payload_without_what_is_forbidden_goes_untouched() -> None:
    without = '<Check xmlns="urn:x"><Ref>R-1</Ref></Check>'
    allowed = rules("category:administrative", "category:sensitive-involvement")

    assert reduced(allowed, without) is UNTOUCHED


def test_a_payload_of_which_nothing_is_forbidden_in_fact_goes_untouched() -> None:
    payload = '<Check xmlns="urn:x"><Child><Name>Ada</Name></Child><Health/></Check>'
    allowed = rules("Child/Name", "category:health", "category:sensitive-involvement")

    assert reduced(allowed, payload) is UNTOUCHED


def test_a_path_reaches_what_is_below_it() -> None:
    minimised = reduced(rules("Child/Address"))

    assert set(text_of(minimised)) == {
        "Child/Address/Line",
        "Child/Address/PostCode",
        "Child/Address/UPRN",
    }
    assert ("Child/Name", "REMOVED") in withheld(minimised)


def test_a_path_does_not_reach_another_that_begins_alike() -> None:
    plan = make_plan(rules("Child"), {"Child": "identity", "Childminder": "identity"})

    assert plan.child("Childminder").gone


def test_a_category_reaches_its_own_elements_only() -> None:
    minimised = reduced(rules("category:location"))

    assert text_of(minimised) == {"Child/Address/UPRN": "77"}


@pytest.mark.parametrize("target", ["Child/Address", "category:address", "category:identity"])
def test_a_rule_that_forbids_outweighs_all_that_allow_and_takes_what_is_below(target: str) -> None:
    minimised = reduced((*EVERYTHING, *rules("Child"), FieldRule(target, "FORBIDDEN")))

    assert not [path for path in text_of(minimised) if "Address" in path]


def test_a_mandatory_item_is_allowed() -> None:
    assert text_of(reduced(rules("Ref", include="MANDATORY"))) == {"Ref": "R-1"}


def test_of_a_shielded_person_address_and_location_go_whatever_a_clause_allows() -> None:
    minimised = reduced((*EVERYTHING, *rules("Child")), strip_location=True)

    assert set(text_of(minimised)) == {
        "Ref",
        "Child/Name",
        "Child/BirthDate",
        "Health/Note",
        "Health/SeenAt",
    }
    assert withheld(minimised) == [("Child/Address", "REMOVED")]


def test_what_a_person_did_not_agree_to_goes_and_what_is_in_it_by_its_own_category() -> None:
    found = reduced(EVERYTHING, reach=Reach(frozenset({"location"})))

    assert text_of(found) == {
        "Ref": "R-1",
        "Child/Name": "Ada",
        "Child/BirthDate": "2011-05-06",
        "Child/Address/UPRN": "77",  # inside an element of another category
    }
    assert ("Health", "REMOVED") in withheld(found)
    for gone in ("Asthma", "Elm St", "NE1 4ST"):
        assert gone.encode() not in (found.body or b"")


def test_what_a_person_declined_goes_with_all_that_is_in_it() -> None:
    found = reduced(EVERYTHING, reach=Reach(never=frozenset({"address"})))

    assert ("Child/Address", "REMOVED") in withheld(found)
    assert "Child/Address/UPRN" not in text_of(found)
    assert text_of(found)["Health/Note"] == "Asthma"


def test_consent_opens_nothing_that_the_clause_withholds() -> None:
    found = reduced(rules("category:administrative"), reach=Reach(frozenset({"health"})))

    assert text_of(found) == {"Ref": "R-1"}


def test_a_sensitive_service_that_consent_does_not_reach_is_not_said_to_be_there() -> None:
    secret = PAYLOAD.replace("</Check>", SECRET)
    found = reduced(EVERYTHING, secret, reach=Reach(frozenset({"health"})))
    without = reduced(EVERYTHING, reach=Reach(frozenset({"health"})))

    assert all("Secret" not in str(line) for line in said(found))
    assert said(found) == said(without)
    assert b"CAMHS" not in (found.body or b"")


def test_an_element_that_no_schema_names_is_dropped() -> None:
    payload = PAYLOAD.replace("<Ref>", "<Extra><A>canary-1</A></Extra><Ref>")
    plan = make_plan(rules("Child"), CATEGORIES)

    assert plan.touches(etree.fromstring(payload))
    minimised = reduced(rules("Child"), payload)
    assert b"canary" not in (minimised.body or b"")
    assert ("Extra", "REMOVED") in withheld(minimised)


def test_attributes_are_not_copied() -> None:
    payload = PAYLOAD.replace("<Name>", '<Name note="canary-2">')

    assert b"canary" not in (reduced(rules("Child"), payload).body or b"")


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("Child/BirthDate", "2011-05"),
        ("Child/Address/PostCode", "NE1"),
        ("Health/SeenAt", "2026-05-06"),
    ],
)
def test_dates_instants_and_postcodes_become_less_exact(target: str, value: str) -> None:
    minimised = reduced((*EVERYTHING, *rules(target, transform="GENERALISE")))

    assert text_of(minimised)[target] == value
    assert withheld(minimised) == [(target, "GENERALISED")]


def test_what_has_no_general_form_is_removed() -> None:
    minimised = reduced((*EVERYTHING, *rules("Child/Name", transform="GENERALISE")))

    assert "Child/Name" not in text_of(minimised)
    assert withheld(minimised) == [("Child/Name", "REMOVED")]


def test_a_masked_value_shows_that_there_is_one_and_no_more() -> None:
    minimised = reduced((*EVERYTHING, *rules("Child/Name", transform="MASK")))

    assert text_of(minimised)["Child/Name"] == "***"
    assert withheld(minimised) == [("Child/Name", "MASKED")]


def test_a_hashed_value_is_the_same_within_a_protocol_and_another_across() -> None:
    fields = (*EVERYTHING, *rules("Child/Name", transform="HASH"))
    again = PAYLOAD.replace("R-1", "R-2")

    first, second = reduced(fields), reduced(fields, again)
    other = minimise(
        message(PAYLOAD),
        Permitted("others", 1, "check", "CDA-115", fields),
        World(CATEGORIES),
        SALT_KEY,
    )

    names = [text_of(one)["Child/Name"] for one in (first, second, other)]
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 32
    assert withheld(first) == [("Child/Name", "HASHED")]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("NONE", "GENERALISE", "GENERALISED"),
        ("GENERALISE", "HASH", "HASHED"),
        ("HASH", "MASK", "MASKED"),
        ("MASK", "NONE", "MASKED"),
    ],
)
def test_of_several_rules_that_allow_the_strictest_transform_holds(
    one: str, other: str, expected: str
) -> None:
    by_path = rules("Child", transform=one)
    by_category = rules("category:identity", transform=other)

    assert make_plan((*by_path, *by_category), CATEGORIES).child("Child").child("Name").action == (
        expected
    )


def test_a_transform_of_a_path_holds_for_what_is_below_it() -> None:
    plan = make_plan(rules("Child", transform="MASK"), CATEGORIES)

    assert plan.child("Child").child("Address").child("Line").action is Action.MASKED


def test_the_reduced_envelope_says_from_what_and_by_whose_rule_it_was_made() -> None:
    root = root_of(reduced(rules("Ref")))

    assert [etree.QName(child).localname for child in root] == ["Header", "Payload", "Reduction"]
    facts = {etree.QName(part).localname: part.text for part in root[2] if not len(part)}
    assert facts == {
        "OriginalDigest": "01" * 32,
        "Signer": "ab" * 32,
        "Broker": "fame-broker",
        "Protocol": "checks",
        "ProtocolVersion": "1",
        "Clause": "check",
    }
    assert root[0].findtext(f"{E}MessageId") == "1"


def test_repeated_elements_are_told_apart_by_position() -> None:
    minimised = reduced((*EVERYTHING, *rules("Child/Address/Line", transform="MASK")))

    assert withheld(minimised) == [
        ("Child/Address/Line[1]", "MASKED"),
        ("Child/Address/Line[2]", "MASKED"),
    ]
    assert said(minimised) == withheld(minimised)


def test_an_element_of_which_nothing_is_left_is_one_line() -> None:
    minimised = reduced(rules("Ref", "Health/Nothing"))

    assert withheld(minimised) == [("Child", "REMOVED"), ("Health", "REMOVED")]
    emptied = reduced(rules("Ref", "Child/Address/UPRN"), PAYLOAD.replace("<UPRN>77</UPRN>", ""))
    assert ("Child", "REMOVED") in withheld(emptied)


@pytest.mark.parametrize(
    "forbidding",
    [(), rules("Secret", include="FORBIDDEN"), rules("Secret/Service", include="FORBIDDEN")],
)
def test_that_a_sensitive_service_was_there_is_not_said(
    forbidding: tuple[FieldRule, ...],
) -> None:
    unnamed = tuple(rule for rule in EVERYTHING if "sensitive" not in rule.target)
    allowed = (*unnamed, *forbidding)

    with_it = reduced(allowed, PAYLOAD.replace("</Check>", SECRET))
    without = reduced(allowed)

    assert withheld(with_it) == [("Secret", "REMOVED")]
    assert with_it.body == without.body
    assert with_it.body is not None


def test_nor_by_the_element_around_it() -> None:
    categories = {"Ref": "administrative", "Box": "health", "Box/S": "sensitive-involvement"}
    payload = '<Check xmlns="urn:x"><Ref>1</Ref><Box><S>canary-3</S></Box></Check>'
    permitted = Permitted("checks", 1, "box", "CDA-115", rules("Ref", "category:health"))

    minimised = minimise(message(payload), permitted, World(categories), SALT_KEY)

    assert withheld(minimised) == [("Box", "REMOVED")]
    assert said(minimised) == []
    assert "Box" not in (minimised.body or b"").decode()


def test_what_may_be_said_is_said_of_an_element_that_is_left_empty() -> None:
    categories = {
        "Ref": "administrative",
        "Box": "health",
        "Box/S": "sensitive-involvement",
        "Box/T": "education",
        "Box/U": "administrative",  # would be shown, and is not there
    }
    payload = '<Check xmlns="urn:x"><Ref>1</Ref><Box><S>canary-3</S><T>canary-4</T></Box></Check>'
    permitted = Permitted("checks", 1, "mixed", "CDA-115", rules("Ref", "category:administrative"))

    minimised = minimise(message(payload), permitted, World(categories), SALT_KEY)

    assert withheld(minimised) == [("Box", "REMOVED")]
    assert said(minimised) == [("Box", "REMOVED")]


def test_a_reduced_envelope_follows_its_schema_once_it_is_signed() -> None:
    schemas = partnership()[1]
    clause, version = next(
        one for one in every_clause() if one[0].clause_id == "yot-answers-school"
    )
    header = Header(
        MessageId("0190b0a0-0000-7000-8000-000000000001"),
        "InformationResponse",
        version,
        AgencyId("sunderland-yot"),
        "careworks",
        (Address(AgencyId("hylton-school")),),
        "CP",
        NOW,
    )
    envelope = build_envelope(header, sample_payload("InformationResponse", 3))
    root = etree.fromstring(envelope)
    verified = VerifiedMessage(b"", b"", root, header, b"\x01" * 32, "ab" * 32, "rsa-sha256")
    asked = ValidMessage(verified, header, root[1][0], None, "")
    permitted = Permitted(clause.protocol.protocol_id, 1, clause.clause_id, "G", clause.fields)

    reduced_one = minimise(asked, permitted, schemas, SALT_KEY)

    assert reduced_one.body is not None
    signed = etree.fromstring(sign_envelope(reduced_one.body, signing_key()))
    schema = etree.XMLSchema(file=str(ROOT / "schemas/envelope/1.0/reduced.xsd"))
    assert schema.validate(signed), schema.error_log


def commitments(minimised: Minimised) -> dict[str, tuple[str | None, str]]:
    return {
        leaf.findtext(f"{E}Path") or "": (
            leaf.findtext(f"{E}Salt"),
            leaf.findtext(f"{E}Digest") or "",
        )
        for leaf in root_of(minimised).iter(f"{E}Leaf")
    }


def test_every_value_that_stays_can_be_checked_against_its_digest() -> None:
    minimised = reduced(rules("Ref", "Child/Name"))

    found = commitments(minimised)

    for path, value in text_of(minimised).items():
        salt, digest = found[path]
        assert salt is not None
        assert sha256(bytes.fromhex(salt) + path.encode() + value.encode()).hexdigest() == digest
    assert set(found) == {
        "Ref",
        "Child/Name",
        "Child/BirthDate",
        "Child/Address/Line[1]",
        "Child/Address/Line[2]",
        "Child/Address/PostCode",
        "Child/Address/UPRN",
        "Health/Note",
        "Health/SeenAt",
    }


def test_the_salt_of_a_withheld_or_changed_value_is_kept_back() -> None:
    minimised = reduced((*rules("Ref"), *rules("Child/Name", transform="MASK")))

    salts = {path: salt for path, (salt, _) in commitments(minimised).items()}

    assert salts.pop("Ref") is not None
    assert set(salts.values()) == {None}


def test_a_salt_says_nothing_about_another_path_or_another_message() -> None:
    asked = message(PAYLOAD)
    later = replace(asked, verified=replace(asked.verified, digest=b"\x02" * 32))
    permitted = Permitted("checks", 1, "check", "CDA-115", rules("Ref", "Child/Name"))

    first = commitments(minimise(asked, permitted, World(CATEGORIES), SALT_KEY))
    second = commitments(minimise(later, permitted, World(CATEGORIES), SALT_KEY))

    salts = [first["Ref"][0], first["Child/Name"][0], second["Ref"][0]]
    assert len(set(salts)) == 3
    of_message = hmac.digest(SALT_KEY, b"\x01" * 32, "sha256")
    assert salts[0] == hmac.digest(of_message, b"Ref", "sha256").hex()


def test_the_same_message_is_reduced_to_the_same_bytes() -> None:
    assert reduced(rules("Ref")).body == reduced(rules("Ref")).body


def test_a_plan_of_an_older_register_is_not_used() -> None:
    schemas = World(CATEGORIES)
    for target, kept in (("Ref", {"Ref": "R-1"}), ("Child/Name", {"Child/Name": "Ada"})):
        permitted = Permitted("checks", 1, "check", "CDA-115", rules(target))
        assert text_of(minimise(message(PAYLOAD), permitted, schemas, SALT_KEY)) == kept


def test_a_plan_is_made_once_while_nothing_changed() -> None:
    fields, schemas = rules("Ref"), World(CATEGORIES)
    permitted = Permitted("remembered", 1, "check", "CDA-115", fields)

    minimise(message(PAYLOAD), permitted, schemas, SALT_KEY)
    made = dict(minimising._plans)
    minimise(message(PAYLOAD), permitted, schemas, SALT_KEY)

    assert all(minimising._plans[key] is plan for key, plan in made.items())
    minimise(message(PAYLOAD), permitted, World(CATEGORIES), SALT_KEY)
    assert any(minimising._plans[key] is not plan for key, plan in made.items())


def test_plans_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minimising, "PLANS_MAX", 2)
    for version in range(6):
        permitted = Permitted("piling", version, "check", "CDA-115", rules("Ref"))
        minimise(message(PAYLOAD), permitted, World(CATEGORIES), SALT_KEY)

    assert len(minimising._plans) <= 2


@cache
def partnership() -> tuple[Register, SchemaSet]:
    return load_register(ROOT / "protocols"), load_schemas(ROOT / "schemas")


def every_clause() -> list[tuple[Clause, str]]:
    found: dict[tuple[str, str, str], tuple[Clause, str]] = {}
    for clauses in partnership()[0].index.values():
        for clause in clauses:
            for version in clause.versions:
                key = (clause.protocol.reference, clause.clause_id, clause.message_type)
                found[key] = (clause, version)
    return list(found.values())


def canaries(categories: Mapping[str, str], root: str, twice: frozenset[str]) -> etree._Element:
    """Return a payload with every element a type can hold, each leaf with a value of its own."""
    elements = {"": etree.Element(f"{{urn:x}}{root}")}
    parents = {path.rpartition("/")[0] for path in categories}
    for number, path in enumerate(categories):
        above, _, name = path.rpartition("/")
        for copy in range(2 if path in twice and path not in parents else 1):
            element = etree.SubElement(elements[above], f"{{urn:x}}{name}")
            elements[path] = element
            if path not in parents:
                element.text = f"canary{number}x{copy}x"
    return elements[""]


@pytest.mark.parametrize("strip", [False, True])
def test_no_withheld_byte_is_in_what_a_recipient_gets_under_any_clause(
    strip: bool,  # noqa: FBT001 - the parameter of the test
) -> None:
    for clause, version in every_clause():
        check_canaries(clause, version, frozenset(), strip=strip)


@settings(deadline=None)  # the first example reads the partnership
@given(st.data())
def test_nor_where_elements_are_repeated(data: st.DataObject) -> None:
    clause, version = data.draw(st.sampled_from(every_clause()))
    categories = partnership()[1].categories(clause.message_type, version)
    twice = data.draw(st.frozensets(st.sampled_from(sorted(categories)), max_size=5))

    check_canaries(clause, version, twice, strip=data.draw(st.booleans()))


@pytest.mark.parametrize("strip", [False, True])
def test_nor_in_a_sample_of_any_message_type(strip: bool) -> None:  # noqa: FBT001
    for clause, version in every_clause():
        if clause.message_type != "NonDeliveryReport":  # the broker's own, of which no sample is
            payload = etree.fromstring(sample_payload(clause.message_type, 11))
            check(clause, version, payload, strip=strip)


def check_canaries(clause: Clause, version: str, twice: frozenset[str], *, strip: bool) -> None:
    categories = partnership()[1].categories(clause.message_type, version)
    check(clause, version, canaries(categories, clause.message_type, twice), strip=strip)


def check(clause: Clause, version: str, payload: etree._Element, *, strip: bool) -> None:
    """Check that the recipient gets every value it may have, and no byte of the others."""
    schemas = partnership()[1]
    categories = schemas.categories(clause.message_type, version)
    asked = message(
        etree.tostring(payload).decode(), message_type=clause.message_type, schema_version=version
    )
    permitted = Permitted(
        clause.protocol.protocol_id, 1, clause.clause_id, "G", clause.fields, strip_location=strip
    )

    minimised = minimise(asked, permitted, schemas, SALT_KEY)

    kept = {path for path in categories if may_have(clause.fields, categories, path, strip=strip)}
    expected = [(path, leaf.text) for path, leaf in leaves(payload) if path in kept]
    if minimised.body is None:
        assert expected == [(path, leaf.text) for path, leaf in leaves(payload)]
        return
    assert [(path, leaf.text) for path, leaf in leaves(root_of(minimised)[1][0])] == expected
    known = "\n".join(value or "" for _, value in expected)
    hidden = {leaf.text or "" for path, leaf in leaves(payload) if path not in kept}
    telling = [value for value in hidden if len(value) >= TELLING and value not in known]
    assert not [value for value in telling if value.encode() in minimised.body]


def may_have(
    fields: tuple[FieldRule, ...], categories: Mapping[str, str], path: str, *, strip: bool
) -> bool:
    """Say it again, slowly and in another way: may the recipient have what stands at ``path``."""
    steps = path.split("/")
    around = ["/".join(steps[: n + 1]) for n in range(len(steps))]
    for one in around:
        if strip and categories[one] in ("address", "location"):
            return False
        for rule in fields:
            if rule.include == "FORBIDDEN" and rule.target in (one, f"category:{categories[one]}"):
                return False
    allowing = {rule.target for rule in fields if rule.include in ("ALLOWED", "MANDATORY")}
    return bool(allowing & {*around, f"category:{categories[path]}"})
