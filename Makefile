# Five words. Each makes its own .venv when there is none, so none needs another first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: install check test demo bench sim fuzz
SEEDS ?= 10000
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
	$(BIN)/pytest -n logical --dist loadfile

demo: $(STAMP)
	$(BIN)/als demo

bench: $(STAMP)
	$(BIN)/als-bench

# For longer: more seeds of the simulation (make sim SEEDS=100000), and the fuzzer where atheris is installed.
sim: $(STAMP)
	$(BIN)/python tests/simulation.py --seeds $(SEEDS)

fuzz: $(STAMP)
	$(BIN)/python tests/fuzz.py
