"""Two engines agree on every schema: on samples, and on samples that were damaged.

Also the commands that people use on schemas, and that what the broker itself writes
(receipts, evidence, reduced envelopes) follows the schemas it publishes.
"""

import json
import shutil
from copy import deepcopy
from dataclasses import replace
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import xmlschema
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lxml import etree

from broker.cli import run
from broker.core.errors import Permanent
from broker.core.identity import AgencyId, SubmissionId
from broker.core.message import Header
from broker.core.minimise import minimise
from broker.core.outcome import FieldRule, Permitted, RecipientVerdict, Refused
from broker.core.reasons import Reason
from broker.core.receipt import Issuer, evidence_xml, receipt_xml
from broker.core.samples import sample_payload, sample_types
from broker.core.signing import build_envelope, sign_canonical, sign_envelope
from broker.core.submission import Acknowledgement, Place, Submission
from broker.edge.schemas import check_schemas, load_schemas, seal_schemas
from tests.unit.signing_world import NOW, examined, schemas, signing_key
from tests.unit.test_signing import HEADER

ROOT = Path(__file__).parents[2] / "schemas"
TYPES = sample_types()


@cache
def second_engine(file: str) -> Any:
    return xmlschema.XMLSchema10(str(ROOT / file), allow="local", defuse="always")


@cache
def first_engine(file: str) -> etree.XMLSchema:
    return etree.XMLSchema(file=str(ROOT / file))


def judged(message_type: str, payload: etree._Element) -> tuple[bool, bool]:
    file = schemas().entry(message_type, "1.0").file
    parsed = etree.fromstring(etree.tostring(payload))
    return first_engine(file).validate(parsed), bool(second_engine(file).is_valid(parsed))


# -- the two engines --------------------------------------------------------------------------


@pytest.mark.parametrize("message_type", TYPES)
def test_both_engines_accept_the_samples(message_type: str) -> None:
    for seed in range(4):
        payload = etree.fromstring(sample_payload(message_type, seed))
        assert judged(message_type, payload) == (True, True)


VALUES = st.sampled_from(
    [
        "", " ", "0", "-1", "+1", "01", "1.0", "1e3", "true", "1", "TRUE", " true ", "NaN", "1.001",
        ".5", "5.", "9" * 30, "2026-02-30", "2026-02-28Z", " 2026-01-01 ", "0000-01-01",
        "2026-06-01T24:00:00Z", "2026-06-01T10:00:00", "2026-06-01T10:00:00+14:00",
        "2026-06-01T10:00:00+14:01", "2026-06-01T10:00:00.1234567Z", "2026-06-01T23:59:60Z",
        "NE8 1HH", "GIR 0AA", "ne8 1hh", "NE81HH", "٣", "é", "e\u0301", "\u2028", "\u0085", "\x7f",
        "𠮷", "a" * 36, "a" * 101, "𠮷" * 36, "a" * 501, "a" * 4001, "AAAA", "AAA=", "A A A A", "=",
        "https://x.example", "https://x.example/é", "ftp://x", "a@b", "a@", "9990000018", "M", "NS",
        "P391200025001", "a\nb", "a\tb", "\u202e", "+44 191 498 0000", "CDA-66ZA/ZB",
    ]
)  # fmt: skip
TEXT = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=40
)


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_both_engines_give_the_same_verdict_on_a_damaged_sample(data: st.DataObject) -> None:
    message_type = data.draw(st.sampled_from(TYPES))
    payload = etree.fromstring(sample_payload(message_type, data.draw(st.integers(0, 30))))
    element = data.draw(st.sampled_from([*payload.iter()]))
    damage(data, element)

    first, second = judged(message_type, payload)

    assert first is second


def damage(data: st.DataObject, element: etree._Element) -> None:
    parent = element.getparent()
    kind = data.draw(
        st.sampled_from(["value", "text", "drop", "double", "move", "new", "rename", "note"])
    )
    if kind in ("value", "text") or parent is None:
        element.text = data.draw(VALUES if kind == "value" else TEXT)
        # xmlschema strips every space of Unicode, where XML has four; lxml is right.
        assume(not any(c.isspace() and c not in " \t\r\n" for c in element.text))
    elif kind == "drop":
        parent.remove(element)
    elif kind == "double":
        parent.append(deepcopy(element))
    elif kind == "move":
        parent.insert(0, element)
    elif kind == "new":
        etree.SubElement(element, f"{{{etree.QName(element).namespace}}}Subject")
    elif kind == "rename":
        element.tag = etree.QName(element).localname
    else:
        element.set("note", "1")


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(["FamilyName", "GivenName", "Agency", "Line"]), value=TEXT)
def test_both_engines_read_names_and_lines_alike_in_every_script(name: str, value: str) -> None:
    payload = etree.fromstring(sample_payload("Referral", 4))
    element = next(payload.iter(f"{{urn:fame:referral:1.0}}{name}"))
    element.text = value

    first, second = judged("Referral", payload)

    assert first is second


