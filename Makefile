# `make demo`: one picture, direct inference beside ScaleCrafter.  `make test`: everything that .ci/run checks.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo.png
PROMPT ?= a yellow penguin in the snow
# Tests run side by side, a thread each: two threads on one small model mostly wait for one another.
WORKERS ?= 2

.PHONY: demo test install install-dev lint types tests clean

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

types: install-dev
	$(BIN)/mypy

tests: install-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadscope

clean:
	rm -rf $(VENV) build dist
