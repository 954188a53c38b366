# The two commands of the README are `make demo` and `make test`; the rest is for developers.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
CARGO  := cargo
# Suites that make namespaces run one test at a time: they share the machine's cgroups and its two cores.
ONE    := -- --test-threads=1

.PHONY: help demo demo-down test check unit suites bench sim

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: ## three nodes on this machine, with containers; leaves them running (root)
	tests/packages.sh run build
	$(CARGO) build --release -p basalt-node -p basalt-cli -p basalt-tests --bin basaltd --bin basalt --bin demo
	BASALT_BIN_DIR=$(TARGET)/release $(TARGET)/release/demo up $(TARGET)/demo

demo-down: ## takes the demo away, with every trace
	@test ! -x $(TARGET)/release/demo || $(TARGET)/release/demo down $(TARGET)/demo

test: check unit suites ## all tests, the cheap ones first

check: ## format, layering, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) test -q -p basalt-tests --test layering
	$(CARGO) clippy -q --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc -q --workspace --no-deps

unit: ## tests of each crate, and the simulation
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run --workspace --exclude basalt-tests --no-fail-fast && \
	    $(CARGO) test -q --workspace --exclude basalt-tests --doc; \
	else \
	    $(CARGO) test --workspace --exclude basalt-tests; \
	fi
	$(CARGO) test -p basalt-tests --lib --test 'sim*'

suites: ## real agents in namespaces: cluster, containers, stock clients, chaos (root)
	$(CARGO) build -q -p basalt-node -p basalt-cli
	@for suite in testbed cluster host stock chaos; do \
	    BASALT_BIN_DIR=$(TARGET)/debug $(CARGO) test -p basalt-tests --test $$suite $(ONE) || exit 1; \
	done

sim: ## the simulation alone; SEED=n replays one seed
	$(if $(SEED),SIM_SEED=$(SEED)) $(CARGO) test -p basalt-tests --test 'sim*' -- --nocapture

bench: ## measures Basalt beside bare LXC and etcd, and prints ratios (root)
	tests/packages.sh run build bench
	$(CARGO) build --release -p basalt-node -p basalt-cli -p basalt-tests --bin basaltd --bin basalt --bin bench
	BASALT_BIN_DIR=$(TARGET)/release $(TARGET)/release/bench
