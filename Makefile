# Needs only Python 3.11 or newer with pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
INSTALLED := $(VENV)/.installed
TESTABLE := $(VENV)/.testable

# Compiled modules are kept, whatever the shell wants: the tests start hundreds of processes.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test coverage docs pythons gpu-test lint lock release clean

demo: $(INSTALLED)  ## restore the sample clip and draw a picture before and after
	$(BIN)/python -m benchmarks.make_demo

# First the tests that can share the machine, three files at a time, the longest first: many wait for other processes, and
# two cores are then busy all the same. Then those that measure time, alone.
test: $(TESTABLE)  ## run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "not alone" $(COVER:%=--cov --cov-report=)
	$(BIN)/python -m pytest -m alone $(COVER:%=--cov --cov-append --cov-report=term:skip-covered)

coverage:  ## run the tests and print how much of the code they run; takes longer
	$(MAKE) test COVER=1

docs: $(TESTABLE)  ## build the pages and the reference of the API; warnings and dead links are errors
	$(BIN)/python scripts/build_site.py

pythons: $(TESTABLE)  ## test on every Python that this machine has, and with the lowest versions of all dependencies
	$(BIN)/python -m scripts.try_pythons

gpu-test:  ## test this machine's NVIDIA GPU and write gpu-test.json, to send back
	@$(PYTHON) tests/gpu/start.py

lint: $(TESTABLE)  ## formatting, lint, structure, import contracts, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/python scripts/check_structure.py
	$(BIN)/lint-imports
	$(BIN)/python scripts/typecheck.py

# torch is left out: it comes from PyTorch's own index.
LOCK = $(BIN)/uv pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--overrides locks/overrides.txt --custom-compile-command "make lock" --upgrade

lock: $(TESTABLE)  ## write the newest versions of all dependencies, with digests, into locks/
	$(LOCK) --extra cpu --extra live -o locks/runtime.txt
	$(LOCK) --extra cpu --extra export -o locks/export.txt

release: $(TESTABLE)  ## make VERSION=0.2.0 release: build, check, date the changelog, commit, tag
	$(BIN)/python scripts/release.py $(VERSION)

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu,export]"
	@echo installed > $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[cpu,export,rtx,cuda,ray,live,bench,dev,docs]"
	@echo testable > $@

clean:  ## remove what the other commands made
	rm -rf $(VENV) .venv-gpu demo-output gpu-test.json build dist *.egg-info .coverage .hypothesis .*_cache
