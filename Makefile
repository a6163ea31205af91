# Everything a person runs here. `make demo` and `make test` need nothing else first.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup packages demo demo-down test lint unit api package sanity cores browser molecule molecule-all bench docs site changelog clean

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# What the demo, the builds and the tests take from Debian.
PACKAGES := aardvark-dns ca-certificates chromium chromium-driver gcc iproute2 iptables libc6-dev libfaketime libseccomp-dev mmdebstrap \
            netavark pkg-config podman python3-venv runc skopeo
# What the Java sample app is built with, for those who name it in sample_apps.
JAVA_PACKAGES := default-jdk-headless maven
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# Where it is set, every task of a run compiles all that it loads.
unexport PYTHONDONTWRITEBYTECODE

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

lint: setup  ## ansible-lint (production), yamllint, ruff, mypy, antsibull-changelog
	@ruff check . && ruff format --check .
	@yamllint --strict .
	@mypy plugins files/dashboards tests/benchmarks
	@ansible-lint --offline --strict
	@antsibull-changelog lint

unit: setup  ## tests without a cluster
	@pytest -n 2 tests/unit

api: setup artifacts  ## tests against a real kube-apiserver and etcd, started as local processes
	@pytest -n 2 --dist loadfile tests/api

package: setup artifacts  ## the collection as it is installed: its archive, and runs without the repository
	@pytest tests/package

sanity: setup  ## ansible-test sanity on what the archive has
	@python3 tests/sanity/run.py

# The versions beside the one in $(VENV) that the tests run on. 2.21 needs a newer Python than others:
# make cores CORES=2.21 CORE_PYTHON=python3.12
CORES := 2.18
CORE_PYTHON := python3

.venv-%/.installed: requirements.txt tests/cores/%.txt | $(VENV)/.installed
	@uv venv --quiet --clear --python $(CORE_PYTHON) .venv-$*
	@VIRTUAL_ENV=$(CURDIR)/.venv-$* uv pip install --quiet --require-hashes --requirement requirements.txt \
	  --overrides tests/cores/$*.txt
	@touch $@

cores: setup artifacts $(CORES:%=.venv-%/.installed)  ## unit and api tests on other versions of ansible-core
	@for core in $(CORES); do \
	  echo "ansible-core $$core"; \
	  PATH=$(CURDIR)/.venv-$$core/bin:$$PATH pytest -n 2 --dist loadfile tests/unit tests/api || exit; done

browser: setup  ## the demo app in headless Chromium
	@pytest tests/browser

.PHONY: artifacts
artifacts: setup  ## fill the cache with every binary and image
	@ansible-playbook playbooks/artifacts.yml

# What CI runs, the shortest first; CONTRIBUTING.md says what each one takes.
SCENARIOS := debian13 default kind interrupted
ALL_SCENARIOS := $(SCENARIOS) apps lab existing airgapped mirror samples faults standalone doctor ha fleet

molecule: setup  ## clusters in containers: the scenarios that CI runs, or SCENARIOS="lab existing"
	@mkdir -p .state; set -o pipefail; \
	for scenario in $(SCENARIOS); do \
	  log=.state/molecule-$$scenario.log; \
	  molecule test --scenario-name $$scenario 2>&1 | tee $$log && continue; \
	  echo "$$scenario failed; what failed first, of $$log:"; \
	  grep --text --extended-regexp '│.{0,4} (_+ test_|E  |FAILED|ERROR|fatal:|.*\[ERROR\])' $$log | head -40; exit 1; \
	done

molecule-all: setup  ## every scenario, more than an hour
	@$(MAKE) --no-print-directory molecule SCENARIOS="$(ALL_SCENARIOS)" PACKAGES="$(PACKAGES) $(JAVA_PACKAGES)"

test: lint unit site sanity browser api cores package molecule  ## what CI runs

bench: setup  ## ratios to a hand-written shell script and to kubernetes.core, measured in one run (RUNS=3: medians)
	@ansible-playbook playbooks/artifacts.yml
	@python3 -m tests.benchmarks.bench $(if $(RUNS),--runs $(RUNS))

docs: setup  ## write the roles' README files and the dashboards again from their sources
	@python3 docs/generate.py

# An environment of its own, inside of .venv/ so that whatever leaves that out leaves this out too.
SITE := $(VENV)/site

$(SITE)/.installed: docs/site/requirements.txt $(VENV)/.installed
	@echo "site: Python environment in $(SITE)/"
	@python3 -m venv --clear $(SITE)
	@VIRTUAL_ENV=$(CURDIR)/$(SITE) uv pip install --quiet --require-hashes --requirement docs/site/requirements.txt
	@touch $@

# The sources are laid out as in the repository, so that one link serves both.
site: setup $(SITE)/.installed  ## the documentation as a website, in .state/site
	@rm -rf .state/site .state/site-sources .state/site-collections && mkdir -p .state/site-sources/collections
	@python3 docs/site/collection.py .state/site-collections/ansible_collections/kubescale/fleet
	@cp --parents --target-directory=.state/site-sources $(wildcard CHANGELOG.md CONTRIBUTING.md docs/*.* docs/getting-started/* docs/decisions/*)
	@cat README.md docs/site/navigation.md > .state/site-sources/index.md
	@ANSIBLE_COLLECTIONS_PATH=.state/site-collections $(SITE)/bin/antsibull-docs --config-file docs/site/antsibull-docs.cfg collection --use-current --squash-hierarchy \
	  --fail-on-error --dest-dir .state/site-sources/collections kubescale.fleet
	@cp docs/site/reference/* .state/site-sources/collections
	@$(SITE)/bin/sphinx-build --quiet --fail-on-warning --conf-dir docs/site \
	  --doctree-dir .state/site-sources/doctrees .state/site-sources .state/site
	@echo "site: .state/site/index.html"

changelog: setup  ## write CHANGELOG.md again from changelogs/fragments/
	@antsibull-changelog release --update-existing --reload-plugins --refresh
