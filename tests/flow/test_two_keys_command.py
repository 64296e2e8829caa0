"""Two keys at the command line and in a broker: who has none changes nothing."""

import json
import re
import shutil
from pathlib import Path

import pytest

from broker.cli import run
from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.core.protocol import Register
from broker.edge.registers import RegisterHolder
from tests.contract.running import BROKER, copied_sandbox, running, vacancy

HR, PORTAL, SCHOOL = (
    AgencyId(name) for name in ("gateshead-hr", "ne-jobs-portal", "hylton-school")
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = copied_sandbox(tmp_path)
    monkeypatch.setenv("FAME_CONFIG", str(folder / "fame.toml"))
    return folder


def fame(*words: str) -> int:
    return run(["protocol", *words])


def consents(register: Register) -> set[tuple[int, str]]:
    clauses = register.clauses(HR, PORTAL, "VacancyPublished")
    return {(one.protocol.version, one.protocol.status) for one in clauses}


def amend(home: Path, old: str, new: str) -> Path:
    """Write version 2 of the vacancies protocol."""
    sharing = home / "protocols" / "sharing"
    text = (sharing / "ne-vacancies.v1.toml").read_text()
    assert text.count(old) >= 1
    amended = text.replace("version = 1", "version = 2", 1).replace(old, new, 1)
    (sharing / "ne-vacancies.v2.toml").write_text(amended)
    return sharing / "ne-vacancies.v2.toml"


def test_the_operator_alone_widens_nothing(home: Path) -> None:
    holder = RegisterHolder(home / "protocols")
    before = holder.current.digest
    path = home / "protocols" / "sharing" / "ne-vacancies.v1.toml"
    path.write_text(path.read_text().replace('capacity = "RECEIVER"', 'capacity = "BOTH"'))

    assert holder.take(holder.read()).digest == before
    assert holder.changed == ("sharing/ne-vacancies.v1.toml",)
    assert RegisterHolder(home / "protocols").current.digest == before


def test_an_amendment_that_widens_waits_for_the_other_party(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amend(home, '["category:employment"]', '["category:employment", "category:address"]')
    holder = RegisterHolder(home / "protocols")

    assert fame("sign", "ne-vacancies@2", "--agency", HR) == 0
    assert "not yet signed by:" in capsys.readouterr().out
    log = (home / "protocols" / "policy-log.jsonl").read_bytes()
    assert fame("activate", "ne-vacancies@2", "--agency", HR) == 1
    assert "its examples touch 0 % of it" in capsys.readouterr().err
    assert fame("test", "ne-vacancies@2", "--write") == 0
    assert fame("activate", "ne-vacancies@2", "--agency", HR) != 0
    assert "is not signed by" in capsys.readouterr().err
    assert (home / "protocols" / "policy-log.jsonl").read_bytes() == log
    assert consents(holder.take(holder.read())) == {(1, "ACTIVE"), (2, "DRAFT")}

    assert fame("sign", "ne-vacancies@2", "--agency", PORTAL) == 0  # the others are not widened
    assert fame("activate", "ne-vacancies@2", "--agency", PORTAL) == 0
    assert consents(holder.take(holder.read())) == {(1, "ACTIVE"), (2, "ACTIVE")}


def test_one_party_suspends_at_once(home: Path) -> None:
    holder = RegisterHolder(home / "protocols")

    assert fame("suspend", "ne-vacancies", "--agency", PORTAL, "--why", "incident") == 0

    assert consents(holder.take(holder.read())) == {(1, "SUSPENDED")}
    assert fame("suspend", "ne-vacancies", "--agency", SCHOOL) != 0
    assert fame("suspend", "ne-vacancies", "--agency", PORTAL, "--why", "whim") == 2
    assert fame("resume", "ne-vacancies", "--agency", PORTAL) == 0
    assert consents(holder.take(holder.read())) == {(1, "SUSPENDED")}


def test_a_broker_does_not_take_a_log_from_which_lines_are_gone(home: Path) -> None:
    fame("suspend", "ne-vacancies", "--agency", PORTAL)
    holder = RegisterHolder(home / "protocols")
    log = home / "protocols" / "policy-log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))

    with pytest.raises(Permanent, match="operator puts back"):
        holder.take(holder.read())
    assert consents(holder.current) == {(1, "SUSPENDED")}


def test_a_broker_without_a_log_lets_nothing_pass(home: Path) -> None:
    (home / "protocols" / "policy-log.jsonl").unlink()
    shutil.rmtree(home / "protocols" / "signed")

    assert consents(RegisterHolder(home / "protocols").current) == {(1, "DRAFT")}


def test_the_log_and_the_rules_of_a_day_can_be_read(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fame("log", "--json") == 0
    lines = json.loads(capsys.readouterr().out)
    assert [one["line"] for one in lines] == list(range(1, len(lines) + 1))
    assert fame("log") == 0
    assert "every one signed and in its place" in capsys.readouterr().out

    assert fame("show", HR, PORTAL, "--json") == 0
    rules = json.loads(capsys.readouterr().out)["rules"]
    assert {one["protocol"] for one in rules} == {"ne-vacancies@1"}
    assert fame("show", HR, PORTAL, "--at", "2026-01-01T00:00:00Z") == 0
    assert "nothing may pass" in capsys.readouterr().out
    assert fame("show", HR, PORTAL, "--at", "today") == 2


def test_another_person_is_designated_and_the_first_withdrawn(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, another = home / "agencies" / PORTAL, home / "agencies" / SCHOOL
    new = ("--key", str(another / "tls.key.pem"), "--certificate", str(another / "tls.cert.pem"))
    by = (
        "--by",
        str(own / "designated.key.pem"),
        "--by-certificate",
        str(own / "designated.cert.pem"),
    )
    who = ("--agency", PORTAL, "--name", "Deputy", "--position", "Deputy head")

    assert fame("designate", *who, *new) != 0  # nobody before them vouches
    assert fame("designate", *who, *new, *by) == 0
    fame("log", "--json")
    out = capsys.readouterr().out
    lines = json.loads(out[out.index("[") :])
    first = next(one["person"] for one in lines if one["party"] == PORTAL)
    assert fame("withdraw", first, "--agency", PORTAL, *new) == 0
    assert fame("suspend", "ne-vacancies", "--agency", PORTAL) != 0
    assert fame("suspend", "ne-vacancies", "--agency", PORTAL, *new) == 0


def test_the_first_person_is_named_with_the_agencys_own_key(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fame("log", "--json") == 0
    first = next(
        one["person"] for one in json.loads(capsys.readouterr().out) if one["party"] == PORTAL
    )
    assert fame("withdraw", first, "--agency", PORTAL) == 0
    school, who = home / "agencies" / SCHOOL, ("--name", "Deputy", "--position", "Deputy head")
    new = ("--key", str(school / "tls.key.pem"), "--certificate", str(school / "tls.cert.pem"))
    other = [f"--agency-{part}" for part in ("key", "certificate")]
    other[1:1] = [str(school / "signing.key.pem")]
    other.append(str(school / "signing.cert.pem"))
    log = (home / "protocols" / "policy-log.jsonl").read_bytes()

    assert fame("designate", "--agency", PORTAL, *who, *new, *other) != 0
    assert "no signing certificate registered for" in capsys.readouterr().err
    assert (home / "protocols" / "policy-log.jsonl").read_bytes() == log
    assert fame("designate", "--agency", PORTAL, *who, *new) == 0  # with that of its folder
    assert fame("suspend", "ne-vacancies", "--agency", PORTAL, *new) == 0


def test_a_key_that_is_none_is_told(home: Path, tmp_path: Path) -> None:
    (tmp_path / "no.pem").write_text("no")

    assert (
        fame("suspend", "ne-vacancies", "--agency", PORTAL, "--key", str(tmp_path / "no.pem")) == 2
    )
    assert fame("terminate", "ne-vacancies", "--agency", PORTAL) == 0


def test_an_example_that_fails_keeps_an_agreement_from_being_activated(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amend(home, '["category:employment"]', '["category:employment", "category:address"]')
    assert fame("test", "ne-vacancies@2", "--write") == 0
    path = home / "protocols" / "tests" / "ne-vacancies.v2.toml"
    path.write_text(path.read_text().replace('decision = "permitted"', 'decision = "refused"', 1))
    capsys.readouterr()

    assert fame("test", "ne-vacancies@2") == 1
    assert "decision: expected refused, was permitted" in capsys.readouterr().out
    fame("sign", "ne-vacancies@2", "--agency", HR)
    assert fame("activate", "ne-vacancies@2", "--agency", HR) == 1
    assert "decision: expected refused" in capsys.readouterr().err
    assert fame("coverage", "ne-vacancies@2", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["percent"] >= 80


def test_examples_that_touch_a_little_too_little_keep_an_agreement_from_being_activated(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    amend(home, '["category:employment"]', '["category:employment", "category:address"]')
    examples = home / "protocols" / "tests" / "ne-vacancies.v2.toml"
    shipped = examples.with_name("ne-vacancies.v1.toml").read_text().replace("@1", "@2")
    head, *blocks = shipped.split("[[example]]\n")
    less = [one for one in blocks if "VacancyClosed" not in one]
    assert len(less) < len(blocks)
    examples.write_text("[[example]]\n".join([head, *less]))
    for agency in (HR, PORTAL):
        assert fame("sign", "ne-vacancies@2", "--agency", agency) == 0
    capsys.readouterr()
    assert fame("coverage", "ne-vacancies@2", "--json") == 0
    percent = json.loads(capsys.readouterr().out)[0]["percent"]
    assert 0 < percent < 100

    set_least(home, percent + 1)
    assert fame("activate", "ne-vacancies@2", "--agency", PORTAL) == 1
    assert f"its examples touch {percent} % of it, not {percent + 1} %" in capsys.readouterr().err
    set_least(home, percent)
    assert fame("activate", "ne-vacancies@2", "--agency", PORTAL) == 0


def set_least(home: Path, percent: int) -> None:
    """Have agreements activated whose examples touch at least so much of them."""
    path = home / "fame.toml"
    text = re.sub(r"\ncoverage_min_percent = .*", "", path.read_text())
    assert text.count("[registers]\n") == 1
    line = f"[registers]\ncoverage_min_percent = {percent}\n"
    path.write_text(text.replace("[registers]\n", line))


BROKEN = (
    ("title = ", "title = = "),  # no TOML
    ("tier = 2", "tier = 2\nodd = 1"),  # TOML that says something else
)


@pytest.mark.parametrize(("before", "after"), BROKEN, ids=["unreadable", "unusable"])
async def test_a_draft_that_cannot_be_used_stops_nobody_and_is_told_of(
    home: Path, tmp_path: Path, before: str, after: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sharing = home / "protocols" / "sharing"
    words = (sharing / "ne-vacancies.v1.toml").read_text()
    assert before in words
    draft = sharing / "ne-vacancies.v2.toml"
    draft.write_text(words.replace("version = 1", "version = 2", 1).replace(before, after, 1))

    async with running(tmp_path, home=home) as broker:
        assert (await broker.post(HR, vacancy())).status_code == 202
        ready = (await broker.get(BROKER, "/readyz?verbose")).json()
        metrics = (await broker.get(BROKER, "/metrics")).text
        holder = RegisterHolder(home / "protocols")
        kept = holder.current.digest
        (sharing / "ne-odd.v1.toml").write_text("[[[")
        assert holder.take(holder.read()).digest == kept
        draft.unlink()
        (sharing / "ne-odd.v1.toml").unlink()
        holder.take(holder.read())

    assert (ready["status"], ready["checks"]["drafts"]) == ("ok", "failed")
    assert 'fame_unusable_drafts{agreement="ne-vacancies.v2"} 1.0' in metrics
    assert holder.unusable == {}
    assert "draft_unusable" in capsys.readouterr().out


async def test_the_operators_reload_tells_of_a_draft_as_the_timed_one_does(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with running(tmp_path, home=home) as broker:
        (home / "protocols" / "sharing" / "ne-odd.v1.toml").write_text("[[[")
        capsys.readouterr()
        async with broker.client(BROKER) as client:
            answer = await client.post("/operator/register/reload")
        told = capsys.readouterr().out

    assert answer.status_code == 200
    assert told.count("register_reloaded") == 1
    assert "draft_unusable" in told
    assert "sharing/ne-odd.v1.toml" in told


def test_a_broken_draft_shows_in_the_list_and_the_check_up(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "protocols" / "sharing" / "ne-odd.v1.toml").write_text("[[[")

    assert run(["protocol", "ls", "--config", str(home)]) == 0
    assert "sharing/ne-odd.v1.toml cannot be used and is left out" in capsys.readouterr().out
    run(["doctor", "--config", str(home)])
    assert "left out: sharing/ne-odd.v1.toml" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["agencies/hylton-school.toml", "gateways.toml"])
def test_any_other_file_that_cannot_be_read_stops_the_start(home: Path, name: str) -> None:
    (home / "protocols" / name).write_text("[[[")

    with pytest.raises(Permanent, match="not TOML"):
        RegisterHolder(home / "protocols")


def test_a_signed_agreement_that_cannot_be_read_stops_the_start(home: Path) -> None:
    """What binds must be known: to leave it out would change what the others say."""
    signed = next((home / "protocols" / "signed").glob("*.toml"))
    signed.write_text("[[[")

    with pytest.raises(Permanent, match="not TOML"):
        RegisterHolder(home / "protocols")
