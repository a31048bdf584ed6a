#!/bin/sh
# Kills validators at random under load for DURATION and checks the whole
# invariant each time. usage: soak.sh DURATION   (as Go writes them, such as 30m)
set -eu
: "${GO:=go}"
ZHENGLIAN_SOAK=$1 exec "$GO" test -count=1 -run '^TestSoak$' -timeout 0 -v ./test/scenarios
