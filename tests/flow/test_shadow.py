"""A draft beside what is in force, as an officer lives it: begun, watched, promoted or dropped."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from broker.cli import run
from broker.edge import shadowing
from broker.edge.registers import load_in_force
from tests.contract.conftest import DATABASES
from tests.contract.running import (
    HR,
    PORTAL,
    Running,
    copied_sandbox,
    envelope,
    header,
    running,
    vacancy,
)
from tests.flow.test_protocol_drafts import database_of, draft_of

PATIENCE_S = 60
Fame = Callable[..., Awaitable[tuple[int, str]]]
# A draft that lets pass what is refused now, and withholds what is shown now.
CHANGES = (
    ('["VacancyFeedbackReport/1.0"]', '["VacancyFeedbackReport/1.0", "VacancyPublished/1.0"]'),
    ('["category:contact", "category:identity", "category:administrative"]',
     '["category:administrative"]'),
)  # fmt: skip
STRICTER = (('"VacancyPublished/1.0", ', ""),)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return copied_sandbox(tmp_path)


@pytest.fixture(params=DATABASES)
async def broker(home: Path, request: pytest.FixtureRequest) -> AsyncIterator[Running]:
    url = database_of(home, request)
    async with running(home / "data", home=home, store__url=url, registers__reload_s="0.1") as made:
        yield made


@pytest.fixture
def fame(home: Path, capsys: pytest.CaptureFixture[str]) -> Fame:
    async def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        code = await asyncio.to_thread(run, ["protocol", *arguments, "--config", str(home)])
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


def wrong_way(home: Path) -> bytes:
    """A vacancy from the portal to the council: nothing in force lets it pass."""
    return envelope(header(PORTAL, "VacancyPublished", HR, purpose="JOBS"), home=home)


def read(out: str) -> Any:
    """The JSON among what was printed; the broker of this test logs to the same output."""
    start = re.search(r"^[\[{]$", out, re.MULTILINE)
    assert start, out
    return json.JSONDecoder().raw_decode(out, start.start())[0]


async def report(fame: Fame, name: str = "ne-vacancies") -> Any:
    code, out = await fame("shadow", "report", name, "--json")
    assert code == 0, out
    return read(out)


async def begun(
    broker: Running, fame: Fame, home: Path, changes: tuple[tuple[str, str], ...] = CHANGES
) -> None:
    """Begin the shadow, and wait until the running broker compares with it."""
    draft = draft_of(home, "ne-vacancies", *changes)
    code, out = await fame("shadow", "start", str(draft))
    assert code == 0, out
    for _ in range(PATIENCE_S * 5):
        assert (await broker.post(HR, vacancy())).status_code == 202
        if (await report(fame))["compared"]:
            return
        await asyncio.sleep(0.2)
    raise AssertionError("the running broker did not take the draft up")


async def until(fame: Fame, **counts: int) -> Any:
    for _ in range(PATIENCE_S * 5):
        found = await report(fame)
        if {name: found[name] for name in counts} == counts:
            break
        await asyncio.sleep(0.2)
    assert {name: found[name] for name in counts} == counts
    return found


async def test_a_draft_is_compared_on_real_messages_and_delivers_nothing(
    broker: Running, fame: Fame, home: Path
) -> None:
    await begun(broker, fame, home)
    before = await broker.rows("delivery")

    answers = [await broker.post(PORTAL, wrong_way(home)) for _ in range(2)]

    found = await until(fame, newly_passes=2, failed=0, skipped=0, newly_stops=0)
    assert [answer.status_code for answer in answers] == [403, 403]
    assert answers[0].json()["code"] == "policy.direction"
    assert await broker.rows("delivery") == before  # nothing passes by a draft
    assert found["compared"] == found["newly_passes"] + found["reduced_differently"]
    passes = next(one for one in found["findings"] if one["found"] == "passes")
    assert (passes["from"], passes["to"], passes["purpose"]) == (PORTAL, HR, "JOBS")
    assert passes["live"]["reason"] == "policy.direction"
    assert passes["draft"]["clause"] == "feedback"
    ids = [answer.json()["instance"].rsplit("/", 1)[-1] for answer in answers]
    assert passes["examples"] == sorted(ids)
    less = {one["path"] for one in found["findings"] if one["found"] == "shows less"}
    assert any(path.startswith("Vacancy/Contact") for path in less)
    code, out = await fame("shadow", "report", "ne-vacancies@2")
    assert code == 0
    assert "newly passes: 2" in out
    assert "policy.direction" in out


async def test_a_promoted_draft_waits_for_both_keys(
    broker: Running, fame: Fame, home: Path
) -> None:
    await begun(broker, fame, home)
    signed = (home / "protocols" / "policy-log.jsonl").read_bytes()

    code, out = await fame("shadow", "promote", "ne-vacancies")

    assert code == 0, out
    assert "nothing is in force by it yet" in out
    assert f"fame protocol sign ne-vacancies@2 --agency {PORTAL}" in out
    assert (home / "protocols" / "policy-log.jsonl").read_bytes() == signed
    assert (await broker.post(PORTAL, wrong_way(home))).status_code == 403
    assert (await fame("activate", "ne-vacancies@2", "--agency", HR))[0] != 0
    assert (await fame("test", "ne-vacancies@2", "--write"))[0] == 0
    assert (await fame("sign", "ne-vacancies@2", "--agency", HR))[0] == 0
    code, out = await fame("activate", "ne-vacancies@2", "--agency", HR)
    assert code != 0
    assert "is not signed by" in out

    assert (await fame("sign", "ne-vacancies@2", "--agency", PORTAL))[0] == 0
    assert (await fame("activate", "ne-vacancies@2", "--agency", PORTAL))[0] == 0
    held = load_in_force(home / "protocols")
    listed = read((await fame("shadow", "ls", "--json"))[1])
    assert held.policy.rulings["ne-vacancies@2"].digest == listed[0]["digest"]
    assert listed[0]["state"] == "promoted"
    assert (await fame("shadow", "promote", "ne-vacancies"))[0] == 2


async def test_a_dropped_draft_is_compared_no_more(broker: Running, fame: Fame, home: Path) -> None:
    await begun(broker, fame, home)
    draft = home / "ne-vacancies.v2.toml"
    assert (await fame("shadow", "start", str(draft)))[0] == 1  # once is enough

    code, out = await fame("shadow", "drop", "ne-vacancies@2")
    kept = await report(fame)
    forgotten = await fame("shadow", "drop", "ne-vacancies@2", "--forget")

    assert code == 0, out
    assert kept["state"] == "dropped"
    assert kept["compared"]
    assert forgotten[0] == 0
    assert (await report(fame))["compared"] == 0
    assert not (home / "protocols" / "sharing" / "ne-vacancies.v2.toml").exists()
    assert "dropped" in (await fame("shadow", "ls"))[1]
    assert (await fame("shadow", "drop", "ne-vacancies@2"))[0] == 2


async def test_what_cannot_be_compared_is_told_at_the_start(
    broker: Running, fame: Fame, home: Path
) -> None:
    same = home / "protocols" / "sharing" / "ne-vacancies.v1.toml"
    broken = home / "broken.toml"
    broken.write_text('id = "broken"\n')

    assert "not newer than what is in force" in (await fame("shadow", "start", str(same)))[1]
    assert (await fame("shadow", "start", str(broken)))[0] != 0
    assert (await fame("shadow", "report", "ne-unheard"))[0] == 2


async def test_another_draft_in_the_way_is_not_written_over(
    broker: Running, fame: Fame, home: Path
) -> None:
    await begun(broker, fame, home)
    other = home / "protocols" / "sharing" / "ne-vacancies.v2.toml"
    words = (home / "ne-vacancies.v2.toml").read_text().replace('"1 hour"', '"2 hours"')
    other.write_text(words)

    code, out = await fame("shadow", "promote", "ne-vacancies")

    assert code == 1
    assert "Another draft lies there" in out
    assert other.read_text() == words
    assert (await report(fame))["state"] == "compared"


async def told(broker: Running, home: Path) -> list[tuple[int, str]]:
    """What the broker answers to a message that passes and to one that does not."""
    answers = [await broker.post(HR, vacancy()), await broker.post(PORTAL, wrong_way(home))]
    return [
        (one.status_code, one.json()["code"] if one.status_code == 403 else "") for one in answers
    ]


async def more_than(fame: Fame, name: str, known: int) -> Any:
    """Wait until more than ``known`` was counted; comparisons may still have been waiting."""
    for _ in range(PATIENCE_S * 5):
        found = await report(fame)
        if found[name] > known:
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"{name} stayed at {known}")


async def test_a_draft_that_refuses_what_passes_changes_no_answer(
    broker: Running, fame: Fame, home: Path
) -> None:
    before = await told(broker, home)
    kept = await broker.rows("delivery")
    await begun(broker, fame, home, STRICTER)
    already = (await report(fame))["newly_stops"]
    sent = await broker.rows("delivery")

    after = await told(broker, home)

    assert before == after == [(202, ""), (403, "policy.direction")]
    found = await more_than(fame, "newly_stops", already)
    assert (found["newly_passes"], found["failed"]) == (0, 0)
    assert await broker.rows("delivery") == sent + 1
    assert sent > kept


async def test_a_draft_that_raises_changes_no_answer(
    broker: Running, fame: Fame, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await told(broker, home)
    await begun(broker, fame, home)

    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(shadowing, "decide", broken)
    sent = await broker.rows("delivery")
    after = await told(broker, home)

    assert before == after == [(202, ""), (403, "policy.direction")]
    assert await broker.rows("delivery") == sent + 1
    await more_than(fame, "failed", 1)
