"""A policy log that lost lines: a broker does not begin by it, and the operator's way out."""

import asyncio
import json
from pathlib import Path

import pytest

from broker.cli import run
from broker.core.errors import Permanent, Transient
from broker.core.reasons import Reason
from broker.edge.store import Store
from broker.edge.watching import RegisterWatch
from tests.contract.running import BROKER, HR, PORTAL, Running, copied_sandbox, running, vacancy

PATIENCE_S = 30
SUSPEND = ("suspend", "ne-vacancies", "--agency", PORTAL, "--why", "incident")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = copied_sandbox(tmp_path)
    monkeypatch.setenv("FAME_CONFIG", str(folder / "fame.toml"))
    monkeypatch.setenv("FAME_STORE__URL", f"sqlite:///{tmp_path / 'fame.db'}")
    return folder


def fame(*words: str) -> int:
    return run(["protocol", *words])


def log_of(home: Path) -> Path:
    return home / "protocols" / "policy-log.jsonl"


def cut(home: Path, lines: int = 1) -> None:
    log = log_of(home)
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-lines]))


def store_of(broker: Running) -> Store:
    return broker.app.submitting.collector.store


async def suspended(home: Path, tmp_path: Path) -> None:
    """Let a broker run under a suspension, then stop it and lose the line."""
    assert fame(*SUSPEND) == 0
    async with running(tmp_path, home=home) as broker:
        assert (await broker.post(HR, vacancy())).json()["code"] == "policy.isp_suspended"
    cut(home)


async def test_a_broker_does_not_begin_by_a_log_that_was_cut_while_it_was_stopped(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await suspended(home, tmp_path)

    with pytest.raises(Permanent, match=r"policy-log.jsonl: line \d+.* the operator puts back"):
        async with running(tmp_path, home=home):
            pass
    capsys.readouterr()
    run(["doctor", "--config", str(home), "--json"])
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["what"] == "policy"]
    assert (found["state"], found["step"]) == ("red", "RUNBOOK: the policy log is refused")
    assert "gone or changed" in found["words"]


async def test_with_the_line_put_back_it_begins(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = home / "copy"
    assert fame(*SUSPEND) == 0
    copy.write_bytes(log_of(home).read_bytes())
    async with running(tmp_path, home=home):
        pass
    cut(home)
    log_of(home).write_bytes(copy.read_bytes())

    async with running(tmp_path, home=home) as broker:
        assert (await broker.post(HR, vacancy())).json()["code"] == "policy.isp_suspended"
    capsys.readouterr()
    run(["doctor", "--config", str(home), "--json"])
    (found,) = [one for one in json.loads(capsys.readouterr().out) if one["what"] == "policy"]
    assert found["state"] == "green"


async def test_lost_for_good_the_log_goes_on_with_everything_suspended(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await suspended(home, tmp_path)
    before = log_of(home).read_bytes()

    assert fame("restore") == 2
    assert "ask the parties for their copy" in capsys.readouterr().err
    assert log_of(home).read_bytes() == before
    assert fame("restore", "--nobody-has-a-copy") == 0
    assert "ne-vacancies@1 is suspended" in capsys.readouterr().out
    async with running(tmp_path, home=home) as broker:
        assert (await broker.post(HR, vacancy())).json()["code"] == "policy.isp_suspended"
    assert fame("restore", "--nobody-has-a-copy") == 2
    assert "No line is lost" in capsys.readouterr().err
    assert fame("log") == 0
    assert "restore" in capsys.readouterr().out


def test_without_a_broker_there_is_nothing_to_have_lost(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fame("restore") != 0
    assert "No decision is on record" in capsys.readouterr().err


async def test_a_reload_of_a_log_that_lost_lines_leaves_the_policy_in_force(
    home: Path, tmp_path: Path
) -> None:
    assert fame(*SUSPEND) == 0
    async with running(tmp_path, home=home) as broker:
        cut(home)
        async with broker.client(BROKER) as client:
            refused = await client.post("/operator/register/reload")
        assert (await broker.post(HR, vacancy())).json()["code"] == "policy.isp_suspended"

    assert refused.status_code == 503
    assert refused.json()["code"] == "broker.register_unavailable"


async def test_a_node_with_older_files_decides_nothing_until_they_have_come(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two brokers of one database, each with files of its own: one gets a suspension first."""
    old = copied_sandbox_of(home, tmp_path)
    async with running(tmp_path, home=old, registers__reload_s="0.05") as late:
        assert (await late.post(HR, vacancy())).status_code == 202
        assert fame(*SUSPEND) == 0
        async with running(tmp_path, home=home) as early:
            assert (await early.post(HR, vacancy())).json()["code"] == "policy.isp_suspended"
            waits = await until(late, 503)
            ready = (await late.get(BROKER, "/readyz?verbose")).json()
            log_of(old).write_bytes(log_of(home).read_bytes())
            refused = await until(late, 403)

    assert waits["code"] == "broker.register_unavailable"
    assert (ready["status"], ready["checks"]["policy"]) == ("unavailable", "failed")
    assert refused["code"] == "policy.isp_suspended"
    assert "register_behind" in capsys.readouterr().out


def copied_sandbox_of(home: Path, tmp_path: Path) -> Path:
    import shutil

    return Path(shutil.copytree(home, tmp_path / "old"))


async def until(broker: Running, status: int) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            answer = await broker.post(HR, vacancy())
            if answer.status_code == status:
                return dict(answer.json())
            await asyncio.sleep(0.05)


async def test_what_could_not_be_recorded_is_tried_again(home: Path, tmp_path: Path) -> None:
    """A store that is away for a moment does not leave a suspension lying on the disk."""
    async with running(tmp_path, home=home) as broker:
        holder = broker.app.submitting.intake.registers
        store = store_of(broker)
        book = Stumbling()
        watch = RegisterWatch(holder, book, home / "protocols")  # type: ignore[arg-type]
        before = holder.current.digest
        assert fame(*SUSPEND) == 0

        await watch.look()
        assert holder.current.digest == before
        await watch.look()

        assert holder.current.digest != before
        assert book.entered == 2
        assert store.lost is None


class Stumbling:
    """A book whose store is away the first time."""

    entered = 0

    async def enter(self, _held: object) -> None:
        self.entered += 1
        if self.entered == 1:
            raise Transient(Reason.STORE_UNAVAILABLE)

    async def is_last(self, _held: object) -> bool:
        raise Transient(Reason.STORE_UNAVAILABLE)
