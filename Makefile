# SPDX-License-Identifier: Apache-2.0
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

GO        ?= go
CLANG     ?= clang-19
STRIP     ?= llvm-strip-19
CFORMAT   ?= clang-format-19
TOOLS     := $(GO) tool -modfile=.ci/tools/go.mod
DEMO_ARGS ?=
TEST_ARGS ?=
DESTDIR   ?=
GUEST_ARGS ?=
FUZZTIME  ?= 10s
BENCH     ?= ^BenchmarkPipeline$$
BENCHTIME ?= 2000000x
BENCH_PACKAGES ?= ./test/bench ./agent
C_FILES   := $(shell git ls-files '*.c' '*.h' '*.cpp' '*.hpp' 2>/dev/null | grep -v '^vmlinux.h$$')

# The product is built without cgo; only the race detector of `make test` needs it.
export CGO_ENABLED ?= 0

# Debian packages: what the demonstration runs, what the tests run on top (the readers in other languages, the model of the
# ring, a syslog server), and what regenerating and linting need.
RUN_PACKAGES := swtpm bpftool tpm2-tools
TEST_PACKAGES := g++ python3 python3-numpy valgrind libc6-dbg spin iproute2 rsyslog tmux tshark gdb systemd
DEV_PACKAGES := clang-19 llvm-19 clang-format-19 libbpf-dev
RUN_COMMANDS := swtpm bpftool tpm2_getcap
TEST_COMMANDS := g++ python3 valgrind spin tc rsyslogd tmux tshark gdb systemd-analyze journalctl
# Debian's package of Prometheus would start a server. The tests need its two programs alone, so it is unpacked and not installed.
PROMETHEUS := $(CURDIR)/bin/prometheus
TEST_PATH := $$PATH:/usr/sbin:/sbin:$(PROMETHEUS)/usr/bin
DEV_COMMANDS := $(CLANG) $(STRIP) $(CFORMAT)

# What runs guests; what runs in them is fetched when they are prepared.
GUEST_PACKAGES := qemu-system-x86 qemu-system-arm swtpm debian-archive-keyring
GUEST_COMMANDS := qemu-system-x86_64 qemu-system-aarch64 swtpm

# $(call need,COMMANDS,PACKAGES): install PACKAGES when one of COMMANDS is missing, or say how.
define need
	@PATH="$$PATH:/usr/sbin:/sbin"; missing=""; \
	for c in $(1); do command -v "$$c" >/dev/null || missing="$$missing $$c"; done; \
	if [ -z "$$missing" ]; then echo "setup: found $(1)"; \
	elif [ "$$(id -u)" -ne 0 ]; then \
	  echo "setup: missing:$$missing"; \
	  echo "setup: run this, then try again:  sudo apt-get update && sudo apt-get install -y --no-install-recommends $(2)"; exit 1; \
	else \
	  echo "setup: missing:$$missing; installing $(2) (a minute or two)"; \
	  apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(2) >/dev/null; \
	  for c in $(1); do command -v "$$c" >/dev/null || { echo "setup: $$c is still missing after the installation of $(2)"; exit 1; }; done; \
	  echo "setup: installed $(2)"; \
	fi
endef

.PHONY: help install setup setup-test setup-dev build generate demo test attacks test-secret test-arm64 test-engines test-guests fuzz lint bench bench-crypto clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install what the demonstration needs (apt, as root)
	$(call need,$(RUN_COMMANDS),$(RUN_PACKAGES))

setup-test: setup ## install what the tests need as well
	$(call need,$(TEST_COMMANDS),$(TEST_PACKAGES))
	@PATH="$(TEST_PATH)"; if command -v promtool >/dev/null && command -v prometheus >/dev/null; then echo "setup: found prometheus promtool"; else \
	  echo "setup: missing: prometheus promtool; unpacking Debian's package into $(PROMETHEUS)"; \
	  if [ "$$(id -u)" -eq 0 ]; then apt-get update -qq >/dev/null; fi; \
	  dir="$$(mktemp -d)"; trap 'rm -rf "$$dir"' EXIT; mkdir -p $(PROMETHEUS); \
	  if [ "$$(id -u)" -eq 0 ]; then chmod 755 "$$dir"; chown _apt "$$dir" 2>/dev/null || true; fi; \
	  (cd "$$dir" && apt-get download -qq prometheus >/dev/null && dpkg-deb -x prometheus_*.deb $(PROMETHEUS)); \
	  for c in promtool prometheus; do "$$c" --version >/dev/null 2>&1 || { echo "setup: $$c does not run after unpacking it"; exit 1; }; done; fi

setup-dev: setup ## install what generate and lint need as well
	$(call need,$(DEV_COMMANDS),$(DEV_PACKAGES))

build: ## build bin/cellward; needs only Go
	$(GO) build -trimpath -o bin/cellward ./cmd/cellward

install: build ## install program, systemd units, users and folders under DESTDIR
	install -D -m 0755 bin/cellward $(DESTDIR)/usr/bin/cellward
	install -D -m 0644 -t $(DESTDIR)/usr/lib/systemd/system deploy/cellward.service deploy/cellward-edge@.service
	install -D -m 0644 deploy/sysusers.conf $(DESTDIR)/usr/lib/sysusers.d/cellward.conf
	install -D -m 0644 deploy/tmpfiles.conf $(DESTDIR)/usr/lib/tmpfiles.d/cellward.conf

generate: setup-dev ## compile the BPF programs anew and bring the generated Go up to date
	$(GO) generate ./bpf/...

