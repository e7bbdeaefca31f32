# The commands of everyday work. `make help` lists them.
SHELL := /bin/bash
CARGO ?= cargo

.PHONY: help run build test check sanitize tools conformance peers bench bench-quick bench-instructions bench-pure docs fmt fuzz clean

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

sanitize: ## the tests of net and proto under AddressSanitizer, with a search for leaks (minutes, the first time)
	@scripts/sanitize.sh

tools: ## what tests and benches need beyond Debian's packages, into .tools/
	@scripts/tools.sh

peers: ## what the bench compares us with, into .tools/peers/ (the first time, some minutes)
	@scripts/peers.sh

conformance: ## checks what we and the peers keep of TCP; writes docs/conformance/tcp.md (half an hour)
	@scripts/install-deps.sh test
	@scripts/peers.sh
	@scripts/conformance.sh

bench: ## criterion, then us and the peers in one run, about half an hour; writes docs/bench/path.{md,json}
	@scripts/install-deps.sh bench
	@scripts/peers.sh
	@scripts/bench.sh full

bench-quick: ## the core figures of us and the peers that matter most, in under three minutes once built
	@scripts/install-deps.sh bench
	@scripts/peers.sh
	@scripts/bench.sh quick

bench-instructions: ## instructions of the hot loops and of the binary, by callgrind; writes docs/bench/instructions.json
	@scripts/install-deps.sh bench
	@scripts/bench.sh instructions

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
