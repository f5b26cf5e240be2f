# The few commands. Each target installs what it needs (Debian's packages, npm packages, crates).

.PHONY: demo demo-check test client lint e2e browsers load race faults soak figures attacks bench bench-core bench-instructions build

## Builds, starts a provider, an API and Coatroom, and says what to open. HTTPS=1 for Safari among others.
demo: build clients/typescript/dist/index.js demo/node_modules/.package-lock.json
	node demo/run.js $(if $(HTTPS),--https)

## The demo, clicked through by a headless browser; screenshots go to target/demo/.
demo-check: build clients/typescript/dist/index.js
	e2e/install.sh
	node demo/run.js --check --screenshot target/demo/demo.png $(if $(HTTPS),--https)

## Everything that must pass: unit, in-process and end-to-end tests, and the client library.
test: build client
	e2e/install.sh
	cargo test --workspace
	cd e2e && npm test
	$(MAKE) browsers

## The client library: types, lints, tests, sizes, and what is packed.
client: clients/typescript/node_modules/.package-lock.json
	cd clients/typescript && npm run check

## Formatting and lints.
lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

## The end-to-end tests alone.
e2e: build clients/typescript/dist/index.js
	e2e/install.sh
	cd e2e && npm test

## The client library in Chromium, Firefox and WebKitGTK, against two replicas; ENGINE=firefox for one of them; four minutes.
browsers: build clients/typescript/node_modules/.package-lock.json
	e2e/install.sh
	cd clients/typescript && npm run build
	cd e2e && npm run browsers

## Fifty users, two replicas: restarts, reloads, rotations and an outage of the provider; three minutes.
load: build
	e2e/install.sh
	node e2e/load/run.js --long

## A thousand users whose tokens ran out, through three replicas, over each store: one refresh each; twenty minutes.
## One race alone: make race RACE='--store postgres --kill'
race: build
	e2e/install.sh
	node e2e/race/run.js $(or $(RACE),--all)

## Every fault of every store and of the provider, and what users see; writes docs/outages.md; fifteen minutes.
faults: build
	e2e/install.sh
	node e2e/faults/run.js $(FAULTS)

## Two replicas and a store under a mixed load with faults: memory and open files stay flat.
soak: build
	e2e/install.sh
	node e2e/soak/run.js --minutes $(or $(MINUTES),20)

## How fast it starts, how large it is.
figures: build
	e2e/install.sh
	node e2e/load/figures.js

## The generators of attacks with many more cases than the tests run; five minutes.
attacks:
	COATROOM_CASES=50000 cargo test -p coatroom-core --test attacks -- --nocapture
	COATROOM_CASES=50000 cargo test -p coatroom --test it attack -- --nocapture
	COATROOM_CASES=20000 cargo test -p coatroom-cli --bin coatroom framing -- --nocapture
	COATROOM_CASES=50000 cargo test -p coatroom --lib static_files -- --nocapture

## Coatroom beside nginx, HAProxy and mod_auth_openidc; ten minutes, on a machine that does nothing else.
bench: build
	bench/install.sh
	node bench/run.js

## What a call costs in the core, and the primitives under it.
bench-core:
	cargo bench -p coatroom-core --bench hot_path --bench seal

## Instructions per call against bench/budget.json; BUDGET=write renews it.
bench-instructions:
	bench/install.sh instructions
	node bench/instructions.js $(if $(filter write,$(BUDGET)),--write)

demo/node_modules/.package-lock.json: demo/package-lock.json
	cd demo && npm ci --no-fund --no-audit
	touch $@

clients/typescript/node_modules/.package-lock.json: clients/typescript/package-lock.json
	cd clients/typescript && npm ci --no-fund --no-audit
	touch $@

# What the demo's pages import, and what the getting-started guide installs.
clients/typescript/dist/index.js: clients/typescript/node_modules/.package-lock.json $(wildcard clients/typescript/src/*)
	cd clients/typescript && npm run build

build:
	cargo build --release --locked -p coatroom-cli
