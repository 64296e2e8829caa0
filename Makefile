# Everything below sets itself up: a virtual environment in .venv, the locked dependencies,
# nothing outside this folder. Needs Python 3.11 or newer and make.

SHELL := /bin/sh
BIN   := .venv/bin
LOCK  := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
         --generate-hashes --no-header --no-emit-index-url --quiet

.PHONY: help demo test cover oracle mutants check format bench soak lock clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*##/\1/p' Makefile | awk '{ n = $$1; $$1 = ""; printf "  make %-8s%s\n", n, $$0 }'

demo: .venv/.ready-run  ## play the stories: a sandbox partnership on this machine, offline
	@$(BIN)/fame demo --reset

test: .venv/.ready-dev  ## run every test
	@$(BIN)/python -m pytest $(PYTEST)

cover: .venv/.ready-dev  ## branch coverage of the pure core by its unit tests: 100 %
	@$(BIN)/python -m pytest tests/unit -q --cov=broker.core --cov-branch --cov-report=term --cov-fail-under=100

oracle: .venv/.ready-dev  ## 100,000 generated decisions against a second opinion
	@FAME_ORACLE_CASES=100000 $(BIN)/python -m pytest -q tests/unit/test_oracle.py

mutants: .venv/.ready-dev  ## change the deciding core one thing at a time; a test must notice; MODULES=
	@$(BIN)/python -m tests.mutants $(MODULES)

check: .venv/.ready-dev  ## ruff, its formatter, mypy, import contracts
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: .venv/.ready-dev  ## let ruff order imports and lay out the code
	@$(BIN)/ruff check --fix-only --quiet
	@$(BIN)/ruff format

bench: .venv/.ready-dev  ## measure, and write tests/bench/RESULTS.md
	@$(BIN)/python -m tests.bench

soak: .venv/.ready-dev  ## kill brokers at random for long; SEED=, KILLS=, SIZE=
	@$(BIN)/python -m tests.live.soak $(if $(SEED),--seed $(SEED)) $(if $(KILLS),--kills $(KILLS)) $(if $(SIZE),--size $(SIZE))

lock: .venv/.ready-dev  ## pin the dependencies anew, with hashes
	@$(LOCK) --upgrade --extra build --output-file requirements.lock
	@$(LOCK) --upgrade --all-extras --output-file requirements-dev.lock
	@$(LOCK) --upgrade --extra build --extra kafka --extra kafka-admin --extra postgres --output-file deploy/requirements.lock

clean:  ## remove the environment, caches and the demo's state
	rm -rf .venv .coverage .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache build dist fame-demo

.venv/.ready-run: requirements.lock pyproject.toml .ci/setup
	@sh .ci/setup requirements.lock
	@touch $@

.venv/.ready-dev: requirements-dev.lock pyproject.toml .ci/setup
	@sh .ci/setup requirements-dev.lock
	@touch $@ .venv/.ready-run
