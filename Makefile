# Everything starts from `make demo`; `make help` lists the targets.
PYTHON ?= python3
BIN := .venv/bin
TORCH := 2.13.0# the largest of the pinned libraries: raised by hand, not by `make lock`
export TORCH_INDEX # where CPU builds of torch are, if not on PyTorch's own index: a URL for pip
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help env env-dev system demo test test-lowest test-storage test-spark fuzz check bench bench-labels bench-store bench-validation bench-growth lock clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

env: .venv/.ready ## Create .venv with the pinned libraries

env-dev: .venv/.ready-dev ## Add the pinned development tools to it

system: ## Install what tests need from the system, where that may be done (root or sudo on Debian and Ubuntu)
	@tools/system-packages

demo: env ## Fetch the corpus, run the whole pipeline, say what came out
	@$(BIN)/weakfish run

test: system env-dev ## Run all tests, the pipeline on the real corpus included
	@$(BIN)/python -m pytest

test-lowest: env-dev ## Run tests on the lowest versions of the direct dependencies that pyproject.toml allows
	@tools/test-lowest $(BIN)/python

test-spark: system env-dev ## Run the demo on Spark (classic and Connect; Java 17), kill executors, and on Sail (half an hour)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .venv/sail pysail==0.7.2 pyspark-client==4.2.0
	@$(BIN)/python -m pytest -n 0 tests/spark_of_the_demo.py tests/spark_of_shards.py

test-storage: system env-dev ## Run the demo with its tables on an S3 server, and a small project on azurite (from npm)
	@npm install --silent --no-audit --no-fund --prefix .venv/azurite azurite@3.35.0
	@$(BIN)/python -m pytest tests/storage_of_the_demo.py

SECONDS ?= 600
fuzz: system env-dev ## Try hostile files, requests, values and kills for SECONDS (600), drawn from SEED (a random one)
	@$(BIN)/python tests/fuzz.py --seconds $(SECONDS) $(if $(SEED),--seed $(SEED))

check: env-dev ## Check format, lint and types
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

bench-growth: env ## Measure how the whole pipeline grows (half an hour, 5 GB below TMPDIR); EVENTS="10000000" for more
	@$(BIN)/python -m benchmarks.growth --keep $(EVENTS)

COMPILE = $(BIN)/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --no-annotate --no-header \
  --upgrade --constraint -

lock: env-dev ## Pin the newest versions that fit, for Python 3.11 to 3.14 and all platforms
	@echo 'torch==$(TORCH)' | $(COMPILE) --extra pipeline pyproject.toml > requirements.new
	@(sed -n '/^#/p' requirements.lock; grep -Ev '^(nvidia|cuda|triton)\b' requirements.new) > requirements.lock.new
	@mv requirements.lock.new requirements.lock
	@$(COMPILE) --group dev < requirements.lock > requirements.new
	@(sed -n '/^#/p' requirements-dev.lock; grep -Ev '^(nvidia|cuda|triton)\b' requirements.new) > requirements-dev.lock.new
	@mv requirements-dev.lock.new requirements-dev.lock
	@rm requirements.new

clean: ## Remove what the pipeline made, but not its versions in the DVC cache
	-@$(BIN)/weakfish online stop
	rm -rf data/[!R]* reports/[!R]* .weakfish

.venv/.ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "make: Weakfish needs Python 3.11 or later, this is " + sys.version.split()[0] + "; set PYTHON=")'
	@echo "Installing the pinned libraries into .venv (some minutes, once) ..."
	@$(PYTHON) -m venv .venv
	@tools/install $(BIN)/python
	@touch $@

.venv/.ready-dev: .venv/.ready requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.lock
	@touch $@
