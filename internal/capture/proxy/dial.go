package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"time"
)

// reach resolves a target, has the guard look at every address, and dials one of
// those that were looked at. The Connection says how far it came, also with an
// error; it has no ID yet.
func (p *Proxy) reach(ctx context.Context, asked target) (net.Conn, *Connection, error) {
	t, err := p.checkTarget(asked.host, asked.port)
	made := &Connection{Host: t.host, Port: t.port}
	if err != nil {
		return nil, made, err
	}
	if p.carried.Load() >= p.config.Limits.SessionBytes {
		return nil, made, failure(CodeLimit, nil, "the session has carried its %d octets", p.config.Limits.SessionBytes)
	}
	var to []netip.AddrPort
	switch {
	case t.exception != nil:
		made.Exception = t.exception.String()
		to = []netip.AddrPort{t.exception.Dial}
	case t.addr.IsValid():
		to = []netip.AddrPort{netip.AddrPortFrom(t.addr, t.port)}
	default:
		answer, addrs, err := p.config.Resolver.Resolve(ctx, t.host)
		made.DNS = &answer
		if err != nil {
			return nil, made, failure(p.codeAtEnd(ctx, CodeResolve), err, "no address for %s", t.host)
		}
		for _, addr := range addrs {
			if err := CheckAddress(addr); err != nil {
				return nil, made, failure(CodeRefusedAddress, err, "%s resolves to an address that is refused", t.host)
			}
			to = append(to, netip.AddrPortFrom(addr, t.port))
		}
	}
	if len(to) == 0 {
		return nil, made, failure(CodeResolve, nil, "no address for %s", t.host)
	}
	for _, addr := range to {
		dialer := net.Dialer{Timeout: p.config.Limits.Dial}
		conn, err := dialer.DialContext(ctx, "tcp", addr.String())
		if err != nil {
			made.Tried = append(made.Tried, Try{Addr: addr, Error: err.Error()})
			if ctx.Err() != nil {
				break
			}
			continue
		}
		made.Remote, made.Local, made.Dialled = addr, local(conn), time.Now()
		return conn, made, nil
	}
	last := made.Tried[len(made.Tried)-1]
	return nil, made, failure(p.codeAtEnd(ctx, CodeDial), nil, "no connection to %s: %s", t.host, last.Error)
}

// secure makes TLS with an origin and judges its certificates. A bad verdict is
// no error: it is a fact to record. The facts are there when certificates came.
func (p *Proxy) secure(ctx context.Context, conn net.Conn, host string) (*tls.Conn, *TLS, error) {
	config := &tls.Config{
		NextProtos: []string{"http/1.1"},
		MinVersion: tls.VersionTLS12,
		// Judged below, by the same rules, after it was seen.
		InsecureSkipVerify: true,
		KeyLogWriter:       p.config.KeyLog,
	}
	facts := &TLS{Roots: p.config.RootsName}
	if _, err := netip.ParseAddr(host); err != nil {
		config.ServerName, facts.ServerName = host, host
	}
	seen := false
	config.VerifyConnection = func(s tls.ConnectionState) error {
		seen = true
		p.judge(facts, s, host)
		return nil
	}
	hctx, cancel := context.WithTimeout(ctx, p.config.Limits.Handshake)
	defer cancel()
	secured := tls.Client(conn, config)
	err := secured.HandshakeContext(hctx)
	if !seen {
		facts = nil
	}
	if err != nil {
		return nil, facts, failure(p.codeAtEnd(ctx, CodeTLS), err, "no TLS with %s", host)
	}
	s := secured.ConnectionState()
	facts.Version, facts.Cipher, facts.ALPN, facts.Curve = s.Version, s.CipherSuite, s.NegotiatedProtocol, uint16(s.CurveID)
	return secured, facts, nil
}

// judge fills in the chain and the verdict.
func (p *Proxy) judge(facts *TLS, s tls.ConnectionState, host string) {
	facts.Version, facts.Cipher = s.Version, s.CipherSuite
	facts.OCSP = s.OCSPResponse
	facts.SCTs = s.SignedCertificateTimestamps
	facts.Verified = time.Now()
	between := x509.NewCertPool()
	for i, cert := range s.PeerCertificates {
		facts.Chain = append(facts.Chain, cert.Raw)
		if i > 0 {
			between.AddCert(cert)
		}
	}
	if len(s.PeerCertificates) == 0 {
		facts.Verdict = "the origin showed no certificate"
		return
	}
	_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{DNSName: host, Intermediates: between, Roots: p.config.Roots, CurrentTime: facts.Verified})
	if err != nil {
		facts.Verdict = err.Error()
	}
}

// secureBrowser makes TLS with the browser under the session's authority, or
// under the one that it does not believe.
func (p *Proxy) secureBrowser(ctx context.Context, browser *leg, host string, good bool) (*tls.Conn, error) {
	config := &tls.Config{
		NextProtos:             []string{"http/1.1"},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if _, err := netip.ParseAddr(host); err != nil && hello.ServerName != host && hello.ServerName != "" {
				return nil, fmt.Errorf("the tunnel is to %s, the browser asks for %q", host, hello.ServerName)
			}
			return p.config.CA.leaf(host, good)
		},
	}
	browser.within(0)
	hctx, cancel := context.WithTimeout(ctx, p.config.Limits.Handshake)
	defer cancel()
	inner := tls.Server(buffered{browser.Conn, browser.r}, config)
	if err := inner.HandshakeContext(hctx); err != nil {
		return nil, fmt.Errorf("the browser did not take the certificate: %w", err)
	}
	return inner, nil
}
