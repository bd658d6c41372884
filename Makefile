# slurm-gha. "make" lists what can be made; everything installs what it lacks first.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# The system's Python where it will do: runners are run by a user who may not see into anybody's home directory.
PYTHON ?= $(shell /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo /usr/bin/python3 || echo python3)
export PYTHON
VENV := .venv
BIN := $(VENV)/bin
# Modules are what is spread over the processes. Many tests wait for real Slurm, so there are more processes than cores.
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile
OCTOKIT := tests/contract/octokit
OCTOKIT_STAMP := $(OCTOKIT)/node_modules/.installed
SHELL_SCRIPTS = .ci/run $(shell find src tools tests benchmarks packaging -name node_modules -prune -o -name golden -prune -o -name '*.sh' -print)
BENCHMARKS ?= burst idle plan scale latency throughput
ARGS ?=

.PHONY: help demo test test-slow engines check lint types bench bench-startup install system lock settings clean

help: ## List these commands.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: install ## Run a real workflow on a private Slurm and a simulated GitHub (ARGS="--keep" to play on).
	@$(BIN)/slurm-gha demo $(ARGS)

test: lint ## Lint, then every test but those of test-slow, with real Slurm and Docker; a skipped test is a failure.
	SLURM_GHA_TESTS_MUST_RUN=1 $(PYTEST) --reruns 2 -m "not engines" $(ARGS)

test-slow: install engines ## The tests that need Apptainer, or the Docker that pulls lazily: two to three minutes to install.
	SLURM_GHA_TESTS_MUST_RUN=1 $(PYTEST) -n 2 --reruns 2 -m engines $(ARGS)

engines: system ## Install Apptainer, and a Docker that pulls lazily, below /opt/slurm-gha-tools.
	tools/install_apptainer.sh
	tools/install_stargz.sh

check: install types ## The quick part: style, types, and the tests that are not slow.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(PYTEST) -q -m "not slow" $(ARGS)

lint: install types ## Style, types, import layers, shell scripts.
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/shellcheck $(SHELL_SCRIPTS)
	$(BIN)/shfmt -d -i 2 -ci $(SHELL_SCRIPTS)

types: install ## Types alone.
	$(BIN)/mypy

bench: install ## Benchmarks: burst, idle, plan, scale, latency, throughput (BENCHMARKS="plan" for one of them).
	@for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks $$name $(ARGS); done

bench-startup: install engines ## Start of a runner in a 2 GB image, each way to get it, over 100 Mbit/s (as root; about half an hour).
	@$(BIN)/python -m benchmarks startup $(ARGS)

install: system $(VENV)/.installed $(if $(wildcard $(OCTOKIT)/package-lock.json),$(OCTOKIT_STAMP)) ## Install what is lacking: system packages, Python environment, Node packages.

system:
	@tools/install_system.sh

$(VENV)/.installed: requirements-dev.txt pyproject.toml | system
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; this is " + sys.version)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(OCTOKIT_STAMP): $(OCTOKIT)/package.json $(OCTOKIT)/package-lock.json | system
	cd $(OCTOKIT) && npm ci --no-audit --no-fund --ignore-scripts --loglevel=error
	touch $@

lock: install ## Pin the newest dependencies that pyproject.toml allows.
	tools/lock.sh --upgrade

settings: install ## Write the tables of the settings reference anew from the schema.
	$(BIN)/python -m slurm_gha.config.reference docs/administrators/settings.md

clean: ## Remove what can be made again.
	rm -rf $(VENV) $(OCTOKIT)/node_modules .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
