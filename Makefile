# Everything starts from `make demo`; `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help env demo test check bench bench-labels bench-store bench-validation lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/.ready ## Create .venv with the pinned dependencies

demo: env ## Fetch the corpus, run the whole pipeline, say what came out
	@$(BIN)/weakfish run

test: env ## Run all tests, the pipeline on the real corpus included
	@$(BIN)/python -m pytest

check: env ## Check format, lint and types
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

bench: bench-labels bench-store bench-validation ## Measure all that the documentation claims about speed, on an idle machine

bench-labels: env ## Measure votes and labels on millions of rows (a quarter of an hour, 8 GB below TMPDIR)
	@$(BIN)/python -m benchmarks.labels

bench-store: env ## Measure the feature store against plain Feast's (some minutes, 1 GB below TMPDIR)
	@$(BIN)/python -m benchmarks.store

bench-validation: env ## Measure expectations on 10 million rows against Great Expectations (ten minutes, 10 GB below TMPDIR)
	@$(BIN)/python -m benchmarks.validation

lock: ## Pin the newest dependencies that fit into requirements.lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0 -e '.[dev]'
	(sed -n '/^#/p' requirements.lock; .venv-lock/bin/pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/') > requirements.new
	mv requirements.new requirements.lock
	rm -rf .venv-lock

clean: ## Remove what the pipeline made, but not its versions in the DVC cache
	-@$(BIN)/weakfish online stop
	rm -rf data/[!R]* reports/[!R]* .weakfish

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Weakfish needs Python 3.11 or later, this is " + sys.version.split()[0] + "; set PYTHON=")'
	@echo "Installing the pinned dependencies into .venv (some minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	@command -v npm >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[npm]'
	@touch $@
