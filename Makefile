# `make demo` and `make test` need Python 3.11 or newer with pip, and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

.PHONY: demo test gpu-test lint clean

demo: $(INSTALLED)  ## restore the sample clip and draw before and after
	$(BIN)/python -m benchmarks.make_demo

# First what can share the machine, a test file at a time on each of two cores; then what measures time or memory.
test: $(TESTABLE)  ## run the tests and print the coverage
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not alone" --cov --cov-report=
	$(BIN)/python -m pytest -m alone --cov --cov-append --cov-report=term:skip-covered

gpu-test:  ## on a machine with an NVIDIA GPU: test everything there and write gpu-test.json, to be sent back
	@$(PYTHON) tests/gpu/start.py

lint: $(TESTABLE)  ## formatting, lint, import contracts, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
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

clean:  ## remove what the two commands made
	rm -rf $(VENV) .venv-gpu demo-output gpu-test.json
