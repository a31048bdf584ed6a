#!/bin/sh
# Deposits a second on this machine: docs/performance.md says what the numbers mean.
set -eu
seconds=${SECONDS_EACH:-20}
for keys in 64 100000; do
	echo "== $keys keys"
	bin/zhenglian bench deposit --validators 4 --seconds "$seconds" --keys "$keys"
done
