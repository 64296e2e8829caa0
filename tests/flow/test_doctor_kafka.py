"""What the doctor says of a broker whose transport is Kafka, before there is a cluster."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from broker.cli import run
from broker.config import child_environment
from tests.live.kafka_world import TOPICS

WEBHOOK = 'adapter = "webhook"\nsettings = { url = "https://localhost:1/inbox" }'
MAILBOX = 'adapter = "mailbox"'


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "broker"
    assert run(["init", str(folder), "--sandbox"]) == 0
    with (folder / "fame.toml").open("a", encoding="utf-8") as settings:
        settings.write('\n[delivery]\ntransport = "kafka"\n')
    return folder


def findings(home: Path, capsys: pytest.CaptureFixture[str]) -> list[Mapping[str, str]]:
    capsys.readouterr()
    assert run(["doctor", "--json", "--config", str(home)]) == 1
    return [one for one in json.loads(capsys.readouterr().out) if one["what"] == "kafka"]


def push(home: Path, agency: str) -> Path:
    file = home / "protocols" / "agencies" / f"{agency}.toml"
    file.write_text(file.read_text().replace(MAILBOX, WEBHOOK))
    return file


def test_what_is_not_said_or_not_there_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (one,) = findings(home, capsys)
    assert "topics.toml" in one["words"]

    (home / "topics.toml").write_text(TOPICS.format(prefix="fame.t."))
    (one,) = findings(home, capsys)
    assert (one["state"], one["words"]) == ("red", "kafka.bootstrap is not given")


def test_who_has_no_topic_or_no_key_is_named(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "topics.toml").write_text(TOPICS.format(prefix="fame.t."))
    push(home, "hylton-school")
    with_topic = push(home, "sunderland-csc")
    text = with_topic.read_text()
    with_topic.write_text(text[: text.index("[[encryption]]")])

    words = [one["words"] for one in findings(home, capsys)]

    assert words[:2] == [
        "hylton-school has no topic in topics.toml",
        "sunderland-csc has no key to encrypt to",
    ]


def test_a_worker_says_what_it_lacks_before_it_begins(home: Path) -> None:
    mailbox = deliver(home, "hylton-school")
    push(home, "hylton-school")
    (home / "topics.toml").write_text(TOPICS.format(prefix="fame.t."))
    no_topic = deliver(home, "hylton-school")
    no_id = deliver(home, "Not An Id")

    assert "has a mailbox" in mailbox.stderr
    assert "has no topic for hylton-school" in no_topic.stderr
    assert 0 not in {mailbox.returncode, no_topic.returncode}
    assert no_id.returncode == 2


def deliver(home: Path, agency: str) -> "subprocess.CompletedProcess[str]":
    command = ["deliver", "--agency", agency, "--config", str(home)]
    return subprocess.run(
        [sys.executable, "-m", "broker", *command],
        env=child_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
