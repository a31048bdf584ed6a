#!/bin/sh
# All that must hold before a change is taken, with how long each part took.
# usage: test.sh all | check | unit | race | stories
set -eu
: "${GO:=go}"
cd "$(dirname "$0")/.."
. scripts/parts.sh

part=${1:-all}
tally=$(mktemp -d)
trap 'rm -rf "$tally"' EXIT

timed() { # timed NAME COMMAND…
	name=$1
	shift
	echo "== $name"
	began=$(date +%s)
	status=0
	"$@" || status=$?
	printf '== %s: %s in %d s\n' "$name" "$([ $status -eq 0 ] && echo passed || echo FAILED)" $(($(date +%s) - began))
	printf '%s\t%d\n' "$name" $(($(date +%s) - began)) >>"$tally/times"
	[ $status -eq 0 ] || echo "$name" >>"$tally/failed"
}

# suite NAME ARGUMENTS…: go test, with a line a package and every test counted.
suite() {
	name=$1
	shift
	"$GO" test -json "$@" 2>&1 | "$tally/testsum" -out "$tally/$name.sum"
}

unit() { suite unit -p 2 -timeout 10m $(without_race); }
race() { CGO_ENABLED=1 suite race -race -p 2 -timeout 15m $(with_race); }
# One story at a time: they start processes and measure nothing meanwhile.
stories() { suite stories -p 1 -timeout 20m ./test/...; }

"$GO" build -o "$tally/testsum" ./scripts/testsum
case $part in
all)
	timed prepare sh scripts/prepare.sh
	[ ! -s "$tally/failed" ] || exit 1
	timed check sh scripts/check.sh
	timed unit unit
	timed race race
	timed stories stories
	;;
unit | race | stories) timed "$part" "$part" ;;
check) timed check sh scripts/check.sh ;;
*) echo "test.sh: there is no part $part: all, check, unit, race, stories" >&2; exit 2 ;;
esac

echo
awk -F '\t' '{printf "  %-10s %4d s\n", $1, $2; n += $2} END {printf "  %-10s %4d s\n", "together", n}' "$tally/times"
if [ -s "$tally/failed" ]; then
	echo "failed: $(tr '\n' ' ' <"$tally/failed")"
fi
[ "$part" = check ] || "$tally/testsum" -total "$tally"/*.sum || exit 1
[ ! -s "$tally/failed" ]
