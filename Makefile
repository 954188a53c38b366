# The two commands of the README are `make demo` and `make test`; the rest is for developers.

TARGET := $(abspath $(or $(CARGO_TARGET_DIR),target))
CARGO  := cargo
# One selection everywhere: with `-p` or `--exclude` cargo unifies features anew, and builds most dependencies once more.
ALL    := --workspace
# The longest first: two run at a time.
SUITES := stock ovn stock_ovn chaos clients_cluster openapi cluster input host travel ansible image_servers publish pylxd zones metrics testbed client config
# Integration tests of the crates, by name; those of tests/ are the suites, the simulation and the layering.
CRATES := api api/cli api/client node node/driver node/runtime ovn raft raft/model scheduler storage
UNITS  := $(basename $(notdir $(wildcard $(CRATES:=/tests/*.rs)))) lxc_host net_host api sim

.PHONY: help demo demo-down test check unit suites compat bench sim

help:
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: ## three nodes on this machine, with containers; leaves them running (root)
	tests/packages.sh run build
	@# Where these cannot be had, the demo says what it leaves out.
	tests/packages.sh ovn || true
	$(CARGO) build --release $(ALL) --bin basaltd --bin basalt --bin demo
	BASALT_BIN_DIR=$(TARGET)/release $(TARGET)/release/demo up $(TARGET)/demo

demo-down: ## takes the demo away, with every trace
	@test ! -x $(TARGET)/release/demo || $(TARGET)/release/demo down $(TARGET)/demo

test: check unit suites ## all tests, the cheap ones first

check: ## format, layering, lints, documentation
	$(CARGO) fmt --all --check
	$(CARGO) test -q $(ALL) --test layering
	$(CARGO) clippy -q $(ALL) --all-targets -- -D warnings
	@# The feature is one that only tests need: with it, what clippy has checked of the dependencies serves here too.
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" $(CARGO) doc -q $(ALL) --no-deps --features tokio/test-util

unit: ## tests of each crate, and the simulation
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	    $(CARGO) nextest run $(ALL) --no-fail-fast -E 'not package(basalt-tests) or kind(lib) or binary(sim)'; \
	else \
	    $(CARGO) test $(ALL) --no-fail-fast --lib --bins $(addprefix --test ,$(UNITS)); \
	fi

suites: ## real agents in namespaces: cluster, containers, stock clients, chaos (root)
	$(CARGO) build -q $(ALL) --bins --tests
	@rm -rf $(TARGET)/compat
	BASALT_BIN_DIR=$(TARGET)/debug CARGO=$(CARGO) tests/suites.sh $(TARGET)/suites $(SUITES)
	@# It says where the README's table is out of date; `make compat` mends that.
	-@$(TARGET)/debug/compat check

compat: ## writes the README's compat table by what the suites found
	@$(CARGO) build -q $(ALL) --bins
	@$(TARGET)/debug/compat write

sim: ## the simulation alone; SEED=n replays one seed
	$(if $(SEED),SIM_SEED=$(SEED)) $(CARGO) test $(ALL) --test sim -- --nocapture

bench: ## measures Basalt beside bare LXC, etcd and Incus, and prints ratios; ONLY=raft takes one part (root)
	tests/packages.sh run build ovn bench
	$(CARGO) build --release $(ALL) --bin basaltd --bin basalt --bin bench
	BASALT_BIN_DIR=$(TARGET)/release $(TARGET)/release/bench $(ONLY)