# -- the documents that the broker writes -----------------------------------------------------

ISSUER = Issuer(
    AgencyId("fame-broker"),
    sign=lambda canonical: sign_canonical(canonical, signing_key()),
    sandbox=True,
)
PLACE = Place(7, b"\xab" * 32)


def submission(*fields: FieldRule) -> Submission:
    payload = sample_payload("Referral", 2)
    raw = sign_envelope(build_envelope(referral_header(), payload), signing_key())
    permitted = Permitted("ne-referrals", 1, "referral", "CA89-47", fields, warnings=("Mend it.",))
    refused = Refused(Reason.NO_ISP, 3, change="Ask for a protocol.")
    message = examined(raw)
    return Submission(
        submission_id=SubmissionId("01900000-0000-7000-8000-000000000001"),
        message=message,
        verdicts=(
            RecipientVerdict(AgencyId("gateshead-csc"), permitted, withheld=("Child/Phone[1]",)),
            RecipientVerdict(AgencyId("northumbria-police"), refused),
        ),
        subject_ref=None,
        received_at=NOW,
        decided_at=NOW,
        expires_at=NOW,
        register_digest="d" * 64,
        trace_id="0" * 32,
        peer="test",
    )


def referral_header() -> Header:
    return replace(HEADER, message_type="Referral", schema_version="1.0", purpose="CP")


def assert_follows(name: str, document: bytes) -> None:
    schema = schemas().documents[name]
    root = etree.fromstring(document)
    assert schema.validate(root)
    assert second_engine(schemas().catalogue.documents[name, "1.0"].file).is_valid(root)


def test_a_receipt_follows_its_schema_signed_and_unsigned() -> None:
    receipt = receipt_xml(submission(), PLACE, ISSUER)

    assert_follows("Receipt", receipt)
    assert_follows("Receipt", ISSUER.sign(receipt))


@pytest.mark.parametrize(
    ("level", "reason"), [("L2", None), ("L3", None), ("undeliverable", Reason.NOT_COLLECTED)]
)
def test_evidence_follows_its_schema(level: str, reason: Reason | None) -> None:
    one = submission()
    acknowledgement = Acknowledgement(
        submission_id=one.submission_id,
        message_id=one.message.header.message_id,
        sender=one.message.header.sender,
        recipient=AgencyId("gateshead-csc"),
        message_digest=one.message.digest,
        level=level,
        at=NOW,
        reason=reason,
    )

    assert_follows("Evidence", ISSUER.sign(evidence_xml(acknowledgement, PLACE, ISSUER)))


def test_a_reduced_envelope_follows_its_schema() -> None:
    fields = tuple(
        FieldRule(f"category:{name}", "ALLOWED", transform)
        for name, transform in (
            ("identity", "NONE"), ("address", "GENERALISE"),
            ("contact", "MASK"), ("family", "HASH"),
        )
    )  # fmt: skip
    one = submission(*fields)
    permitted = one.verdicts[0].decision
    assert isinstance(permitted, Permitted)

    reduced = minimise(one.message, permitted, schemas(), b"s" * 32).body

    assert reduced is not None
    assert_follows("ReducedEnvelope", sign_envelope(reduced, signing_key()))


def test_an_envelope_signed_by_us_follows_its_schema_in_both_engines() -> None:
    raw = sign_envelope(
        build_envelope(referral_header(), sample_payload("Referral", 2)), signing_key()
    )

    assert_follows("Envelope", raw)


# -- sealing ----------------------------------------------------------------------------------


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    shutil.copytree(ROOT, folder)
    unpublished(folder)
    return folder


def unpublished(folder: Path, *published: str) -> None:
    catalogue = folder / "catalogue.toml"
    head, _, tail = catalogue.read_text().partition("published = [")
    names = ", ".join(f'"{name}"' for name in published)
    catalogue.write_text(f"{head}published = [{names}{tail[tail.index(']') :]}")


def touch(folder: Path, file: str = "vacancy/1.0/vacancy.xsd") -> None:
    path = folder / file
    path.write_text(path.read_text().replace("An advertised post.", "A post that is advertised."))


def test_a_changed_schema_is_refused_until_it_is_sealed(copied: Path) -> None:
    touch(copied)
    with pytest.raises(Permanent, match="not the one that was sealed"):
        load_schemas(copied)

    assert seal_schemas(copied, dry_run=True) == ["vacancy/1.0/vacancy.xsd"]
    with pytest.raises(Permanent):
        load_schemas(copied)
    assert seal_schemas(copied) == ["vacancy/1.0/vacancy.xsd"]

    assert load_schemas(copied).digest != load_schemas(ROOT).digest
    assert seal_schemas(copied) == []


def test_a_published_schema_is_never_sealed_again(copied: Path) -> None:
    unpublished(copied, "vacancy/1.0")
    touch(copied)

    with pytest.raises(Permanent, match="is published and stays as it is"):
        seal_schemas(copied)


