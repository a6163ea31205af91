# All commands for people. `make demo` and `make test` need no other command before.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup packages demo demo-down test lint unit api package sanity cores browser molecule molecule-all bench docs site changelog clean

VENV := .venv
BIN := $(VENV)/bin
UV_VERSION := 0.13.8
# Debian packages for the demo, the builds and the tests.
PACKAGES := aardvark-dns ca-certificates chromium chromium-driver gcc iproute2 iptables libc6-dev libfaketime libseccomp-dev mmdebstrap \
            netavark pkg-config podman python3-venv runc skopeo
# Debian packages for the Java sample app. Only needed if sample_apps contains it.
JAVA_PACKAGES := default-jdk-headless maven
export PATH := $(CURDIR)/$(BIN):$(PATH)
export ANSIBLE_CONFIG := $(CURDIR)/ansible.cfg
# If it is set, Python caches no bytecode, and every task compiles all modules again.
unexport PYTHONDONTWRITEBYTECODE

help:  ## list the commands
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
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet --require-hashes --requirement requirements.txt
	@touch $@

setup: packages $(VENV)/.installed  ## install what is missing: Debian packages, .venv/ with Ansible and the collections

demo: setup  ## create a cluster in containers, scale its app by load, write a report
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

unit: setup  ## run tests without a cluster
	@pytest -n 2 tests/unit

api: setup artifacts  ## run tests against a real kube-apiserver and etcd, started as local processes
	@pytest -n 2 --dist loadfile tests/api

package: setup artifacts  ## test the archive of the collection, and runs without the repository
	@pytest tests/package

sanity: setup  ## run ansible-test sanity on the archive
	@python3 tests/sanity/run.py

# Versions of ansible-core for the tests, in addition to the version in $(VENV). 2.21 needs a newer Python:
# make cores CORES=2.21 CORE_PYTHON=python3.12
CORES := 2.18
CORE_PYTHON := python3

.venv-%/.installed: requirements.txt tests/cores/%.txt | $(VENV)/.installed
	@uv venv --quiet --clear --python $(CORE_PYTHON) .venv-$*
	@VIRTUAL_ENV="$(CURDIR)/.venv-$*" uv pip install --quiet --require-hashes --requirement requirements.txt \
	  --overrides tests/cores/$*.txt
	@touch $@

cores: setup artifacts $(CORES:%=.venv-%/.installed)  ## run unit and api tests on other versions of ansible-core
	@for core in $(CORES); do \
	  echo "ansible-core $$core"; \
	  PATH="$(CURDIR)/.venv-$$core/bin:$$PATH" pytest -n 2 --dist loadfile tests/unit tests/api || exit; done

browser: setup  ## test the demo app in headless Chromium
	@pytest tests/browser

.PHONY: artifacts
artifacts: setup  ## fill the cache with every binary and image
	@ansible-playbook playbooks/artifacts.yml

# Scenarios that CI runs, the shortest first. CONTRIBUTING.md lists their durations.
SCENARIOS := single debian13 default kind interrupted
ALL_SCENARIOS := $(SCENARIOS) control_planes ssh apps lab existing airgapped mirror samples faults standalone doctor ha fleet

molecule: setup  ## test clusters in containers: the scenarios that CI runs, or SCENARIOS="lab existing"
	@mkdir -p .state; set -o pipefail; \
	for scenario in $(SCENARIOS); do \
	  log=.state/molecule-$$scenario.log; \
	  molecule test --scenario-name $$scenario 2>&1 | tee $$log && continue; \
	  echo "$$scenario failed; the first failures in $$log:"; \
	  grep --text --extended-regexp '│.{0,4} (_+ test_|E  |FAILED|ERROR|fatal:|.*\[ERROR\])' $$log | head -40; exit 1; \
	done

molecule-all: setup  ## run every scenario, more than an hour
	@$(MAKE) --no-print-directory molecule SCENARIOS="$(ALL_SCENARIOS)" PACKAGES="$(PACKAGES) $(JAVA_PACKAGES)"

test: lint unit site sanity browser api cores package molecule  ## run the tests of CI

bench: setup  ## measure ratios to a hand-written shell script and to kubernetes.core, measured in one run (RUNS=3: medians)
	@ansible-playbook playbooks/artifacts.yml
	@python3 -m tests.benchmarks.bench $(if $(RUNS),--runs $(RUNS))

docs: setup  ## generate the roles' README files, the dashboards and tables of the documentation
	@python3 docs/generate.py

# The site has its own environment. It is inside .venv/, so that tools that ignore .venv/ ignore it too.
SITE := $(VENV)/site

$(SITE)/.installed: docs/site/requirements.txt $(VENV)/.installed
	@echo "site: Python environment in $(SITE)/"
	@python3 -m venv --clear $(SITE)
	@VIRTUAL_ENV="$(CURDIR)/$(SITE)" uv pip install --quiet --require-hashes --requirement docs/site/requirements.txt
	@touch $@

# The sources have the same paths as in the repository, so that relative links work in both.
site: setup $(SITE)/.installed  ## build the documentation as a website, in .state/site
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

changelog: setup  ## generate CHANGELOG.md from changelogs/fragments/
	@antsibull-changelog release --update-existing --reload-plugins --refresh
