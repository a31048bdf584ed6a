# Zhenglian (证链). `make help` lists what there is to run.
#
# Every target installs what it lacks, says so before, and does nothing twice.

SHELL := /bin/sh
.DEFAULT_GOAL := help

# The Go that is used; scripts/go-version.sh says what to do when it is too old.
GO ?= $(shell command -v go 2>/dev/null || { test -x /usr/local/go/bin/go && echo /usr/local/go/bin/go; } || echo go)
export GO
ifneq ($(filter /%,$(GO)),)
export PATH := $(patsubst %/,%,$(dir $(GO))):$(PATH)
endif

# One static program, the same with and without a C compiler. Only the race
# detector needs one; scripts/test.sh turns it on there.
export CGO_ENABLED := 0
# The source's revision goes into the programs where git can tell it.
VCS := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)

OUT ?= out/demo
SAMPLES := out/samples
# Chinese letters for the browser's pictures.
CJK := fonts-noto-cjk=/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc

.PHONY: help build demo test check bench soak screenshots clean go samples

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile

# Every target that compiles asks this first.
go:
	@sh scripts/go-version.sh "$(GO)"

build: go ## the programs, under bin/
	@sh scripts/build.sh $(VCS)

samples: go
	@sh scripts/samples.sh $(SAMPLES)

demo: go ## four institutions, real files, a court: docs/demo.md. FILES="…" takes your own, ONCE=1 does not wait
ifeq ($(strip $(FILES)),)
	@sh scripts/samples.sh $(SAMPLES)
endif
	@sh scripts/install.sh chromium $(CJK)
	@sh scripts/build.sh $(VCS)
	@bin/zhenglian demo --out $(OUT) $(if $(ONCE),--once) $(DEMOFLAGS) -- $(if $(strip $(FILES)),$(FILES),$(SAMPLES)/document.pdf $(SAMPLES)/recording.mp4 $(SAMPLES)/photograph.jpg)

test: go ## everything: check, unit tests, race detector, whole stories
	@sh scripts/test.sh all

check: go ## formatting, vet, staticcheck, import rules, generated files
	@sh scripts/check.sh

bench: build ## deposits a second on four validators, with 64 and with 100,000 keys
	@sh scripts/bench.sh

soak: go ## the fault scenarios, over and over for SOAK (default 30m)
	@sh scripts/soak.sh $(or $(SOAK),30m)

screenshots: go ## pictures of every page of the portal, into docs/images/pages
	@sh scripts/install.sh chromium fonts-noto-cjk=/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc
	@sh scripts/samples.sh $(SAMPLES)
	@sh scripts/wasm.sh
	@"$(GO)" test -count=1 -timeout 20m -v -run '^TestScreenshots$$' ./test/portal -args -update

clean: ## remove bin/, out/ and what npm installed
	rm -rf bin out test/*/node_modules internal/web/wasm/*.gz internal/web/wasm/wasm_exec.js
