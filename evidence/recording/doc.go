// Package recording is the bytes of a recorded browser session: the event log,
// its batches and its end, the web archive and the video, as spec/recording.md
// defines them.
//
//	Event (canonical JSON) ──prev──► Event … ──► events.jsonl ──► LogReader: gaps, forks, cuts
//	   └ digests, RFC 6962 root ──► Batch: facts of a manifest, on the chain while it happens
//	blobs (heads, bodies, pictures) ──► WARC records in recording.wacz ──► Archive, WARCReader
//	JPEG frames ──► video.mkv ──► VideoReader: the same bytes frame by frame
//	last event + Summary: complete or partial, count, head: nothing cut off the end
//
// Every reader streams and is bounded: what it refuses it refuses with a code and
// the place. Nothing here opens a file, asks a clock or a network.
//
// Trusted: nothing that is read. A log that reads without error is linked and
// complete up to its last event; that it was so at the time takes its batches on
// the chain, which package verify compares. Whoever alters these bytes can make
// a reading fail.
package recording
