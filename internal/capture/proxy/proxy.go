package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what a session's proxy needs. CA and Recorder must be there; zero
// values of the rest work.
type Config struct {
	Recorder Recorder
	CA       *CA
	// Resolver is asked for every name; nil: a DNS of the servers in /etc/resolv.conf.
	Resolver Resolver
	// Roots judge origins' certificates; nil: the system's. RootsName is what the
	// record calls them; it must be given with Roots.
	Roots     *x509.CertPool
	RootsName string
	// Ports that may be reached; nil: 80 and 443.
	Ports []uint16
	// Exceptions from the guard, for test sites. They belong in the report.
	Exceptions []Exception
	// Background hosts; nil: BackgroundHosts().
	Background []string
	Limits     Limits
	// KeyLog receives the secrets of the connections to origins (NSS key log format),
	// so that a packet capture can be read by others. It lays the packets open and
	// nothing else. nil: none.
	KeyLog io.Writer
}

// Limits of a session. Zero values stand for the defaults named.
type Limits struct {
	Connections  int           // of the browser at one time: 256; more wait
	SessionBytes int64         // received from and sent to origins: 8 GiB
	Head         int           // octets of a head: 256 KiB, as Chromium's own limit
	Dial         time.Duration // to connect to one address: 10 s
	Handshake    time.Duration // for TLS on either side: 15 s
	Stall        time.Duration // without an octet of a response or stream: 10 minutes
	Idle         time.Duration // of a browser's connection between requests: 5 minutes
}

func (l Limits) withDefaults() Limits {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	if l.Connections == 0 {
		l.Connections = 256
	}
	if l.SessionBytes == 0 {
		l.SessionBytes = 8 << 30
	}
	if l.Head == 0 {
		l.Head = 256 << 10
	}
	set(&l.Dial, 10*time.Second)
	set(&l.Handshake, 15*time.Second)
	set(&l.Stall, 10*time.Minute)
	set(&l.Idle, 5*time.Minute)
	return l
}

// Proxy is one session's recording proxy.
type Proxy struct {
	config  Config
	lastID  atomic.Uint64
	carried atomic.Int64 // octets of the session

	mu   sync.Mutex
	err  error // the first failure of the recorder
	stop context.CancelCauseFunc
}

// New checks the configuration.
func New(c Config) (*Proxy, error) {
	if c.Recorder == nil || c.CA == nil {
		return nil, errors.New("a recording proxy needs a recorder and a session's authority")
	}
	if (c.Roots == nil) != (c.RootsName == "") {
		return nil, errors.New("roots of a session's own need a name for the record, and a name needs roots")
	}
	if c.RootsName == "" {
		c.RootsName = "system"
	} else if c.RootsName == "system" {
		return nil, errors.New("\"system\" is the name of the system's roots")
	}
	if c.Resolver == nil {
		d, err := SystemDNS("/etc/resolv.conf")
		if err != nil {
			return nil, err
		}
		c.Resolver = d
	}
	if c.Ports == nil {
		c.Ports = []uint16{80, 443}
	}
	if c.Background == nil {
		c.Background = BackgroundHosts()
	}
	for _, e := range c.Exceptions {
		if e.Host == "" || e.Port == 0 || !e.Dial.IsValid() {
			return nil, fmt.Errorf("exception %s needs a host, a port and an address", e)
		}
	}
	c.Limits = c.Limits.withDefaults()
	return &Proxy{config: c}, nil
}

// Exceptions lists the guard's exceptions for the report.
func (p *Proxy) Exceptions() []string {
	var list []string
	for _, e := range p.config.Exceptions {
		list = append(list, e.String())
	}
	return list
}

// Carried is the number of octets carried so far, both ways, heads included.
func (p *Proxy) Carried() int64 { return p.carried.Load() }

// Serve carries what the browser asks for on l until ctx ends or the recorder
// fails; it closes l, ends what is under way, and returns when all of it is
// recorded. It returns nil when ctx ended it, and the recorder's error when that
// did. It is called once.
func (p *Proxy) Serve(ctx context.Context, l net.Listener) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.mu.Lock()
	p.stop = stop
	p.mu.Unlock()
	closing := context.AfterFunc(ctx, func() { l.Close() })
	defer closing()
	var wg sync.WaitGroup
	slots := make(chan struct{}, p.config.Limits.Connections)
	var acceptErr error
accepting:
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			break accepting
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() == nil {
				acceptErr = fmt.Errorf("accepting the browser's connections: %w", err)
				stop(acceptErr)
			}
			break
		}
		wg.Go(func() {
			defer func() { <-slots }()
			p.serveConn(ctx, conn)
		})
	}
	l.Close()
	wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	return acceptErr
}

// fail ends the session: what cannot be recorded does not happen.
func (p *Proxy) fail(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = fmt.Errorf("the recorder failed, the session ends: %w", err)
		p.stop(p.err)
	}
	return p.err
}

func (p *Proxy) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// record tells the recorder; its failure is the session's.
func (p *Proxy) record(ctx context.Context, e Exchange) error {
	if err := p.failed(); err != nil {
		return err
	}
	if err := p.config.Recorder.Record(context.WithoutCancel(ctx), e); err != nil {
		return p.fail(fmt.Errorf("exchange %d, %s: %w", e.ID, e.Stage, err))
	}
	return nil
}

func (p *Proxy) blob(role, media string) (BlobWriter, error) {
	if err := p.failed(); err != nil {
		return nil, err
	}
	w, err := p.config.Recorder.Blob(role, media)
	if err != nil {
		return nil, p.fail(fmt.Errorf("beginning a blob of %s: %w", role, err))
	}
	return w, nil
}

