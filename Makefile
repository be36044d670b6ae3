# `make` lists what there is. Everything runs from .venv, which is made when it is first needed.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest
VENV := .venv/.complete
TOOLS := .cache/.tools
# Test files at a time, each with a worker of its own. Clients, uproxy and endpoints of one keep two CPUs busy, and many
# tests look at the clock: so at most half as many as there are CPUs, and four. WORKERS=0: one after the other, in this process.
WORKERS ?= $(shell cpus=$$(nproc); echo $$((cpus < 4 ? 1 : cpus < 8 ? 2 : 4)))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV) ## watch uproxy balance TCP and UDP on loopback addresses: no root, no cluster
	@$(BIN)/python -m examples.demo

demo-node: $(VENV) $(TOOLS) ## the same with virtual addresses, pods and a node as network namespaces (root)
	@$(BIN)/python -m examples.demo_node

test: $(VENV) $(TOOLS) lint types imports kubernetes cni ## all that must be green before a change lands; says what it skipped and why
	@$(PYTEST) --numprocesses $(WORKERS) --dist loadfile

lint: $(VENV) ## style and the usual mistakes: ruff
	@$(BIN)/ruff check --quiet .

types: $(VENV) ## mypy --strict, tests and scripts included
	@$(BIN)/mypy --no-error-summary

imports: $(VENV) ## which part may import which: import-linter
	@NO_COLOR=1 $(BIN)/lint-imports > .cache/imports.txt || { cat .cache/imports.txt; exit 1; }

unit: $(VENV) ## the tests that need no root
	@$(PYTEST) -m 'not netns'

netns: $(VENV) $(TOOLS) ## the tests with network namespaces and real packets (root)
	@$(PYTEST) -m netns

kubernetes: ## build the API server that tests run, and what belongs to it, from Go's modules: once, minutes
	@scripts/kubernetes-binaries.sh
	@scripts/kubernetes-binaries.sh kube-proxy-1.25

cni: ## build the reference CNI plugins that tests compare with, and cnitool, from Go's modules: once, two minutes
	@scripts/cni-binaries.sh

fuzz: $(VENV) ## feed the CNI plugins broken input for DURATION seconds (60): with atheris where it is to be had, else with hypothesis alone (root)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --upgrade \
		--target .cache/atheris --requirement requirements-fuzz.txt || echo "atheris cannot be had here"
	@PYTHONPATH=.cache/atheris $(BIN)/python -m tests.cni.fuzz "$${DURATION:-60}"

bench: $(VENV) $(TOOLS) kubernetes cni ## compare with HAProxy, nginx, kube-proxy and others, an hour and a half; FLAGS=--quick: minutes (root)
	@$(BIN)/python -m bench run $(FLAGS)

docs: $(VENV) ## bring the generated parts of README.md and docs/ up to date
	@$(BIN)/python scripts/readme.py --write
	@$(BIN)/python scripts/configuration.py --write
	@$(BIN)/python scripts/metrics_page.py --write

image: $(TOOLS) ## the container image: docker, podman or what tests use (TAG=uproxy; BASE: another base image or its tar file)
	@scripts/build-image.sh "$${TAG:-uproxy}" $${BASE:+"$$BASE"}

lock: $(VENV) ## write the requirement files anew from pyproject.toml (UPGRADE=1: with the newest versions)
	@scripts/lock.sh

clean: ## remove what make and the tests made, .venv included
	@rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -r {} +

$(VENV): requirements-dev.txt pyproject.toml scripts/make-venv.sh scripts/find-python.sh | $(TOOLS)
	@scripts/make-venv.sh
	@touch $@

# Without root the tools may still be missing: then this is tried again, and says so again, next time.
$(TOOLS): scripts/debian-tools.sh
	@mkdir -p .cache
	@scripts/debian-tools.sh
	@[ "$$(id -u)" -ne 0 ] || touch $@

.PHONY: help demo demo-node test lint types imports unit netns kubernetes cni fuzz bench docs image lock clean
