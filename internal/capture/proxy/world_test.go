package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"hash"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/zhenglian/zhenglian/evidence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is a recorder that keeps everything, or only digests when told to.
type memory struct {
	mu        sync.Mutex
	exchanges []Exchange
	blobs     map[evidence.Digest][]byte
	digests   bool                   // keep no bytes
	refuse    func(e Exchange) error // nil: never
	fullAt    int                    // octets that blobs take before they fail; 0: any
	changed   chan struct{}
	open      int // blobs neither committed nor aborted
}

func newMemory() *memory {
	return &memory{blobs: map[evidence.Digest][]byte{}, changed: make(chan struct{}, 1)}
}

func (m *memory) Record(_ context.Context, e Exchange) error {
	if m.refuse != nil {
		if err := m.refuse(e); err != nil {
			return err
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.exchanges = append(m.exchanges, e)
	select {
	case m.changed <- struct{}{}:
	default:
	}
	return nil
}

type memoryBlob struct {
	m           *memory
	role, media string
	data        []byte
	size        int64
	hash        hash.Hash
}

func (m *memory) Blob(role, media string) (BlobWriter, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open++
	return &memoryBlob{m: m, role: role, media: media, hash: sha256.New()}, nil
}

func (b *memoryBlob) Write(p []byte) (int, error) {
	b.hash.Write(p)
	b.size += int64(len(p))
	if b.m.fullAt > 0 && b.size > int64(b.m.fullAt) {
		return 0, errors.New("no space left")
	}
	if !b.m.digests {
		b.data = append(b.data, p...)
	}
	return len(p), nil
}

func (b *memoryBlob) Commit() (Blob, error) {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.open--
	d := evidence.Digest(b.hash.Sum(nil))
	b.m.blobs[d] = b.data
	return Blob{Role: b.role, SHA256: d, Size: b.size, Media: b.media}, nil
}

func (b *memoryBlob) Abort() {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	b.m.open--
}

// wait returns the exchanges when enough of them is there.
func (m *memory) wait(t *testing.T, enough func([]Exchange) bool) []Exchange {
	t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		m.mu.Lock()
		list := slices.Clone(m.exchanges)
		m.mu.Unlock()
		if enough(list) {
			return list
		}
		select {
		case <-m.changed:
		case <-deadline:
			t.Fatalf("the record lacks something; it has %s", describe(list))
		}
	}
}

func describe(list []Exchange) string {
	var b strings.Builder
	for _, e := range list {
		b.WriteString("\n  " + string(e.Kind) + " " + string(e.Stage) + " " + e.Method + " " + e.URL + " " + e.Code + " " + e.Error + " " + e.Truncated)
	}
	return b.String()
}

func ends(n int) func([]Exchange) bool {
	return func(list []Exchange) bool { return len(ended(list)) >= n }
}

func ended(list []Exchange) (out []Exchange) {
	for _, e := range list {
		if e.Stage == StageEnd && e.Kind != KindConnection {
			out = append(out, e)
		}
	}
	return out
}

func connections(list []Exchange) (out []Exchange) {
	for _, e := range list {
		if e.Stage == StageConnection {
			out = append(out, e)
		}
	}
	return out
}

func (m *memory) bytes(t *testing.T, b *Blob) []byte {
	t.Helper()
	if b == nil {
		t.Fatal("there is no blob")
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.blobs[b.SHA256]
}

// names is a resolver with a table. A name is asked for again and again: each
// time the next answer, the last one for ever.
type names struct {
	mu    sync.Mutex
	table map[string][][]netip.Addr
}

func (n *names) Resolve(_ context.Context, host string) (Answer, []netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := Answer{Host: host, Resolver: "table", Began: time.Now()}
	list := n.table[host]
	if len(list) == 0 {
		return a, nil, errors.New("no such name")
	}
	if len(list) > 1 {
		n.table[host] = list[1:]
	}
	for _, addr := range list[0] {
		a.Records = append(a.Records, DNSRecord{Name: host, Type: "A", TTL: 60, Data: addr.String()})
	}
	return a, list[0], nil
}

// world is a proxy with a recorder, and origins on loopback.
type world struct {
	t      *testing.T
	m      *memory
	p      *Proxy
	ca     *CA
	addr   string
	stop   context.CancelFunc
	served chan error
}

func newWorld(t *testing.T, c Config) *world {
	t.Helper()
	w := &world{t: t, served: make(chan error, 1)}
	if c.Recorder == nil {
		w.m = newMemory()
		c.Recorder = w.m
	} else {
		w.m = c.Recorder.(*memory)
	}
	var err error
	if w.ca, err = NewCA("test", time.Now(), time.Hour); err != nil {
		t.Fatal(err)
	}
	c.CA = w.ca
	if c.Resolver == nil {
		c.Resolver = &names{}
	}
	if w.p, err = New(c); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.addr = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	w.stop = stop
	go func() { w.served <- w.p.Serve(ctx, l) }()
	t.Cleanup(func() {
		stop()
		if w.served != nil {
			<-w.served
		}
		w.m.mu.Lock()
		defer w.m.mu.Unlock()
		if w.m.open != 0 && w.m.fullAt == 0 {
			t.Errorf("%d blobs were neither committed nor aborted", w.m.open)
		}
	})
	return w
}

// end stops the proxy and returns what Serve said.
func (w *world) end() error {
	w.stop()
	err := <-w.served
	w.served = nil
	return err
}

// dial connects to the proxy as a browser does.
func (w *world) dial() *browserConn {
	w.t.Helper()
	c, err := net.Dial("tcp", w.addr)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { c.Close() })
	return &browserConn{Conn: c, r: bufio.NewReader(c), t: w.t}
}

type browserConn struct {
	net.Conn
	r *bufio.Reader
	t *testing.T
}

func (b *browserConn) say(s string) {
	b.t.Helper()
	if _, err := io.WriteString(b.Conn, s); err != nil {
		b.t.Fatal(err)
	}
}

// head reads up to an empty line.
func (b *browserConn) head() string {
	b.t.Helper()
	raw, err := readHead(b.r, 1<<20)
	if err != nil {
		b.t.Fatalf("reading a head: %v after %q", err, raw)
	}
	return string(raw)
}

func (b *browserConn) read(n int) string {
	b.t.Helper()
	buf := make([]byte, n)
	if _, err := io.ReadFull(b.r, buf); err != nil {
		b.t.Fatal(err)
	}
	return string(buf)
}

func (b *browserConn) rest() string {
	data, _ := io.ReadAll(b.r) // up to the end, whatever it is
	return string(data)
}

// secure makes TLS inside a tunnel, with the trust that a browser would have.
func (b *browserConn) secure(w *world, host string) (*browserConn, error) {
	pool := x509.NewCertPool()
	pool.AddCert(w.ca.Certificate())
	c := tls.Client(b.Conn, &tls.Config{ServerName: host, RootCAs: pool, NextProtos: []string{"h2", "http/1.1"}})
	if err := c.Handshake(); err != nil {
		return nil, err
	}
	return &browserConn{Conn: c, r: bufio.NewReader(c), t: b.t}, nil
}

// tunnel asks for one and returns the head of the answer.
func (w *world) tunnel(authority string) (*browserConn, string) {
	w.t.Helper()
	b := w.dial()
	b.say("CONNECT " + authority + " HTTP/1.1\r\nHost: " + authority + "\r\nProxy-Connection: keep-alive\r\n\r\n")
	return b, b.head()
}

// origin is a raw server: each accepted connection is given to serve.
func origin(t *testing.T, config *tls.Config, serve func(c net.Conn, r *bufio.Reader)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if config != nil {
					secured := tls.Server(c, config)
					if secured.Handshake() != nil {
						return
					}
					serve(secured, bufio.NewReader(secured))
					secured.Close()
					return
				}
				serve(c, bufio.NewReader(c))
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// says is an origin that answers each request head with the next of answers,
// and keeps what it was asked.
func says(t *testing.T, config *tls.Config, answers ...string) (netip.AddrPort, *asked) {
	a := &asked{}
	return origin(t, config, func(c net.Conn, r *bufio.Reader) {
		for _, answer := range answers {
			raw, err := readHead(r, 1<<20)
			if err != nil {
				return
			}
			a.add(raw)
			if _, err := io.WriteString(c, answer); err != nil {
				return
			}
		}
	}), a
}

type asked struct {
	mu  sync.Mutex
	raw [][]byte
}

func (a *asked) add(raw []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raw = append(a.raw, raw)
}

func (a *asked) all() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return string(bytes.Join(a.raw, nil))
}

func exception(host string, port uint16, to netip.AddrPort) []Exception {
	return []Exception{{Host: host, Port: port, Dial: to}}
}

// testCA makes a root and certificates under it.
type testCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	t    *testing.T
}

func newTestCA(t *testing.T) testCA {
	a, err := newAuthority("test root", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return testCA{a.key, a.cert, t}
}

func (c testCA) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.cert)
	return p
}

func (c testCA) server(host string, until time.Time) *tls.Config {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, &key.PublicKey, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der, c.cert.Raw}, PrivateKey: key}}, NextProtos: []string{"h2", "http/1.1"}}
}
