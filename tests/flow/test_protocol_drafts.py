"""Drafts against what a real broker decided and recorded: what would turn, and what is kept."""

import json
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, func, select, text

from broker.cli import run
from broker.core.decision import decide_facts
from broker.core.recorded import Records
from broker.core.whatif import outcome_of
from broker.edge.past import past_decisions
from broker.edge.registers import load_register
from broker.edge.schemas import load_schemas
from broker.edge.tables import decision, message
from tests.contract.conftest import DATABASES
from tests.contract.running import (
    COUNCIL,
    HR,
    PORTAL,
    SCHOOL,
    YOT,
    Running,
    check_request,
    copied_sandbox,
    running,
    vacancy,
)
from tests.contract.test_http_consents import code_of, recorded, withdrawn
from tests.contract.test_http_overrides import decided, referral

ROOT = Path(__file__).parents[2]
Fame = Callable[..., tuple[int, str]]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return copied_sandbox(tmp_path)


@pytest.fixture(params=DATABASES)
async def broker(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    """A broker whose database is where its own configuration says."""
    async with running(home / "data", home=home, store__url=database_of(home, request)) as made:
        yield made


def database_of(home: Path, request: pytest.FixtureRequest) -> str:
    """Have the configuration name the database that is asked for, and return its URL."""
    (home / "data").mkdir(exist_ok=True)
    url = f"sqlite:///{home / 'data' / 'fame.db'}"
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    settings = home / "fame.toml"
    words = settings.read_text()
    assert "sqlite:///data/fame.db" in words
    settings.write_text(words.replace("sqlite:///data/fame.db", url))
    return url


@pytest.fixture
def fame(home: Path, capsys: pytest.CaptureFixture[str]) -> Fame:
    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()  # what the broker logged until now
        code = run([*arguments, "--config", str(home)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def as_json(fame: Fame, *arguments: str) -> Any:
    code, out = fame(*arguments, "--json")
    assert code == 0, out
    return json.loads(out)


def draft_of(home: Path, name: str, *changes: tuple[str, str]) -> Path:
    """The next version of a sharing protocol, as somebody drafts it."""
    signed = load_register(home / "protocols").protocols[f"{name}@1"].file
    words = (home / "protocols" / signed).read_text().replace("version = 1", "version = 2", 1)
    words = words.replace('status = "ACTIVE"', 'status = "DRAFT"', 1)
    for before, after in changes:
        assert before in words
        words = words.replace(before, after)
    draft = home / f"{name}.v2.toml"
    draft.write_text(words)
    return draft


async def some_traffic(broker: Running) -> None:
    """Two vacancies and a question that pass, and one question that does not."""
    answers = [
        await broker.post(HR, vacancy()),
        await broker.post(HR, vacancy()),
        await broker.post(YOT, check_request(COUNCIL)),
        await broker.post(YOT, check_request(PORTAL)),
    ]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 403]


async def test_every_decision_on_record_can_be_made_again(broker: Running, home: Path) -> None:
    await some_traffic(broker)
    register, schemas = load_register(home / "protocols"), load_schemas(ROOT / "schemas")

    engine = create_engine(broker.config.store.url)
    with engine.connect() as conn:
        found = list(past_decisions(conn, Records(schemas), None, None))
        records = conn.execute(select(decision.c.facts)).scalars().all()
    engine.dispose()

    assert len(found) == len(records) == 4
    for one in found:
        assert one is not None
        again = decide_facts(one.past.facts, one.recipient, register, (), one.past.at)
        assert outcome_of(again) == one.outcome
    assert max(len(record) for record in records) < 500


async def test_a_draft_is_asked_about_what_passed_by_consent_and_without(
    broker: Running, home: Path, fame: Fame, tmp_path: Path
) -> None:
    consent = await recorded(broker)
    assert await code_of(broker) == "accepted"
    await withdrawn(broker, consent)
    assert await code_of(broker) == "policy.consent_withdrawn"
    decision_id = await decided(broker)
    assert (await broker.post(SCHOOL, referral(decision_id))).status_code == 202
    same = Path(shutil.copytree(home / "protocols", tmp_path / "same"))
    draft = draft_of(home, "ne-referrals", ('s = ["CA04-10"]', 's = ["CA89-47"]'))

    found = as_json(fame, "protocol", "whatif", str(same))
    narrowed = as_json(fame, "protocol", "whatif", str(draft))

    assert (found["decisions"], found["turned"], found["flips"]) == (4, 0, [])
    assert "stops" in {flip["turn"] for flip in narrowed["flips"]}, narrowed  # it named the power


async def test_whatif_tells_each_decision_that_would_turn(
    broker: Running, home: Path, fame: Fame
) -> None:
    await some_traffic(broker)
    draft = draft_of(home, "ne-vacancies", ('"VacancyPublished/1.0", ', ""))

    found = as_json(fame, "protocol", "whatif", str(draft))
    code, out = fame("protocol", "whatif", str(draft))

    assert (found["decisions"], found["turned"], found["not_known"]) == (4, 2, 0)
    (flip,) = found["flips"]
    assert (flip["turn"], flip["count"], flip["from"]) == ("stops", 2, HR)
    assert flip["before"]["clause"]
    assert flip["after"]["reason"] == "policy.type_not_covered"
    assert code == 0
    assert "Of 4 decisions, 2 would turn under ne-vacancies@2." in out
    assert "policy.type_not_covered" in out


async def test_whatif_takes_a_period_and_a_folder(
    broker: Running, home: Path, fame: Fame, tmp_path: Path
) -> None:
    await some_traffic(broker)
    folder = Path(shutil.copytree(home / "protocols", tmp_path / "changed"))
    same = as_json(fame, "protocol", "whatif", str(folder))
    draft = draft_of(home, "ne-vacancies", ('"VacancyPublished/1.0", ', ""))
    shutil.copy(draft, folder / "sharing" / draft.name)

    found = as_json(fame, "protocol", "whatif", str(folder))
    past = as_json(fame, "protocol", "whatif", str(folder), "--until", "2020-01-01")

    assert (same["turned"], same["draft"], same["compared"]) == (0, [], ["agreements"])
    assert (found["turned"], found["draft"]) == (2, ["ne-vacancies@2"])
    assert past["decisions"] == 0
    assert fame("protocol", "whatif", str(folder), "--since", "yesterday")[0] == 2


async def test_whatif_asks_about_agencies_gateways_and_purposes_of_a_folder_too(
    broker: Running, home: Path, fame: Fame, tmp_path: Path
) -> None:
    await some_traffic(broker)
    folder = Path(shutil.copytree(home / "protocols", tmp_path / "changed"))
    one = fame("protocol", "whatif", str(draft_of(home, "ne-vacancies")))[1]
    file = folder / "agencies" / f"{PORTAL}.toml"
    file.write_text(file.read_text().replace('status = "active"', 'status = "suspended"'))

    found = as_json(fame, "protocol", "whatif", str(folder))
    code, out = fame("protocol", "whatif", str(folder))

    assert found["compared"] == ["agreements", "agencies"]
    assert {flip["after"]["reason"] for flip in found["flips"]} == {"policy.agency_suspended"}
    assert found["turned"] == 3  # two vacancies; a question is refused for another reason
    assert code == 0
    assert "Of the register, agencies differ, too, and count as they stand there." in out
    assert "Agencies, gateways and purposes count as they are today." in one


async def test_whatif_counts_the_brokers_own_notices_apart(
    broker: Running, home: Path, fame: Fame
) -> None:
    decision_id = await decided(broker)
    assert (await broker.post(SCHOOL, referral(decision_id))).status_code == 202  # all are told
    kept = await notices_kept(broker)
    assert kept

    found = as_json(fame, "protocol", "whatif", str(draft_of(home, "ne-vacancies")))
    code, out = fame("protocol", "whatif", str(draft_of(home, "ne-vacancies")))

    assert (found["not_known"], found["own_notices"]) == (0, kept)
    assert found["decisions"] == await broker.rows("decision") - kept
    assert code == 0
    assert f"{kept} notices of the broker itself are left out" in out
    assert "too old or erased" not in out


async def notices_kept(broker: Running) -> int:
    chosen = select(func.count()).select_from(message)
    chosen = chosen.where(message.c.message_type == "OverrideNotice")
    store = broker.app.submitting.collector.store
    return int(await store.read(lambda conn: conn.execute(chosen).scalar_one()))


async def test_whatif_says_what_it_cannot_know(broker: Running, home: Path, fame: Fame) -> None:
    await some_traffic(broker)
    engine = create_engine(broker.config.store.url)
    with engine.begin() as conn:  # as erasing the payload does
        conn.execute(text("UPDATE decision SET facts = NULL WHERE recipient = 'sunderland-csc'"))
    engine.dispose()

    code, out = fame("protocol", "whatif", str(draft_of(home, "ne-vacancies")))

    assert code == 0
    assert "Of 3 decisions, 0 would turn" in out
    assert "1 more are too old or erased" in out


def test_diff_shows_what_stops_with_a_message_that_proves_it(
    home: Path, fame: Fame, tmp_path: Path
) -> None:
    draft = draft_of(home, "ne-vacancies", ('"VacancyPublished/1.0", ', ""))
    examples = tmp_path / "examples"

    found = as_json(fame, "protocol", "diff", "ne-vacancies@1", str(draft))
    code, out = fame("protocol", "diff", "ne-vacancies@1", str(draft), "--examples", str(examples))

    assert {one["direction"] for one in found} == {"narrower"}
    example = found[0]["example"]
    assert example["before"]["permitted"]
    assert example["after"]["reason"] == "policy.type_not_covered"
    assert code == 0
    assert "Newly stops:" in out
    assert "VacancyPublished/1.0 from gateshead-hr" in out
    file = examples / "example-1.xml"
    assert len(file.read_text()) > 1000
    assert "<fame:Payload><VacancyPublished" in example["envelope"]
    agency = ("--in", str(file), "--to", found[0]["concerns"][0]["recipient"])
    assert fame("protocol", "explain", *agency)[0] == 0  # it passes as things stand


def test_diff_of_folders_and_what_cannot_be_compared(
    home: Path, fame: Fame, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(home / "protocols", tmp_path / "changed"))
    live = str(home / "protocols")
    same = fame("protocol", "diff", live, str(folder))
    vacancies = folder / "sharing" / "ne-vacancies.v1.toml"
    vacancies.write_text(vacancies.read_text().replace('"VacancyClosed/1.0", ', ""))

    assert same == (0, "Nothing passes that did not, and nothing stops.\n")
    assert "VacancyClosed" in fame("protocol", "diff", live, str(folder))[1]
    assert "Newly passes:" in fame("protocol", "diff", str(folder), live)[1]
    assert fame("protocol", "diff", live, "ne-vacancies@1")[0] == 2
    assert fame("protocol", "diff", "ne-referrals@1", "ne-vacancies@1")[0] == 2
    assert fame("protocol", "diff", "ne-referrals@1", "ne-unheard@1")[0] == 2


async def test_forecast_tells_what_stops_how_much_it_carries_and_whom_to_ask(
    broker: Running, home: Path, fame: Fame
) -> None:
    await some_traffic(broker)

    found = as_json(fame, "protocol", "forecast", "--on", "2045-01-01")
    code, out = fame("protocol", "forecast", "--on", "2045-01-01")

    flows = {
        (flow["from"], flow["type"], flow["to"]): flow["a_week"]
        for cause in found["causes"]
        for flow in cause["flows"]
    }
    assert flows[HR, "VacancyPublished", "ne-jobs-portal"] == 0.5  # two in four weeks
    assert {cause["kind"] for cause in found["causes"]} <= {"certificate", "review", "expiry"}
    chased = {one["agency"]: one for cause in found["causes"] for one in cause["chase"]}
    assert chased[HR]["desks"]
    assert code == 0
    assert "0.5 a week" in out
    assert f"ask {HR}" in out
    assert "Typical time to sign" in out


def test_forecast_looks_ahead_only(home: Path, fame: Fame) -> None:
    from datetime import timedelta

    from broker.edge.clock import SystemClock

    tomorrow = (SystemClock().now() + timedelta(days=1)).date().isoformat()

    assert fame("protocol", "forecast", "--on", "2020-01-01")[0] == 2
    assert "Nothing stops by" in fame("protocol", "forecast", "--on", tomorrow)[1]


async def test_drift_tells_what_nobody_used_and_proposes_a_tighter_draft_that_reads_and_lints(
    broker: Running, home: Path, fame: Fame, tmp_path: Path
) -> None:
    await some_traffic(broker)
    draft = tmp_path / "tighter.toml"

    found = as_json(fame, "protocol", "drift", "ne-vacancies")
    code, out = fame("protocol", "drift", "ne-vacancies", "--propose", str(draft))

    flows = {flow["flow"]: flow for flow in found["flows"]}
    assert flows["publish"]["messages"] == 2
    assert "VacancyClosed/1.0" in flows["publish"]["types"]
    assert flows["publish"]["paths"]
    assert flows["feedback"]["unused"]
    assert found["volumes"] == [
        {"flow": "publish", "from": HR, "to": "ne-jobs-portal", "messages": 2}
    ]
    assert code == 0
    assert "narrower in" in out
    assert draft.read_text() == found["proposal"]["toml"]
    # It goes through the same doors as any draft: what passed passes still, and lint has no error.
    assert as_json(fame, "protocol", "whatif", str(draft))["turned"] == 0
    folder = Path(shutil.copytree(home / "protocols", tmp_path / "changed"))
    shutil.copy(draft, folder / "sharing" / "ne-vacancies.v2.toml")
    assert fame("protocol", "lint", "--protocols", str(folder))[0] == 0


async def test_drift_of_what_was_not_used_at_all_proposes_nothing(
    broker: Running, fame: Fame
) -> None:
    code, out = fame("protocol", "drift", "ne-referrals")

    assert code == 0
    assert "not used" in out
    assert "Nothing tighter is proposed." in out
