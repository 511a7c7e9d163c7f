# What people call, and CI too: `make ci` runs these same targets, stage by stage, and times them.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
# Every target is a command, none a file.
.PHONY: $(shell awk -F: '/^[a-z0-9-]+:/ {print $$1}' $(firstword $(MAKEFILE_LIST)))

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## one trace from a producer through Redis to a consumer and on, in under a minute after the build (KEEP=1: leave it running)
	@demo/run

demo-agent: ## an agent learns to balance a pole over Redis Streams, within three minutes after the build: its curve, its memory, its trace (KEEP=1, GOAL=475)
	@demo/agent/run

test: ## unit tests, and acceptance tests against real servers
	@scripts/test

compatibility: ## run every client library through the proxy, and write docs/compatibility.md (CLIENT='redis-py': only that one)
	@scripts/compatibility

images: ## make image archives of the three programs out of files, without docker: target/images (PROFILE=debug: quick)
	@scripts/images

setup: ## install what the other targets need, once
	@scripts/setup

k8s-up: ## start a real Kubernetes node in namespaces of its own (root), and say how to use it
	@scripts/k8s up

k8s-down: ## end it; nothing of it is left
	@scripts/k8s down

e2e-k8s: ## the injector's tests on the cluster that KUBECONFIG names, or on a node of their own
	@scripts/k8s e2e

ci: ## everything that must pass, each stage timed
	@scripts/ci

lint: check-fmt clippy doc deny ## formatting, clippy, rustdoc, cargo deny

rules: ## check Prometheus alerts, and try them
	promtool check rules deploy/observability/*.rules.yml
	promtool test rules deploy/observability/*.rules.test.yml

bench: ## measure: micro-benchmarks of the byte path
	cargo bench --workspace --bench '*'

bench-peers: ## measure beside HAProxy, Envoy and a bare relay, in under 15 minutes
	@scripts/bench peers

bench-peers-full: ## the same with every workload, size, pipeline and number of connections (over an hour)
	@scripts/bench full

bench-linear: ## measure how cost and memory grow with replies, pipelines and connections, in under 5 minutes
	@scripts/bench linear

bench-count: ## count system calls and instructions of a request
	@scripts/bench count

bench-injector: ## measure what reviews of the injector cost, 500 a second for 20 s, RUNS (5) times, in 2 minutes after the build
	cargo test --release --quiet --package tars-injector --test process -- --ignored --nocapture

bench-docs: ## take the last runs of bench-peers, bench-linear and bench-count into docs/benchmarks.md, and of bench-agent-http into docs/learning.md
	@scripts/bench document

chaos: ## let servers, proxies, networks and collectors fail under load for CHAOS_SECONDS (120), and check every answer
	@scripts/chaos

fuzz: ## fuzz every target for FUZZ_SECONDS (60), two at a time, or one: make fuzz TARGET=name
	@scripts/fuzz $(TARGET)

fuzz-agent-api: ## fuzz tars-agent's HTTP interface by its own OpenAPI document (FUZZ_EXAMPLES=20 cases an operation)
	@scripts/fuzz-agent-api

loom: ## try every order in which threads can meet in what they share
	cargo run --quiet --package tars-loom

train-check: ## let the learner learn everything from SEEDS (3) seeds, and hold it against Stable-Baselines3's committed results; PLOTS=DIR draws the curves
	cargo run --release --quiet --package tars-agent --example train-check -- $(or $(SEEDS),3) $(if $(PLOTS),--plots $(PLOTS))

bench-agent: bench-agent-http ## measure the learner's service, and the learner beside Stable-Baselines3 (installs PyTorch the first time)
	cargo build --release --quiet --package tars-agent --example bench
	agent-runtime/scripts/python agent-runtime/scripts/bench.py $(or $(CARGO_TARGET_DIR),target)/release/examples/bench

bench-agent-http: ## measure acting over HTTP beside a bare axum, round by round, in about 6 minutes
	@scripts/bench act

soak: ## let the learner's service live through HOURS (48, half an hour; 3.2 are two minutes) at 96 times the pace, and see whether its memory grows: soak/soak.svg
	cargo build --release --quiet --package tars-agent
	$(or $(CARGO_TARGET_DIR),target)/release/tars-agent soak --hours $(or $(HOURS),48) --out soak

fmt: ## format everything
	cargo fmt --all
	cargo fmt --manifest-path fuzz/Cargo.toml

check-fmt:
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

doc:
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps

deny:
	@scripts/deny

bench-build:
	cargo bench --workspace --bench '*' --no-run
