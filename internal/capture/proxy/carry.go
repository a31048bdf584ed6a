package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// maxInterim bounds 1xx responses to one request.
const maxInterim = 32

// carrier carries the exchanges of one connection of the browser.
type carrier struct {
	p       *Proxy
	browser *leg
	origin  *leg // nil: none yet
	conn    *Connection
	used    int // exchanges on the origin's connection so far
	unhook  func() bool
	// waiting is not nil while a goroutine waits for the browser's next octet: it
	// alone reads browser.r until it has sent.
	waiting chan error
	gone    *atomic.Bool // the browser closed while it waited
}

// request is what the browser asked.
type request struct {
	head   head
	began  time.Time
	target string // for the origin; "": as in the head
	url    string
}

func (c *carrier) attach(ctx context.Context, conn net.Conn, made *Connection) {
	c.origin, c.conn, c.used = newLeg(conn), made, 0
	c.unhook = context.AfterFunc(ctx, func() { conn.Close() })
}

func (c *carrier) closeOrigin() {
	if c.origin != nil {
		c.unhook()
		c.origin.Close()
		c.origin = nil
	}
}

// close ends both sides and waits for whoever still reads.
func (c *carrier) close() {
	c.browser.Close()
	if c.waiting != nil {
		<-c.waiting
		c.waiting = nil
	}
	c.closeOrigin()
}

// base is the scheme and authority of a tunnel's addresses.
func (c *carrier) base() string {
	scheme, usual := "http", uint16(80)
	if c.conn.TLS != nil {
		scheme, usual = "https", 443
	}
	host := c.conn.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if c.conn.Port != usual {
		host = fmt.Sprintf("%s:%d", host, c.conn.Port)
	}
	return scheme + "://" + host
}

// isHost: whether a Host field names the connection's host and port.
func (c *carrier) isHost(value string) bool {
	host, port, err := splitAuthority(value)
	if port == 0 {
		port = 80
		if c.conn.TLS != nil {
			port = 443
		}
	}
	host = strings.TrimSuffix(strings.Trim(strings.ToLower(host), "[]"), ".")
	return err == nil && host == c.conn.Host && port == c.conn.Port
}

// nextRequest waits for the browser's next request. Meanwhile it watches the
// origin: when that closes, the browser's connection is closed too, and the
// browser opens another for its next request.
func (c *carrier) nextRequest() (head, time.Time, error) {
	var watched chan struct{}
	closed := false
	if c.origin != nil {
		watched = make(chan struct{})
		origin, browser := c.origin, c.browser
		origin.within(0)
		go func() {
			defer close(watched)
			_, err := origin.r.Peek(1)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				closed = true // or it speaks unasked, which is no HTTP/1.1
				browser.Close()
			}
		}()
	}
	c.browser.within(c.p.config.Limits.Idle)
	if c.waiting != nil {
		<-c.waiting
		c.waiting = nil
	}
	_, err := c.browser.r.Peek(1)
	if watched != nil {
		_ = c.origin.SetReadDeadline(time.Unix(1, 0)) // ends the watch; a closed connection ends it as well
		<-watched
	}
	if err != nil || closed {
		return head{}, time.Time{}, io.EOF
	}
	return c.p.requestHead(c.browser)
}

// sent is how the request's body went.
type sent struct {
	body, framing *Blob
	truncated     string
	err           error // of the record: the session's end
}

// blobs of one body.
type blobs struct{ body, framing BlobWriter }

func (c *carrier) open(f framing, bodyRole, framingRole, media string) (b blobs, err error) {
	if f.none {
		return b, nil
	}
	if b.body, err = c.p.blob(bodyRole, media); err != nil {
		return b, err
	}
	if f.chunked {
		if b.framing, err = c.p.blob(framingRole, ""); err != nil {
			b.body.Abort()
		}
	}
	return b, err
}

func (c *carrier) commit(b blobs) (body, framing *Blob, err error) {
	if body, err = c.p.commit(b.body); err != nil {
		if b.framing != nil {
			b.framing.Abort()
		}
		return nil, nil, err
	}
	framing, err = c.p.commit(b.framing)
	return body, framing, err
}

