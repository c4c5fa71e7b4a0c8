# Needs only Python 3.11 or newer with pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

.PHONY: demo test gpu-test lint clean

demo: $(INSTALLED)  ## restore the sample clip and draw a picture before and after
	$(BIN)/python -m benchmarks.make_demo

# First the tests that can share the machine, one file at a time on each of two cores. Then those that measure time or
# memory, alone.
test: $(TESTABLE)  ## run the tests and print the coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone" --cov --cov-report=
	$(BIN)/python -m pytest -m alone --cov --cov-append --cov-report=term:skip-covered

gpu-test:  ## test this machine's NVIDIA GPU and write gpu-test.json, to send back
	@$(PYTHON) tests/gpu/start.py

lint: $(TESTABLE)  ## formatting, lint, structure, import contracts, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/check_structure.py
	$(BIN)/lint-imports
	$(BIN)/python scripts/typecheck.py

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu,export]"
	@echo installed > $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu,export,rtx,cuda,dev]"
	@echo testable > $@

clean:  ## remove what the other commands made
	rm -rf $(VENV) .venv-gpu demo-output gpu-test.json build *.egg-info .coverage .hypothesis .*_cache
