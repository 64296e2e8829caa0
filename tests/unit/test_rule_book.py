"""The rule book and the code name the same rules."""

import re

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
