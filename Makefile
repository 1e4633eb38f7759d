# The entry to everything a developer does here. Each target sets up what it needs.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin
export PYTHON

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Make .venv with the locked packages and this project (PYTHON=... chooses the interpreter)
	@scripts/setup

.PHONY: check
check: setup ## Check format, lint, types, the direction of imports and the tree
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/python scripts/check-tree

.PHONY: test
test: setup ## Run the tests (ARGS="-k name" passes words to pytest); installs strace, PostgreSQL and others if missing
	@scripts/test-deps
	$(BIN)/pytest -n 5 --dist loadfile --no-loadscope-reorder $(ARGS)

.PHONY: demo
demo: setup ## Show the main job: two domains, trust, replication, lost key, restore
	$(BIN)/strongroom demo

SCRATCH ?= bench-scratch
.PHONY: bench
bench: setup ## Measure beside restic, borg and tar (SCRATCH=DIR: 20 GB; ARGS="--corpus SRC" chooses)
	@scripts/bench $(SCRATCH) $(ARGS)

.PHONY: bench-memory
bench-memory: setup ## Measure the memory of all processes with extreme inputs (SCRATCH=DIR: 30 GB; ARGS)
	@mkdir -p $(SCRATCH)
	$(BIN)/python -m bench.memory --scratch $(SCRATCH) $(ARGS)

ROUNDS ?= 200
.PHONY: bench-index
bench-index: setup ## Measure the index at 10, 30 and 100 million segments (SCRATCH=DIR: 8 GB; ARGS="--segments 3M")
	@mkdir -p $(SCRATCH)
	@scripts/bench-deps
	$(BIN)/python -m bench.index --scratch $(SCRATCH) --json $(SCRATCH)/index.json --plot $(SCRATCH)/index.svg $(ARGS)

.PHONY: durability
durability: setup ## Cut the power, kill processes, fill the disk, many times (ROUNDS of each kind; SCRATCH=DIR: 2 GB)
	@scripts/test-deps
	$(BIN)/python -m durability.powercut $(SCRATCH)/powercut --cuts $(ROUNDS) --served $$(($(ROUNDS) / 8)) $(ARGS)
	$(BIN)/python -m durability.kill $(SCRATCH)/kill --rounds $(ROUNDS)
	$(BIN)/python -m durability.full $(SCRATCH)/full --rounds $(ROUNDS)

.PHONY: bench-sizes
bench-sizes: setup ## Measure other lengths of segments and frames (SCRATCH=DIR: 15 GB; ARGS="--corpus BIG")
	@mkdir -p $(SCRATCH)
	$(BIN)/python -m bench.sizes --scratch $(SCRATCH) $(ARGS)

CORPUS ?= /usr/share
.PHONY: bench-fingerprint
bench-fingerprint: setup ## Measure what lengths tell of known files (CORPUS=DIR: known to all; SCRATCH=DIR)
	@mkdir -p $(SCRATCH)
	$(BIN)/python -m bench.fingerprint --corpus $(CORPUS) --scratch $(SCRATCH) $(ARGS)

.PHONY: fuzz
fuzz: setup ## Fuzz the decoders, a million runs each: hours (ARGS="--runs 10000 frame" chooses); installs atheris
	@scripts/fuzz $(ARGS)

.PHONY: format
format: setup ## Format the code and mend what ruff can mend
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: lock
lock: setup ## Write the lock files anew after a change of dependencies (UPGRADE=1 takes newer versions)
	@scripts/lock $(if $(UPGRADE),--upgrade)

.PHONY: clean
clean: ## Remove .venv and everything else that was made
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests scripts -name __pycache__ -prune -exec rm -rf {} +
