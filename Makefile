# Every target works as root and as a plain user, from any checkout path.
GO ?= go
TEST_FLAGS ?= -race -timeout 40m
SEEDS ?= 10000
export CGO_ENABLED ?= 1

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: postgres
postgres: ## install PostgreSQL's programs where that is allowed, else say what to type
	@sh scripts/postgres.sh

.PHONY: build
build: ## build bin/pushwatch
	$(GO) build -trimpath -o bin/pushwatch ./cmd/pushwatch

.PHONY: test
test: postgres ## run the whole test suite, against a PostgreSQL and a NATS server of its own
	$(GO) test $(TEST_FLAGS) ./...

.PHONY: fuzz
fuzz: ## fuzz every target for FUZZ_FOR=10m; what it finds stays below testdata/fuzz
	@sh scripts/fuzz.sh $(or $(FUZZ_FOR),10m)

.PHONY: demo
demo: postgres build ## run everything on this machine until Ctrl-C, or for DEMO_FOR=30s
	@bin/pushwatch demo $(if $(DEMO_FOR),--for $(DEMO_FOR))

.PHONY: simulate
simulate: ## the lives of 10,000 seeds in virtual time (SEEDS=100000 for more), in a minute or two
	$(GO) test ./internal/simulation -run 'TestSeeds$$' -bare -seeds $(SEEDS) -v

.PHONY: chaos
chaos: postgres ## break everything in turn for ten minutes, and compare (CHAOS="-rows C1,C5" for some)
	$(GO) test -c -o bin/chaos.test ./internal/chaos
	cd internal/chaos && ../../bin/chaos.test -test.timeout 30m -test.parallel 3 -form chaos -mutants none $(CHAOS)

.PHONY: chaos-nightly
chaos-nightly: postgres ## the whole fault matrix and its mutation checks, for hours; the table goes to bin/chaos.md
	$(GO) test -c -o bin/chaos.test ./internal/chaos
	cd internal/chaos && ../../bin/chaos.test -test.timeout 24h -test.parallel 3 -form nightly -mutants all -table ../../bin/chaos.md $(CHAOS)

.PHONY: bench
bench: postgres ## measure pushwatch beside the limits of its servers, in some minutes (BENCH="-run relay -n 3"; BENCH=-help)
	@$(GO) build -trimpath -buildvcs=auto -o bin/bench ./internal/bench
	@bin/bench $(BENCH)

.PHONY: bench-scale
bench-scale: postgres ## ten million operations, 100,000 companies, ten minutes of traffic, a cold start: half an hour, 20 GB (BENCH=-help)
	@$(GO) build -trimpath -buildvcs=auto -o bin/bench ./internal/bench
	@bin/bench -scale $(BENCH)

.PHONY: lint
lint: ## format, vet and staticcheck
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); \
	if [ -n "$$unformatted" ]; then echo "gofmt -w $$unformatted"; exit 1; fi
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

.PHONY: check
check: lint simulate test ## what CI runs
	$(MAKE) demo DEMO_FOR=30s
