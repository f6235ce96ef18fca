# Every target makes what it needs first; on a fresh machine only Python 3.11 or newer has to be there.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?=
python := .venv/bin/python
export PYTHON

.PHONY: help up invite-host host demo check test test-faults test-compose lint format bench bench-clouds shell clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

# The copy of the lock file inside .venv is the stamp: equal content means installed.
.venv/installed.lock: requirements.lock
	@if cmp -s requirements.lock .venv/installed.lock; then touch .venv/installed.lock; else ./controlplane/install.sh; fi

up: .venv/installed.lock ## start Windlass in the foreground; Ctrl-C stops all of it
	@exec $(python) -m controlplane.up

invite-host: .venv/installed.lock ## print the command with which another machine joins as host NAME
	@$(python) manage.py invite_host "$(NAME)"

host: .venv/installed.lock ## run this machine as a host of an installation elsewhere (first: JOIN=...)
	@exec $(python) -m controlplane.guest

demo: .venv/installed.lock ## train, export, deploy and predict, starting Windlass if it does not run
	@exec $(python) -m controlplane.up --demo

check: .venv/installed.lock ## show every setting, and what runs
	@$(python) -m controlplane.up --check

test: .venv/installed.lock ## the tests, with a PostgreSQL and a Valkey of their own
	@$(python) -m coverage run -m pytest -q --ignore=tests/faults --ignore=tests/compose

test-faults: .venv/installed.lock ## kill everything at every crash point (up to 45 minutes)
	@$(python) -m pytest -q -s --timeout=2700 tests/faults

test-compose: .venv/installed.lock ## build the image and run docker-compose.yml for real
	@$(python) -m pytest -q -s --timeout=2700 tests/compose

lint: .venv/installed.lock ## ruff and mypy
	@$(python) -m ruff check .
	@$(python) -m ruff format --check .
	@$(python) -m mypy

format: .venv/installed.lock ## let ruff put the code into shape
	@$(python) -m ruff check --fix .
	@$(python) -m ruff format .

bench: .venv/installed.lock ## speed, side by side with peers
	@$(python) -m benchmarks

bench-clouds: .venv/installed.lock ## how soon a cluster reaches its cloud, and what a thousand cost
	@$(python) -m benchmarks.clouds
	@$(python) -m benchmarks.kubernetes_observe

shell: .venv/installed.lock ## Django's shell
	@$(python) manage.py shell

clean: ## remove the virtual environment and caches; the data in var/ is kept
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .coverage htmlcov
	find . -name __pycache__ -not -path './var/*' -prune -exec rm -rf {} +
