# `make demo`: one picture, direct inference beside ScaleCrafter.  `make test`: everything that .ci/run checks.
# `make quick`: the tests of what a change usually touches, within 90 seconds on two cores.
# `make test-oldest`: what touches diffusers, with the lowest releases that pyproject.toml admits.  `make docs`: the site.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OLDEST := .venv-oldest
DEMO := demo.png
PROMPT ?= a portrait of an orange fox in the forest
# Tests run side by side, a thread each: two threads on one small model mostly wait for one another.
WORKERS ?= 2
# The order is random, from a seed that pytest's first lines tell; `make test SEED=7` repeats that of 7.
SEED ?= default
# Tests that share a server, a browser or a cluster go to one worker (`xdist_group`, set in tests/conftest.py).
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadgroup --randomly-seed $(SEED)

.PHONY: demo docs test quick test-oldest install install-dev lint types tests clean

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
	$(BIN)/scalecrafter compare "$(PROMPT)" --seed 3 --output $(DEMO)
	@echo "Direct inference (left) beside ScaleCrafter (right): $(CURDIR)/$(DEMO)"

# Types are checked beside the tests: they would keep the second core idle.
test: lint
	$(MAKE) --jobs=2 types tests

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: install-dev
	$(BIN)/mypy

tests: install-dev
	$(PYTEST)

# Whole folders are left out by path too: importing them takes longer than some tests.
quick: install-dev
	$(PYTEST) -m "not slow and not server and not browser and not ray and not training" \
		--ignore tests/server --ignore tests/training --ignore tests/batch/test_on_ray.py

$(OLDEST)/.installed: pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --constraint constraints-oldest.txt --editable ".[test]"
	touch $@

test-oldest: $(OLDEST)/.installed
	OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadgroup tests/compatibility \
		tests/methods tests/batch tests/cli/test_cli.py tests/test_patch.py tests/test_against_reference.py \
		tests/test_generation.py tests/test_enlarge.py tests/test_loading.py tests/test_critters.py

# Needs no network: no fonts and no scripts of other sites.  Any warning is an error.
docs: install-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

clean:
	rm -rf $(VENV) $(OLDEST) build dist site
