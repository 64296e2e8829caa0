"""Mutants of the deciding core: change one thing in it, and see whether a unit test turns red.

    python -m tests.mutants [MODULE ...]      (`make mutants`; minutes)

Each mutant runs in a process of its own, forked from one that has pytest loaded, and only the
tests that belong to its module are run. What survives is printed with its place; what is known
to change nothing that anybody can see is in `EQUIVALENT`, with the reason. Figures that were
seen are in MUTANTS.md. The exit code is 1 if a mutant survives that nobody has explained.
"""

import ast
import importlib
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType

ROOT = Path(__file__).parents[1]
# A mutant that does not come to an end is seen, too: it has many times what no change takes.
LIMIT_S, LIMIT_TIMES = 60, 6

# What the tests of every module load, with the plugins of pytest.
LOADED = (
    "_hypothesis_pytestplugin", "anyio.abc", "anyio.from_thread", "anyio.pytest_plugin", "asyncio",
    "cryptography.x509", "execnet", "hypothesis", "joserfc.jws", "lxml.etree", "orjson",
    "pytest", "pytest_asyncio.plugin", "pytest_cov.plugin", "pytest_socket", "rfc8785", "signxml",
    "sqlalchemy", "unittest.mock", "xdist.plugin",
)  # fmt: skip

# The modules that decide and minimise, each with the tests that answer for it.
TESTS = {
    # consent: who may give it, what is on record, who is told
    "access": ("access",),
    "capacity": ("capacity", "consent"),
    "consent": ("consent", "decision"),
    "consent_messages": ("consent_messages", "override"),
    "consent_record": ("consent_record", "consent"),
    "pseudonym": ("pseudonym",),
    "subject": ("subject",),
    # the decision: what it asks, the ten steps, what is kept of it
    "decision": (
        "decision",
        "decision_basis",
        "decision_facts",
        "handover",
        "recorded",
        "override",
        "oracle",
    ),
    "facts": ("facts", "decision_facts", "decision"),
    "freshness": ("examine",),
    "handover": ("handover",),
    "gateway": ("gateway", "gateway_rows", "decision", "decision_basis", "protocol", "oracle"),
    "identity": ("identity",),
    "local": ("protocol", "two_keys"),
    "override": ("override", "decision"),
    "recorded": ("recorded", "whatif"),
    # what a recipient may have of a message
    "minimise": ("minimise",),
    "narrowing": ("narrowing", "decision"),
    "plan": ("minimise", "narrowing"),
    "reduce": ("minimise", "reduced_check"),
    "reduced_check": ("reduced_check",),
    # what is in force, and by whose signature
    "two_keys": ("two_keys", "policy_head", "designation"),
    "in_force": ("two_keys", "policy_head", "drafting"),
    "policy_head": ("policy_head",),
    "designation": ("designation",),
    "policy_log": ("two_keys", "policy_head", "designation"),
    "trust": ("trust",),
    "widening": ("widening", "two_keys"),
    # what is due
    "clock_facts": ("clock_facts",),
    "clocks": ("clocks", "clock_facts"),
    "workdays": ("workdays",),
}

# Mutants that nothing can tell from the original: module, line of code, what was changed, why.
_ROOT = (
    "return Node(Action.KEPT, said=True, gone=False, whole=whole, hides=hides, children=children)"
)
_STRONG = "return not least or (level is not None and level in AUTHENTICATION and level >= least)"
_WARNED = "if warnings or consents or asked.facts.shielded or not reach.whole:"
_CHILDREN = "for child, name in zip(element, names, strict=True):"
_WHOLE = "whole=action is Action.KEPT and all(child.whole for child in children.values()),"
EQUIVALENT: dict[tuple[str, str, str], str] = {
    ("decision", "return False", "returns None"): "only whether it is true is asked",
    ("minimise", "if len(_plans) >= PLANS_MAX:", "condition negated"): "a plan is made once more",
    ("plan", "return False", "returns None"): "only whether it is true is asked",
    ("plan", _ROOT, "True turned"): "nobody asks whether the payload itself is said",
    ("plan", _ROOT, "False turned"): "nor whether it is gone: it always stays",
    (
        "plan",
        _WHOLE,
        "all to any",
    ): "an element without children is whole no more: more is looked at",
    ("reduce", _CHILDREN, "True turned"): "there is a name for each child",
    ("reduce", "yield from zip(element, names, names, strict=True)", "True turned"): "as above",
    ("reduce", "etree.tostring(header, with_tail=False),", "False turned"): "white space at most",
    ("decision", _STRONG, "without level is not None"): "no level is none of the levels either",
    (
        "decision",
        _WARNED,
        "without asked.facts.shielded",
    ): "who sends about a shielded person is always warned, so there are warnings",
    ("decision", _WARNED, "without not reach.whole"): "nor is a part ever told without a warning",
    (
        "in_force",
        "if _is_sharing(name) and name not in agreed",
        "And turned",
    ): "what is no draft stands in its own place all the same, and is no more left out",
    ("policy_log", "return False", "returns None"): "only whether it is true is asked",
    ("consent_record", 'return ""', "returns None"): "no words are no fault, as in override",
    ("recorded", "return False", "returns None"): "only whether it is true is asked",
    ("override", 'return ""', "returns None"): "no words are no fault, whichever way they are none",
    (
        "decision",
        "return asked.facts.has_subject and purpose is not None and purpose.child",
        "without purpose is not None",
    ): "a clause has been found, so the register knows its purpose; the type checker asks",
}

