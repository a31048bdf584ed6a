#!/bin/sh
# Runs the fault scenarios over and over until DURATION is over or one fails.
# usage: soak.sh DURATION   (a number and s, m or h)
set -eu
: "${GO:=go}"
number=${1%[smh]}
case $1 in
*s) limit=$number ;;
*m) limit=$((number * 60)) ;;
*h) limit=$((number * 3600)) ;;
*) echo "soak.sh: the duration is a number and s, m or h, such as 30m" >&2; exit 2 ;;
esac
began=$(date +%s) rounds=0
while [ $(($(date +%s) - began)) -lt "$limit" ]; do
	"$GO" test -count=1 -p 1 -timeout 30m ./test/scenarios/...
	rounds=$((rounds + 1))
	echo "== $rounds rounds in $(($(date +%s) - began)) s"
done
