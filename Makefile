# `make mnist` and `make test` set themselves up: a virtual environment in .venv, made once from
# requirements.lock. Nothing outside this folder is touched.

PYTHON ?= python3
CORES ?= all
TESTS ?= tests
VENV := .venv
BIN := $(VENV)/bin
PACKAGES := $(VENV)/.packages
READY := $(VENV)/.ready

# The virtual environment alone: an activated one elsewhere must not leak in.
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup mnist smoke test test-fast debian test-cluster fuzz lint docs readme bench schemas lock clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

setup: $(READY)  ## make .venv (the other targets do so themselves)

$(PACKAGES): requirements.lock
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: there is no $(PYTHON); install Python 3.11 or later, or name one: make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $$($(PYTHON) --version) is too old; name Python 3.11 or later: make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) cannot make virtual environments; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }
	rm -rf $(VENV)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --requirement requirements.lock
	@touch $@

$(READY): $(PACKAGES) pyproject.toml
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

mnist: $(READY)  ## both networks on MNIST, three seeds: results/tables/mnist, results/figures/mnist
	$(BIN)/snakemake --cores $(CORES) mnist

smoke: $(READY)  ## the whole way on a small slice of MNIST, in a minute or two
	$(BIN)/snakemake --cores $(CORES) smoke

test: $(READY)  ## all tests, with a real run of the smoke target
	$(BIN)/python -m pytest -rs -n auto $(TESTS)

test-fast: $(READY)  ## tests of a second or less, for use while writing: a minute
	$(BIN)/python -m pytest -rs -n auto -m 'not slow and not workflow' $(TESTS)

debian:  ## install what some tests need, where that is possible: Slurm, Chromium
	@for program in munged slurmctld slurmd srun chromium; do \
	  command -v $$program >/dev/null || missing="$$missing $$program"; done; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
	    --no-install-recommends munge slurmctld slurmd slurm-client chromium >/dev/null; \
	else echo "not installed:$$missing; on Debian, as root, 'make debian' does it" >&2; fi

test-cluster: debian  ## the study on a real Slurm of one node (Debian, as root)
	$(MAKE) test TESTS=tests/cluster

fuzz: $(READY)  ## 300,000 mutated files for the reader
	$(BIN)/python benchmarks/fuzz_codec.py --inputs 300000

lint: $(READY)  ## check style and imports: ruff, snakefmt, import-linter, the workflow
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/lint-imports
	$(BIN)/python .ci/lint-workflow

docs: $(READY)  ## build the pages and the API reference as a site: build/site/index.html
	$(BIN)/sphinx-build -q -W --keep-going -c docs -d build/doctrees . build/site

readme: $(READY)  ## write the tables of README.md and docs/paper.md anew from results/reference
	$(BIN)/python docs/readme.py

bench: $(READY)  ## measure speed: the prior, the codec
	$(BIN)/python -m pytest benchmarks --benchmark-enable --benchmark-only
	$(BIN)/python benchmarks/bench_codec.py

schemas: $(READY)  ## write workflow/schemas anew from sws/config
	$(BIN)/python -c 'import json, pathlib; from sws.config.configuration import schemas; \
	  [pathlib.Path("workflow/schemas", name).write_text(json.dumps(schema, indent=2) + "\n") \
	   for name, schema in schemas().items()]'

lock: pyproject.toml  ## resolve pyproject.toml anew into requirements.lock
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet '.[cluster,docs,test]'
	$(VENV)-lock/bin/python -m pip freeze --exclude sws \
	  | sed -E '/^(cuda-|nvidia-|triton=)/s/$$/ ; platform_system == "Linux"/' > requirements.lock
	rm -rf $(VENV)-lock

clean:  ## remove what tools and tests left; results and .venv stay
	rm -rf .pytest_cache .ruff_cache .import_linter_cache .hypothesis .benchmarks build
	find sws tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
