# Everything runs in .venv, which the first target makes: a clone needs Python >= 3.11 (with venv) and a C compiler.
# Stamps in .venv remember what is installed and built, so that a second call starts at once.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH ?= torch==2.13.0
PYTEST_ARGS ?=

# the first Python on the path that is new enough, unless PYTHON names one
NEW_ENOUGH := import sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	$$p -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$p && break; done)

SOURCES := setup.py $(wildcard fastnn/*.py fastnn/functional/*.py fastnn/nn/*.py fastnn/optim/*.py fastnn/*.pyx fastnn/*.pxd fastnn/_kernels/*.pyx fastnn/_kernels/*.pxd fastnn/_kernels/*.h)
BENCHES := conv matmul pooling normalization activation elementwise softmax dropout optimizer image steps epoch folder training

.PHONY: help demo test parity extras lectures bench bench-report lint wheel clean
.DEFAULT_GOAL := help

help:  ## list the tasks
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14
	@echo "Variables: PYTHON (used to make $(VENV)), PYTEST_ARGS, TORCH (for parity, bench-report)"

demo: $(VENV)/.built  ## train a convolutional network on the digits (1 to 4 minutes from a bare clone)
	$(BIN)/fastnn train --data digits --model cnn --seed 0

test: $(VENV)/.built  ## run the tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

parity: $(VENV)/.torch  ## compare with PyTorch and scikit-learn, which are installed for it
	$(BIN)/python -m pytest tests/parity $(PYTEST_ARGS)

extras: $(VENV)/.extras  ## test what needs matplotlib, Optuna, scikit-learn, TensorBoard, which are installed for it
	$(BIN)/python -m pytest tests/extras $(PYTEST_ARGS)

lectures: $(VENV)/.lectures  ## try the claims of the lectures, draw their figures (under 5 minutes)
	@for script in $(filter-out %/common.py, $(wildcard examples/lectures/*.py)); do echo "--- $$script"; FIGURES=build/lectures $(BIN)/python $$script || exit 1; done

bench: $(VENV)/.built  ## time the kernels and training steps, short version (under 3 minutes)
	@for name in $(BENCHES); do $(BIN)/python bench/$$name.py --quick || exit 1; done

bench-report: $(VENV)/.peers  ## time everything against PyTorch and JAX, write docs/benchmarks.md (15 minutes)
	$(BIN)/python bench/report.py --run

lint: $(VENV)/.lint  ## ruff, cython-lint and mypy
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint fastnn  # it calls pycodestyle
	$(BIN)/mypy

wheel: $(VENV)/.built  ## build a wheel into dist/
	$(PIP) wheel -q --no-deps --no-build-isolation -w dist .
	@ls -l dist/*.whl

clean:  ## remove everything that make has made, the environment included
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find fastnn -name '*.so' -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

# The environment: build requirements first, then the package in place (which compiles it) with its test tools.
$(VENV)/.installed: pyproject.toml
	@test -n "$(PYTHON)" || { echo "fastnn needs Python >= 3.11 with venv: make PYTHON=/path/to/python"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
		> $(VENV)/build-requires.txt
	$(PIP) install -q -r $(VENV)/build-requires.txt
	$(PIP) install -q --no-build-isolation -e '.[test]'
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(SOURCES)
	$(BIN)/python setup.py -q build_ext --inplace
	@touch $@

$(VENV)/.torch: $(VENV)/.built
	$(PIP) install -q '$(TORCH)' scikit-learn
	@touch $@

$(VENV)/.extras: $(VENV)/.built
	$(PIP) install -q --no-build-isolation -e '.[all]' tensorboard pandas
	@touch $@

$(VENV)/.lectures: $(VENV)/.built
	$(PIP) install -q --no-build-isolation -e '.[plot]'
	@touch $@

$(VENV)/.peers: $(VENV)/.torch
	$(PIP) install -q --no-build-isolation -e '.[bench]'
	@touch $@

$(VENV)/.lint: $(VENV)/.built
	$(PIP) install -q --no-build-isolation ruff cython-lint mypy
	@touch $@
