# Five words. Each makes its own .venv when there is none, so none needs another first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: install check test demo bench
.DEFAULT_GOAL := install

install: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $(STAMP)

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_architecture.py

test: $(STAMP)
	$(BIN)/pytest

demo: $(STAMP)
	$(BIN)/als demo

bench: $(STAMP)
	$(BIN)/als-bench
