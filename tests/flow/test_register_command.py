"""`fame protocol` and `fame agency`, on a copy of the sandbox partnership."""

import json
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run
from broker.cli.sample import new_header
from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.samples import sample_payload
from broker.core.signing import build_envelope
from broker.edge.jwe import own_keys, recipient_key
from broker.edge.registers import load_register

ROOT = Path(__file__).parents[2]

Fame = Callable[..., tuple[int, str]]


@pytest.fixture
def protocols(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    return Path(shutil.copytree(ROOT / "protocols", tmp_path / "protocols"))


@pytest.fixture
def fame(protocols: Path, capsys: pytest.CaptureFixture[str]) -> Fame:
    def call(*arguments: str) -> tuple[int, str]:
        code = run([*arguments, "--protocols", str(protocols)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def as_json(fame: Fame, *arguments: str) -> tuple[int, Any]:
    code, out = fame(*arguments, "--json")
    return code, json.loads(out)


def status_of(protocols: Path, agency: str) -> str:
    found = load_register(protocols).agencies
    return next(one.status for name, one in found.items() if name == agency)


REFERRAL = ("--from", "hylton-school", "--type", "Referral", "--purpose", "CP")


def test_the_sharing_protocols_are_listed(fame: Fame) -> None:
    code, out = fame("protocol", "ls")
    _, rows = as_json(fame, "protocol", "ls")

    assert code == 0
    assert "ne-yot-checks@1" in out
    assert {row["state"] for row in rows} == {"in force"}


def test_one_is_shown_with_its_flows_and_why_each_item_is_necessary(fame: Fame) -> None:
    code, out = fame("protocol", "show", "ne-child-index")
    _, document = as_json(fame, "protocol", "show", "ne-child-index@1")

    assert code == 0
    assert "No browsing" in out
    assert "(EXPLICIT_OR_HARM for sensitive services)" in out
    assert document["lead_organisation"] == "sunderland-csc"


def test_one_that_is_not_there_is_told_with_those_that_are(fame: Fame) -> None:
    code, out = fame("protocol", "show", "ne-yot")

    assert code == 2
    assert "ne-yot-checks@1" in out


def test_lint_finds_nothing_in_the_sandbox(fame: Fame) -> None:
    assert fame("protocol", "lint") == (0, "14 sharing protocols, nothing found.\n")


def test_lint_fails_on_an_error(fame: Fame, protocols: Path) -> None:
    path = protocols / "sharing/ne-vacancies.v1.toml"
    path.write_text(path.read_text().replace("Vacancy/Contact/Phone", "Vacancy/Contact/Fone"))

    code, out = fame("protocol", "lint")
    _, findings = as_json(fame, "protocol", "lint")

    assert code == 1
    assert "Vacancy/Contact/Fone" in out
    assert findings[0]["severity"] == "error"


def test_a_suspended_and_an_overdue_protocol_are_listed_so(fame: Fame, protocols: Path) -> None:
    for name, before, after in (
        ("ne-vacancies", 'status = "ACTIVE"', 'status = "SUSPENDED"'),
        ("ne-referrals", 'status = "ACTIVE"', 'status = "OVERDUE"'),
    ):
        path = protocols / f"sharing/{name}.v1.toml"
        path.write_text(path.read_text().replace(before, after))

    _, rows = as_json(fame, "protocol", "ls")
    states = {row["protocol"]: row["state"] for row in rows}

    assert states["ne-vacancies@1"] == "suspended"
    assert states["ne-referrals@1"] == "overdue"


def test_a_refusal_is_explained_with_the_smallest_lawful_change(fame: Fame) -> None:
    code, out = fame("protocol", "explain", "--to", "northumbria-police", *REFERRAL)

    assert code == 3
    assert "policy.no_isp" in out
    assert "send it to gateshead-csc or sunderland-csc, as agreed" in out


def test_a_permission_is_explained_with_its_clause_and_a_field(fame: Fame) -> None:
    asked = ("--from", "sunderland-csc", "--to", "sunderland-yot", "--type", "YOTCheckResponse")
    field = ("--purpose", "YJ", "--field", "HealthInvolvement/Provider")

    code, out = fame("protocol", "explain", *asked, *field)
    _, documents = as_json(fame, "protocol", "explain", *asked, *field)

    assert code == 0
    assert "flow check-response-csc" in out
    assert "The team asks health services themselves" in out
    assert documents[0]["field"]["action"] == "REMOVED"
    assert documents[0]["gateway"] == "CDA-115"


def test_a_question_without_its_parts_is_refused(fame: Fame) -> None:
    assert fame("protocol", "explain", "--from", "hylton-school")[0] == 2


def test_a_message_is_explained_for_each_recipient(fame: Fame, tmp_path: Path) -> None:
    to = ["sunderland-csc", "northumbria-police"]
    header = new_header("Referral", "hylton-school", to, "CP", system="sims")
    file = tmp_path / "message.xml"
    file.write_bytes(build_envelope(header, sample_payload("Referral", 7)))

    code, documents = as_json(fame, "protocol", "explain", "--in", str(file))
    _, one = as_json(fame, "protocol", "explain", "--in", str(file), "--to", "northumbria-police")

    assert code == 3
    assert [(one["to"], one["decision"]) for one in documents] == [
        ("sunderland-csc", "permitted"),
        ("northumbria-police", "refused"),
    ]
    assert [document["to"] for document in one] == ["northumbria-police"]


def test_the_agencies_are_listed_and_shown(fame: Fame) -> None:
    code, out = fame("agency", "ls")
    _, rows = as_json(fame, "agency", "ls")
    _, shown = fame("agency", "show", "regional-index")
    _, document = as_json(fame, "agency", "show", "northern-lights")

    assert code == 0
    assert "NHS_COMMUNITY" in out
    assert len(rows) == 16
    assert "acting_for = sunderland-csc" in shown
    assert "sunderland-csc" in document["sends_to"]
    assert "northumbria-police" not in document["sends_to"]


def test_an_agency_that_is_not_there_is_told_with_those_that_are(fame: Fame) -> None:
    code, out = fame("agency", "show", "hylton")

    assert code == 2
    assert "hylton-school" in out


def test_an_agency_is_suspended_and_the_suspension_lifted(fame: Fame, protocols: Path) -> None:
    assert fame("agency", "suspend", "hylton-school")[0] == 0
    assert status_of(protocols, "hylton-school") == "suspended"
    assert "already" in fame("agency", "suspend", "hylton-school")[1]
    code, out = fame("protocol", "explain", "--to", "sunderland-csc", *REFERRAL)
    assert (code, "policy.agency_suspended" in out) == (3, True)

    assert fame("agency", "suspend", "hylton-school", "--lift")[0] == 0

    assert status_of(protocols, "hylton-school") == "active"


def test_suspending_adds_a_status_where_none_is_written(fame: Fame, protocols: Path) -> None:
    file = protocols / "agencies/hylton-school.toml"
    file.write_text(file.read_text().replace('status = "active"\n', ""))

    fame("agency", "suspend", "hylton-school")

    assert status_of(protocols, "hylton-school") == "suspended"


def test_a_dry_run_changes_nothing(fame: Fame, protocols: Path) -> None:
    before = load_register(protocols).digest

    assert fame("agency", "suspend", "hylton-school", "--dry-run")[0] == 0
    assert fame(*NEW, "--dry-run")[0] == 0

    assert load_register(protocols).digest == before


NEW = (
    "agency",
    "add",
    "new-school",
    "--name",
    'The "New" School',
    "--type",
    "SCHOOL",
    "--system",
    "arbor",
    "--email",
    "duty@new-school.example",
    "--area",
    "E08000037",
)


def test_an_agency_is_added_and_shares_nothing_yet(fame: Fame, protocols: Path) -> None:
    assert fame(*NEW)[0] == 0

    _, document = as_json(fame, "agency", "show", "new-school")
    assert document["name"] == 'The "New" School'
    assert document["areas"] == ["E08000037"]
    assert document["sends_to"] == []
    assert status_of(protocols, "new-school") == "active"
    assert fame(*NEW)[0] == 2


@pytest.mark.parametrize("wrong", [("new-school", "New School"), ("SCHOOL", "SKOOL")])
def test_an_agency_with_a_wrong_id_or_type_is_not_added(
    fame: Fame, protocols: Path, wrong: tuple[str, str]
) -> None:
    arguments = [wrong[1] if argument == wrong[0] else argument for argument in NEW]

    assert fame(*arguments)[0] == 2
    assert len(load_register(protocols).agencies) == 16


def test_a_register_that_cannot_be_read_is_told_with_file_and_line(
    fame: Fame, protocols: Path
) -> None:
    path = protocols / "purposes.toml"
    path.write_text(path.read_text().replace("child = false", 'child = "no"', 1))

    code, out = fame("protocol", "ls")

    assert code == 5
    assert "purposes.toml line" in out
    with pytest.raises(Permanent, match="write true or false"):
        load_register(protocols)


def test_a_new_key_to_encrypt_to_overlaps_with_the_one_before(
    fame: Fame, protocols: Path, tmp_path: Path
) -> None:
    out = tmp_path / "school"
    for start in ("2026-01-01", "2026-02-01"):
        code, said = fame(
            "agency", "encrypt-to", "hylton-school", "--out", str(out), "--from", start
        )
        assert code == 0, said

    school = load_register(protocols).agencies[AgencyId("hylton-school")]
    first, second = school.encryption
    privates = sorted(out.glob("encryption.*.key.pem"))
    held = own_keys(school.agency_id, [path.read_bytes() for path in privates])
    before, after = datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)

    assert (school.encryption_key(before), school.encryption_key(after)) == (first, second)
    assert {recipient_key(key.pem).key_id for key in (first, second)} == set(held.keys)
    assert [stat.S_IMODE(path.stat().st_mode) for path in privates] == [0o600, 0o600]
    assert "PRIVATE" not in said
    _, shown = as_json(fame, "agency", "show", "hylton-school")
    assert len(shown["encryption"]) == 2


def test_a_dry_run_makes_no_key(fame: Fame, protocols: Path, tmp_path: Path) -> None:
    out = tmp_path / "school"

    code, _ = fame("agency", "encrypt-to", "hylton-school", "--out", str(out), "--dry-run")

    assert code == 0
    assert not out.exists()
    assert not load_register(protocols).agencies[AgencyId("hylton-school")].encryption
