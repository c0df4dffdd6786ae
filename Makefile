# make            says what there is
# make demo       the main job on this machine, from simulated raw data to processed files
# make demo-shell a shell in which the demo's sites and database run, to look around and to try things
# make install    dependencies, and the profiles where Snakemake looks for them
# make lint       linters only
# make test       linters and tests, as CI runs them
# make soak       the long tests of faults and scale
# make audit      whether anything that is installed is known to be vulnerable (asks the package index)
# make lock       the newest versions that fit, and their hashes, into requirements/
# make clean      away with what was made here: the demo's data, caches, test artefacts

SHELL := /bin/bash
VENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),$(CURDIR)/.venv)
ifneq ($(words $(VENV)),1)
$(error Snakemake starts no job from an environment whose path has blanks, as $(VENV): \
make one elsewhere and activate it, as by: python3 -m venv ~/caxflow-env && . ~/caxflow-env/bin/activate)
endif
PYTHON := $(VENV)/bin/python
PROFILES := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/snakemake
# The versions that were tested, and nothing but the files whose hashes are written down there;
# `make install LOCK=` takes the newest that fit instead.
LOCK ?= requirements
WORKERS ?= 2
TOOLS := build/tools
PIP = $(PYTHON) -m pip --disable-pip-version-check install --quiet --use-pep517
HASHED = $(PIP) --require-hashes --no-build-isolation
# The files of requirements/ that an extra needs.
LAYERS_ := lock
LAYERS_demo := lock demo
LAYERS_dev := lock demo dev

# What builds comes first: pip checks no hash of what it fetches for a build of its own.
# As caxflow does: what it runs, no other account may write to.
MASK := umask g-w,o-w;
define INSTALL
@echo installing into $(VENV)
@$(MASK) $(if $(LOCK),\
$(HASHED) --requirement $(LOCK)/build.txt && \
$(HASHED) $(LAYERS_$(1):%=--requirement $(LOCK)/%.txt) && \
$(PIP) --no-build-isolation --no-deps --editable .,\
$(PIP) --upgrade --editable '.$(1:%=[%])')
@touch '$@'
endef
lint test soak: export PATH := $(VENV)/bin:$(PATH)
# The tests start thousands of Python processes: each would compile the library anew where this is set.
test soak: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo demo-shell test lint soak audit lock clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

$(PYTHON):
	@$(MASK) for python in python3 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; echo "no Python 3.11 or newer on the PATH -> install one, or activate an environment that has it"; exit 1

# One stamp for each extra; `make` installs again only when the dependencies change.
LOCKS := $(if $(LOCK),$(wildcard $(LOCK)/*.txt))
$(VENV)/.caxflow: pyproject.toml $(LOCKS) | $(PYTHON)
	$(call INSTALL)

$(VENV)/.caxflow-%: pyproject.toml $(LOCKS) | $(PYTHON)
	$(call INSTALL,$*)

install: $(VENV)/.caxflow
	@$(PYTHON) -m caxflow.install profiles '$(PROFILES)'

demo: $(VENV)/.caxflow-demo
	@$(PYTHON) -m caxflow.demo

demo-shell: $(VENV)/.caxflow-demo
	@$(PYTHON) -m caxflow.demo shell

lint: $(VENV)/.caxflow-dev
	ruff check .
	ruff format --check .
	snakefmt --check workflow
	snakemake --profile profiles/demo --lint

test: lint
	pytest -m "not soak" -n $(WORKERS) --dist loadfile --no-loadscope-reorder --durations=20

soak: $(VENV)/.caxflow-dev
	pytest -m soak

$(TOOLS)/bin/pip-audit: Makefile | $(PYTHON)
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet 'pip-tools>=7.4,<8' 'pip-audit>=2.9,<3'
	@touch '$@'

audit: $(TOOLS)/bin/pip-audit
	$(TOOLS)/bin/pip-audit --strict --disable-pip --require-hashes $(patsubst %,--requirement %,$(wildcard requirements/*.txt))

lock: $(TOOLS)/bin/pip-audit
	$(TOOLS)/bin/python requirements/renew.py

# Everything that was made here but the environment and what was installed for the user.
clean:
	rm -rf demo-data build artefacts .pytest_cache .ruff_cache .hypothesis .snakemake
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
