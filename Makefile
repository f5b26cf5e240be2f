# The few commands. Each target installs what it needs (Debian's packages, npm packages, crates).

.PHONY: demo demo-check test lint e2e bench build

## Builds, starts a provider, an API and Coatroom, and says what to open.
demo: build demo/node_modules/.package-lock.json
	node demo/run.js

## The demo, clicked through by a headless browser; screenshots go to target/demo/.
demo-check: build
	e2e/install.sh
	node demo/run.js --check --screenshot target/demo/demo.png

## Everything that must pass: unit, in-process and end-to-end tests.
test: build
	cargo test --workspace
	e2e/install.sh
	cd e2e && npm test

## Formatting and lints.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

## The end-to-end tests alone.
e2e: build
	e2e/install.sh
	cd e2e && npm test

## What the primitives cost.
bench:
	cargo bench -p coatroom-core

demo/node_modules/.package-lock.json: demo/package-lock.json
	cd demo && npm ci --no-fund --no-audit
	touch $@

build:
	cargo build --release --locked -p coatroom-cli
