#!/bin/sh
# Builds the WebAssembly modules that the portal's pages run, into
# internal/web/wasm, where the program embeds them.
set -eu
: "${GO:=go}"
out=internal/web/wasm
began=$(date +%s)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# put FILE NAME: puts a file in its place unless the same is there already.
put() {
	cmp -s "$1" "$out/$2" || { cp "$1" "$out/$2.part" && mv "$out/$2.part" "$out/$2"; }
}

for name in verify browser; do
	[ -d "cmd/zhenglian-$name" ] || continue
	GOOS=js GOARCH=wasm CGO_ENABLED=0 "$GO" build -trimpath -buildvcs=false -ldflags="-s -w" -o "$work/$name.wasm" "./cmd/zhenglian-$name"
	gzip -9 -n -c "$work/$name.wasm" >"$work/$name.wasm.gz"
	put "$work/$name.wasm.gz" "$name.wasm.gz"
done
# The bridge between Go and JavaScript belongs to the Go that built the modules.
put "$("$GO" env GOROOT)/lib/wasm/wasm_exec.js" wasm_exec.js
echo "WebAssembly for the pages in $(($(date +%s) - began)) s."
