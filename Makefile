# `make help` lists the targets. Everything that they need is installed by them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(BIN)/python -m dev
export VIRTUAL_ENV := $(CURDIR)/$(VENV)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1m%-28s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# The environment is made anew only when the lock changes: a sync reinstalls vLLM each time.
$(STAMP): requirements/dev.txt requirements/uv.txt pyproject.toml
	@if ! cmp -s <(cat requirements/dev.txt pyproject.toml | sha256sum) $(STAMP); then \
		set -x; test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
		$(BIN)/pip install --quiet --require-hashes -r requirements/uv.txt; \
		$(BIN)/uv pip sync --quiet --require-hashes --compile-bytecode requirements/dev.txt; \
		$(BIN)/uv pip install --quiet --no-deps --no-build-isolation -e .; \
	fi
	@cat requirements/dev.txt pyproject.toml | sha256sum > $(STAMP)

.PHONY: install
install: $(STAMP) ## install the locked Python environment into .venv

.PHONY: deps
deps: $(STAMP) ## install missing system packages (as root), build the local cluster's programs
	@$(DEV) doctor --fix
	@$(DEV) build

.PHONY: demo
demo: $(STAMP) ## boot a cluster, install Slipstream, serve the sample, show it scale
	@$(DEV) doctor --fix --quiet
	@$(BIN)/python -m dev.demo

.PHONY: test
test: check unit cluster-test e2e ## every test, the real cluster and the real engine included

.PHONY: check
check: $(STAMP) ## format, lint, types, import contract, CRDs and vLLM's arguments up to date
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports > /dev/null || $(BIN)/lint-imports
	$(BIN)/python -m slipstream_operator.api.crd --check crds
	$(BIN)/python -m dev.vllm_arguments --check version

.PHONY: format
format: $(STAMP) ## format the code and mend what the linter can
	$(BIN)/ruff check --fix --quiet . || true
	$(BIN)/ruff format --quiet .

.PHONY: unit
unit: $(STAMP) ## tests without a cluster
	$(BIN)/pytest -q tests/unit tests/golden tests/repo tests/shell tests/adapters tests/router tests/fetching

.PHONY: cluster-test
cluster-test: deps ## tests against a real API server, with the operator as a pod
	$(BIN)/pytest -q tests/cluster

.PHONY: e2e
e2e: deps ## tests on a real node, with the real vLLM and the real Prometheus
	$(BIN)/pytest -q tests/e2e

.PHONY: cluster-up
cluster-up: deps ## boot the local cluster and install Slipstream
	@$(DEV) up
	@$(DEV) install

.PHONY: cluster-down
cluster-down: $(STAMP) ## remove the local cluster and all its traces
	@$(DEV) down

.PHONY: crds
crds: $(STAMP) ## generate crds/ from the models
	$(BIN)/python -m slipstream_operator.api.crd crds

.PHONY: vllm-arguments
vllm-arguments: $(STAMP) ## generate the list of vLLM's arguments from the locked vLLM
	$(BIN)/python -m dev.vllm_arguments

.PHONY: lock
lock: $(STAMP) ## resolve the dependencies anew
	$(BIN)/uv pip compile -q --upgrade --no-header --no-annotate --generate-hashes --python-version 3.11 requirements/uv.in -o requirements/uv.txt
	$(BIN)/uv pip compile -q --upgrade --no-header --no-annotate --generate-hashes --python-version 3.11 requirements/store.in -o requirements/store.txt
	$(BIN)/uv pip compile -q --upgrade --no-header --no-annotate --generate-hashes --python-version 3.11 requirements/bench-router.in -o requirements/bench-router.txt
	$(BIN)/uv pip compile -q --upgrade --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra operator --extra simulate --extra router --extra runtime-cpu --group dev requirements/build.in --override requirements/overrides-cpu.txt -o requirements/dev.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra operator -c requirements/dev.txt -o requirements/operator.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra router -c requirements/dev.txt -o requirements/router.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra simulate -c requirements/dev.txt -o requirements/simulate.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra runtime-cpu --override requirements/overrides-cpu.txt -c requirements/dev.txt -o requirements/runtime-cpu.txt
	$(BIN)/uv pip compile -q --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra runtime-onnx -c requirements/dev.txt -o requirements/runtime-onnx.txt
	$(BIN)/uv pip compile -q --upgrade --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra runtime-cuda -o requirements/runtime-cuda.txt
	$(BIN)/uv pip compile -q --upgrade --no-header --generate-hashes --python-version 3.11 pyproject.toml --extra runtime-onnx-cuda -o requirements/runtime-onnx-cuda.txt

.PHONY: bench-operator
bench-operator: deps ## convergence, latency and memory of the operator
	@$(BIN)/python -m benchmarks.operator.run

.PHONY: bench-onnx
bench-onnx: $(STAMP) ## speed and accuracy of the ONNX Runtime engine beside PyTorch
	@$(BIN)/python -m benchmarks.onnx.run

.PHONY: bench-start
bench-start: $(STAMP) ## from the start of the process to the first answer, stock vLLM and ours
	@$(BIN)/python -m benchmarks.start.run

.PHONY: bench-engine
bench-engine: $(STAMP) ## what the front before vLLM costs, and what its features bring
	@$(BIN)/python -m benchmarks.engine.run

.PHONY: bench-cascade
bench-cascade: $(STAMP) ## quality and cost of a cascade of the two trained models
	@$(BIN)/python -m benchmarks.cascade.run

.PHONY: bench-simulator
bench-simulator: $(STAMP) ## the simulator's engine, fitted to the real vLLM under one load, beside it under another
	@$(BIN)/python -m benchmarks.simulator.run

.PHONY: bench-cluster-vs-simulator
bench-cluster-vs-simulator: deps ## a flash crowd, an outage and a restart in the real cluster, and as simulated
	@$(BIN)/python -m benchmarks.cluster_vs_simulator.run

.PHONY: bench-autoscaling
bench-autoscaling: $(STAMP) ## what keeping the objectives costs, under our policy, under others' and at least
	@$(BIN)/python -m benchmarks.autoscaling.run

.PHONY: bench-drawn-scenarios
bench-drawn-scenarios: $(STAMP) ## the same in scenarios that are drawn by chance
	@$(BIN)/python -m benchmarks.drawn_scenarios.run

.PHONY: bench-routing
bench-routing: $(STAMP) ## prefix hits and time to first token of the router's choice and of others'
	@$(BIN)/python -m benchmarks.routing.run

.PHONY: bench-router
bench-router: $(STAMP) ## what the router adds to its engines' times, beside nginx and another LLM router
	@$(BIN)/python -m benchmarks.router.run

.PHONY: bench-scale
bench-scale: deps ## cost of a tick, memory and writes of the operator with 5,000 services
	@$(BIN)/python -m benchmarks.scale.run

.PHONY: soak
soak: deps ## the long proofs: what must hold every time
	@$(BIN)/python -m benchmarks.soak.run

.PHONY: clean
clean: ## remove what the tools left in the repository
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
