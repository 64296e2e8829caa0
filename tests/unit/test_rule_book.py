"""The rule book and the code name the same rules."""

import ast
import re
import subprocess
import sys

import pytest

from broker.core.reasons import Reason, explain
from tests import rule_matrix
from tests.unit.policy_world import ROOT

NUMBER = re.compile(r"ISP-\d+\.\d+")
STEP = re.compile(r"step (\d+), ((?:ISP-\d+\.\d+(?:, )?)+)")
TOLD_STEP = re.compile(r"\(.*?step (\d+)\)")
CODE = [*(ROOT / "broker/core").glob("*.py"), *(ROOT / "broker/edge").glob("*.py")]

# What no rule is behind: the broker's own faults, and requests that are no messages.
NO_RULE = {
    Reason.CATALOGUE,  # the broker does not start
    Reason.INTERNAL,  # a fault of the broker
    Reason.OVERLOADED,  # too little memory to look at a message
    Reason.REGISTER_UNAVAILABLE,  # nothing can be asked, so nothing is decided
    Reason.REQUEST_INVALID,  # a request about a person who is not named
}


def test_every_rule_is_cited_by_the_code_and_every_citation_is_a_rule() -> None:
    rules = set(NUMBER.findall((ROOT / "protocols/RULES.md").read_text()))
    cited = {number for path in CODE for number in NUMBER.findall(path.read_text())}

    assert cited == rules


def test_the_rules_stand_in_order() -> None:
    text = (ROOT / "protocols/RULES.md").read_text()
    stated = [
        tuple(map(int, number[4:].split("."))) for number in re.findall(r"\*\*(ISP-\d+\.\d+)", text)
    ]

    assert stated == sorted(set(stated))
    assert {step for step, _ in stated} == set(range(1, 11))


def test_a_step_that_the_code_names_is_that_of_the_rule_it_cites() -> None:
    cited = [
        (int(step), int(number[4:].split(".")[0]))
        for path in CODE
        for step, numbers in STEP.findall(path.read_text())
        for number in NUMBER.findall(numbers)
    ]

    assert all(step == of_rule for step, of_rule in cited)
    assert {step for step, _ in cited} == set(range(1, 11))


def test_the_data_cite_rules_that_are_there() -> None:
    rules = set(NUMBER.findall((ROOT / "protocols/RULES.md").read_text()))
    files = (ROOT / "protocols").rglob("*.toml")

    assert {number for path in files for number in NUMBER.findall(path.read_text())} <= rules


def test_the_matrix_is_current_and_leaves_no_rule_out() -> None:
    assert rule_matrix.PAGE.read_text() == rule_matrix.page()
    assert rule_matrix.TESTS.keys() == rule_matrix.rules().keys()
    assert rule_matrix.places().keys() >= rule_matrix.rules().keys()


def test_every_step_has_a_row() -> None:
    rows = re.findall(r"^\| ISP-(\d+)\.\d+ \|", rule_matrix.PAGE.read_text(), re.MULTILINE)

    assert set(map(int, rows)) == set(range(1, 11))


def test_every_reason_that_the_core_can_give_is_in_the_matrix() -> None:
    rules = rule_matrix.rules().values()
    told = {Reason[name] for words in rules for name in rule_matrix.reasons_of(words)}

    given = {
        Reason[node.attr]
        for path in (ROOT / "broker/core").glob("*.py")
        if path.name != "reasons.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Reason"
        and node.attr in Reason.__members__
    }

    assert given - told == NO_RULE
    assert {one for one in Reason if one.value.startswith("policy.")} <= told


@pytest.mark.parametrize("number", rule_matrix.rules())
def test_the_code_that_the_matrix_names_gives_the_reasons_of_the_rule(number: str) -> None:
    texts = rule_matrix.sources()[number].values()
    codes = rule_matrix.reasons_of(rule_matrix.rules()[number])

    assert [code for code in codes if not any(f"Reason.{code}" in text for text in texts)] == []


def test_the_step_that_a_refusal_tells_is_that_of_its_rule() -> None:
    for number, words in rule_matrix.rules().items():
        step = number[4:].split(".")[0]
        for code in rule_matrix.reasons_of(words):
            told = TOLD_STEP.findall(explain(Reason[code]).cause)
            assert set(told) <= {step}, (number, code)


def test_every_test_of_the_matrix_is_one_that_is_run() -> None:
    named = [str(ROOT / "tests" / "unit" / one) for one in rule_matrix.TESTS.values()]
    assert all("::" in one for one in named)

    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    asked = [*command, *named]
    ran = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout[-2000:] + ran.stderr[-2000:]
