"""A first draft is complete: it can be read, lint finds no error, its examples hold."""

import json
import shutil
from pathlib import Path

import pytest

from broker.cli import run

ROOT = Path(__file__).parents[2]
WISH = [
    *("--title", "The school tells the youth offending team of exclusions"),
    *("--type", "Referral", "--purpose", "CP", "--statement", "To protect a child from harm."),
    *("--allow", "category:identity=To know whom it is about"),
    *("--allow", "category:safeguarding=To know what is feared"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "schemas", tmp_path / "schemas")
    return Path(shutil.copytree(ROOT / "protocols", tmp_path / "protocols"))


def new(folder: Path, *words: str, sender: str = "hylton-school") -> int:
    to = ["--from", sender, "--to", "sunderland-csc", "--protocols", str(folder)]
    return run(["protocol", "new", "ne-draft", *to, *WISH, *words])


def test_a_draft_lints_and_its_examples_hold(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new(folder) == 0
    assert (folder / "sharing" / "ne-draft.v1.toml").exists()
    capsys.readouterr()

    assert run(["protocol", "lint", "--json", "--protocols", str(folder)]) == 0
    found = [one for one in json.loads(capsys.readouterr().out) if one["protocol"] == "ne-draft@1"]
    assert {one["code"] for one in found} <= {"not-in-force", "never-relied-on"}
    assert run(["protocol", "test", "ne-draft", "--write", "--protocols", str(folder)]) == 0


def test_a_draft_that_cannot_be_is_not_written(folder: Path) -> None:
    assert new(folder, "--consent", "MAYBE") != 0
    assert new(folder, "--allow", "category:identity") == 2
    assert new(folder, sender="nobody") == 2
    assert not (folder / "sharing" / "ne-draft.v1.toml").exists()
    assert new(folder) == 0
    assert new(folder) == 2
