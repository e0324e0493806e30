# Each verb builds .venv by itself, from nothing but Python (3.11 or later) and pip.
# ARGS="..." is passed on: make test ARGS="-k policy -x"

RECENT := -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do $$p $(RECENT) && echo $$p && break; done)
BIN := .venv/bin
STAMP := .venv/.made-from-the-lock
export UV_PYTHON_DOWNLOADS := never

.PHONY: setup demo test check format bench docs lock clean

setup: $(STAMP) ## everything into .venv: all extras, all tools, this package editable
	@:

$(STAMP): pyproject.toml uv.lock
	@test -n "$(PYTHON)" && $(PYTHON) $(RECENT) || \
		{ echo "needs Python 3.11 or later with venv; name one: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/pip || { echo "setup: .venv from $(PYTHON)"; $(PYTHON) -m venv .venv; }
	@test -x $(BIN)/uv || { echo "setup: uv into .venv"; $(BIN)/python -m pip install --quiet uv; }
	@echo "setup: packages from uv.lock"
	@$(BIN)/uv sync --locked --all-extras --all-groups --quiet
	@touch $@

demo: $(STAMP) ## an e-mail assistant that asks before it sends
	@$(BIN)/hitl demo $(ARGS)

test: $(STAMP) ## the whole suite
	@scripts/browser.sh
	$(BIN)/pytest --numprocesses=auto --dist=worksteal $(ARGS)

check: $(STAMP) ## lint, format, types, arrows between modules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/basedpyright
	scripts/lint_imports.sh

format: $(STAMP) ## what ruff can put right by itself
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(STAMP) ## speed and size beside the official savers; a great many parked threads; the cost of safety and of watching; a long log; decisions under load; pages of a long inbox
	$(BIN)/python benchmarks/checkpointers.py $(ARGS)
	$(BIN)/python benchmarks/parked.py --threads 100000
	$(BIN)/python benchmarks/safety.py
	$(BIN)/python benchmarks/stuck.py
	$(BIN)/python benchmarks/escalation.py
	$(BIN)/python benchmarks/audit.py --rows 100000
	$(BIN)/python benchmarks/replay.py --calls 100000
	$(BIN)/python benchmarks/deciding.py --pending 10000
	$(BIN)/python benchmarks/doors.py --minutes 1
	$(BIN)/python benchmarks/inbox.py --pending 10000

docs: $(STAMP) ## the site, into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

lock: $(STAMP) ## newest versions into uv.lock, then into .venv
	$(BIN)/uv lock --upgrade
	@$(MAKE) --no-print-directory setup

clean: ## back to a fresh checkout
	rm -rf .venv dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis
