"""That mutants are made and seen: `make mutants` runs them all, this a module of a few."""

import ast
import subprocess
import sys
from collections import Counter

from tests.mutants import EQUIVALENT, ROOT, TESTS, files_of, mutants, source_of

SOURCE = """
def judge(a, b):
    if a and b < 1:
        return any(b)
    return None
"""


def test_each_mutant_changes_one_thing() -> None:
    made = {mutant.what: ast.unparse(mutant.tree) for mutant in mutants("m", SOURCE)}

    assert set(made) == {
        "condition negated", "And turned", "without a", "without b < 1", "Lt to LtE",
        "returns None", "any to all",
    }  # fmt: skip
    assert "if not (a and b < 1):" in made["condition negated"]
    assert "if a or b < 1:" in made["And turned"]
    assert "if b < 1:" in made["without a"]
    assert "b <= 1" in made["Lt to LtE"]
    assert "return all(b)" in made["any to all"]


def test_every_module_has_tests_and_what_is_explained_is_there() -> None:
    there = Counter(one.key for name in TESTS for one in mutants(name, source_of(name)))

    assert all(files_of(name) for name in TESTS)
    assert [key for key in EQUIVALENT if not there[key]] == []


def test_no_mutant_of_a_small_module_survives() -> None:
    command = [sys.executable, "-m", "tests.mutants", "narrowing"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert " 0 alive" in ran.stdout
