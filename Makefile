# The commands of the project. `make help` lists them.

SHELL := /bin/bash
CARGO := cargo
# Where a run keeps its signing key and, later, its recordings.
DATA ?= ./data
ARGS ?=

.PHONY: help run deps test-deps web build aws test interop lines kvs-crash kvs-tools check bench fuzz sim fmt

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

run: deps web ## build everything and start the server (ARGS=... are passed on, DATA=./data)
	$(CARGO) build --release --locked -p antiphon-server
	./target/release/antiphon serve --data $(DATA) $(ARGS)

deps: ## install what the build needs, by apt, where missing
	@scripts/install-build-deps.sh

test-deps: deps ## install what the tests need: browsers, a Python environment in target/venv
	@scripts/install-test-deps.sh

web: deps ## build the web client into web/dist
	@scripts/build-web.sh

build: web ## build everything with the profile for work and tests
	$(CARGO) build --workspace --locked

# A workspace and a lock file of its own (in target/aws), so that the server has nothing to do with the SDK's crates.
aws: ## build the program of the official Rust SDK that the end-to-end tests start
	cd tests/e2e/rust && $(CARGO) build --locked

# Not `build` first: the tests' own build, with the features of what only they need, makes the server, too, and everything would be compiled twice.
test: test-deps web aws ## run every test; the last line says how many passed
	@python3 scripts/run-tests.py

interop: test-deps build ## every client, direction and codec of docs/reference/interop.md, with the real clients; alone, as in `make test`
	node --test --test-concurrency=1 --test-reporter=spec tests/e2e/test/interop.test.js

lines: test-deps build ## bad lines behind a real browser, against the service levels (docs/design/bandwidth.md)
	ANTIPHON_LINES=1 node --test --test-concurrency=1 --test-reporter=spec tests/e2e/test/lines.test.js

kvs-crash: test-deps build ## stored streams: 200 kills at random points (`make test` has 50)
	ANTIPHON_KILLS=200 node --test --test-concurrency=1 --test-reporter=spec tests/e2e/test/kvs.test.js

kvs-tools: test-deps build ## stored streams: FFmpeg's ten minutes, and MKVToolNix looks at all of it (`make test`: at 24 documents)
	ANTIPHON_DOCUMENTS=0 node --test --test-concurrency=1 --test-reporter=spec --test-name-pattern=FFmpeg tests/e2e/test/kvs.test.js

check: web ## formatting, lints, arrows between crates, documentation, types
	@scripts/check.sh

bench: web ## measure forwarding, join and bot latency beside their floor (see docs/benchmarks.md)
	@bench/run $(ARGS)

fuzz: ## feed each fuzz target INPUTS changed inputs (default 1,000,000; TARGETS="rtcp stun", SEED=1)
	$(CARGO) run --locked -p antiphon-fuzz -- --inputs $(or $(INPUTS),1000000) --seed $(or $(SEED),1) $(TARGETS)

sim: ## stories of whole rooms under virtual time: SEEDS=1000 FROM=0, or one again by SEED=N; `make test` tells 200
	$(if $(SEED),ANTIPHON_SIM_SEED=$(SEED) )ANTIPHON_SIM_FROM=$(or $(FROM),0) ANTIPHON_SIM_SEEDS=$(or $(SEEDS),1000) \
		$(CARGO) test --locked -p antiphon-shard --test rooms stories -- --nocapture

fmt: ## format the Rust code
	$(CARGO) fmt --all