_COMPARE = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE,
    ast.GtE: ast.Gt, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutant:
    """One change of one module: where, what, and the code that results."""

    module: str
    line: int
    what: str
    code: str  # the original line
    tree: ast.Module

    @property
    def key(self) -> tuple[str, str, str]:
        """What names the mutant while lines move."""
        return self.module, self.code, self.what


def mutants(module: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of ``source``."""
    lines = source.splitlines()
    number = 0
    while True:
        tree = ast.parse(source)
        found = list(_places(tree))
        if number >= len(found):
            return
        node, what, change = found[number]
        change()
        ast.fix_missing_locations(tree)
        line = node.lineno
        yield Mutant(module, line, what, lines[line - 1].strip(), tree)
        number += 1


_Place = tuple[ast.expr | ast.stmt, str, Callable[[], None]]


def _places(tree: ast.Module) -> Iterator[_Place]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                yield from _changes(inner)


def _changes(node: ast.AST) -> Iterator[_Place]:
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            other = _COMPARE[type(operator)]
            yield (
                node,
                f"{type(operator).__name__} to {other.__name__}",
                _put(node.ops, place, other()),
            )
    elif isinstance(node, ast.BoolOp):
        other_op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        yield node, f"{type(node.op).__name__} turned", lambda: setattr(node, "op", other_op)
        for place, value in enumerate(node.values):
            yield node, f"without {ast.unparse(value)}", _drop(node.values, place)
    elif isinstance(node, ast.If | ast.IfExp):
        yield node.test, "condition negated", lambda: setattr(node, "test", _not(node.test))
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield node, "returns None", lambda: setattr(node, "value", ast.Constant(None))
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield node, f"{node.value} turned", lambda: setattr(node, "value", not node.value)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name, swapped = node.func, {"any": "all", "all": "any", "min": "max", "max": "min"}
        if name.id in swapped:
            new = swapped[name.id]
            yield node, f"{name.id} to {new}", lambda: setattr(name, "id", new)


def _put(places: list[ast.cmpop], place: int, new: ast.cmpop) -> Callable[[], None]:
    return lambda: places.__setitem__(place, new)


def _drop(values: list[ast.expr], place: int) -> Callable[[], None]:
    return lambda: values.__delitem__(place)


def _not(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


class _Loader(SourceFileLoader):
    """Loads a module from a changed tree in place of its file."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        super().__init__(name, path)
        self._tree = tree

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._tree, self.get_filename(fullname), "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, mutant: Mutant) -> None:
        self._name = f"broker.core.{mutant.module}"
        path = str(ROOT / "broker" / "core" / f"{mutant.module}.py")
        self._loader = _Loader(self._name, path, mutant.tree)

    def find_spec(self, fullname: str, *_: object) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return importlib.util.spec_from_loader(fullname, self._loader)


def fate(mutant: Mutant, tests: Sequence[str], limit_s: float = LIMIT_S) -> str:
    """Run ``tests`` on ``mutant``; return whether it is alive, killed, or late: no end in time."""
    child = os.fork()
    if child == 0:
        os._exit(_run(mutant, tests))
    until = time.monotonic() + limit_s
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return "killed" if status else "alive"
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "late"


def _run(mutant: Mutant, tests: Sequence[str]) -> int:
    import pytest

    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    sys.meta_path.insert(0, _Finder(mutant))
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", "--no-header"]
    # Plugins are loaded before the forks, so none of their own assertions are rewritten.
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *tests]))


def files_of(module: str) -> list[str]:
    """Return the test files of ``module`` that there are."""
    named = (ROOT / "tests" / "unit" / f"test_{name}.py" for name in TESTS[module])
    return [str(path) for path in named if path.exists()]


def source_of(module: str) -> str:
    """Return the source of a module of the core."""
    return (ROOT / "broker" / "core" / f"{module}.py").read_text(encoding="utf-8")


def main(chosen: Sequence[str]) -> int:
    """Try every mutant of the chosen modules, or of all; return how many survive unexplained."""
    _load()
    loaded = [name for name in sys.modules if name.startswith("broker.core")]
    assert not loaded, "a module that is loaded already cannot be changed"
    return 1 if sum([_try(module) for module in chosen or TESTS]) else 0


def _load() -> None:
    """Load once, before the forks, what the tests load of others' code: half of a mutant's time."""
    for name in LOADED:
        importlib.import_module(name)


def _try(module: str) -> int:
    """Try every mutant of ``module`` and print what came of it; return how many are unexplained."""
    source, tests = source_of(module), files_of(module)
    began = time.monotonic()
    plain = fate(Mutant(module, 0, "unchanged", "", ast.parse(source)), tests)
    assert plain == "alive", "the tests are red without any change"
    limit_s = max(LIMIT_S, LIMIT_TIMES * (time.monotonic() - began))
    came = Counter[str]()
    for mutant in mutants(module, source):
        fared = fate(mutant, tests, limit_s)
        if fared == "alive" and mutant.key in EQUIVALENT:
            fared = "equivalent"
        came[fared] += 1
        if fared == "alive":
            print(f"  alive: {module}.py:{mutant.line} {mutant.what}: {mutant.code}", flush=True)
    print(
        f"{module}: {came.total()} mutants, {came['killed']} killed, {came['late']} late,"
        f" {came['equivalent']} equivalent, {came['alive']} alive",
        flush=True,
    )
    return came["alive"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