// commit ends a blob, nil for none.
func (p *Proxy) commit(w BlobWriter) (*Blob, error) {
	if w == nil {
		return nil, nil
	}
	b, err := w.Commit()
	if err != nil {
		return nil, p.fail(fmt.Errorf("committing a blob: %w", err))
	}
	return &b, nil
}

// spend counts octets; false: the session's limit is reached.
func (p *Proxy) spend(n int) bool {
	return p.carried.Add(int64(n)) <= p.config.Limits.SessionBytes
}

// leg is one side of a carried connection.
type leg struct {
	net.Conn
	r *bufio.Reader
	w *bufio.Writer
}

func newLeg(c net.Conn) *leg {
	return &leg{c, bufio.NewReaderSize(c, bufferSize), bufio.NewWriterSize(c, bufferSize)}
}

// within gives the next reads until d from now; zero: no limit.
func (l *leg) within(d time.Duration) {
	at := time.Time{}
	if d > 0 {
		at = time.Now().Add(d)
	}
	// A closed connection fails here and then again where it is read.
	_ = l.SetReadDeadline(at)
}

// reset closes the connection so that the other side does not take the end for
// the end of the message, where TCP can tell.
func (l *leg) reset() {
	conn := l.Conn
	for {
		switch c := conn.(type) {
		case *tls.Conn:
			conn = c.NetConn()
			continue
		case buffered:
			conn = c.Conn
			continue
		case *net.TCPConn:
			_ = c.SetLinger(0) // failing means closed
		}
		conn.Close()
		return
	}
}

// serveConn serves one connection of the browser: requests in absolute form, one
// after the other, or one tunnel.
func (p *Proxy) serveConn(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	defer conn.Close()
	browser := newLeg(conn)
	c := carrier{p: p, browser: browser}
	defer c.close()
	for {
		h, began, err := c.nextRequest()
		if err != nil {
			c.refuseHead(ctx, h, began, err)
			return
		}
		method, target, _, err := h.requestLine()
		if err != nil {
			c.refuseHead(ctx, h, began, err)
			return
		}
		if method == "CONNECT" {
			c.closeOrigin()
			p.tunnel(ctx, browser, target, began)
			return
		}
		t, origin, url, err := p.absolute(target)
		if err != nil {
			c.refuse(ctx, request{head: h, began: began, url: target}, nil, asFailure(CodeRequest, err))
			return
		}
		r := request{head: h, began: began, target: origin, url: url}
		if c.origin != nil && (c.conn.Host != t.host || c.conn.Port != t.port) {
			c.closeOrigin()
		}
		if c.origin == nil {
			conn, made, err := p.reach(ctx, t)
			made.ID = p.lastID.Add(1)
			fail := asFailure(CodeDial, err)
			if p.recordConnection(ctx, made, began, fail) != nil {
				closeAll(conn)
				return
			}
			if err != nil {
				c.refuse(ctx, r, made, fail)
				return
			}
			c.attach(ctx, conn, made)
		}
		if !c.carry(ctx, r) {
			return
		}
	}
}

func closeAll(c net.Conn) {
	if c != nil {
		c.Close()
	}
}

func asFailure(code string, err error) *Failure {
	if err == nil {
		return nil
	}
	var f *Failure
	if errors.As(err, &f) {
		return f
	}
	return &Failure{Code: code, Text: err.Error()}
}

// requestHead waits for a request. io.EOF and timeouts before the first octet
// are the end of a connection and no error worth a word.
func (p *Proxy) requestHead(browser *leg) (head, time.Time, error) {
	browser.within(p.config.Limits.Idle)
	if _, err := browser.r.Peek(1); err != nil {
		return head{}, time.Time{}, io.EOF
	}
	began := time.Now()
	browser.within(p.config.Limits.Stall)
	raw, err := readHead(browser.r, p.config.Limits.Head)
	if err != nil {
		return head{raw: raw}, began, err
	}
	h, err := parseHead(raw, false)
	return h, began, err
}

// absolute divides the target of a request to a proxy.
func (p *Proxy) absolute(s string) (t target, origin, url string, err error) {
	rest, ok := cutPrefixFold(s, "http://")
	if !ok {
		return target{}, "", "", failure(CodeRequest, nil, "the request target %.80q is not http:// and a host", s)
	}
	authority, origin := rest, "/"
	for i := range len(rest) {
		if rest[i] == '/' {
			authority, origin = rest[:i], rest[i:]
			break
		}
		if rest[i] == '?' {
			authority, origin = rest[:i], "/"+rest[i:]
			break
		}
	}
	host, port, err := splitAuthority(authority)
	if err != nil {
		return target{}, "", "", err
	}
	if port == 0 {
		port = 80
	}
	// Whether the guard lets it pass is reach's business, so that the refusal is
	// recorded with the connection.
	return target{host: host, port: port}, origin, "http://" + authority + origin, nil
}

func cutPrefixFold(s, prefix string) (string, bool) {
	if len(s) >= len(prefix) && equalFoldASCII(s[:len(prefix)], prefix) {
		return s[len(prefix):], true
	}
	return s, false
}

func equalFoldASCII(a, b string) bool {
	lower := func(c byte) byte {
		if c >= 'A' && c <= 'Z' {
			return c + 'a' - 'A'
		}
		return c
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return len(a) == len(b)
}

// recordConnection tells how the attempt to reach an origin ended.
func (p *Proxy) recordConnection(ctx context.Context, c *Connection, began time.Time, fail *Failure) error {
	e := Exchange{ID: c.ID, Stage: StageConnection, Kind: KindConnection, Conn: c, Began: began, Background: p.background(c.Host)}
	if fail != nil {
		e.Code, e.Error = fail.Code, fail.Error()
	}
	return p.record(ctx, e)
}
