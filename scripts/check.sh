#!/bin/sh
# What a reviewer should not have to look for. Each line says what was checked.
set -eu
: "${GO:=go}"
say() { printf '  %-12s %s\n' "$1" "$2"; }

unformatted=$(gofmt -l $(git ls-files -co --exclude-standard '*.go' 2>/dev/null || find . -name '*.go'))
if [ -n "$unformatted" ]; then
	printf 'gofmt would change:\n%s\nRun: gofmt -w FILE\n' "$unformatted" >&2
	exit 1
fi
say gofmt clean

"$GO" vet ./...
say vet clean

"$GO" tool -modfile=tools.mod staticcheck ./...
say staticcheck clean

# Import rules and the habits that a program can see.
"$GO" test -count=1 ./internal/archtest >/dev/null || { "$GO" test -count=1 ./internal/archtest >&2; exit 1; }
say house "import rules and habits hold"

# What `go generate` writes is what is in the tree.
sources=$(grep -rl --include='*.go' '^//go:generate' . || true)
if [ -n "$sources" ]; then
	sums() { git ls-files -co --exclude-standard | sort | while read -r f; do [ -f "$f" ] && sha256sum "$f"; done; }
	before=$(mktemp) after=$(mktemp)
	trap 'rm -f "$before" "$after"' EXIT
	sums >"$before"
	"$GO" generate ./...
	sums >"$after"
	if ! diff "$before" "$after" >&2; then
		echo "Generated files differ from the tree: commit what go generate just wrote." >&2
		exit 1
	fi
	say generated unchanged
else
	say generated "none yet"
fi
