# Every target installs what it needs, and does nothing where nothing is to be done.

.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --no-print-directory

# rustup's own directory, for shells that have not been told about it.
export PATH := $(PATH):$(HOME)/.cargo/bin

PYTHON ?= $(firstword $(shell command -v python3.11 python3 2>/dev/null))
BIN := .venv/bin
APT := packaging/apt/install.sh
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c packaging/constraints.txt
TEST_REQUIREMENTS := $(wildcard tests/*/requirements.txt)
CARGO_FLAGS := --locked --quiet
# Options for pytest, as in: make test PYTEST="-k wire"
PYTEST ?=
# Three files of tests at a time, also on two processors: most of them wait more than they compute. What fails is run twice more and told apart (RERUN): thousands of tests with real processes,
# killed and stopped on purpose, meet a busy machine now and then. What fails three times fails.
PYTEST_FLAGS ?= --numprocesses 3 --dist loadfile --no-loadscope-reorder --reruns 2
# How long the soak test takes, as in: make soak SOAK_SECONDS=600 CHAOS_SEED=42
SOAK_SECONDS ?= 3600
# Options for the benchmark, as in: make bench BENCH="--only sign"
BENCH ?=


.PHONY: help demo demo-ipsec test soak lint bench build musl docs format clean

help: ## Show this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

demo: .system-demo .venv/.installed .native ## See a token used through the gateway, and two HSMs as one that break meanwhile
	@$(BIN)/keyway run --token demo -- $(BIN)/python demo/demo.py

demo-ipsec: .system-demo-ipsec .venv/.installed .native ## See an IPsec tunnel whose keys are in HSMs, and what breaks under it (root)
	@$(BIN)/python demo/ipsec.py

test: .system-test .venv/.developer .native ## Run every test, Rust and Python
	@cargo test $(CARGO_FLAGS) --workspace || { echo "keyway: once more, to tell a defect from a busy machine" >&2; cargo test $(CARGO_FLAGS) --workspace; }
	@$(BIN)/python -m pytest $(PYTEST_FLAGS) $(PYTEST)

soak: .system-test .venv/.developer .native ## Break pools under load for SOAK_SECONDS (3600), each time in another order
	@SOAK_SECONDS=$(SOAK_SECONDS) $(BIN)/python -m pytest -s tests/chaos tests/gateways $(PYTEST)

lint: .system-build .venv/.developer .rust ## Check style, types, the import rules, and that generated files are fresh
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@mkdir -p .cache
	@$(BIN)/lint-imports --no-cache >.cache/lint-imports || { cat .cache/lint-imports; exit 1; }
	@$(BIN)/python spec/generate.py --check
	@cargo fmt --all --check
	@cargo clippy $(CARGO_FLAGS) --workspace --all-targets -- -D warnings

bench: .system-test .venv/.developer .native ## Measure Keyway beside the module alone and beside p11-kit
	@$(BIN)/keyway run -- $(BIN)/python bench/run.py $(BENCH)

build: .system-build .venv/.installed .native ## Compile libkeyway.so and keyway-host into target/release

musl: .system-build .rust ## Build a small libkeyway.so for systems with musl, and tell its size
	@packaging/musl/build.sh

docs: .venv/.developer .rust ## Write the generated code and reference pages anew
	@$(BIN)/python spec/generate.py

format: .venv/.developer .rust ## Format all sources
	@$(BIN)/ruff check --quiet --fix . || true
	@$(BIN)/ruff format --quiet .
	@cargo fmt --all

clean: ## Remove everything that was built or installed here
	rm -rf .venv .cache target build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src spec tests bench demo -name __pycache__ -prune -exec rm -rf {} +


.PHONY: .system-build .system-demo .system-demo-ipsec .system-developer .system-test .rust .native

.system-build:
	@$(APT) packaging/apt/build.txt

.system-demo:
	@$(APT) packaging/apt/build.txt packaging/apt/demo.txt

.system-demo-ipsec:
	@$(APT) packaging/apt/build.txt packaging/apt/demo.txt packaging/apt/ipsec.txt

.system-developer:
	@$(APT) packaging/apt/build.txt packaging/apt/developer.txt

.system-test:
	@$(APT) packaging/apt/build.txt packaging/apt/demo.txt packaging/apt/test.txt packaging/apt/ipsec.txt $(wildcard tests/*/apt.txt)

.rust:
	@command -v cargo >/dev/null || { echo "keyway: no Rust toolchain; see https://rustup.rs" >&2; exit 1; }
	@cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 || \
		{ echo "keyway: this Rust toolchain lacks rustfmt or clippy: rustup component add rustfmt clippy" >&2; exit 1; }

.native:
	@command -v cargo >/dev/null || { echo "keyway: no Rust toolchain; see https://rustup.rs" >&2; exit 1; }
	@cargo build $(CARGO_FLAGS) --release -p keyway-module -p keyway-host

.venv/bin/python: | .system-build
	@[ -n "$(PYTHON)" ] || { echo "keyway: no Python 3.11 or newer found" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "keyway: $(PYTHON) is older than 3.11; choose another with PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/.installed: pyproject.toml packaging/constraints.txt | .venv/bin/python
	@$(PIP_INSTALL) -e '.[demo]'
	@touch $@

.venv/.developer: pyproject.toml packaging/constraints.txt $(TEST_REQUIREMENTS) | .system-developer .venv/bin/python
	@$(PIP_INSTALL) -e '.[demo,dev]' $(addprefix -r ,$(TEST_REQUIREMENTS))
	@touch .venv/.installed $@
