package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"

// A bad certificate is recorded with its verdict; the browser, which believes
// the session's authority, sees one that it does not believe.
func TestBadCertificates(t *testing.T) {
	root, other := newTestCA(t), newTestCA(t)
	cases := map[string]struct {
		config  *tls.Config
		verdict string // "": good
	}{
		"good":         {root.server("site.test", time.Now().Add(time.Hour)), ""},
		"expired":      {root.server("site.test", time.Now().Add(-time.Minute)), "expired"},
		"another host": {root.server("other.test", time.Now().Add(time.Hour)), "site.test"},
		"unknown root": {other.server("site.test", time.Now().Add(time.Hour)), "unknown authority"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			to, _ := says(t, c.config, hello)
			w := newWorld(t, Config{Exceptions: exception("site.test", 443, to), Roots: root.pool(), RootsName: "test roots"})
			b, _ := w.tunnel("site.test:443")
			inner, err := b.secure(w, "site.test")
			if (err == nil) != (c.verdict == "") {
				t.Fatalf("the browser's handshake: %v", err)
			}
			facts := connections(w.m.wait(t, func(l []Exchange) bool { return len(connections(l)) == 1 }))[0].Conn.TLS
			if !strings.Contains(facts.Verdict, c.verdict) || (facts.Verdict == "") != (c.verdict == "") || facts.Roots != "test roots" || facts.Verified.IsZero() {
				t.Errorf("verdict %q", facts.Verdict)
			}
			chain := c.config.Certificates[0].Certificate
			if len(facts.Chain) != len(chain) || !bytes.Equal(facts.Chain[0], chain[0]) || facts.Version != tls.VersionTLS13 || facts.Cipher == 0 || facts.Curve == 0 || facts.ServerName != "site.test" {
				t.Errorf("recorded %d certificates, version %#x, cipher %#x, group %d", len(facts.Chain), facts.Version, facts.Cipher, facts.Curve)
			}
			if err != nil {
				list := w.m.wait(t, func(l []Exchange) bool { return len(l) == 2 })
				if e := list[1]; e.Stage != StageEnd || e.Code != CodeBrowserTLS || !strings.Contains(e.Error, c.verdict) {
					t.Errorf("recorded %+v", e)
				}
				return
			}
			inner.say("GET /x HTTP/1.1\r\nHost: site.test\r\n\r\n")
			if got := inner.rest(); got != hello {
				t.Errorf("%q", got)
			}
		})
	}
	// A user who goes on in spite of the warning is recorded with it.
	t.Run("goes on", func(t *testing.T) {
		to, _ := says(t, cases["expired"].config, hello)
		w := newWorld(t, Config{Exceptions: exception("site.test", 443, to), Roots: root.pool(), RootsName: "test roots"})
		b, _ := w.tunnel("site.test:443")
		c := tls.Client(b.Conn, &tls.Config{ServerName: "site.test", InsecureSkipVerify: true})
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: site.test\r\n\r\n")
		io.ReadAll(c)
		for _, cert := range c.ConnectionState().PeerCertificates {
			if bytes.Equal(cert.RawSubjectPublicKeyInfo, w.ca.Certificate().RawSubjectPublicKeyInfo) {
				t.Error("the session's authority vouches for a bad host")
			}
		}
		if e := ended(w.m.wait(t, ends(1)))[0]; !strings.Contains(e.Conn.TLS.Verdict, "expired") || e.Status != 200 {
			t.Errorf("recorded %q", e.Conn.TLS.Verdict)
		}
	})
}

// No TLS with the origin: the browser gets an alert, its own error follows.
func TestNoTLS(t *testing.T) {
	to := origin(t, nil, func(c net.Conn, _ *bufio.Reader) { io.WriteString(c, "SSH-2.0-x\r\n") })
	w := newWorld(t, Config{Exceptions: exception("site.test", 443, to)})
	b, _ := w.tunnel("site.test:443")
	if _, err := b.secure(w, "site.test"); err == nil {
		t.Error("a handshake with nobody")
	}
	if c := connections(w.m.wait(t, func(l []Exchange) bool { return len(connections(l)) == 1 }))[0]; c.Code != CodeTLS || !c.Conn.Remote.IsValid() {
		t.Errorf("recorded %q %q", c.Code, c.Error)
	}
}

// A tunnel to one host carries requests to no other.
func TestTunnelIsForOneHost(t *testing.T) {
	root := newTestCA(t)
	to, asked := says(t, root.server("site.test", time.Now().Add(time.Hour)), hello)
	w := newWorld(t, Config{Exceptions: exception("site.test", 443, to), Roots: root.pool(), RootsName: "test roots"})
	for _, request := range []string{"GET / HTTP/1.1\r\nHost: bank.test\r\n\r\n", "GET / HTTP/1.1\r\nHost: site.test:8443\r\n\r\n", "CONNECT bank.test:443 HTTP/1.1\r\nHost: bank.test:443\r\n\r\n", "GET http://bank.test/ HTTP/1.1\r\nHost: site.test\r\n\r\n"} {
		b, _ := w.tunnel("site.test:443")
		inner, err := b.secure(w, "site.test")
		if err != nil {
			t.Fatal(err)
		}
		inner.say(request)
		if got := inner.rest(); !strings.HasPrefix(got, "HTTP/1.1 400 ") {
			t.Errorf("%q: %.100q", request, got)
		}
	}
	if b, _ := w.tunnel("site.test:443"); true {
		if _, err := b.secure(w, "bank.test"); err == nil {
			t.Error("a certificate for another host than the tunnel's")
		}
	}
	if asked.all() != "" {
		t.Errorf("the origin was asked %q", asked.all())
	}
}