// send copies the request's body to the origin. The last octets go when the
// body is committed.
func (c *carrier) send(ctx context.Context, f framing, b blobs) sent {
	if f.none {
		return sent{}
	}
	r := newBodyReader(c.browser.r, f, c.p.config.Limits.Head, b.body, b.framing)
	var s sent
	for {
		if c.browser.r.Buffered() == 0 {
			if c.origin.w.Flush() != nil {
				s.truncated = TruncatedOrigin
				break
			}
		}
		c.browser.within(c.p.config.Limits.Stall)
		wire, last, err := r.next()
		c.origin.within(c.p.config.Limits.Stall) // the response may wait for the request
		if err == nil && !c.p.spend(len(wire)) {
			s.truncated = TruncatedLimit
			break
		}
		if err != nil {
			if s.err = c.storeFailure(err); s.err == nil {
				s.truncated = c.reason(ctx, err, TruncatedBrowser)
			}
			break
		}
		if last {
			if s.body, s.framing, s.err = c.commit(b); s.err != nil {
				return s
			}
			b = blobs{}
		}
		_, werr := c.origin.w.Write(wire)
		if last && werr == nil {
			werr = c.origin.w.Flush()
		}
		if werr != nil {
			s.truncated = TruncatedOrigin
			break
		}
		if last {
			return s
		}
	}
	if b.body != nil {
		var err error
		if s.body, s.framing, err = c.commit(b); err != nil {
			s.err = err
		}
	}
	return s
}

// storeFailure ends the session when err is the recorder's.
func (c *carrier) storeFailure(err error) error {
	var s *storeError
	if errors.As(err, &s) {
		return c.p.fail(err)
	}
	return nil
}

// reason says why reading stopped short; side is for a closed connection.
func (c *carrier) reason(ctx context.Context, err error, side string) string {
	var timeout net.Error
	switch {
	case ctx.Err() != nil:
		return TruncatedSession
	case c.gone != nil && c.gone.Load():
		return TruncatedBrowser
	case errors.Is(err, errFraming):
		return TruncatedFraming
	case errors.As(err, &timeout) && timeout.Timeout():
		return TruncatedStalled
	}
	return side
}

// carry carries one exchange on c.origin; again: both connections can carry
// another.
func (c *carrier) carry(ctx context.Context, r request) (again bool) {
	p := c.p
	method, _, minor, _ := r.head.requestLine() // read before, without error
	f, err := r.head.requestFraming(minor)
	switch {
	case err != nil:
	case method == "CONNECT":
		err = errors.New("a CONNECT inside a tunnel is not carried")
	case p.carried.Load() >= p.config.Limits.SessionBytes:
		c.refuse(ctx, r, c.conn, failure(CodeLimit, nil, "the session has carried its %d octets", p.config.Limits.SessionBytes))
		return false
	}
	// What is recorded under a host's name was asked of that host.
	if asked := r.head.values("Host"); err == nil && (len(asked) != 1 || !c.isHost(asked[0])) {
		err = fmt.Errorf("the connection is to %s, the request's Host is %.80q", c.conn.Host, asked)
	}
	if err != nil {
		c.refuse(ctx, r, c.conn, asFailure(CodeRequest, err))
		return false
	}
	x := exchanging{carrier: c, e: c.exchange(r), method: method, persistent: r.head.persistent(minor)}
	x.upgrade = len(r.head.values("Upgrade")) > 0
	out, err := c.open(f, RoleRequestBody, RoleRequestFraming, r.head.first("Content-Type"))
	if err != nil {
		return false
	}
	x.e.Stage, x.e.Requested = StageRequest, time.Now()
	if p.record(ctx, x.e) != nil {
		for _, b := range []BlobWriter{out.body, out.framing} {
			if b != nil {
				b.Abort()
			}
		}
		return false
	}
	p.spend(len(x.e.RequestHead))
	// A failure to write shows again where the response is read.
	if _, err := c.origin.w.Write(x.e.RequestHead); err == nil {
		_ = c.origin.w.Flush()
	}
	x.start(ctx, f, out)
	defer func() {
		c.used++
		if !again {
			c.close()
		}
	}()
	h, status, minor, err := x.response(ctx)
	if err != nil {
		return x.noResponse(ctx, err)
	}
	if status == 101 {
		x.stream(ctx, h)
		return false
	}
	return x.body(ctx, h, status, minor)
}

