"""The command line without a broker running: what it makes, says and refuses."""

import json
import stat
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from broker.cli import NOUNS, pki, run
from broker.cli.failure import exit_for
from broker.cli.home import now
from broker.cli.tampering import Tampering
from broker.core.errors import Rejection
from broker.core.examine import examine
from broker.core.limits import LIMITS
from broker.core.reasons import Reason
from broker.core.signature import ProfileVerifier
from broker.edge.registers import load_register
from broker.edge.schemas import load_schemas


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home") / "sandbox"
    assert run(["init", str(folder), "--sandbox"]) == 0
    return folder


@pytest.fixture
def sandbox(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAME_CONFIG", str(made / "fame.toml"))
    return made


@pytest.fixture
def signed(sandbox: Path, tmp_path: Path) -> Path:
    path = tmp_path / "signed.xml"
    arguments = ["--from", "hylton-school", "--to", "sunderland-csc", "--purpose", "CP"]
    assert run(["sample", "make", "Referral", *arguments, "--sign", "--out", str(path)]) == 0
    return path


def reason_of(path: Path, home: Path) -> Reason | None:
    register = load_register(home / "protocols")
    schemas = load_schemas(Path(__file__).parents[2] / "schemas")
    try:
        examine(
            path.read_bytes(),
            peer_agencies=None,
            agencies=register.agencies,
            schemas=schemas,
            verifier=ProfileVerifier(),
            limits=LIMITS,
            now=now(),
        )
    except Rejection as rejection:
        return rejection.reason
    return None


def test_help_lists_every_noun_without_loading_what_a_noun_needs() -> None:
    code = (
        "import sys; from broker.cli import run; code = run(['--help']); "
        "heavy = {'fastapi', 'sqlalchemy', 'pydantic', 'lxml', 'cryptography', 'httpx2', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)), code)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "[] 0"
    assert all(f"  {noun} " in done.stdout for noun in NOUNS)


def test_help_answers_within_150_ms_of_processor_time() -> None:
    fastest = min(_seconds_of_help() for _ in range(3))

    assert fastest < 0.150


def _seconds_of_help() -> float:
    code = (
        "import time; from broker.cli import run; run(['--help']); "
        "import sys; print(time.process_time(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stderr)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_help(noun: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([noun, "--help"]) == 0

    assert f"fame {noun}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [[], ["boo"], ["--boo"], ["cert"], ["cert", "boo"], ["sample", "make"]], ids=str
)
def test_what_is_not_a_command_is_wrong_usage(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_a_wrong_noun_is_met_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    run(["protocl"])

    assert "protocol" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("policy.no_isp", 3),
        ("sender.signature.digest_mismatch", 4),
        ("sender.schema", 4),
        ("sender.unauthenticated", 1),
        ("sender.not_found", 1),
        ("broker.overloaded", 5),
        ("recipient.unreachable", 5),
        ("", 1),
    ],
)
def test_an_exit_code_says_whose_business_it_is(code: str, number: int) -> None:
    assert exit_for(code) == number


def test_a_sandbox_is_a_register_that_can_be_used(made: Path) -> None:
    register = load_register(made / "protocols")

    assert len(register.agencies) == 16
    for agency in register.agencies.values():
        assert [system for system in agency.systems if system.tls_fingerprints]
        assert [system for system in agency.systems if system.client_id and system.jwks]
        assert len(agency.keys) == 1
    kinds = {type(agency.keys[0].public_key).__name__ for agency in register.agencies.values()}
    assert len(kinds) == 2


def test_keys_are_readable_by_their_owner_alone(made: Path) -> None:
    secret = [path for path in made.rglob("*.key*") if path.is_file()]

    assert len(secret) > 30
    assert {stat.S_IMODE(path.stat().st_mode) for path in secret} == {0o600}
    assert stat.S_IMODE((made / "keys").stat().st_mode) == 0o700


def test_no_private_key_lies_in_what_the_partnership_shares(made: Path) -> None:
    shared = [path for path in (made / "protocols").rglob("*") if path.is_file()]

    assert not [path for path in shared if b"PRIVATE" in path.read_bytes()]


def test_certificates_are_good_for_one_thing(made: Path) -> None:
    agency = made / "agencies" / "gateshead-hr"
    signing = x509.load_pem_x509_certificate((agency / "signing.cert.pem").read_bytes())
    tls = x509.load_pem_x509_certificate((agency / "tls.cert.pem").read_bytes())

    assert signing.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature
    with pytest.raises(x509.ExtensionNotFound):
        signing.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    uses = tls.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert ExtendedKeyUsageOID.CLIENT_AUTH in uses


def test_init_never_writes_over_anything(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in made.rglob("*") if path.is_file()}

    assert run(["init", str(made), "--sandbox"]) == 2

    assert {path: path.read_bytes() for path in made.rglob("*") if path.is_file()} == before
    assert "keys in it could be lost" in capsys.readouterr().err


def test_init_leaves_nothing_half_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("broker.cli.init.data_dir", lambda _name: tmp_path / "absent")

    assert run(["init", str(tmp_path / "new"), "--sandbox"]) == 1

    assert list(tmp_path.iterdir()) == []


def test_a_plain_folder_has_the_brokers_own_keys_and_no_authority(tmp_path: Path) -> None:
    assert run(["init", str(tmp_path / "live")]) == 0

    assert not (tmp_path / "live" / "ca").exists()
    assert not (tmp_path / "live" / "agencies").exists()
    assert list(load_register(tmp_path / "live" / "protocols").agencies) == ["fame-broker"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["init", "NEW"],
        ["cert", "issue", "gateshead-hr", "--out", "NEW"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_a_dry_run_writes_nothing(sandbox: Path, tmp_path: Path, arguments: list[str]) -> None:
    new = tmp_path / "new"
    given = [str(new) if part == "NEW" else part for part in arguments]

    assert run([*given, "--dry-run"]) == 0

    assert not new.exists()


def test_settings_are_shown_with_their_origin(
    sandbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAME_LIMITS__DEPTH_MAX", "7")

    assert run(["config", "show", "--origin", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert shown["limits.depth_max"] == {"value": 7, "origin": "environment FAME_LIMITS__DEPTH_MAX"}
    assert shown["http.port"]["origin"].startswith("fame.toml line ")


def test_a_wrong_setting_stops_every_command(
    sandbox: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAME_HTTP__PROT", "7")

    assert run(["doctor"]) == 2

    assert "Did you mean http.port?" in capsys.readouterr().err


def test_without_a_folder_a_command_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FAME_CONFIG", raising=False)

    assert run(["doctor"]) == 2

    assert "fame init" in capsys.readouterr().err


def test_a_new_certificate_stands_beside_the_old_one(sandbox: Path, tmp_path: Path) -> None:
    arguments = ["cert", "issue", "gateshead-hr", "--rsa", "--out", str(tmp_path / "next")]

    assert run(arguments) == 0
    assert run(arguments) == 2  # a key is never written over

    assert run(["cert", "check", str(tmp_path / "next" / "signing.cert.pem")]) == 0


@pytest.mark.parametrize(
    ("days", "state", "code"), [(60, "green", 0), (20, "amber", 0), (-1, "red", 1)]
)
def test_a_certificate_warns_before_it_ends(
    tmp_path: Path, days: int, state: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    then = now() - timedelta(days=100)
    authority = pki.new_authority("test", then)
    certificate = pki.signing_certificate(authority, pki.new_ec_key(), "test", then, 100 + days)
    path = tmp_path / "test.cert.pem"
    path.write_bytes(pki.certificate_pem(certificate))

    assert run(["cert", "check", "--json", str(path)]) == code

    assert json.loads(capsys.readouterr().out)[0]["state"] == state


def test_a_certificate_is_shown_with_its_fingerprint(
    sandbox: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = sandbox / "agencies" / "gateshead-hr" / "signing.cert.pem"

    assert run(["cert", "show", "--json", str(path)]) == 0

    shown = json.loads(capsys.readouterr().out)
    register = load_register(sandbox / "protocols")
    assert shown["fingerprint"] == register.agencies["gateshead-hr"].keys[0].fingerprint  # type: ignore[index]
    assert run(["cert", "show", str(sandbox / "fame.toml")]) == 2


def test_a_reason_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["reasons", "policy.no_isp"]) == 0
    assert "information sharing officer" in capsys.readouterr().out

    assert run(["reasons", "policy.no_isb"]) == 2
    assert "policy.no_isp" in capsys.readouterr().err


def test_a_signed_sample_is_a_valid_message(sandbox: Path, signed: Path) -> None:
    assert reason_of(signed, sandbox) is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Tampering.LETTER, Reason.SIGNATURE_DIGEST),
        (Tampering.LAYOUT, Reason.SIGNATURE_INVALID),
        (Tampering.SIGNATURE, Reason.SIGNATURE_INVALID),
        (Tampering.MESSAGE_ID, Reason.SIGNATURE_DIGEST),
        (Tampering.UNSIGNED, Reason.SIGNATURE_MISSING),
        (Tampering.DOCTYPE, Reason.XML_FORBIDDEN),
        (Tampering.WRAPPED, None),
    ],
)
def test_every_tampered_sample_is_rejected(
    sandbox: Path, signed: Path, tmp_path: Path, kind: Tampering, reason: Reason | None
) -> None:
    out = tmp_path / "tampered.xml"

    assert run(["sample", "tamper", kind, "--in", str(signed), "--out", str(out)]) == 0

    found = reason_of(out, sandbox)
    assert found is not None
    assert reason in (None, found)


def test_a_payload_is_put_into_an_envelope_and_signed(sandbox: Path, tmp_path: Path) -> None:
    from broker.core.samples import sample_payload

    payload, out = tmp_path / "payload.xml", tmp_path / "signed.xml"
    payload.write_bytes(sample_payload("VacancyPublished", 3))
    files = ["--in", str(payload), "--out", str(out)]
    who = ["--agency", "gateshead-hr"]

    assert run(["message", "sign", *who, *files]) == 2  # to whom, and why?
    to = ["--to", "ne-jobs-portal", "--purpose", "JOBS"]
    assert run(["message", "sign", *who, *files, *to]) == 0

    assert reason_of(out, sandbox) is None


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["message", "sign", "--agency", "nobody-here", "--in", "SIGNED"], 2),
        (["message", "sign", "--agency", "../keys", "--in", "SIGNED"], 2),
        (["message", "sign", "--agency", "hylton-school", "--in", "SIGNED"], 2),
        (["message", "sign", "--agency", "hylton-school", "--in", "absent.xml"], 2),
        (["message", "sign", "--agency", "hylton-school", "--in", "TOML"], 4),
        (["sample", "tamper", "letter", "--in", "TOML"], 4),
        (["message", "send", "--agency", "hylton-school", "--in", "SIGNED", "--dry-run"], 0),
    ],
)
def test_a_command_on_the_wrong_thing_says_no(
    sandbox: Path, signed: Path, arguments: list[str], code: int
) -> None:
    places = {"SIGNED": str(signed), "TOML": str(sandbox / "fame.toml")}

    assert run([places.get(part, part) for part in arguments]) == code


def test_a_storm_is_for_a_broker_on_this_machine(
    sandbox: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    who = ["--from", "gateshead-hr", "--to", "ne-jobs-portal", "--purpose", "JOBS"]

    assert run(["sample", "storm", *who, "--count", "3", "--dry-run"]) == 0
    assert run(["sample", "storm", *who, "--count", "1000000"]) == 2
    monkeypatch.setenv("FAME_BROKER__URL", "https://broker.example")
    assert run(["sample", "storm", *who, "--count", "3", "--dry-run"]) == 2

    assert "on this machine" in capsys.readouterr().err


def test_the_doctor_finds_a_sandbox_well(sandbox: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--json"]) == 0

    findings = json.loads(capsys.readouterr().out)
    assert {finding["what"] for finding in findings} >= {
        "sqlite", "keys", "certificates", "register", "schemas", "disk", "clock", "port",
    }  # fmt: skip


def test_the_doctor_says_when_the_bank_holidays_run_out(
    ill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (ill / "protocols" / "bank-holidays.toml").unlink()
    capsys.readouterr()

    assert run(["doctor", "--json", "--config", str(ill)]) == 0

    (told,) = [one for one in json.loads(capsys.readouterr().out) if one["what"] == "calendar"]
    assert told["state"] == "amber"
    assert "bank-holidays.toml" in told["step"]


@pytest.fixture
def ill(tmp_path: Path) -> Path:
    assert run(["init", str(tmp_path / "ill"), "--sandbox"]) == 0
    return tmp_path / "ill"


@pytest.mark.parametrize(
    ("what", "file"),
    [
        ("keys", "keys/kek.key"),
        ("keys", "keys/receipt.key.pem"),
        ("certificates", "keys/tls.cert.pem"),
        ("register", "protocols/purposes.toml"),
    ],
)
def test_the_doctor_names_what_is_missing_and_the_next_step(
    ill: Path, what: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (ill / file).unlink()
    capsys.readouterr()

    assert run(["doctor", "--json", "--config", str(ill)]) == 1

    findings = json.loads(capsys.readouterr().out)
    red = [finding for finding in findings if finding["state"] == "red"]
    assert {finding["what"] for finding in red} == {what}
    assert all(finding["step"] for finding in red)


def test_the_doctor_sees_a_key_that_others_can_read_and_a_clock_that_went_back(
    ill: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import os

    (ill / "keys" / "kek.key").chmod(0o644)
    database = ill / "data" / "fame.db"
    database.touch()
    later = time.time() + 86_400
    os.utime(database, (later, later))
    capsys.readouterr()

    assert run(["doctor", "--json", "--config", str(ill)]) == 1

    findings = json.loads(capsys.readouterr().out)
    assert {f["what"] for f in findings if f["state"] == "red"} == {"keys", "clock"}


def test_a_recipient_checks_what_is_left_of_a_message_without_a_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    from broker.core.signing import sign_envelope
    from tests.unit.signing_world import signing_key
    from tests.unit.test_minimise import reduced, rules

    body = reduced(rules("Ref")).body
    assert body is not None
    file, certificate = tmp_path / "reduced.xml", tmp_path / "broker.pem"
    key = signing_key()
    pem = x509.load_der_x509_certificate(key.certificate_der).public_bytes(Encoding.PEM)
    certificate.write_bytes(pem)
    file.write_bytes(sign_envelope(body, key))
    check = ["message", "check-reduced", str(file), "--broker-certificate", str(certificate)]

    assert run([*check, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["proven"] == ["Ref"]
    assert run([*check, "--original", str(file)]) == 2
    file.write_bytes(sign_envelope(body.replace(b"R-1", b"R-2"), key))
    assert run(check) == 1
    file.write_bytes(file.read_bytes().replace(b"R-2", b"R-3"))
    assert run(check) == 4
    certificate.write_text("no certificate")
    assert run(check) == 2
