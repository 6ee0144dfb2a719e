# make up      on a fresh clone: install what is needed, bring the environment up, run the pipeline
# make test    on a fresh clone: install what is needed, run every tier this machine can run (TIERS="unit wheel" chooses)
# make down    remove what `up` made          make setup   the whole venv, with `mlops-env` and `nyc-taxi`
# make bench   measure, as ratios             make lint    what CI checks first        make lock    renew the lock files

.PHONY: help up down setup test bench lint format lock clean
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=
TIERS ?=

help:
	@sed -n 's/^# //p' Makefile

# The CLI alone is enough for `up`.
up: $(VENV)/cli.ready
	@$(BIN)/mlops-env up $(ARGS)

down: $(VENV)/cli.ready
	@$(BIN)/mlops-env down $(ARGS)

setup: $(VENV)/dev.ready

test: $(VENV)/dev.ready
	@$(BIN)/python tests/run.py $(TIERS)

bench: $(VENV)/dev.ready
	@$(BIN)/python bench/run.py $(ARGS)

lint: $(VENV)/dev.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd pipeline && $(CURDIR)/$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/shellcheck bootstrap/*.sh bootstrap/steps/*.sh orchestrators/*.sh orchestrators/container/*.sh orchestrators/*/services/*.sh tests/hosts/dockerfiles/*.sh bench/peers/*.sh infra/mlops_env_infra/*.sh tests/bash/*.bats tests/bash/*.bash .ci/run
	$(BIN)/shfmt -d bootstrap orchestrators tests/hosts tests/bash bench infra .ci/run

format: $(VENV)/dev.ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/shfmt -w bootstrap orchestrators tests/hosts tests/bash bench infra .ci/run

# uv where there is one, else from our own hashed lock into the venv; pip is the only thing taken as given.
$(BIN)/python:
	@if command -v uv >/dev/null 2>&1; then uv venv --quiet --allow-existing --python '>=3.11' $(VENV); \
	else $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "mlops-env needs Python 3.11 or newer; set PYTHON=")' \
	  && $(PYTHON) -m venv $(VENV) && $(BIN)/python -m pip install --quiet --require-hashes -r requirements-uv.lock; fi

$(VENV)/cli.ready: requirements.lock pyproject.toml | $(BIN)/python
	@PATH="$(CURDIR)/$(BIN):$$PATH"; uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements.lock \
	  && uv pip install --quiet --no-deps --python $(BIN)/python --editable .
	@touch $@

$(VENV)/dev.ready: requirements-dev.lock pyproject.toml pipeline/pyproject.toml | $(BIN)/python
	@PATH="$(CURDIR)/$(BIN):$$PATH"; uv pip install --quiet --require-hashes --python $(BIN)/python -r requirements-dev.lock \
	  && uv pip install --quiet --no-deps --python $(BIN)/python --editable . --editable pipeline
	@touch $@ $(VENV)/cli.ready

# The development venv has the pipeline's own versions, but for two of which boto3 and Pulumi take older ones.
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header
lock: | $(BIN)/python
	@PATH="$(CURDIR)/$(BIN):$$PATH"; set -e; \
	uv $(COMPILE) pyproject.toml -o requirements.lock; \
	echo uv | uv $(COMPILE) --constraint requirements.lock - -o requirements-uv.lock; \
	mkdir -p build; grep == pipeline/requirements.lock | grep -vE '^(protobuf|python-dateutil)=' | sed 's/ *\\$$//' > build/constraints; \
	uv $(COMPILE) --constraint requirements.lock --constraint build/constraints requirements-dev.in -o requirements-dev.lock; \
	for dir in orchestrators/* pipeline bench/peers; do \
	  if [ -f "$$dir/requirements.in" ]; then (cd "$$dir" && uv $(COMPILE) requirements.in -o requirements.lock); fi; done; \
	cd bootstrap && uv $(COMPILE) tools.in -o tools.lock \
	  && uv $(COMPILE) --constraint ../requirements.lock uv.in -o uv-requirements.lock

clean:
	rm -rf $(VENV) build dist
