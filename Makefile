# Every command that works on Portolan. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := bash
PYTHON ?= python3
BIN := .venv/bin
STUBS := gen/portolan.binpb
PROTOS := $(shell find protos -name '*.proto' -o -name '*.py' -path 'protos/*')
SERVICES := $(patsubst services/%/__main__.py,%,$(wildcard services/*/__main__.py))

.PHONY: help setup gen fmt check test quick demo up migrate revision bench lock clean

help: ## List the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(BIN)/portolan: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -c 'import pathlib, sysconfig; pathlib.Path(sysconfig.get_path("purelib"), "portolan.pth").write_text("".join(f"{pathlib.Path(part).resolve()}\n" for part in (".", "gen")))'
	touch $@

$(STUBS): $(BIN)/portolan $(PROTOS)
	$(BIN)/python protos/generate.py

setup: $(BIN)/portolan ## Install what is locked into .venv

gen: $(STUBS) ## Generate stubs and the descriptor set from the protos

fmt: setup ## Format code and protos
	$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format --quiet .
	$(BIN)/buf format protos --write

check: gen ## Lint, formatting, types, import contracts, proto rules, migrations (under a minute)
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/buf format protos --diff --exit-code
	$(BIN)/buf lint $(STUBS) --config buf.yaml --path portolan
	$(BIN)/python -m tests.breaking
	$(BIN)/lint-imports --no-cache
	$(BIN)/mypy
	$(BIN)/pytest tests/suite/test_migrations.py

test: gen ## Run every test
	$(BIN)/pytest -m 'not timed'
	$(BIN)/pytest -m timed -n 0

quick: gen ## Run the tests that take less than ten seconds each
	$(BIN)/pytest -m 'not slow and not timed'

demo: gen ## Load a warehouse from real data, change the source, load again, and show it all
	$(BIN)/portolan demo

up: gen ## Start the whole suite on the demo's data, until Ctrl-C
	$(BIN)/portolan up

migrate: gen ## Bring the databases of all services to the newest schema
	for service in $(SERVICES); do $(BIN)/python -m services.$$service migrate || exit 1; done

revision: gen ## Write a migration from the models: make revision S=jobs M="add run lease"
	$(BIN)/python -m services.$(S) revision "$(M)"
	$(BIN)/ruff check --fix --quiet services/$(S)/migrations ; $(BIN)/ruff format --quiet services/$(S)/migrations

bench: gen ## Measure against the peers and limits named in bench/README.md
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.lock
	$(BIN)/python -m bench

lock: ## Resolve the dependencies anew
	# The demonstration's data come in a package that asks for pandas, which pyarrow and all that uses it load then.
	uv pip compile pyproject.toml --group dev --overrides <(echo "pandas; python_version < '3'") --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 --upgrade -o requirements.lock
	uv pip compile pyproject.toml --group bench -c requirements.lock --generate-hashes --no-header --no-annotate --no-emit-index-url --python-version 3.11 -o bench/requirements.lock

clean: ## Remove all that is generated; keeps data/
	rm -rf .venv gen .mypy_cache .pytest_cache .ruff_cache build *.egg-info
