#!/bin/sh
# What a reviewer should not have to look for. Each line says what was checked.
set -eu
: "${GO:=go}"
failed=
say() { printf '  %-12s %s\n' "$1" "$2"; }

# holds NAME COMMAND…: runs a check; the others run too when it fails.
holds() {
	name=$1
	shift
	if found=$("$@" 2>&1); then
		say "$name" "${found:-clean}"
	else
		say "$name" FAILED
		printf '%s\n' "$found" >&2
		failed="$failed $name"
	fi
}

formatted() {
	list=$(gofmt -l $(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go' -not -path '*/node_modules/*')) || return 1
	[ -z "$list" ] && return
	printf 'gofmt would change these; run gofmt -w on them:\n%s\n' "$list"
	return 1
}

holds gofmt formatted
holds vet "$GO" vet ./...
holds staticcheck "$GO" tool -modfile=tools.mod staticcheck ./...
# Import rules, and the habits that a program can see.
holds house "$GO" test -count=1 ./internal/archtest

# Generated files (vectors and worked examples of spec/) are what their generator writes.
holds generated "$GO" test -count=1 -run 'TestCommittedFilesAreCurrent' ./spec/vectorgen

if [ -n "$failed" ]; then
	echo "does not hold:$failed" >&2
	exit 1
fi
