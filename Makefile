# Everything is built with the release profile, so that the dependencies are compiled once.

LISTEN     ?= 127.0.0.1:8080
DATA_DIR   ?= .granary
# A folder of Channel files; without one, `dev` makes a public channel of that name.
CHANNELS   ?=
BENCH      ?= quick
BENCH_FILE ?= target/benchmark-$(BENCH).md

PYTHON3 ?= python3

granary = target/release/granary
# The Python of the tests' own environment, which is made in the cache when it is not there yet.
in_env  = env=$$($(PYTHON3) scripts/python_env.py tests/requirements.txt) && $$env/bin/python

.DEFAULT_GOAL := help
.PHONY: help dev build lint test test-rust test-clients bench setup

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: setup build ## start everything on this machine: Postgres, an S3 server, the registry (Ctrl-C stops it)
	@exec $(granary) dev --data-dir $(DATA_DIR) --listen $(LISTEN) $(if $(CHANNELS),--channels $(CHANNELS))

test: setup lint test-rust test-clients ## formatting, lints, unit tests, then the real clients against the real server

bench: setup build ## the server beside its peers (BENCH=quick or full; the table goes to BENCH_FILE)
	@scripts/need.sh wrk nginx
	@$(in_env) -m tests.bench $(BENCH) --output $(BENCH_FILE) $(BENCH_ARGS)

lint: ## rustfmt, clippy with every warning an error, cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

build: ## target/release/granary
	cargo build --release

test-rust: setup
	cargo test --release --workspace

test-clients: setup build
	$(in_env) -m pytest tests $(PYTEST_ARGS)

setup:
	@scripts/need.sh compiler postgres python-venv
