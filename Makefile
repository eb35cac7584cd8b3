# Every target sets up what it needs; nothing is installed by hand. Run `make` for the list.
.DELETE_ON_ERROR:
.PHONY: help demo test test-pure lint format man packagings quinn faults nat-lab rollout simulate bench fuzz wheels wheelhouse check-wheelhouse pins onefile reproducible walk qemu-test device-test clean-cross clean

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
# Some of the tests alone: make test TESTS=tests/unit
TESTS  ?=
SUITE  := $(if $(TESTS),$(BIN)/python -m pytest -q $(TESTS),scripts/suite $(BIN)/python)
LAB    := ip:iproute2 nft:nftables nsenter:util-linux miniupnpd:miniupnpd-nftables
DISKS  := strace:strace mkfs.ext4:e2fsprogs mkfs.btrfs:btrfs-progs mkfs.f2fs:f2fs-tools mount:mount
CLOCKS := faketime:faketime
PACKAGERS := npm:npm node:nodejs sbcl:sbcl makeself:makeself go:golang-go rustc:rustc ccache:ccache
# Nothing of the environment but cross/clean.py's list gets into what is built for devices.
TOOLS  := .cache/cross/tools/bin/python
CROSS  := $(TOOLS) -I cross/clean.py $(TOOLS)
# An environment that was copied from another folder, or is half made, is made anew.
$(foreach stamp,$(READY) .cache/cross/tools/.ready,$(shell [ "$$(cat $(stamp) 2>/dev/null)" = "$$(pwd -P)/$(stamp)" ] || rm -f $(stamp)))
ENVIRONMENT = command -v $(PYTHON) >/dev/null || scripts/packages $(PYTHON); $(PYTHON) -I cross/clean.py scripts/venv
# These are said to make, or not at all: a shell may well have a TARGET or a KEY of its own.
$(foreach name,APP CELLS CUTS DEBIAN DEVICES KEY KINDS ONLY PAGES SECONDS TARGET TESTS,$(if $(filter environment,$(origin $(name))),$(eval $(name) :=)))
# With -i failed steps pass, and what they left half done; with -e the shell's variables count. A MAKEFLAGS may hold both.
override FLAGS := $(filter-out -%,$(firstword $(MAKEFLAGS)))
$(if $(findstring i,$(FLAGS))$(findstring e,$(FLAGS)),$(error without -i and -e, please, also in MAKEFLAGS: failed steps would pass, or variables of the shell count))
TARGETS  := $(notdir $(basename $(wildcard targets/*.toml)))
SPEEDUPS := $(wildcard _speedups/*.pyx _speedups/*.pxd _speedups/*.py pypatcher/established/*.py)

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 16

demo: ## a signed app at 1.0.0 updates itself to 1.1.0 from a peer, on a private DHT on this machine
	@$(ENVIRONMENT) .venv-demo requirements/demo.txt .
	@.venv-demo/bin/python examples/demo.py

test: $(READY) ## the whole suite: everything on this Python, and the unit tests on Debian 13's Python and the pure twins
	@scripts/packages $(PYTHON) $(LAB) $(DISKS) $(CLOCKS)
	$(SUITE)$(if $(TESTS),, -m qemu.units)

test-pure: $(READY) ## the whole suite without extension modules
	@scripts/packages $(PYTHON) $(LAB) $(DISKS) $(CLOCKS)
	PYPATCHER_NO_EXTENSIONS=1 $(SUITE)

lint: $(READY) ## ruff, formatting, mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict

format: $(READY) ## format the code
	$(BIN)/ruff check --fix-only -q .
	$(BIN)/ruff format .

man: $(READY) ## man pages of every command, made from the parsers, in build/man
	$(BIN)/python scripts/manpages.py build/man

packagings: $(READY) ## every packaging updates itself and restarts every server, Nuitka included (its builds take many minutes)
	@scripts/packages $(PYTHON) $(PACKAGERS)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps --no-build-isolation -r requirements/packagings.txt
	npm install --silent --no-audit --no-fund --prefix .cache/packagers/npm postject@1.0.0-alpha.6 caxa@3.0.1
	npm install --silent --no-audit --no-fund --prefix .cache/packagers/bun @oven/bun-linux-x64@1.4.4
	npm install --silent --no-audit --no-fund --prefix .cache/packagers/bun-1.1 @oven/bun-linux-x64@1.1.30
	npm install --silent --no-audit --no-fund --prefix .cache/packagers/deno @deno/linux-x64-glibc@2.9.6
	PYPATCHER_PACKAGINGS=all $(BIN)/python -m pytest -q tests/packagings

quinn: $(READY) ## releases to and from quinn, on good and bad paths, where there is a cargo that builds it (1.85 or newer)
	cargo build --release --quiet --locked --manifest-path tests/interop/quinn_peer/Cargo.toml --target-dir .cache/quinn-peer
	$(BIN)/python -m pytest -q tests/interop/quinn.py

faults: $(READY) .cache/cross/tools/.ready ## kill, fail, fill and cut the power at every step of whole updates, as root: all points (about an hour)
	@scripts/packages $(PYTHON) $(LAB) $(DISKS)
	PYPATCHER_FAULTS=all $(BIN)/python -m pytest -q -s tests/faults
	$(CROSS) -m qemu.machine $(or $(TARGET),aarch64) --only cuts --cuts $(or $(CUTS),40)
	$(CROSS) -m qemu.machine $(or $(TARGET),aarch64) --only cuts --cuts 40 --careless

fuzz: $(READY) ## feed hostile bytes to every parser: make fuzz SECONDS=60 (of processor time, for each of them)
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps --no-build-isolation -r requirements/fuzz.txt
	$(BIN)/python -m tests.fuzz $(SECONDS)

nat-lab: $(READY) ## devices behind routers of every kind update each other: the whole matrix, fleets, forged addresses, as root
	@scripts/packages $(PYTHON) $(LAB)
	$(BIN)/python -m tests.nat $(CELLS)

rollout: $(READY) ## a release to real processes by a share, with the brake, and to all, in six minutes: make rollout DEVICES=40
	$(BIN)/python -m bench.rollout --new $(or $(DEVICES),40)

simulate: $(READY) ## a release spreads through simulated devices, attacked and not: make simulate DEVICES=300
	$(BIN)/python -m bench.fleet --devices $(or $(DEVICES),300) --churn 0.3
	$(BIN)/python -m bench.fleet --devices $(or $(DEVICES),300) --churn 0.3 --sybils $$(($(or $(DEVICES),300) / 5)) --junk

bench: $(READY) ## hashing, chunks, transfer and deltas, side by side with what they are built on or instead of
	$(BIN)/python bench/hashing.py
	$(BIN)/python bench/chunks.py
	$(BIN)/python -m bench.transport
	$(BIN)/python -m bench.transfer
	$(BIN)/python -m bench.responsive
	$(BIN)/python -m bench.pointer
	$(BIN)/python -m bench.swarm --lan 20
	$(BIN)/python -m bench.interrupted
	$(BIN)/python -m bench.large
	$(BIN)/pip install -q --disable-pip-version-check --require-hashes --no-deps --no-build-isolation -r requirements/bench.txt
	@scripts/packages $(PYTHON) zstd:zstd gcc:gcc
	$(BIN)/python -m bench.delta
	$(BIN)/python -m tests.support.still_clock bench.data_plan

wheels: .cache/cross/tools/.ready ## pypatcher's own wheel for every target, in dist/
	$(CROSS) -m cross wheels $(TARGET)

wheelhouse: .cache/cross/tools/.ready ## all wheels that a device needs, in wheelhouse/: make wheelhouse TARGET=armv7 DEBIAN=13 KEY=owner.key (default: every target, this Debian, unsigned)
	$(CROSS) -m cross wheelhouse $(TARGET) $(if $(DEBIAN),--debian $(DEBIAN)) $(if $(KEY),--key-file '$(KEY)')

onefile: .cache/cross/tools/.ready ## your own program for a target, with its requirements.txt, in dist/TARGET: make onefile TARGET=armv7 APP=app.py
	@$(CROSS) -m qemu.frozen $(or $(TARGET),TARGET) '$(APP)'

check-wheelhouse: .cache/cross/tools/.ready ## is a wheelhouse as its builder signed it: make check-wheelhouse TARGET=armv7 KEY=owner.key.pub
	@$(CROSS) -m cross.sums wheelhouse/$(or $(TARGET),TARGET) '$(KEY)'

reproducible: .cache/cross/tools/.ready ## a hostile shell, home, umask and user give the same wheels and onefile: make reproducible TARGET=armv7 (default: every target)
	@for target in $(or $(TARGET),$(TARGETS)); do scripts/reproducible $(PYTHON) $$target || exit 1; done

walk: $(READY) ## a new Debian 12 and a new 13 go through the pages word for word, as root: make walk DEBIAN=13 PAGES=README.md
	@scripts/packages $(PYTHON) debootstrap:debootstrap
	@case "$(DEBIAN)" in *13*) ;; *) scripts/walk $(BIN)/python bookworm $(PAGES) ;; esac
	@case "$(DEBIAN)" in *12*) ;; *) scripts/walk $(BIN)/python trixie $(PAGES) ;; esac

pins: ## write requirements/*.txt anew: every package's version and the hashes of its files
	@scripts/packages $(PYTHON)
	@scripts/pins $(PYTHON)

qemu-test: .cache/cross/tools/.ready ## devices of the other targets, emulated, install, test and update themselves
	$(CROSS) -m qemu $(TARGET)

device-test: .cache/cross/tools/.ready ## a whole emulated device updates under real systemd, and its power is cut: make device-test CUTS=30
	$(CROSS) -m qemu.machine $(or $(TARGET),aarch64) --cuts $(or $(CUTS),4) $(if $(ONLY),--only $(ONLY)) $(if $(KINDS),--kinds $(KINDS))

.cache/cross/tools/.ready: requirements/cross.txt scripts/venv scripts/packages
	@$(ENVIRONMENT) .cache/cross/tools requirements/cross.txt

clean-cross: ## remove sysroots, cross compilers' environments and built wheels
	rm -rf .cache/cross .cache/debian* .cache/qemu wheelhouse

$(READY): requirements/develop.txt pyproject.toml setup.py scripts/venv scripts/packages $(SPEEDUPS)
	@$(ENVIRONMENT) $(VENV) requirements/develop.txt -e .

clean: ## remove everything that was built
	rm -rf .venv .venv-demo .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
	find pypatcher _speedups -name '*.so' -delete -o -name '*.c' -path '_speedups/*' -delete
