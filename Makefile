# Needs Python >= 3.11 with venv and pip, and make. Everything else is set up here, in $(VENV).

VENV   ?= .venv
# The newest fitting Python on PATH; or say: make PYTHON=/path/to/python (after `make clean`).
FITS   := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3 python; do \
	$$p -c '$(FITS)' 2>/dev/null && echo $$p && break; done)
BIN    := $(VENV)/bin/python -m
ARGS   ?=
MINUTES ?= 5

.PHONY: help demo demo-nats test test-all test-peers check lint native test-native wheels fuzz bench bench-curves bench-guard \
	measure measure-curves measure-guard calls instructions soak format docs docs-links clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(VENV)/.with-cli ## see it work, live in the terminal
	@$(BIN) linkbox.cli demo $(ARGS)

demo-nats: $(VENV)/.with-all ## see several servers share a name at a broker, and one of them killed
	@$(BIN) linkbox.cli.demo.broker $(ARGS)

# A file of tests is one worker's; more workers than a few would only wait for each other's sockets and disks.
PYTEST := pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Not before each commit: campaigns, hostile peers, real programs, browsers, full disks; TLS where TCP is tried, too;
# what is marked as the same again in another combination; and what `make check` runs.
LONG := faults soak fuzz peers observe nats store/test_kills.py store/test_power.py store/test_full.py project typing
QUICK := -m 'not again' -k 'not tls' $(LONG:%=--ignore=tests/%) --deselect=tests/core/test_mutants.py

test: $(VENV)/.with-all ## the tests to run before a commit (ARGS="-k name" for some)
	$(BIN) $(PYTEST) $(QUICK) $(ARGS)

test-all: $(VENV)/.with-all ## all tests, with the coverage floors (ARGS="-k name" for some, COVERAGE=no: without floors)
ifeq ($(COVERAGE),no)
	$(BIN) $(PYTEST) $(ARGS)
else
	@$(BIN) coverage erase
	$(BIN) coverage run -m $(PYTEST) $(ARGS)
	@$(BIN) coverage combine --quiet
ifeq ($(strip $(ARGS)),)
	@echo "coverage of core, branches included, floor 100 %:"
	@$(BIN) coverage report --include='*/linkbox/core/*' --fail-under=100
	@echo "coverage of everything, floor 95 %:"
	@$(BIN) coverage report --fail-under=95
endif
endif

check: lint ## format, lint, types, walls between the layers, docs and examples
	$(BIN) $(PYTEST) tests/project $(wildcard tests/typing)

lint: $(VENV)/.with-all ## the part of `make check` that runs nothing: format, lint, types
	$(BIN) ruff format --check .
	$(BIN) ruff check .
	$(BIN) mypy src $(wildcard tests/typing)

