#!/bin/sh
# Puts the demo's three real files into DIR: a PDF and a photograph out of Debian
# packages, and a video of more than 100 MB that ffmpeg makes. What is there
# already is left alone.
# usage: samples.sh DIR
set -eu
dir=$1
mkdir -p "$dir"

# from PACKAGE FILE NAME: takes one file out of a Debian package, without
# installing it.
from() {
	[ -s "$dir/$3" ] && return
	work=$(mktemp -d)
	echo "Fetching $3 out of the Debian package $1."
	if ! (cd "$work" && apt-get -qq download "$1") >"$work/log" 2>&1; then
		echo "Fetching Debian's package lists (apt-get update)."
		if [ "$(id -u)" -eq 0 ]; then apt-get -qq update || true; else sudo apt-get -qq update || true; fi
		if ! (cd "$work" && apt-get -qq download "$1") >"$work/log" 2>&1; then
			cat "$work/log" >&2
			echo "The package $1 cannot be had here. Use files of your own: FILES=\"a.pdf b.mp4 c.jpg\" make demo" >&2
			rm -rf "$work"
			exit 1
		fi
	fi
	dpkg-deb -x "$work"/*.deb "$work/tree"
	cp "$work/tree/$2" "$dir/$3.part"
	mv "$dir/$3.part" "$dir/$3"
	rm -rf "$work"
}

# A Chinese PDF of 0.5 MB (Debian's maintainer's guide), and a photograph of a
# palace hall with a camera's Exif data, a place and a time (package under the
# BSD licence).
from maint-guide-zh-cn usr/share/doc/maint-guide-zh-cn/maint-guide.zh-cn.pdf document.pdf
from golang-github-rwcarlsen-goexif-dev usr/share/gocode/src/github.com/rwcarlsen/goexif/exif/sample1.jpg photograph.jpg

if [ ! -s "$dir/recording.mp4" ]; then
	sh "$(dirname "$0")/install.sh" ffmpeg
	echo "Making recording.mp4: 40 seconds of H.264 and AAC, about 120 MB."
	stats=-nostats
	[ -t 2 ] && stats=-stats
	# The noise keeps the encoder from padding: these are real bits.
	ffmpeg -hide_banner -nostdin -loglevel error $stats -y \
		-f lavfi -i "testsrc2=size=1280x720:rate=25:duration=40,noise=alls=14:allf=t" \
		-f lavfi -i "sine=frequency=440:sample_rate=48000:duration=40" \
		-c:v libx264 -preset ultrafast -g 25 -b:v 24M -maxrate 30M -bufsize 30M -pix_fmt yuv420p \
		-c:a aac -b:a 128k -shortest -f mp4 "$dir/recording.mp4.part"
	mv "$dir/recording.mp4.part" "$dir/recording.mp4"
fi
size=$(wc -c <"$dir/recording.mp4")
if [ "$size" -lt 100000000 ]; then
	echo "recording.mp4 has only $size bytes; at least 100,000,000 were wanted. Remove it and run this again." >&2
	exit 1
fi
