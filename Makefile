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
.PHONY: help dev build lint test test-rust test-clients test-cluster cluster-up cluster-down image airgap bench setup setup-tests

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: setup build ## start everything on this machine: Postgres, an S3 server, the registry (Ctrl-C stops it)
	@exec $(granary) dev --data-dir $(DATA_DIR) --listen $(LISTEN) $(if $(CHANNELS),--channels $(CHANNELS))

test: setup lint test-rust test-clients test-cluster ## formatting, lints, unit tests, the real clients, then all of it in a real cluster

test-cluster: setup build ## the tests that need Kubernetes: in the cluster that KUBECONFIG names, or in one that is made here (as root)
	$(in_env) -m tests.cluster run -- $(PYTEST_ARGS)

cluster-up: setup ## start a Kubernetes node on this machine to look at, with Postgres and MinIO beside it (as root)
	$(in_env) -m tests.cluster up

cluster-down: setup ## stop it and remove all of it
	$(in_env) -m tests.cluster down

image: build ## target/image/: the container images, assembled without a builder
	@mkdir -p target/image
	$(PYTHON3) scripts/image.py granary --format docker --output target/image/granary.tar
	$(PYTHON3) scripts/image.py granary-store --format docker --output target/image/granary-store.tar

airgap: build ## target/granary-airgap.tar: both images and both charts
	$(PYTHON3) scripts/image.py bundle --output target/granary-airgap.tar

bench: setup build ## the server beside its peers (BENCH=quick or full; the table goes to BENCH_FILE)
	@scripts/need.sh wrk nginx
	@$(in_env) -m tests.bench $(BENCH) --output $(BENCH_FILE) $(BENCH_ARGS)

lint: ## rustfmt, clippy with every warning an error, cargo-deny where it is installed
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; fi

build: ## target/release/granary and granary-operator
	cargo build --release

test-rust: setup-tests
	cargo test --release --workspace

test-clients: setup-tests build
	$(in_env) -m pytest tests $(PYTEST_ARGS)

setup:
	@scripts/need.sh compiler postgres python-venv

setup-tests: setup
	@scripts/need.sh pgbouncer slapd curl node zchunk