# The same sources, copied: the compiler leaves its work beside them.
NATIVE := build/native-$(notdir $(VENV))
$(NATIVE)/.made: $(VENV)/.made hatch_build.py $(shell find src -name '*.py')
	@rm -rf build/sources $(NATIVE) && mkdir -p build/sources $(NATIVE)
	@cp -r pyproject.toml hatch_build.py README.md LICENSE src build/sources
	@LINKBOX_PURE=0 $(BIN) pip wheel --quiet --disable-pip-version-check --no-deps \
		--wheel-dir $(NATIVE)/wheel build/sources
	@$(BIN) pip install --quiet --disable-pip-version-check --no-deps --target $(NATIVE)/lib $(NATIVE)/wheel/*.whl
	@touch $@

native: $(NATIVE)/.made ## compile what every message goes through: a wheel in dist/ (needs a C compiler)
	@mkdir -p dist && cp $(NATIVE)/wheel/*.whl dist && ls dist/*.whl

NATIVE_TESTS ?= tests/core tests/conformance tests/threaded tests/aio
test-native: $(VENV)/.with-all $(NATIVE)/.made ## the tests of what is compiled, on the compiled code
	PYTHONPATH=$(abspath $(NATIVE))/lib $(BIN) $(PYTEST) $(NATIVE_TESTS) $(ARGS)

wheels: ## an sdist in dist/, wheels for each Python here and the pure one; each is installed and tested
	@bash .ci/wheels $(ARGS)

test-peers: $(VENV)/.with-peers ## conversations with real programs (redis, pymodbus, Node, Chromium, …); skips what is not installed
	$(BIN) $(PYTEST) tests/peers tests/observe/test_page.py $(ARGS)

fuzz: $(VENV)/.with-fuzz ## any bytes into every decoder, and attackers at whole endpoints (MINUTES=5, TARGET=name)
	$(BIN) fuzz --minutes $(MINUTES) $(if $(TARGET),--target $(TARGET)) $(ARGS)

# Measured with an optimised Python if there is one: see benchmarks/interpreter.py.
BENCH_VENV   ?= .venv-bench
BENCH_PYTHON ?= $(shell for p in $(PYTHON) /usr/bin/python3; do \
	$$p -c '$(FITS)' 2>/dev/null && $$p benchmarks/interpreter.py && echo $$p && exit; done; echo $(PYTHON))
BENCH := @$(MAKE) --no-print-directory VENV=$(BENCH_VENV) PYTHON="$(BENCH_PYTHON)"

bench: ## linkbox and its peers side by side, 12 minutes (ROW=name for one, ARGS=--quick: two minutes)
	$(BENCH) measure

bench-curves: ## how the cost grows with peers, askers, sizes, depth, idle connections (ARGS=--quick)
	$(BENCH) measure-curves

bench-guard: ## fail where a message costs more than recorded: counts, ratios (ARGS=--record: record it)
	$(BENCH) measure-guard

# Without a C compiler the compiled one is left out. To compile takes minutes, and says nothing until it is done.
measure: $(VENV)/.with-bench
	@$(MAKE) --question $(NATIVE)/.made || echo "compiling linkbox first: this takes a few minutes" >&2
	@$(MAKE) --no-print-directory $(NATIVE)/.made || echo "nothing compiled here: measuring without it" >&2
	LINKBOX_NATIVE=$(NATIVE)/lib $(BIN) benchmarks $(ROW) $(if $(ROW),,--output docs/benchmarks/latest.json --plots docs/benchmarks) $(ARGS)

measure-curves: $(VENV)/.with-bench
	$(BIN) benchmarks --curves --output docs/benchmarks/curves.json --plots docs/benchmarks $(ARGS)

# The compiled linkbox is watched too if it is there and was made of these sources: compiling takes longer than this.
measure-guard: $(VENV)/.with-cli
	@export LINKBOX_NATIVE=; if $(MAKE) --question $(NATIVE)/.made; then LINKBOX_NATIVE=$(NATIVE)/lib; fi; \
		$(BIN) benchmarks --watch $(ARGS)

calls: $(VENV)/.made ## the Python functions that each message calls, with their counts (ARGS=p2p_send for one)
	$(BIN) benchmarks.calls $(ARGS)

instructions: $(VENV)/.made ## machine instructions per round trip, beside bare sockets (needs valgrind)
	@LINKBOX_NATIVE=$(NATIVE)/lib $(BIN) benchmarks.instructions

soak: $(VENV)/.with-all ## kill loops, simulations, interrupts, races (ARGS=--quick: half a minute)
	$(BIN) soak $(ARGS)

format: $(VENV)/.with-all ## format the code and repair what the linter can
	$(BIN) ruff check --fix-only --quiet .
	$(BIN) ruff format .

# A warning is an error: a link that leads nowhere, a page in no table of contents, a docstring that is not well-formed.
SPHINX := sphinx --fail-on-warning --keep-going --quiet --jobs auto
docs: $(VENV)/.with-docs ## build the documentation site: build/docs/index.html
	$(BIN) $(SPHINX) -b html docs build/docs

docs-links: $(VENV)/.with-docs ## follow the links of the documentation to other sites
	$(BIN) $(SPHINX) -b linkcheck docs build/docs-links

clean: ## remove the virtual environment and everything generated
	rm -rf $(VENV) $(BENCH_VENV) .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist

# An editable install is pure Python. Said in advance, it does not wait for the compiler to be installed.
EDITABLE := LINKBOX_PURE=1 $(BIN) pip install --quiet --quiet --disable-pip-version-check --editable

# A changed pyproject.toml makes a new environment: nothing stale survives in it.
$(VENV)/.made: pyproject.toml
	@python="$(PYTHON)"; "$${python:-none}" -c '$(FITS)' 2>/dev/null || { \
		echo "linkbox needs Python >= 3.11 with venv and pip; $${python:-nothing on PATH} is not that." >&2; \
		echo "Install one (Debian: python3 python3-venv), or: make PYTHON=/path/to/python3.x" >&2; exit 1; }; \
	echo "making $(VENV) with $$python" >&2; "$$python" -m venv --clear $(VENV)
	@touch $@

$(VENV)/.with-cli: $(VENV)/.made
	@$(EDITABLE) '.[cli]'
	@touch $@

$(VENV)/.with-all: $(VENV)/.made
	@$(EDITABLE) '.[cli,test,check]'
	@touch $@

$(VENV)/.with-docs: $(VENV)/.made
	@$(EDITABLE) '.[cli,docs]'
	@touch $@

# Where atheris cannot be had (it is for Linux), inputs are made by chance.
$(VENV)/.with-fuzz: $(VENV)/.with-all
	@$(BIN) pip install --quiet --quiet --disable-pip-version-check 'atheris>=3.0' || \
		echo "atheris cannot be installed here: inputs by chance" >&2
	@touch $@

# For TLS a certificate is made.
$(VENV)/.with-bench: $(VENV)/.made
	@$(EDITABLE) '.[cli,bench,tls]'
	@touch $@

$(VENV)/.with-peers: $(VENV)/.with-all
	@$(EDITABLE) '.[cli,test,check,peers]' || echo "not all programs can be installed here: their tests are skipped" >&2
	@touch $@
