# Two targets are all that a newcomer needs: make demo, make test. Every target is idempotent and starts from a bare clone.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?= 20
KIOSKS ?= 50
SCENARIO ?= demo
KEEP ?=
USERS ?= 50
SHAPE ?= steady
RATE ?= 0
TLS ?=
WORKERS ?= 2
SECURITY ?= software

STAMP := $(VENV)/.installed
# The path of a payment: .py with types beside it, compiled as well.
COMPILED := $(wildcard switch/*/*.pxd)
SOURCES := $(wildcard csrc/*.c csrc/*.h iso8583/_native/*.pyx iso8583/_native/*.pxd iso8583/_native/*.h switch/security/*.pyx) \
  $(COMPILED:.pxd=.py) $(COMPILED)

.PHONY: profile load mutation docs drills verify-model sim-long help build demo test test-all check format bench bench-compare bench-check clean fuzz system
help: ## this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20
	@echo
	@echo "variables: SECONDS=$(SECONDS) KIOSKS=$(KIOSKS) SCENARIO=$(SCENARIO) SECURITY=$(SECURITY) KEEP=1 PYTHON=$(PYTHON)"
	@echo "of load: SECONDS=$(SECONDS) USERS=$(USERS) SHAPE=$(SHAPE) RATE=$(RATE) TLS=1 WORKERS=$(WORKERS) SCENARIO=calm SLO=FILE"

# ---------------------------------------------------------------------------------------------------- setting up
.PHONY: tools
tools:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) is missing: install Python 3.11 or newer (Debian: apt-get install python3 python3-venv python3-dev)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: $$($(PYTHON) --version) is too old: install Python 3.11 or newer, or say PYTHON=python3.12" >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: Python lacks venv (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@command -v $${CC:-cc} >/dev/null || { echo "make: no C compiler: install one (Debian: apt-get install gcc libc6-dev)" >&2; exit 2; }
	@$(PYTHON) -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || { echo "make: Python.h is missing: install the Python headers (Debian: apt-get install python3-dev)" >&2; exit 2; }

# pip says much; it is kept and shown only when something fails.
$(STAMP): pyproject.toml | tools
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) and compiling (once; a minute or two) …"
	@{ $(BIN)/python -m pip install --upgrade pip "setuptools>=80" wheel && $(BIN)/python -m pip install --editable ".[dev]"; } \
	  >$(VENV)/install.log 2>&1 || { tail -n 30 $(VENV)/install.log >&2; exit 2; }
	@touch $(VENV)/.compiled $@

# What is compiled is made again when its sources changed: an editable install alone does not notice. Cython and setuptools
# compare times, so one changed module is one compilation. Installing has just compiled everything.
build: $(VENV)/.built ## set up .venv and compile the codec
$(VENV)/.built: $(STAMP) $(SOURCES)
	@if [ -e $(VENV)/.compiled ]; then rm $(VENV)/.compiled; else \
	  echo "compiling the codec, the path of a payment and, where OpenSSL has headers, its binding …"; \
	  $(BIN)/python -c "from setuptools import setup; setup()" build_ext --inplace --parallel 2 >$(VENV)/build.log 2>&1 \
	  || { tail -n 30 $(VENV)/build.log >&2; exit 2; }; fi
	@$(BIN)/python -c 'from switch.security.primitives import PROVIDER; \
	  PROVIDER == "libcrypto" or print("built without OpenSSL headers (Debian: libssl-dev): MACs take three times as long")'
	@touch $@

# pyiso8583's own tests run against our drop-in for it. Not part of build: a demo needs no package index.
PEERS := $(VENV)/peers/pyiso8583-4.0.1.tar.gz
.PHONY: peers
peers: $(PEERS) ## fetch the package whose own tests we run
$(PEERS): | $(STAMP)
	@$(BIN)/python -m pip download --no-deps --no-binary :all: --no-build-isolation --require-hashes --dest $(@D) \
	  --requirement tests/iso8583/compat/pyiso8583.txt >$(VENV)/peers.log 2>&1 || { tail -n 10 $(VENV)/peers.log >&2; \
	  echo "make: cannot fetch $(@F): see above; or download it elsewhere and put it into $(@D)/" >&2; exit 2; }

# ---------------------------------------------------------------------------------------------------- the two
demo: build ## pay real bills for SECONDS against simulated hosts, then prove that the books agree
	@$(BIN)/python -m switch demo --seconds $(SECONDS) --kiosks $(KIOSKS) --scenario $(SCENARIO) --security $(SECURITY) $(if $(KEEP),--keep)

test: build peers ## unit, property and integration tests: real sockets, real PostgreSQL
	@$(if $(filter-out tests,$(PYTEST)),,echo "thousands of tests, a quarter of an hour; what fails (F) is told at the end, what needs make system is deselected")
	@$(BIN)/python -m pytest $(PYTEST) -m "not hsm and not browser"
	@$(if $(filter-out tests,$(PYTEST)),,$(MAKE) --no-print-directory interpreted && $(BIN)/python -m pytest tests/switch/runtime -m "not hsm")
PYTEST := tests

# What a payment passes through is compiled (switch/interpreted.py), and so it is in most tests. The same files once more as
# they are written: tests of single parts, those that put parts of their own into them, some simulation; tests of the running
# switch always.
.PHONY: interpreted
interpreted: export GRIDSWITCH_INTERPRETED := 1
interpreted: build
	@$(BIN)/python -m pytest tests/switch/machines tests/switch/dialects tests/switch/net
	@$(BIN)/python -m pytest tests/switch/sim -m interpreted
	@$(BIN)/python -m switch sim --seeds 501..550

# ---------------------------------------------------------------------------------------------------- more
check: build ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet . || { echo "make: some files are not formatted: run make format" >&2; exit 1; }
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES) || { echo "make: some C files are not formatted: run make format" >&2; exit 1; }
	@$(BIN)/mypy
	@$(BIN)/lint-imports
C_FILES := $(wildcard csrc/*.[ch] iso8583/_native/*.h tests/csrc/*.[ch] tests/fuzz/*.[ch])

format: build ## format and sort what ruff can mend
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

# Most tests wait more than they work, so on two cores five streams go beside each other: the tests of single parts, those of the
# running switch, of the admin service, whole systems, and what only computes, which gives way to the others. All of it well within
# half an hour.
STREAMS := parts running offices systems computed
test-all: build peers ## the core tier, a hardware module's stand-in, a demo on it, model check, simulation, instructions, fuzzing, the wheel
	@rm -f $(STREAMS:%=$(VENV)/stream-%.log); status=0; \
	  for s in $(filter-out parts,$(STREAMS)); do $(MAKE) --no-print-directory $$s >$(VENV)/stream-$$s.log 2>&1 & pids="$${pids:-} $$!"; done; \
	  $(MAKE) --no-print-directory parts || status=$$?; \
	  for p in $$pids; do wait $$p || status=$$?; done; \
	  for s in $(filter-out parts,$(STREAMS)); do printf '\n--- %s\n' $$s; cat $(VENV)/stream-$$s.log; done; exit $$status

RUNNING := tests/switch/runtime tests/switch/kiosk
.PHONY: e2e
e2e: build ## pages in Chromium: every page looked at, the commonest tasks by keyboard alone; pictures in .gridswitch/screenshots
	@$(BIN)/python -m pytest tests -m browser

.PHONY: $(STREAMS)
parts: build peers
	@nice -n 5 $(MAKE) --no-print-directory test PYTEST="tests --ignore=tests/e2e --ignore=tests/admin $(RUNNING:%=--ignore=%)"
	@nice -n 5 $(MAKE) --no-print-directory interpreted

running: build
	@for each in $(RUNNING); do $(BIN)/python -m pytest $$each -m "not hsm" || exit 1; done

offices: build
	@nice -n 5 $(BIN)/python -m pytest tests/admin -m "not hsm and not browser"

systems: build
	@$(BIN)/python -m pytest tests/e2e
	@$(BIN)/python -m pytest tests --ignore=tests/e2e -m "hsm or browser"
	@$(BIN)/python -m switch demo --seconds 5 --dir .gridswitch/test-all --security pkcs11

computed: build
	@nice -n 19 $(MAKE) --no-print-directory verify-model
	@nice -n 19 $(BIN)/python -m switch sim --seeds 1..500
	@nice -n 19 $(BIN)/python -m switch sim --crash-everywhere --seeds 21..21
	@nice -n 19 $(MAKE) --no-print-directory bench-check
	@nice -n 19 $(MAKE) --no-print-directory fuzz SECONDS=10
	@nice -n 19 $(MAKE) --no-print-directory wheel

docs: build ## write the saga's diagram and table into ARCHITECTURE.md, from the rows that run
	@$(BIN)/python -m switch verify-model --document ARCHITECTURE.md
	@$(BIN)/python -m switch interface --write

verify-model: build ## explore every state of a payment for every host profile; every rule must be missed when it is removed
	@$(BIN)/python -m switch verify-model

MINUTES ?= 60
sim-long: build ## the whole switch on a virtual clock: every row, answer and fault; new seeds for MINUTES, then a crash at every step of golden runs
	@$(BIN)/python -m switch sim --aim
	@$(BIN)/python -m switch sim --minutes $(MINUTES)
	@$(BIN)/python -m switch sim --crash-everywhere

drills: build ## every drill in full: ten minutes of real processes being killed, paused, cut off and filled up
	@for d in "kill-switch --rounds 20" kill-worker "kill-postgres --rounds 10" restart-postgres kill-both "pause --rounds 5" "cut --rounds 50" half-open slow-loris hostile reconnect disk-full; do \
	  $(BIN)/python -m switch drill $$d || exit 1; done

# What belongs to a group, and the tests that judge it, stand in tests/mutation.py.
GROUP ?= saga
mutation: build ## break the code of GROUP (saga, leases, matching, outbox) line by line: which mutants does no test notice?
	@$(BIN)/python -m pip install --quiet --editable ".[mutation]" 2>$(VENV)/mutation.log
	@nice -n 15 $(BIN)/python -m tests.mutation $(GROUP)

# Load is judged without faults, unless somebody asks for them.
load: SCENARIO = calm
load: build ## kiosks by locust for SECONDS, then: counts = journal, service level objectives; report in .gridswitch/load
	@$(BIN)/python -m loadtests.run --seconds $(SECONDS) --users $(USERS) --shape $(SHAPE) --rate $(RATE) --workers $(WORKERS) \
	  --scenario $(SCENARIO) $(if $(TLS),--tls) $(if $(SLO),--slo $(SLO))

fuzz: ## give each fuzz target of the C core SECONDS (needs clang with libFuzzer: make system)
	@$(MAKE) --no-print-directory -s -C csrc fuzz SECONDS=$(SECONDS)

bench: build ## what the codec, each station of a payment and a MAC cost
	@$(BIN)/python -m pytest benchmarks -o python_files="bench_*.py" --benchmark-only --benchmark-columns=min,median,ops --benchmark-group-by=group

profile: build ## where a payment's time goes: a flame graph of the switch under load, into .gridswitch/profile
	@$(BIN)/python -m pip install --quiet --editable ".[profile]" 2>$(VENV)/profile.log || { tail -n 5 $(VENV)/profile.log >&2; exit 2; }
	@$(BIN)/python -m benchmarks.profile --seconds $(SECONDS) --kiosks 256

bench-compare: build ## the codec next to the others on PyPI, interleaved; JSON=FILE keeps the numbers
	@$(BIN)/python -m benchmarks.compare $(if $(JSON),--json "$(JSON)")

bench-check: build ## what a message and a payment cost in instructions, against benchmarks/budget.toml (needs valgrind)
	@$(BIN)/python -m benchmarks.instructions

# The wheel is made as a stranger's pip makes it: from the sdist alone, in an environment of its own. An old SOURCES.txt
# would hide what the sdist lacks.
WHEEL := $(VENV)/wheel
.PHONY: wheel
wheel: $(STAMP) ## sdist and manylinux wheel into dist/, tried in a fresh environment with nothing beside it
	@echo "building sdist and wheel …"
	@rm -rf dist $(WHEEL) *.egg-info && mkdir -p $(WHEEL)
	@{ $(BIN)/python -c "from setuptools.build_meta import build_sdist; build_sdist('dist')" && \
	  $(BIN)/python -m pip wheel --no-deps --wheel-dir $(WHEEL) dist/*.tar.gz && \
	  PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m auditwheel repair --strip --exclude 'libcrypto.so.*' --wheel-dir dist $(WHEEL)/*.whl && \
	  $(BIN)/python -m venv --without-pip $(WHEEL)/venv && \
	  $(BIN)/python -m pip --python $(WHEEL)/venv/bin/python install --no-index --no-deps dist/*.whl; \
	} >$(WHEEL)/log 2>&1 || { tail -n 30 $(WHEEL)/log >&2; exit 2; }
	@cd / && $(abspath $(WHEEL))/venv/bin/python -I $(CURDIR)/tests/wheel/smoke.py
	@ls dist/*

system: ## Debian packages for the larger tiers (needs root); the core tier needs none
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  missing=""; for p in $(SYSTEM_PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	  if [ -n "$$missing" ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends $$missing; fi; \
	else echo "make system: not root on Debian; please install: $(SYSTEM_PACKAGES)"; fi
SYSTEM_PACKAGES := gcc libc6-dev make valgrind clang libclang-rt-dev softhsm2 libssl-dev chromium chromium-driver fonts-wqy-microhei

clean: ## remove what was built; .venv stays
	@rm -rf build dist *.egg-info iso8583/_native/*.so switch/*/*.so switch/*/*.c iso8583/_native/codec.c iso8583/_native/frames.c csrc/build .gridswitch $(VENV)/.built $(VENV)/.compiled
	@find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
