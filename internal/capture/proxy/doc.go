// Package proxy is the recorder's ear on the wire: the one exit of the recorded
// browser. It carries every request and response unchanged and tells a Recorder
// what was said, byte by byte, on the connection that carried the content.
//
//	browser ──► Proxy ──► guard: resolve, check every answer, dial what was checked ──► origin
//	              │                                                                      │
//	              │ Recorder.Record: connection, request, response, end  ◄───────────────┤
//	              │ Recorder.Blob:   bodies, framing, WebSocket streams  ◄───────────────┘
//	              ▼
//	        the browser gets the bytes after the Recorder has them
//
// # What is exact
//
// Both legs speak HTTP/1.1. Heads are kept as they were on the leg to the
// origin, every octet with its line ends, in their order and spelling. Bodies
// are kept with the transfer coding removed and the content coding left as it
// was. What "chunked" took away (size lines, extensions, line ends, trailers)
// is kept in a blob of its own, so that Reassemble gives back the wire exactly.
// The response that the browser reads is the origin's, octet for octet.
//
// A request is changed in few places, each of them named in Exchange.Edits: a
// request to a proxy is not one to an origin (target, Proxy-Connection), and
// zstd and the dictionary codings are struck out of Accept-Encoding, because what is
// recorded must be readable by others. The browser's own words are kept beside
// it when they differ.
//
// # Order
//
// For one exchange Record is called at StageRequest before the first octet goes
// to the origin, at StageResponse before the first octet of the response goes to
// the browser, and at StageEnd before the last one does, with the blobs
// committed: a browser never holds a complete response that the record lacks.
// When Record or a blob fails, the proxy stops and Serve returns that error:
// what cannot be recorded does not happen.
//
// # Trust
//
// Nobody is trusted. The browser is hostile: it may ask for inner addresses in
// any spelling, and may speak no HTTP. Origins are hostile: heads that two
// readers could read differently are refused. Resolvers are believed as far as a
// user's would be: their answers are recorded, none of them may be an inner
// address. Certificates are judged by the system's roots (Config.Roots replaces
// them for test sites, and the record says so); a certificate that fails is
// recorded and the browser sees one that fails too. Revocation is not asked for.
// The session's own authority lives in memory, for one session, and only the
// recorded browser believes it. Whoever runs this process can record what was
// never on the wire: against that stand the second witness and the packets.
package proxy
