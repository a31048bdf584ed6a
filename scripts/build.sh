#!/bin/sh
# Builds the programs into bin/.
# usage: build.sh true|false   (whether to stamp the source's revision)
set -eu
: "${GO:=go}"
echo "Building bin/zhenglian and bin/zhenglian-verify (the first time takes a few minutes: it compiles and may fetch Go modules)."
began=$(date +%s)
mkdir -p bin
sh scripts/wasm.sh
"$GO" build -buildvcs="$1" -o bin/ ./cmd/...
echo "Built in $(($(date +%s) - began)) s."
