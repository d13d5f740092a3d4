# `make demo`: one picture, direct inference beside ScaleCrafter.  `make test`: everything that .ci/run checks.
# `make test-oldest`: what touches diffusers, with the lowest releases that pyproject.toml admits.  `make docs`: the site.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
DEMO := demo.png
PROMPT ?= a yellow penguin in the snow
# Tests run side by side, a thread each: two threads on one small model mostly wait for one another.
WORKERS ?= 2

.PHONY: demo docs test test-oldest install install-dev lint types tests clean

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@ $(VENV)/.installed

install: $(VENV)/.installed

install-dev: $(VENV)/.installed-dev

demo: install
	@rm -f $(DEMO)
	$(BIN)/scalecrafter compare "$(PROMPT)" --seed 1 --output $(DEMO)
	@echo "Direct inference (left) beside ScaleCrafter (right): $(CURDIR)/$(DEMO)"

test: lint types tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: install-dev
	$(BIN)/mypy

tests: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[test]"
	touch $@

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadscope tests/compatibility \
		tests/methods tests/batch tests/cli/test_cli.py tests/test_patch.py tests/test_against_reference.py \
		tests/test_generation.py tests/test_loading.py tests/test_critters.py

# Needs no network: no fonts and no scripts of other sites.  Any warning is an error.
docs: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(OLDEST) build dist site
