# The commands of everyday work. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help run build test check tools bench bench-pure docs fmt fuzz clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 14

build: ## the release binary, target/release/portcullis
	@scripts/install-deps.sh build
	$(CARGO) build --release --locked --package portcullis

run: build ## server, agent and a demo service; state in ./data; Ctrl-C ends all
	@exec target/release/portcullis up --data-dir ./data

test: ## every check and every test, on real servers; ends with one line of counts
	@scripts/install-deps.sh test
	@scripts/tools.sh
	@scripts/test.sh

check: ## the quick part: format, clippy, tidy, unit tests
	@scripts/test.sh quick

tools: ## what tests and benches need beyond Debian's packages, into .tools/
	@scripts/tools.sh

bench: ## criterion, then ratios against a direct connection, side by side in one run; writes docs/bench/
	@scripts/install-deps.sh test
	@scripts/bench.sh

bench-pure: ## criterion alone, at length, for the parts without I/O
	$(CARGO) bench --locked --package portcullis-policy --package portcullis-model --bench '*'

docs: ## writes the generated documents
	$(CARGO) xtask docs

fmt: ## formats
	$(CARGO) fmt --all

fuzz: ## thirty seconds of each fuzz target (needs cargo-fuzz)
	@scripts/fuzz.sh

clean: ## removes what was built; keeps ./data
	$(CARGO) clean
