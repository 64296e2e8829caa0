"""The rule book and the code name the same rules."""

import re

from tests import rule_matrix
from tests.unit.policy_world import ROOT

NUMBER = re.compile(r"ISP-\d+\.\d+")


def test_every_rule_is_cited_by_the_code_and_every_citation_is_a_rule() -> None:
    rules = set(NUMBER.findall((ROOT / "protocols/RULES.md").read_text()))
    core = (ROOT / "broker/core").glob("*.py")
    cited = {number for path in core for number in NUMBER.findall(path.read_text())}

    assert cited == rules


def test_the_rules_stand_in_order() -> None:
    text = (ROOT / "protocols/RULES.md").read_text()
    stated = [
        tuple(map(int, number[4:].split("."))) for number in re.findall(r"\*\*(ISP-\d+\.\d+)", text)
    ]

    assert stated == sorted(set(stated))
    assert {step for step, _ in stated} == set(range(1, 11))


def test_the_data_cite_rules_that_are_there() -> None:
    rules = set(NUMBER.findall((ROOT / "protocols/RULES.md").read_text()))
    files = (ROOT / "protocols").rglob("*.toml")

    assert {number for path in files for number in NUMBER.findall(path.read_text())} <= rules


def test_the_matrix_is_current_and_leaves_no_rule_out() -> None:
    assert rule_matrix.PAGE.read_text() == rule_matrix.page()
    assert rule_matrix.TESTS.keys() == rule_matrix.rules().keys()
    assert rule_matrix.places().keys() >= rule_matrix.rules().keys()


def test_every_test_of_the_matrix_exists() -> None:
    for named in rule_matrix.TESTS.values():
        file, _, name = named.partition("::")
        text = (ROOT / "tests" / "unit" / file).read_text()
        assert f"def {name}" in text
