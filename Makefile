# make            says what there is
# make demo       the main job on this machine, from simulated raw data to processed files
# make demo-shell a shell in which the demo's sites and database run, to look around and to try things
# make install    dependencies, and the profiles where Snakemake looks for them
# make lint       linters only
# make test       linters and tests, as CI runs them
# make soak       the long tests of faults and scale
# make clean      away with what was made here: the demo's data, caches, test artefacts

SHELL := /bin/bash
VENV := $(or $(VIRTUAL_ENV),$(CONDA_PREFIX),$(CURDIR)/.venv)
ifneq ($(words $(VENV)),1)
$(error Snakemake starts no job from an environment whose path has blanks, as $(VENV): \
make one elsewhere and activate it, as by: python3 -m venv ~/caxflow-env && . ~/caxflow-env/bin/activate)
endif
PYTHON := $(VENV)/bin/python
PROFILES := $(or $(XDG_CONFIG_HOME),$(HOME)/.config)/snakemake
# The versions that were tested; `make install LOCK=` takes the newest that fit instead.
LOCK ?= requirements/lock.txt
WORKERS ?= 2
PIP = $(PYTHON) -m pip --disable-pip-version-check install --quiet --use-pep517 $(if $(LOCK),--constraint $(LOCK))
lint test soak: export PATH := $(VENV)/bin:$(PATH)
# The tests start thousands of Python processes: each would compile the library anew where this is set.
test soak: export PYTHONDONTWRITEBYTECODE :=

.PHONY: help install demo demo-shell test lint soak clean

help:
	@sed -n 's/^# \(make.*\)/\1/p' Makefile

$(PYTHON):
	@for python in python3 python3.13 python3.12 python3.11; do \
	    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	        exec $$python -m venv $(VENV); \
	    fi; \
	done; echo "no Python 3.11 or newer on the PATH -> install one, or activate an environment that has it"; exit 1

# One stamp for each extra; `make` installs again only when the dependencies change.
$(VENV)/.caxflow: pyproject.toml $(LOCK) | $(PYTHON)
	@echo installing into $(VENV)
	@$(PIP) --editable .
	@touch '$@'

$(VENV)/.caxflow-%: pyproject.toml $(LOCK) | $(PYTHON)
	@echo installing into $(VENV)
	@$(PIP) --editable '.[$*]'
	@touch '$@'

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

# Everything that was made here but the environment and what was installed for the user.
clean:
	rm -rf demo-data build artefacts .pytest_cache .ruff_cache .hypothesis .snakemake
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
