"""The topics as a file that changes while the broker runs."""

from pathlib import Path

import pytest

from broker.core.errors import Permanent
from broker.core.identity import AgencyId
from broker.edge.topic_file import TopicFile

SHIPPED = Path(__file__).parents[2] / "deploy" / "kafka" / "topics.toml"
NEW = AgencyId("new-agency")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    copy = tmp_path / "topics.toml"
    copy.write_bytes(SHIPPED.read_bytes())
    return copy


def test_an_agency_that_is_added_has_its_topic_at_once(file: Path) -> None:
    topics = TopicFile(file)
    before = dict(topics)

    with file.open("a", encoding="utf-8") as more:
        more.write(f"\n[agency.{NEW}]\n")

    assert NEW not in before
    assert topics[NEW].endswith(NEW)
    assert len(topics) == len(before) + 1
    assert before.items() < dict(topics).items()


@pytest.mark.parametrize("harm", [b"nonsense", b"\xff", None], ids=["toml", "text", "gone"])
def test_a_file_that_cannot_be_used_changes_nothing(file: Path, harm: bytes | None) -> None:
    topics = TopicFile(file)
    before = dict(topics)
    whole = file.read_bytes()

    if harm is None:
        file.unlink()
    else:
        file.write_bytes(harm)
    assert dict(topics) == before
    assert topics.get(NEW) is None

    file.write_bytes(whole + f"\n[agency.{NEW}]\n".encode())
    assert NEW in topics


def test_a_file_that_cannot_be_used_at_the_start_is_a_fault(file: Path) -> None:
    file.write_bytes(b"nonsense")

    with pytest.raises(Permanent):
        TopicFile(file)