// exchange begins the record of a request.
func (c *carrier) exchange(r request) Exchange {
	raw, edits := r.head.forOrigin(r.target)
	method, _, _, _ := r.head.requestLine() // read before, without error
	e := Exchange{
		ID: c.p.lastID.Add(1), Kind: KindHTTP, Conn: c.conn, Began: r.began, Method: method, URL: r.url,
		RequestHead: raw, Edits: edits,
	}
	if len(edits) > 0 {
		e.BrowserHead = r.head.raw
	}
	if c.conn != nil {
		e.Background = c.p.background(c.conn.Host)
	}
	return e
}

// exchanging is one exchange under way.
type exchanging struct {
	*carrier
	e          Exchange
	method     string
	persistent bool // the browser leaves the connection open
	upgrade    bool // the browser asked for one
	sent       chan sent
	outcome    *sent
}

// start sends the request's body while the response is waited for, and then
// waits for the browser: its next octet, or its going.
func (x *exchanging) start(ctx context.Context, f framing, out blobs) {
	x.sent = make(chan sent, 1)
	waiting, gone := make(chan error, 1), &atomic.Bool{}
	x.waiting, x.gone = waiting, gone
	c, origin, browser := x.carrier, x.origin, x.browser
	go func() {
		s := c.send(ctx, f, out)
		if s.truncated == TruncatedBrowser {
			gone.Store(true)
		}
		if s.err == nil && s.truncated == "" {
			browser.within(0) // before the exchange can end: the wait for the next has its own limit
		}
		x.sent <- s
		if s.err != nil || s.truncated != "" {
			if s.truncated != TruncatedOrigin { // what the origin says about it is still read
				origin.Close()
			}
			waiting <- s.err
			return
		}
		_, err := browser.r.Peek(1)
		if err != nil {
			gone.Store(true)
			origin.Close()
		}
		waiting <- err
	}()
}

// requestDone takes the outcome of the request's body into the record. A body
// that is still being sent gets a moment, then it is cut off.
func (x *exchanging) requestDone() error {
	if x.outcome == nil {
		moment := time.NewTimer(2 * time.Second)
		defer moment.Stop()
		var s sent
		select {
		case s = <-x.sent:
		case <-moment.C:
			past := time.Unix(1, 0)
			_ = x.browser.SetReadDeadline(past) // failing means closed, which ends it too
			_ = x.origin.SetWriteDeadline(past)
			s = <-x.sent
			if s.truncated != "" {
				s.truncated = TruncatedEarly
			}
		}
		x.outcome = &s
	}
	x.e.RequestBody, x.e.RequestFraming, x.e.RequestTruncated = x.outcome.body, x.outcome.framing, x.outcome.truncated
	return x.outcome.err
}

// response reads heads up to the final one or a 101; interim ones are passed on.
func (x *exchanging) response(ctx context.Context) (h head, status, minor int, err error) {
	for {
		x.origin.within(x.p.config.Limits.Stall)
		raw, err := readHead(x.origin.r, x.p.config.Limits.Head)
		if err != nil {
			if errors.Is(err, errHeadTooLong) {
				err = failure(CodeResponse, err, "the response cannot be read")
			}
			return head{raw: raw}, 0, 0, err
		}
		x.p.spend(len(raw))
		h, err := parseHead(raw, true)
		if err == nil {
			status, minor, err = h.statusLine()
		}
		switch {
		case err != nil:
		case status == 101 && (!x.upgrade || len(h.values("Upgrade")) == 0):
			err = errors.New("the origin changes a protocol that nobody asked to be changed")
		case status == 407:
			err = errors.New("the origin asks for credentials as a proxy would")
		case len(x.e.Interim) == maxInterim:
			err = errors.New("too many interim responses")
		}
		if err != nil {
			x.e.ResponseHead, x.e.Responded = raw, time.Now()
			return h, 0, 0, asFailure(CodeResponse, err)
		}
		if status/100 != 1 || status == 101 {
			x.e.ResponseHead, x.e.Responded, x.e.Status, x.e.Media = raw, time.Now(), status, h.first("Content-Type")
			return h, status, minor, nil
		}
		x.e.Interim = append(x.e.Interim, raw)
		if _, err := x.browser.w.Write(raw); err == nil {
			_ = x.browser.w.Flush() // a browser that is gone shows below
		}
	}
}

