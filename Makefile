# Sluice. `make sim` needs a Rust toolchain and a C compiler, no root, no hardware.
# `make test` runs on Debian 12 as root: it installs what it needs and skips nothing.

CARGO ?= cargo
# Where cargo puts what it builds.
TARGET := $(or $(CARGO_TARGET_DIR),target)
SIM := $(TARGET)/release/sluice-sim
OUT ?= out
# Of make soak.
FUZZ_MINUTES ?= 60
# Of deploy/lab: --keep DIR, and of lab.py --hold.
LAB_ARGS ?=

.PHONY: help sim test soak lint bench deps check scapy timeline-check lab lab-check foreign foreign-check clean

help: ## What can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

sim: $(SIM) ## Build the simulator and run the quickstart: policy and encryption, shown on frames
	$(SIM) run sim/scenarios/quickstart.yaml --out $(OUT)/quickstart

.PHONY: $(SIM)
$(SIM):
	$(CARGO) build --release --locked -p sluice-sim

test: deps lint check scapy timeline-check lab-check foreign-check ## Install what is needed (root), then lint and every test

deps: ## Debian packages and cargo tools that the tests need
	.ci/install-deps

lint: ## Format, clippy, licences, bans, sources
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy -p sluice-dataplane -p sluice-bench --all-targets --features sluice-dataplane/dpdk,sluice-bench/dpdk --locked -- -D warnings
	$(CARGO) clippy -p sluice-dataplane-core --features loom --lib --tests --locked -- -D warnings
	$(CARGO) deny --locked check licenses bans sources

# What properties are tried with is the same in each run, so that a tree that has passed passes again;
# make soak tries them with more, and with others each time.
check: export PROPTEST_RNG_SEED ?= 1
check: $(SIM) ## Every Rust test, and each bench once so that none rots
	$(CARGO) test --workspace --locked
	$(CARGO) test -p sluice-sim --features mutants --test mutants --locked
	$(CARGO) test -p sluice-dataplane-core --features loom --lib --locked interleavings
	$(CARGO) test -p sluice-crypto --features ipsec-mb --locked
	$(CARGO) test -p sluice-dataplane --features dpdk --test dpdk --test binary --locked
	$(CARGO) test -p sluice-dataplane --features dpdk --test daemon --locked memory
	$(CARGO) test -p sluice-bench --features dpdk --test command --locked
	$(CARGO) test -p sluice-bench --benches --locked

scapy: $(SIM) ## ESP between us and scapy, which no one here wrote, both ways
	python3 sim/tests/scapy_wire.py --bin $(SIM)

timeline-check: $(SIM) ## timeline.html in a headless browser, against the report of the same run
	python3 sim/tests/timeline.py --bin $(SIM)

lab: ## Both nodes on DPDK ports, real kernels as pods, real CNI (root, after make deps)
	$(CARGO) build --release --locked -p sluice-dataplane -p sluice-host-agent --features sluice-dataplane/dpdk
	python3 deploy/lab/lab.py --bin $(TARGET)/release $(LAB_ARGS)

lab-check:
	$(CARGO) build --locked -p sluice-dataplane -p sluice-host-agent --features sluice-dataplane/dpdk
	python3 deploy/lab/lab.py --bin $(TARGET)/debug

foreign: ## ESP with the Linux kernel's own in a guest, and strongSwan's (root, after make deps)
	$(CARGO) build --release --locked -p sluice-dataplane --features sluice-dataplane/dpdk
	python3 deploy/lab/foreign.py --bin $(TARGET)/release $(LAB_ARGS)

# After lab-check: the same program, built once.
foreign-check:
	$(CARGO) build --locked -p sluice-dataplane -p sluice-host-agent --features sluice-dataplane/dpdk
	python3 deploy/lab/foreign.py --bin $(TARGET)/debug

soak: ## The long runs of which make test has a share: hours
	SLUICE_FRAMES=1000000000 SLUICE_SEEDS=100000 $(CARGO) test --release --locked -p sluice-dataplane-core --test walk -- --nocapture mutated_frames an_honest_connection
	$(MAKE) $(SIM)
	$(SIM) fuzz --seeds 0.. --minutes $(FUZZ_MINUTES) --out $(OUT)/fuzz
	$(SIM) fuzz --rekeys 1000 --seeds 1..4
	SLUICE_CASES=100000 $(CARGO) test --release --locked -p sluice-host-agent --no-default-features --test compiled_equals_naive
	PROPTEST_CASES=5000 $(CARGO) test --release --locked -p sluice-crypto -p sluice-offload-api -p sluice-dataplane-core -p sluice-host-agent

bench: ## Criterion benches of the packet walk
	$(CARGO) bench --locked -p sluice-bench

clean: ## Remove what was built
	$(CARGO) clean
	rm -rf $(OUT)
