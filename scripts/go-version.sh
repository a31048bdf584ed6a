#!/bin/sh
# Says whether this Go can build the project and, if not, what to do.
# usage: go-version.sh GO
set -eu
go=$1 need=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)

how() {
	cat >&2 <<HOW

  What to do: take the archive of Go $need or newer for this machine from
  https://go.dev/dl/ and unpack it, then run make again:

    sudo rm -rf /usr/local/go
    sudo tar -C /usr/local -xzf go$need.*.tar.gz
    export PATH=/usr/local/go/bin:\$PATH

  (Debian 12's own package golang-go is Go 1.19 and too old.)
HOW
	exit 1
}

if ! found=$(cd / && GOTOOLCHAIN=local "$go" version 2>/dev/null); then
	echo "No Go here: building needs Go $need or newer. 没有找到 Go，需要 $need 或更新的版本。" >&2
	how
fi
have=$(printf '%s\n' "$found" | sed -n 's/^go version go\([0-9]*\.[0-9]*\).*/\1/p')
# A development version has no number ("devel …"): let it try.
[ -n "$have" ] || exit 0
if [ "${have%%.*}" -lt "${need%%.*}" ] || { [ "${have%%.*}" -eq "${need%%.*}" ] && [ "${have#*.}" -lt "${need#*.}" ]; }; then
	echo "Go $have at $go is too old: building needs Go $need or newer. Go $have 太旧，需要 $need 或更新的版本。" >&2
	how
fi
