#!/bin/sh
# What the tests need beyond Go: programs that judge from outside, the npm
# packages of independent implementations, the demo's files, and our own programs.
set -eu
sh scripts/install.sh curl openssl unzip ffmpeg gcc git node npm chromium softhsm2-util \
	fonts-noto-cjk=/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc postgresql=/usr/lib/postgresql/15/bin/initdb
for lock in $(find test -name package-lock.json -not -path '*/node_modules/*'); do
	dir=$(dirname "$lock")
	cmp -s "$lock" "$dir/node_modules/.installed" && continue
	echo "Installing the npm packages of $dir."
	(cd "$dir" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error </dev/null)
	cp "$lock" "$dir/node_modules/.installed"
done
sh scripts/samples.sh out/samples
sh scripts/build.sh false
