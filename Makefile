# Everything a developer does, on a machine that has only make and Python 3.11 or later. `make help` lists it.

PYTHON ?= python3
VENV ?= .venv
DURATION ?= 10
FILE ?= CHANGELOG.md
ROUNDS ?= 5
# Many tests wait for most of their time.
WORKERS ?= $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))

BIN = $(VENV)/bin
INSTALLED = $(VENV)/.installed
PURE_LAYERS = mezzenger/errors.py,mezzenger/message.py,mezzenger/channel.py,mezzenger/codecs.py,mezzenger/units.py,mezzenger/dead_letter.py,mezzenger/retained_message.py,mezzenger/patterns.py,mezzenger/pattern_table.py,mezzenger/policy.py,mezzenger/queues.py,mezzenger/group_status.py,mezzenger/protocol/*,mezzenger/broker/*

# Hundreds of processes are started by the tests; without byte code each of them compiles the package again.
unexport PYTHONDONTWRITEBYTECODE

# What coverage costs is spent where it must be full.
PYTEST = $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder
PURE_TESTS = tests/broker tests/protocol $(wildcard tests/test_*.py)
OTHER_TESTS = $(filter-out tests/broker tests/protocol tests/__pycache__,$(patsubst %/,%,$(wildcard tests/*/)))

.PHONY: help install test format-check lint types tests test-all mutants demo bench format clean

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' Makefile | awk -F '|' '{ printf "  make %-13s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## Make .venv with Mezzenger and the developers' tools in it

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or later is needed: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

test: format-check lint ## Check format, lint and types, run the tests
	@# Types are checked beside the tests, of which many wait.
	@$(MAKE) --no-print-directory --jobs=2 types tests

format-check: $(INSTALLED)
	$(BIN)/ruff format --check

lint: $(INSTALLED)
	$(BIN)/ruff check

types: $(INSTALLED)
	$(BIN)/mypy

tests: $(INSTALLED) ## Run the tests; the pure layers must be covered to the last branch
	$(PYTEST) $(OTHER_TESTS)
	$(PYTEST) --cov --cov-report= $(PURE_TESTS)
	@echo "Coverage of the pure layers:"
	@$(BIN)/coverage report --include='$(PURE_LAYERS)' --fail-under=100

# Prints "3.12 /path/to/python" for each minor version from 3.11 up, one each, that is on PATH or in pyenv's folder.
FIND_PYTHONS = \
	pyenv_root=$$(pyenv root 2>/dev/null || echo "$$HOME/.pyenv"); \
	for python in python3 python3.11 python3.12 python3.13 python3.14 "$$pyenv_root"/versions/3.*/bin/python3; do \
		"$$python" -c 'import sys; v = sys.version_info; v >= (3, 11) and print(f"3.{v.minor}", sys.executable)' 2>/dev/null; \
	done | sort -t . -k 2n -u

test-all: ## The same as test, with every Python from 3.11 up that is installed
	@pythons=$$($(FIND_PYTHONS)); \
	test -n "$$pythons" || { echo "No Python from 3.11 up is installed" >&2; exit 1; }; \
	echo "$$pythons" | while read -r version python; do \
		echo "== Python $$version"; \
		$(MAKE) --no-print-directory test PYTHON="$$python" VENV=".venv-$$version" </dev/null || exit 1; \
	done

mutants: $(INSTALLED) ## Seed one fault after the other, and show which test notices it: make mutants NAMES=
	$(BIN)/python -m tests.mutants $(NAMES)

demo: $(INSTALLED) ## Run the demonstration: make demo DURATION=10 FILE=CHANGELOG.md
	$(BIN)/python examples/demo.py --duration $(DURATION) --file $(FILE)

bench: $(INSTALLED) ## Measure Mezzenger and its peers in turns, ten minutes; writes docs/performance.md: make bench ROUNDS=5
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@mkdir -p build
	$(BIN)/python -m benchmarks --rounds $(ROUNDS) --json build/bench.json --page docs/performance.md

format: $(INSTALLED) ## Format the code, and repair what the linter can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

clean: ## Remove what these commands have made
	rm -rf .venv .venv-* .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
