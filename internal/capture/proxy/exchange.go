package proxy

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Recorder takes what the proxy hears. It is called from several goroutines;
// for one exchange the calls follow each other (Exchange.Stage). A call that
// returns has made its part durable as far as the recorder's own promise goes:
// the proxy passes the part on afterwards. An error ends the session.
type Recorder interface {
	// Record tells the next stage of an exchange. e is complete up to its stage
	// and is not changed afterwards; its slices are not to be changed. The context
	// is not cancelled when the session ends, so that ends are recorded too.
	Record(ctx context.Context, e Exchange) error
	// Blob begins a body. Role is one of the Role constants; media is the value of
	// Content-Type as the sender wrote it, or the recorder's own type for framing
	// and frames; it is empty where nobody said.
	Blob(role, media string) (BlobWriter, error)
}

// BlobWriter takes the bytes of one blob. Each Write is made before the bytes go
// on. Commit or Abort is called once, and last.
type BlobWriter interface {
	io.Writer
	// Commit makes the blob durable and names it.
	Commit() (Blob, error)
	// Abort drops the blob: the exchange will not name it.
	Abort()
}

// Roles of blobs.
const (
	RoleRequestBody     = "request.body"     // transfer coding removed
	RoleRequestFraming  = "request.framing"  // what "chunked" took: see Reassemble
	RoleResponseBody    = "response.body"    // transfer coding removed, content coding kept
	RoleResponseFraming = "response.framing" // what "chunked" took: see Reassemble
	RoleStreamSent      = "stream.sent"      // after a 101: octets from the browser, as on the wire
	RoleStreamReceived  = "stream.received"  // after a 101: octets from the origin, as on the wire
	RoleFrames          = "websocket.frames" // after a 101 to WebSocket: one Frame in JSON a line, both ways
)

// Blob names stored bytes.
type Blob struct {
	Role   string
	SHA256 evidence.Digest
	Size   int64 // octets
	Media  string
}

// Stage says up to where an exchange has come.
type Stage string

// The stages. A connection has StageConnection, and StageEnd when it was made
// and then carried no exchange; a request that found no connection has StageEnd
// alone; an exchange has StageRequest, then StageResponse if a final response or
// a 101 came, then StageEnd.
const (
	StageConnection Stage = "connection" // an attempt to reach an origin is over: Conn says how
	StageRequest    Stage = "request"    // the request's head is complete; nothing of it was sent yet
	StageResponse   Stage = "response"   // the response's head is complete; nothing of it was passed on yet
	StageEnd        Stage = "end"        // both bodies are committed; the browser lacks the last octets still
)

// Kind says what an exchange is.
type Kind string

// The kinds.
const (
	KindConnection Kind = "connection" // no exchange: a connection, made or failed
	KindHTTP       Kind = "http"
	KindWebSocket  Kind = "websocket" // HTTP that became WebSocket by a 101 (RFC 6455)
	KindUpgrade    Kind = "upgrade"   // HTTP that became another protocol by a 101
)

// Exchange is a request and its response, or a connection, up to a stage.
type Exchange struct {
	ID    uint64 // 1, 2, …: in order of beginning; a connection has an ID of its own
	Stage Stage
	Kind  Kind
	Conn  *Connection // the connection that carried it; nil when the request was refused before any

	Began     time.Time // the request's first octet was read from the browser, or the connection was asked for
	Requested time.Time // just before the request was sent to the origin; zero: it was not
	Responded time.Time // the response's head was complete; zero: none came
	Ended     time.Time // zero before StageEnd

	Method string
	URL    string // scheme://host[:port]target; ws and wss are written http and https, as on the wire
	// RequestHead is what the origin got: request line and fields with their line
	// ends and the empty line. BrowserHead is what the browser had sent, nil when it
	// was the same. Edits names the differences: see the Edit constants.
	RequestHead    []byte
	BrowserHead    []byte
	Edits          []string
	RequestBody    *Blob // nil: the request has none, or an empty one
	RequestFraming *Blob // nil: it was not chunked

	Status          int      // 0: no response
	Interim         [][]byte // heads of 1xx responses that came before, as on the wire; passed on at once
	ResponseHead    []byte   // status line and fields, with line ends and the empty line; with CodeResponse the browser did not get it
	Media           string   // Content-Type of the response, as written
	ResponseBody    *Blob    // nil: the response has none (HEAD, 204, 304, no head came), or an empty one
	ResponseFraming *Blob    // nil: it was not chunked

	// After a 101.
	Sent, Received, Frames *Blob
	FramesSent             int // WebSocket frames, control frames among them
	FramesReceived         int

	// Truncated says why the end of a body or stream is missing; "" when what is
	// recorded is complete: see the Truncated constants. Code and Error say what
	// went wrong, when the exchange or connection failed: Code is one of the Code
	// constants, Error a sentence in English for the record.
	Truncated        string
	RequestTruncated string // the same, of the request's body
	Code             string
	Error            string

	Background bool // the browser's own traffic (updates and the like), by its host
}

