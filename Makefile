# Everything happens in .venv/ in this folder; `make` alone lists the targets.

PYTHON ?= python3
WORKERS ?= 2
OUT ?= demo-out
SIZE ?= laptop

BIN := .venv/bin
# Installed under the constraints in one go with the rest, torch is the build that is already in .venv, or the one that pip takes by default.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
# One thread per test worker: two workers with two threads each are many times slower on two cores.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS)

EXTRAS_demo := video,parquet
EXTRAS_test := video,parquet,dev
EXTRAS_docs := video,parquet,docs

.PHONY: help demo test slow check docs clean

help:
	@echo "make demo    set up, train a small model on coloured pendula, write report and GIFs to $(OUT)/"
	@echo "make test    set up, run the tests (a few minutes)"
	@echo "make slow    run the tests that take minutes each"
	@echo "make check   lint, types, import rules"
	@echo "make docs    build the documentation in build/docs"
	@echo "make clean   remove .venv, caches and built files (not your runs)"

demo: .venv/.ready-demo
	$(BIN)/stillmotion demo --size $(SIZE) -o $(OUT)

test: .venv/.ready-test
	$(PYTEST)

slow: .venv/.ready-test
	$(PYTEST) -m slow

check: .venv/.ready-test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: .venv/.ready-docs
	$(BIN)/python docs/abilities.py
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/docs
	@echo "build/docs/index.html"

clean:
	rm -rf .venv build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -exec rm -rf {} +

.venv/.ready-%: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing stillmotion[$(EXTRAS_$*)] into .venv (the first time takes minutes)"
	@$(PIP) --editable '.[$(EXTRAS_$*)]'
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "expected Python 3.11 or newer, got $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv
