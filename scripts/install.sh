#!/bin/sh
# Installs the Debian packages of the commands and files that are missing, and nothing else.
# usage: install.sh COMMAND|PACKAGE=FILE…
set -eu

packages=
for command in "$@"; do
	case $command in
	*=*)
		[ -e "${command#*=}" ] || packages="$packages ${command%%=*}"
		continue
		;;
	esac
	command -v "$command" >/dev/null 2>&1 && continue
	case $command in
	node) packages="$packages nodejs" ;;
	gcc) packages="$packages gcc libc6-dev" ;;
	softhsm2-util) packages="$packages softhsm2" ;;
	*) packages="$packages $command" ;; # chromium, ffmpeg, git, npm, openssl, unzip
	esac
done
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "Missing here:$packages. This is no Debian: install them with this system's own means and run it again." >&2
	exit 1
fi
root=
if [ "$(id -u)" -ne 0 ]; then
	root=sudo
	[ -t 0 ] || root="sudo -n"
	if ! command -v sudo >/dev/null 2>&1; then
		printf 'Missing here:%s. As root, run:\n  apt-get update && apt-get install --no-install-recommends%s\n' "$packages" "$packages" >&2
		exit 1
	fi
fi

# shellcheck disable=SC2086 # the lists are words
amount() { apt-get install --assume-no --no-install-recommends $packages 2>/dev/null | grep -E '^(Need to get|After this operation)'; }
size=$(amount) || {
	echo "Fetching Debian's package lists (apt-get update)."
	$root apt-get -qq update
	size=$(amount) || true
}
echo "Installing Debian packages:$packages"
[ -z "$size" ] || printf '%s\n' "$size" | sed 's/^/  /'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086
if ! $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >"$log" 2>&1 </dev/null; then
	tail -n 20 "$log" >&2
	printf 'Installing failed. Run by hand: apt-get install --no-install-recommends%s\n' "$packages" >&2
	exit 1
fi
