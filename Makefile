# make demo    a report from a synthetic slide, with the plain install (no PyTorch)
# make test    linters, types and tests, with everything
# make test-long, make bench, make clean
#
# Both installs share .venv and work in either order; each is skipped while pyproject.toml is unchanged. They are
# editable, so that a changed source needs no new install.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTEST ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test test-long bench clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' $(firstword $(MAKEFILE_LIST))

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null 2>&1 || \
	  { echo "$(PYTHON) is not there. Install Python 3.11 or later, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "$(PYTHON) is $$($(PYTHON) --version). Myelos needs 3.11 or later: make PYTHON=python3.11" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(VENV)/.plain: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.full: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable '.[train,dev]'
	@touch $@ $(VENV)/.plain

install: $(VENV)/.full

demo: $(VENV)/.plain
	$(BIN)/myelos demo -o demo --overwrite
	@echo "$(CURDIR)/demo/report.html"

test: $(VENV)/.full
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not long" $(PYTEST)

test-long: $(VENV)/.full
	$(BIN)/python -m pytest -m long $(PYTEST)

bench: $(VENV)/.full
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