func TestCA(t *testing.T) {
	now := time.Now()
	ca, err := NewCA("x", now, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewCA("x", now, 25*time.Hour); err == nil {
		t.Error("an authority for more than a day")
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	for _, good := range []bool{true, false} {
		leaf, err := ca.leaf("a.example.com", good)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(leaf.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: "a.example.com", CurrentTime: now})
		if (err == nil) != good {
			t.Errorf("good %v: %v", good, err)
		}
		if cert.NotAfter.After(now.Add(time.Hour + time.Second)) {
			t.Errorf("a leaf until %s", cert.NotAfter)
		}
	}
	if strings.Contains(ca.SPKI(), "=") != true || len(ca.SPKI()) != 44 {
		t.Errorf("SPKI %q", ca.SPKI())
	}
}

// WebSocket: both directions octet for octet, and where each frame lies.
func TestWebSocket(t *testing.T) {
	root := newTestCA(t)
	frames := map[string]string{
		"text":   "\x81\x05hello",
		"ping":   "\x89\x00",
		"large":  "\x82\x7e\x01\x00" + strings.Repeat("a", 256),
		"huge":   "\x02\x7f\x00\x00\x00\x00\x00\x01\x11\x70" + strings.Repeat("b", 70000),
		"masked": "\xc1\x83\x01\x02\x03\x04xyz",
		"close":  "\x88\x02\x03\xe8",
	}
	sent := frames["masked"] + "\x88\x80\x00\x00\x00\x00"
	received := frames["text"] + frames["ping"] + frames["large"] + frames["huge"] + frames["close"]
	serve := func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n"+received)
		buf := make([]byte, len(sent))
		io.ReadFull(r, buf)
		if string(buf) != sent {
			t.Errorf("the origin read %q", buf)
		}
	}
	for _, secure := range []bool{true, false} { // ws:// goes through a tunnel too
		config, authority := root.server("site.test", time.Now().Add(time.Hour)), "site.test:443"
		port := uint16(443)
		if !secure {
			config, authority, port = nil, "site.test:80", 80
		}
		to := origin(t, config, serve)
		w := newWorld(t, Config{Exceptions: exception("site.test", port, to), Roots: root.pool(), RootsName: "test"})
		b, _ := w.tunnel(authority)
		if secure {
			var err error
			if b, err = b.secure(w, "site.test"); err != nil {
				t.Fatal(err)
			}
		}
		b.say("GET /chat HTTP/1.1\r\nHost: site.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n\r\n")
		b.head()
		b.say(sent)
		if got := b.read(len(received)); got != received {
			t.Error("the browser read other octets")
		}
		b.rest()
		e := ended(w.m.wait(t, ends(1)))[0]
		if e.Kind != KindWebSocket || e.Status != 101 || e.Truncated != "" || e.FramesSent != 2 || e.FramesReceived != 5 {
			t.Errorf("recorded as %s, truncated %q, %d and %d frames", e.Kind, e.Truncated, e.FramesSent, e.FramesReceived)
		}
		if string(w.m.bytes(t, e.Sent)) != sent || string(w.m.bytes(t, e.Received)) != received {
			t.Error("recorded other octets")
		}
		streams := map[string]string{"browser": sent, "origin": received}
		joined := map[string]string{}
		for line := range strings.Lines(string(w.m.bytes(t, e.Frames))) {
			var f Frame
			if err := json.Unmarshal([]byte(line), &f); err != nil {
				t.Fatal(err)
			}
			joined[f.From] += streams[f.From][f.Offset : f.Offset+int64(f.Header)+f.Length]
			if f.From == "browser" && f.Opcode == 1 && (!f.Masked || f.Reserve != 4 || !f.Final || f.Length != 3) {
				t.Errorf("frame %+v", f)
			}
		}
		if joined["browser"] != sent || joined["origin"] != received {
			t.Error("the index does not cover the streams")
		}
	}
}

// A WebSocket that breaks off is recorded as broken off.
func TestWebSocketBreaks(t *testing.T) {
	to := origin(t, nil, func(c net.Conn, r *bufio.Reader) {
		if _, err := readHead(r, 1<<20); err == nil {
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05he")
		}
	})
	w := newWorld(t, Config{Exceptions: exception("site.test", 80, to)})
	b, _ := w.tunnel("site.test:80")
	b.say("GET /chat HTTP/1.1\r\nHost: site.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
	b.rest()
	if e := ended(w.m.wait(t, ends(1)))[0]; e.Truncated != TruncatedOrigin || string(w.m.bytes(t, e.Received)) != "\x81\x05he" {
		t.Errorf("truncated %q", e.Truncated)
	}
}

func TestBackground(t *testing.T) {
	w := newWorld(t, Config{})
	w.tunnel("update.googleapis.com:443")
	w.tunnel("r1.gvt1.com:443")
	w.tunnel("www.example.com:443")
	list := connections(w.m.wait(t, func(l []Exchange) bool { return len(connections(l)) == 3 }))
	if !list[0].Background || !list[1].Background || list[2].Background {
		t.Errorf("tagged %v %v %v", list[0].Background, list[1].Background, list[2].Background)
	}
}