// noResponse ends an exchange whose response did not come or cannot be read.
func (x *exchanging) noResponse(ctx context.Context, err error) bool {
	silent := false
	var fail *Failure
	if !errors.As(err, &fail) {
		switch why := x.reason(ctx, err, TruncatedOrigin); why {
		case TruncatedSession:
			fail, silent = failure(CodeSession, nil, "the recording ended before the response"), true
		case TruncatedBrowser:
			fail, silent = failure(CodeBrowser, nil, "the browser closed before the response"), true
		case TruncatedStalled:
			fail = failure(CodeStalled, nil, "no response within %s", x.p.config.Limits.Stall)
		default:
			fail = failure(CodeOrigin, err, "the origin closed without a whole response")
			// A connection used again may be closed at any time: the browser, seeing its
			// own closed, asks again by itself (RFC 9110 §9.2.2).
			silent = x.used > 0 && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE))
		}
	}
	if x.requestDone() != nil {
		return false
	}
	x.e.Code, x.e.Error = fail.Code, fail.Error()
	x.e.Stage, x.e.Ended = StageEnd, time.Now()
	if x.p.record(ctx, x.e) == nil && !silent && len(x.e.Interim) == 0 {
		x.answer(fail)
	}
	return false
}

// body carries a final response.
func (x *exchanging) body(ctx context.Context, h head, status, minor int) (again bool) {
	f, err := h.responseFraming(x.method, status, minor)
	if err != nil {
		return x.noResponse(ctx, asFailure(CodeResponse, err))
	}
	in, err := x.open(f, RoleResponseBody, RoleResponseFraming, x.e.Media)
	if err != nil {
		return false
	}
	x.e.Stage = StageResponse
	if x.p.record(ctx, x.e) != nil {
		for _, b := range []BlobWriter{in.body, in.framing} {
			if b != nil {
				b.Abort()
			}
		}
		return false
	}
	tail, truncated, err := x.copyBody(ctx, f, in, h.raw)
	if err != nil {
		return false
	}
	if x.requestDone() != nil {
		return false
	}
	x.e.Truncated, x.e.Stage, x.e.Ended = truncated, StageEnd, time.Now()
	if x.p.record(ctx, x.e) != nil {
		return false
	}
	if _, err := x.browser.w.Write(tail); err != nil || x.browser.w.Flush() != nil {
		return false
	}
	if truncated != "" && f.toClose {
		x.browser.reset()
	}
	return truncated == "" && x.e.RequestTruncated == "" && x.persistent && h.persistent(minor) && !f.toClose && !f.doubt
}

// copyBody passes head and body on, all but the last octets, and commits the
// body. The error is the recorder's.
func (x *exchanging) copyBody(ctx context.Context, f framing, in blobs, start []byte) (tail []byte, truncated string, err error) {
	r := newBodyReader(x.origin.r, f, x.p.config.Limits.Head, in.body, in.framing)
	last := f.none
	wire := start
	for !last {
		if _, err := x.browser.w.Write(wire); err != nil {
			truncated = x.reason(ctx, err, TruncatedBrowser)
			break
		}
		if x.origin.r.Buffered() == 0 && x.browser.w.Flush() != nil {
			truncated = x.reason(ctx, nil, TruncatedBrowser)
			break
		}
		x.origin.within(x.p.config.Limits.Stall)
		wire, last, err = r.next()
		if err == nil && !x.p.spend(len(wire)) {
			truncated = TruncatedLimit
		} else if err != nil {
			if failed := x.storeFailure(err); failed != nil {
				return nil, "", failed
			}
			truncated = x.reason(ctx, err, TruncatedOrigin)
		}
		if truncated != "" {
			break
		}
	}
	x.e.ResponseBody, x.e.ResponseFraming, err = x.commit(in)
	return wire, truncated, err
}
