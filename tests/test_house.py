"""The rules of the house that no linter knows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from broker.cli import NOUNS
from broker.cli.reasons import as_mapping, page
from broker.core.reasons import Reason, explain

ROOT = Path(__file__).parents[1]
CODE = sorted(
    path for top in ("broker", "adapters", "tests") for path in (ROOT / top).rglob("*.py")
)
PAGES = sorted(
    path
    for top in (
        ".",
        "broker",
        "broker/decisions",
        "schemas",
        "protocols",
        "adapters",
        "tests",
        "deploy",
    )
    for path in (ROOT / top).glob("*.md")
)
TEXTS = [
    *CODE,
    *PAGES,
    *(ROOT / name for name in ("Makefile", "pyproject.toml", ".ci/run", ".ci/setup", ".gitignore")),
    *(path for top in ("schemas", "protocols", "deploy") for path in (ROOT / top).rglob("*.toml")),
    *(ROOT / "schemas").rglob("*.xsd"),
]
LOCKS = sorted(ROOT.glob("requirements*.lock"))

# Lines of a file and of a function. A suite may be longer: its tests are read one by one.
SIZES_MAX = {"broker": (500, 60), "adapters": (500, 60), "tests": (800, 90)}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def plain(*words: str) -> list[str]:
    """Return forbidden words, which this file must not hold as they are."""
    return [word.replace("~", "") for word in words]


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_a_file_and_each_of_its_functions_fit_their_size(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    file_lines_max, function_lines_max = SIZES_MAX[path.relative_to(ROOT).parts[0]]

    assert text.count("\n") <= file_lines_max
    for function in functions(ast.parse(text)):
        lines = (function.end_lineno or 0) - function.lineno + 1
        assert lines <= function_lines_max, f"{function.name} has {lines} lines"


@pytest.mark.parametrize("path", CODE, ids=name_of)
def test_no_code_is_left_for_later_or_hidden_from_coverage(path: Path) -> None:
    words = plain("TO~DO", "FIX~ME", "X~XX", "NotImplemented~Error", "pragma: no ~cover")
    text = path.read_text(encoding="utf-8")

    assert not [word for word in words if re.search(rf"\b{word}\b", text)]


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_nothing_names_a_place_on_one_persons_machine(path: Path) -> None:
    places = plain("/wo~rk/", "/ro~ot/", "/ho~me/", "/Us~ers/")
    text = path.read_text(encoding="utf-8")

    assert not [place for place in places if place in text]


@pytest.mark.parametrize("path", [*LOCKS, *TEXTS], ids=name_of)
def test_nothing_names_the_host_of_a_package_index(path: Path) -> None:
    hosts = plain("py~pi.org", "python~hosted", "index-~url =", "find-~links")
    text = path.read_text(encoding="utf-8")

    assert not [host for host in hosts if host in text]


@pytest.mark.parametrize("path", LOCKS, ids=name_of)
def test_every_locked_distribution_has_a_hash(path: Path) -> None:
    entries = re.findall(r"^\S+==.*(?:\n .*)*", path.read_text(), re.MULTILINE)

    assert len(entries) > 20
    assert all("--hash=sha256:" in entry for entry in entries)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: reason.value)
def test_every_reason_has_words_a_person_can_act_on(reason: Reason) -> None:
    words = explain(reason)

    assert re.fullmatch(r"(sender|policy|recipient|broker)(\.[a-z][a-z0-9_]*){1,2}", reason.value)
    assert 400 <= words.status < 600
    assert not words.title.endswith(".")
    assert words.cause.endswith(".")
    assert words.cure.endswith(".")
    assert f"`{reason.value}`" in (ROOT / "broker" / "REASONS.md").read_text()
    assert as_mapping(reason)["exit_code"] in {1, 3, 4, 5}


def test_the_page_of_reasons_is_what_the_command_prints() -> None:
    assert (ROOT / "broker" / "REASONS.md").read_text() == page()


def test_every_make_command_in_the_pages_is_a_target() -> None:
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        word
        for path in PAGES
        for word in re.findall(r"(?:^\$ |`)make ([a-z]+)", path.read_text(), re.MULTILINE)
    }

    assert {"demo", "test", "check", "bench"} <= named
    assert named <= targets


def test_every_fame_command_in_the_pages_exists() -> None:
    named = {
        noun
        for path in PAGES
        for noun in re.findall(r"(?:^\$ |\| |`)fame ([a-z]+)", path.read_text(), re.MULTILINE)
    }

    assert named <= set(NOUNS)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_of_a_page_leads_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text())
    local = [link for link in links if "://" not in link]

    assert not [link for link in local if not (path.parent / link).exists()]


def test_every_fault_of_the_table_has_its_test() -> None:
    table = (ROOT / "tests" / "live" / "FAULTS.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:live|flow|contract)/\w+\.py)::(\w+)`", table)
    missing = [
        f"{file}::{test}"
        for file, test in named
        if f"def {test}(" not in (ROOT / "tests" / file).read_text(encoding="utf-8")
    ]

    assert len(named) == table.count(".py::")
    assert not missing


@pytest.mark.parametrize("path", sorted((ROOT / "broker" / "decisions").glob("*.md")), ids=name_of)
def test_a_decision_record_says_what_why_and_what_follows(path: Path) -> None:
    text = path.read_text()

    assert re.match(r"# \d{4} \S", text)
    assert text.startswith(f"# {path.name[:4]} ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Decision", "Why", "Consequences"]


def test_the_first_page_fits_two_screens() -> None:
    assert (ROOT / "README.md").read_text().count("\n") < 120


@pytest.mark.parametrize(
    "tool",
    [
        ("ruff", "check", "--quiet"),
        ("ruff", "format", "--check", "--quiet"),
        ("mypy", "--no-error-summary"),
    ],
    ids=" ".join,
)
def test_the_tools_of_make_check_have_nothing_to_say(tool: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "")


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
