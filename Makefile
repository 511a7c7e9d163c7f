# What people call, and CI too: `make ci` runs these same targets, stage by stage, and times them.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help setup demo test ci lint bench fuzz loom fmt check-fmt clippy doc deny bench-build

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: ## one trace from a producer through Redis to a consumer and on, in under a minute after the build (KEEP=1: leave it running)
	@demo/run

test: ## unit tests, and acceptance tests against real servers
	@scripts/test

setup: ## install what the other targets need, once
	@scripts/setup

ci: ## everything that must pass, each stage timed
	@scripts/ci

lint: check-fmt clippy doc deny ## formatting, clippy, rustdoc, cargo deny

bench: ## measure: micro-benchmarks of the byte path
	cargo bench --workspace --bench '*'

fuzz: ## fuzz every target for FUZZ_SECONDS (60), two at a time, or one: make fuzz TARGET=name
	@scripts/fuzz $(TARGET)

loom: ## try every order in which threads can meet in what they share
	cargo run --quiet --package tars-loom

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