demo: setup build ## run the whole line on this machine: own swtpm, own bus, real agent, edge and reader
	@echo "demo: simulated battery pack -> sealed CAN FD frames -> eBPF filter -> verified samples (20 s)"
	bin/cellward demo $(DEMO_ARGS)

# What runs agents, nodes and readers against each other in real time has the machine to itself.
LIVE_PACKAGES := ./test/e2e ./test/keyscan ./test/privilege ./test/readers ./test/socketcan

test: setup-test ## run all tests, with the race detector where it can run
	@race=""; if command -v gcc >/dev/null && [ "$$($(GO) env GOARCH)" = amd64 ]; then race="-race"; fi; \
	echo "test: all packages $${race:-(no race detector: it needs gcc on amd64)}; a few minutes on 2 cores"; \
	if [ "$$(id -u)" -ne 0 ]; then echo "test: not root, so tests of the kernel data path will say that they are skipped"; fi; \
	export CGO_ENABLED=$${race:+1} PATH="$(TEST_PATH)" CELLWARD_TEST_TOOLS=required; ok=1; \
	$(GO) test $$race -timeout 20m $(TEST_ARGS) $$($(GO) list ./... | grep -vxF "$$($(GO) list $(LIVE_PACKAGES))") || ok=; \
	echo "test: now the whole line in real time, one package after the other"; \
	$(GO) test $$race -p 1 -timeout 20m $(TEST_ARGS) $(LIVE_PACKAGES) || ok=; \
	if [ "$$ok" ]; then echo "test: PASS"; else echo "test: FAIL"; exit 1; fi

attacks: ## play captures (../shared/data) with every attack, and clean, and print what was done and what was noticed
	$(GO) test -count 1 -v -run '^(TestAttacks|TestCleanTraffic|TestOneInManyIsNamed)$$' ./agent

# What keeps or derives secrets, and what looks for them.
SECRET_PACKAGES := ./crypto/secretmem/... ./crypto/schedule ./crypto/spdu ./crypto/aead ./crypto/offer ./crypto/tpm ./agent ./agent/vault ./test/keyscan

test-secret: setup-test ## build with GOEXPERIMENT=runtimesecret, vet it, and test what keeps or derives secrets
	GOEXPERIMENT=runtimesecret $(GO) build -trimpath -o /dev/null ./cmd/cellward
	GOEXPERIMENT=runtimesecret GOARCH=arm64 $(GO) build -trimpath -o /dev/null ./cmd/cellward
	GOEXPERIMENT=runtimesecret $(GO) vet ./...
	$(GO) test ./crypto/secretmem # the race detector of `make test` keeps others from looking through its memory
	PATH="$(TEST_PATH)" CELLWARD_TEST_TOOLS=required GOEXPERIMENT=runtimesecret $(GO) test -timeout 20m $(TEST_ARGS) $(SECRET_PACKAGES)

fuzz: ## run every fuzz target for FUZZTIME (default 10s) and say the executions
	@$(GO) run ./test/fuzzall -fuzztime $(FUZZTIME)

lint: setup-dev ## gofmt, go vet, staticcheck, clang-format
	@bad="$$(git ls-files '*.go' | xargs gofmt -l)"; [ -z "$$bad" ] || { echo "lint: not gofmt-clean: $$bad"; exit 1; }
	$(GO) vet ./...
	$(TOOLS) staticcheck ./...
	$(TOOLS) staticcheck -tags goexperiment.runtimesecret ./crypto/secretmem/...
	@if [ -n "$(C_FILES)" ]; then $(CFORMAT) --dry-run --Werror $(C_FILES); fi
	@echo "lint: clean"

bench: setup ## time each step of the data path (an op is a frame)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchtime $(BENCHTIME) -benchmem $(BENCH_PACKAGES)

bench-crypto: ## time the AES-GCM engines against OpenSSL and ipsec-mb
	@for h in openssl/evp.h intel-ipsec-mb.h; do test -e "/usr/include/$$h" || { echo "bench-crypto: $$h is missing: apt-get install libssl-dev libipsec-mb-dev"; exit 1; }; done
	$(GO) run ./test/peers -rounds 9 -plot docs/engines.svg

test-arm64: ## run the tests of the arm64 engine under QEMU
	$(call need,qemu-aarch64-static,qemu-user-static)
	GOARCH=arm64 $(GO) test -exec qemu-aarch64-static -short -skip 'TestKeyMemoryFlags|TestKeyMemoryWithoutLock|TestFIPS' ./crypto/aead

test-engines: build ## run the tests of the agent's core with each engine that this CPU has
	@engines="$$(bin/cellward version | sed -n 's/^engines *//p' | tr -d ,)"; test -n "$$engines"; \
	for e in $$engines; do \
	  echo "test-engines: $$e"; CELLWARD_TEST_ENGINE=$$e $(GO) test -count 1 ./agent || exit 1; done

test-guests: ## run the SocketCAN tests on Debian's kernels in QEMU: 6.1 and 6.12 on amd64, 6.12 on arm64
	$(call need,$(GUEST_COMMANDS),$(GUEST_PACKAGES))
	@echo "test-guests: three guests, one after the other, a few minutes each; packages are fetched with apt"
	$(GO) test -count=1 -timeout 25m ./test/guest -guests
	$(GO) run ./test/guest/boot $(GUEST_ARGS)

clean: ## remove what was built
	rm -rf bin coverage.out