// Edits to a request.
const (
	EditTarget         = "request-target"  // absolute form made origin form (RFC 9112 §3.2.1)
	EditProxyFields    = "proxy-fields"    // Proxy-Connection and Proxy-Authorization removed
	EditAcceptEncoding = "accept-encoding" // zstd, dcz and dcb removed
)

// Reasons of Exchange.Truncated.
const (
	TruncatedOrigin  = "origin-closed"  // the origin closed before the end that it had announced
	TruncatedBrowser = "browser-closed" // the browser closed before it had everything
	TruncatedFraming = "bad-framing"    // the body's chunks cannot be read
	TruncatedStalled = "stalled"        // nothing came for Limits.Stall
	TruncatedLimit   = "limit"          // Limits.SessionBytes was reached
	TruncatedSession = "session-ended"  // the recording ended first
	TruncatedEarly   = "answered-early" // of a request: the origin's whole response came before its end
)

// Codes of failure.
const (
	CodeRefusedAddress = "refused-address" // the guard: an inner or special address
	CodeRefusedHost    = "refused-host"    // the guard: a name or spelling that is not allowed
	CodeRefusedPort    = "refused-port"    // the guard: a port that is not allowed
	CodeResolve        = "resolve"         // no DNS answer
	CodeDial           = "dial"            // no TCP connection
	CodeTLS            = "tls"             // no TLS with the origin
	CodeBrowserTLS     = "browser-tls"     // the browser did not take the certificate, as it should after a bad verdict
	CodeRequest        = "bad-request"     // the browser's request cannot be read or carried
	CodeResponse       = "bad-response"    // the origin's response cannot be read without doubt
	CodeOrigin         = "origin-closed"   // the origin closed without a response
	CodeStalled        = "stalled"         // no response within Limits.Stall
	CodeLimit          = "limit"           // a limit of the session
	CodeSession        = "session-ended"
	CodeBrowser        = "browser-closed" // the browser closed without waiting for the response
)

// Connection says how an origin was reached, or was not. It does not change
// after StageConnection: exchanges on one connection share it.
type Connection struct {
	ID      uint64 // the ID of its own StageConnection exchange
	Host    string // as asked for, lower case, without final dot
	Port    uint16
	DNS     *Answer        // nil when nothing was asked (address literals, exceptions)
	Remote  netip.AddrPort // the address that was dialled; not valid when none was
	Local   netip.AddrPort // this side's address, to find the packets by
	TLS     *TLS           // nil on plain connections
	Tried   []Try          // addresses that did not answer before Remote did
	Dialled time.Time      // the connection stood
	// Exception is the entry of Config.Exceptions that let this connection past the
	// guard, "" on the open network.
	Exception string
}

// Try is a dial that failed.
type Try struct {
	Addr  netip.AddrPort
	Error string
}

// TLS is what the origin's handshake showed. Sessions are never resumed: each
// connection shows the whole handshake.
type TLS struct {
	ServerName string // sent as SNI; "" for address literals
	Version    uint16 // 0x0303 is TLS 1.2, 0x0304 is TLS 1.3
	Cipher     uint16 // IANA number of the suite; tls.CipherSuiteName tells its name
	Curve      uint16 // IANA number of the group of the key exchange, 0 when unknown
	ALPN       string
	Chain      [][]byte // DER, as the origin sent them, the leaf first
	OCSP       []byte   // stapled response, as sent; nil: none
	SCTs       [][]byte // signed certificate timestamps of the handshake, as sent
	// Verdict is "" when the chain is good for the host at the time Verified, by the
	// roots named in Roots ("system", or the name given in Config); else what is
	// wrong, in the words of crypto/x509. Revocation was not asked for.
	Verdict  string
	Roots    string
	Verified time.Time
}

// Answer is what DNS said about a host.
type Answer struct {
	Host     string
	Resolver string // address of the server asked, "system" where the host resolved
	Began    time.Time
	Took     time.Duration
	Records  []DNSRecord // all of the answer sections, CNAME chain included, in order
	Raw      [][]byte    // the messages, as received; none where the host resolved
	AD       bool        // every message had "authentic data" set (RFC 4035 §3.2.3): the resolver's word
}

// DNSRecord is one resource record.
type DNSRecord struct {
	Name string
	Type string // "A", "AAAA", "CNAME", or "TYPE65" for others
	TTL  int64  // seconds; -1 where the host resolved and does not tell
	Data string // address or name; hexadecimal for other types
}

// Frame is a line of a RoleFrames blob: where a WebSocket frame (RFC 6455 §5.2)
// lies in the stream of its direction.
type Frame struct {
	At      string `json:"at"`     // its first octet was read: RFC 3339, milliseconds, UTC
	From    string `json:"from"`   // "browser" or "origin"
	Opcode  int    `json:"opcode"` // 0 continuation, 1 text, 2 binary, 8 close, 9 ping, 10 pong
	Final   bool   `json:"final"`
	Reserve int    `json:"rsv"` // the three reserved bits; 4 is a message under permessage-deflate
	Masked  bool   `json:"masked"`
	Offset  int64  `json:"offset"` // of the frame's first octet in the blob of its direction
	Header  int    `json:"header"` // octets of the header; the payload follows
	Length  int64  `json:"length"` // octets of the payload
}
