// Package warc writes what a recording proxy heard as a web archive that other
// people's viewers replay: WARC 1.1 (ISO 28500:2017) in WACZ 1.1.1, signed by
// wacz-auth 0.1.0.
//
//	proxy.Exchange ──► response, request, metadata records ──┐
//	screenshots, DOM, certificates ──► resource records ─────┼─► archive/data.warc.gz ─┐
//	record's place, address, status ──► indexes/index.cdxj ──┘                         ├─► recording.wacz
//	pages ──► pages/pages.jsonl;  digests of all ──► datapackage.json ──► signature ───┘
//
// It streams: a body is read twice from the blob store (once for the digest that
// stands before it) and never held. The same calls give the same bytes, but for
// the signature.
//
// Trusted: the blob store for nothing, since what it returns is compared with
// the digests the proxy named before anything of a record is written. Whoever
// alters the finished file makes a digest fail that an event on the chain has;
// the WACZ signature by itself proves only that one key signed the list.
package warc
