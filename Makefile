# make run and make test need CPython >= 3.10 with venv, and nothing else: they set up .venv themselves.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
OUT ?= runs/quickstart

.DEFAULT_GOAL := help
.PHONY: help run test bench docs install clean

help: ## show this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1\t\2/p' $(MAKEFILE_LIST)
	@echo "settings: PYTHON=python3.12 (used to create .venv), OUT=runs/mine (for make run)"

run: $(INSTALLED) ## learn an optimizer, distil it, tune it, evaluate it; ends with a report in runs/quickstart
	$(BIN)/closedform run --out $(OUT) --resume

test: $(INSTALLED) ## every check: lint, format, types, direction of imports, tests
	scripts/check

bench: $(INSTALLED) ## time the optimizer's step against torch's own
	$(BIN)/python benchmarks/optimizer_step.py

docs: $(INSTALLED) ## build the documentation's site in build/site; a warning is an error
	$(BIN)/mkdocs build

install: $(INSTALLED) ## create .venv and install the package in it, for development

clean: ## remove .venv, caches and builds; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find src tests benchmarks scripts -name __pycache__ -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "closedform needs Python 3.10 or newer, and $(PYTHON) is `$(PYTHON) --version 2>&1`;" \
	         "name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@echo "--- setting up $(VENV) with `$(PYTHON) --version`: minutes and gigabytes the first time, nearly all of it torch"
	@$(PYTHON) -m venv $(VENV) || { \
	    echo "$(PYTHON) cannot create $(VENV): on Debian and Ubuntu, apt install python3-venv" >&2; exit 1; }
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "--- $(VENV) is ready"