def test_a_file_that_comes_or_goes_is_sealed_with_the_rest(copied: Path) -> None:
    shutil.copy(copied / "base/1.0/base.xsd", copied / "base/1.0/more.xsd")
    assert seal_schemas(copied) == ["base/1.0/more.xsd"]

    (copied / "base/1.0/more.xsd").unlink()
    assert seal_schemas(copied) == ["base/1.0/more.xsd"]
    assert load_schemas(copied).digest == sealed_digest(copied)


def sealed_digest(folder: Path) -> str:
    return sha256((folder / "catalogue.toml").read_bytes()).hexdigest()


def test_what_would_not_be_a_sealed_set_is_not_written(copied: Path) -> None:
    before = (copied / "catalogue.toml").read_bytes()
    (copied / "vacancy/1.0/vacancy.xsd").write_text("<a")

    with pytest.raises(Permanent, match="does not compile"):
        seal_schemas(copied)

    assert (copied / "catalogue.toml").read_bytes() == before


@pytest.mark.parametrize("use", [load_schemas, seal_schemas])
def test_a_folder_without_a_catalogue_is_refused(use: Any, tmp_path: Path) -> None:
    with pytest.raises(Permanent, match="cannot read"):
        use(tmp_path)


def test_a_catalogue_that_cannot_be_read_is_not_sealed(copied: Path) -> None:
    (copied / "catalogue.toml").write_text("nonsense")

    with pytest.raises(Permanent):
        seal_schemas(copied)


# -- checking ---------------------------------------------------------------------------------


def test_all_schemas_pass_the_check() -> None:
    checked = list(check_schemas(ROOT))

    assert {one.name for one in checked} >= set(TYPES) | {"Envelope", "Receipt"}
    assert [one for one in checked if one.fault] == []


def resealed(folder: Path, file: str, old: str, new: str) -> dict[str, str]:
    path = folder / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    seal_schemas(folder)
    return {one.name: one.fault for one in check_schemas(folder)}


def test_a_schema_that_refuses_a_sample_fails_the_check(copied: Path) -> None:
    faults = resealed(copied, "report/1.0/report.xsd", '"EXPIRED"', '"OVER"')

    assert faults["NonDeliveryReport"].startswith(
        "a sample is refused: the value is not in the list"
    )
    assert not faults["Referral"]


def test_a_schema_that_one_engine_alone_takes_fails_the_check(copied: Path) -> None:
    faults = resealed(copied, "report/1.0/report.xsd", "[A-Za-z]{1,63}", "[A-Za-z]{63,1}")

    assert "xmlschema does not compile it" in faults["NonDeliveryReport"]


def test_a_sample_that_one_engine_alone_takes_fails_the_check(copied: Path) -> None:
    # Whether an underscore is a word character the two engines see differently.
    faults = resealed(
        copied,
        "report/1.0/report.xsd",
        r"(sender|policy|recipient|broker)(\.[a-z0-9_]{1,40}){1,3}",
        r"([a-z.]|\W)+",
    )

    assert faults["NonDeliveryReport"] == "xmlschema refuses a sample that lxml accepts"


# -- the command ------------------------------------------------------------------------------


def test_the_list_names_every_message_type(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "ls", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)
    assert {row["type"] for row in rows} == set(TYPES)
    assert run(["schema", "ls"]) == 0
    assert "urn:fame:referral:1.0" in capsys.readouterr().out


def test_the_check_says_good_or_ends_with_one(
    copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema", "check", "--json"]) == 0
    assert {row["result"] for row in json.loads(capsys.readouterr().out)} == {"good"}

    resealed(copied, "report/1.0/report.xsd", '"EXPIRED"', '"OVER"')
    assert run(["schema", "check", "--schemas", str(copied)]) == 1
    assert "a sample is refused" in capsys.readouterr().out


def test_sealing_tells_what_it_did(copied: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "seal", "--schemas", str(copied)]) == 0
    assert capsys.readouterr().out == "nothing has changed\n"
    touch(copied)
    assert run(["schema", "seal", "--dry-run", "--schemas", str(copied)]) == 0
    assert capsys.readouterr().out == "vacancy/1.0/vacancy.xsd would be sealed\n"
    assert run(["schema", "seal", "--schemas", str(copied)]) == 0
    assert capsys.readouterr().out == "vacancy/1.0/vacancy.xsd sealed\n"


def test_the_documentation_is_printed_or_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["schema", "docs", "referral"]) == 0
    assert "## ReferralOutcome" in capsys.readouterr().out

    assert run(["schema", "docs", "--out", str(tmp_path / "new")]) == 0
    written = {path.name for path in (tmp_path / "new").iterdir()}
    families = {entry.family for entry in schemas().catalogue.messages.values()} | {"envelope"}
    assert written == {f"{name}.{end}" for name in families for end in ("html", "md")}
    assert "sha256-rsa-MGF1" in (tmp_path / "new" / "envelope.html").read_text()


def test_a_family_that_is_not_there_is_told_with_those_that_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["schema", "docs", "gossip"]) == 2
    assert "name one of: vacancy" in capsys.readouterr().err
