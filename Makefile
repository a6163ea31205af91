# Everything a person runs here. `make demo` and `make test` need nothing else first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup packages demo demo-down test lint unit api browser molecule bench docs clean

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# What the demo, the builds and the tests take from Debian.
PACKAGES := aardvark-dns ca-certificates chromium chromium-driver gcc iptables libc6-dev libseccomp-dev mmdebstrap netavark \
            pkg-config podman python3-venv runc
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg

help:  ## say what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

packages:
	@missing=$$(for package in $(PACKAGES); do \
	  dpkg-query --show --showformat='$${db:Status-Status}' "$$package" 2>/dev/null | grep -qx installed || echo "$$package"; done | xargs); \
	if [ -n "$$missing" ]; then \
	  if [ "$$(id -u)" = 0 ]; then \
	    echo "setup: installing Debian packages: $$missing"; \
	    apt-get update --quiet=2 && \
	    DEBIAN_FRONTEND=noninteractive apt-get install --quiet=2 --yes --no-install-recommends $$missing; \
	  else \
	    echo "setup: Debian packages are missing. Run: sudo apt-get install --no-install-recommends $$missing" >&2; exit 1; \
	  fi; \
	fi

$(VENV)/.installed: requirements.txt
	@echo "setup: Python environment in $(VENV)/"
	@python3 -m venv --clear $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(BIN)/uv pip install --quiet --require-hashes --requirement requirements.txt
	@touch $@

setup: packages $(VENV)/.installed  ## install what is missing: Debian packages, .venv/ with Ansible and the collections

demo: setup  ## a real cluster in containers, its app scaled by load, and a report
	@mkdir -p .state
	@KUBESCALE_PHASES_FILE=.state/phases.json ansible-playbook playbooks/demo.yml

demo-down: setup  ## remove the demo's machines; the cache stays
	@ansible-playbook playbooks/sandbox.yml --extra-vars sandbox_state=absent

lint: setup  ## ansible-lint (production), yamllint, ruff, mypy
	@ruff check . && ruff format --check .
	@yamllint --strict .
	@mypy plugins files/dashboards tests/benchmarks
	@ansible-lint --offline --strict

unit: setup  ## tests without a cluster
	@pytest tests/unit

api: setup artifacts  ## tests against a real kube-apiserver and etcd, started as local processes
	@pytest tests/api

browser: setup  ## the demo app in headless Chromium
	@pytest tests/browser

.PHONY: artifacts
artifacts: setup  ## fill the cache with every binary and image
	@ansible-playbook playbooks/artifacts.yml

molecule: setup  ## the whole chain on machines in containers, and runs that are killed
	@molecule test --scenario-name default
	@molecule test --scenario-name interrupted

test: lint unit browser api molecule  ## every test

bench: setup  ## ratios to a hand-written shell script and to kubernetes.core, measured in one run (RUNS=3: medians)
	@ansible-playbook playbooks/artifacts.yml
	@python3 tests/benchmarks/bench.py $(if $(RUNS),--runs $(RUNS))

docs: setup  ## write the roles' README files and the dashboards again from their sources
	@python3 docs/generate.py
