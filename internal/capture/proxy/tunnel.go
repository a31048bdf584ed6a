package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// tunnel serves a CONNECT: TLS or plain HTTP with one origin.
func (p *Proxy) tunnel(ctx context.Context, browser *leg, authority string, began time.Time) {
	c := carrier{p: p, browser: browser}
	defer c.close()
	host, port, err := splitAuthority(authority)
	if err == nil && port == 0 {
		err = failure(CodeRefusedPort, nil, "authority %q has no port", authority)
	}
	var conn net.Conn
	made := &Connection{Host: host, Port: port}
	if err == nil {
		conn, made, err = p.reach(ctx, target{host: host, port: port})
	}
	if err != nil {
		made.ID = p.lastID.Add(1)
		fail := asFailure(CodeDial, err)
		if p.recordConnection(ctx, made, began, fail) == nil {
			c.answer(fail)
		}
		return
	}
	closeConn := context.AfterFunc(ctx, func() { conn.Close() })
	defer closeConn()
	defer conn.Close()
	made.ID = p.lastID.Add(1)
	if _, err := io.WriteString(browser.Conn, "HTTP/1.1 200 Connection established\r\n\r\n"); err != nil {
		_ = p.recordConnection(ctx, made, began, failure(CodeBrowser, err, "the browser closed the tunnel"))
		return
	}
	browser.within(p.config.Limits.Idle)
	first, err := browser.r.Peek(1)
	if err != nil {
		// A connection made ahead of need.
		_ = p.recordConnection(ctx, made, began, failure(p.codeAtEnd(ctx, CodeBrowser), nil, "the browser closed the tunnel without a word"))
		return
	}
	const handshake = 0x16 // RFC 8446 §5.1, also the first octet of every ClientHello
	if first[0] != handshake {
		if p.recordConnection(ctx, made, began, nil) != nil {
			return
		}
		c.attach(ctx, conn, made)
		p.inTunnel(ctx, &c)
		return
	}
	secured, facts, err := p.secure(ctx, conn, made.Host)
	made.TLS = facts
	if err != nil {
		// The browser's own error follows from the alert.
		_ = p.recordConnection(ctx, made, began, asFailure(CodeTLS, err))
		p.alert(ctx, browser)
		return
	}
	if p.recordConnection(ctx, made, began, nil) != nil {
		return
	}
	inner, err := p.secureBrowser(ctx, browser, made.Host, facts.Verdict == "")
	if err != nil {
		e := Exchange{ID: made.ID, Stage: StageEnd, Kind: KindConnection, Conn: made, Began: began, Ended: time.Now(),
			Code: CodeBrowserTLS, Error: err.Error(), Background: p.background(made.Host)}
		if facts.Verdict != "" {
			e.Error += " (the origin's certificate is bad: " + facts.Verdict + ")"
		}
		_ = p.record(ctx, e)
		return
	}
	c.browser = newLeg(inner)
	c.attach(ctx, secured, made)
	p.inTunnel(ctx, &c)
}

func (p *Proxy) codeAtEnd(ctx context.Context, code string) string {
	if ctx.Err() != nil {
		return CodeSession
	}
	return code
}

// inTunnel carries the requests of a tunnel, one after the other.
func (p *Proxy) inTunnel(ctx context.Context, c *carrier) {
	for n := 0; ; n++ {
		h, began, err := c.nextRequest()
		if errors.Is(err, io.EOF) && n == 0 {
			_ = p.record(ctx, Exchange{ID: c.conn.ID, Stage: StageEnd, Kind: KindConnection, Conn: c.conn, Began: c.conn.Dialled, Ended: time.Now(),
				Code: p.codeAtEnd(ctx, CodeBrowser), Error: "the connection carried no request", Background: p.background(c.conn.Host)})
			return
		}
		if err != nil {
			c.refuseHead(ctx, h, began, err)
			return
		}
		_, target, _, err := h.requestLine()
		if err != nil {
			c.refuseHead(ctx, h, began, err)
			return
		}
		r := request{head: h, began: began, url: c.base() + target}
		if target[0] != '/' && target != "*" {
			c.refuse(ctx, r, c.conn, failure(CodeRequest, nil, "the request target %.80q does not begin with a slash", target))
			return
		}
		if !c.carry(ctx, r) {
			return
		}
	}
}

// alert tells a browser that began TLS that there will be none.
func (p *Proxy) alert(ctx context.Context, browser *leg) {
	refusal := &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return nil, errors.New("no TLS with the origin")
	}}
	hctx, cancel := context.WithTimeout(ctx, p.config.Limits.Handshake)
	defer cancel()
	_ = tls.Server(buffered{browser.Conn, browser.r}, refusal).HandshakeContext(hctx) // it fails: that is the alert
}

// buffered is a connection whose first octets have been read already.
type buffered struct {
	net.Conn
	r *bufio.Reader
}

func (b buffered) Read(p []byte) (int, error) { return b.r.Read(p) }

// local is this side's address of a connection over TCP.
func local(c net.Conn) netip.AddrPort {
	if a, ok := c.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
