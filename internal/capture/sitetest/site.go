package sitetest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/internal/capture/proxy"
)

// Hosts of the site. All but Plain and Inner speak TLS.
const (
	Search     = "search.zhenglian.test"
	Author     = "author.zhenglian.test"
	Shop       = "shop.zhenglian.test"
	CDN        = "cdn.zhenglian.test"        // the shop's pictures and film
	Plain      = "plain.zhenglian.test"      // no TLS: sends on to Shop
	Inner      = "inner.zhenglian.test"      // no TLS: tries inner addresses
	SelfSigned = "selfsigned.zhenglian.test" // under no authority
	Expired    = "expired.zhenglian.test"    // under the site's authority, over since 2024
	// Names that DNS gives inner addresses, also for Site.Resolver.
	Rebind   = "rebind.zhenglian.test"   // 127.0.0.1
	Mixed    = "mixed.zhenglian.test"    // a public address and 127.0.0.1
	Metadata = "metadata.zhenglian.test" // 169.254.169.254
)

// RootsName is what records call Site.Roots.
const RootsName = "test site's authority"

// Site is running.
type Site struct {
	root     authority
	secure   net.Listener
	plain    net.Listener
	canary   net.Listener
	servers  []*http.Server
	wg       sync.WaitGroup // servers, and requests while mu let them in
	mu       sync.Mutex
	closed   bool
	visits   atomic.Int64
	canaries atomic.Int64
	stop     context.CancelFunc
}

type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// Start begins to serve, on free ports of 127.0.0.1.
func Start() (*Site, error) {
	s := &Site{}
	config, err := s.certificates()
	if err != nil {
		return nil, fmt.Errorf("making the test site's certificates: %w", err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	pages, err := s.pages()
	if err != nil {
		stop()
		return nil, err
	}
	canary := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Access-Control-Allow-Origin", "*")
		_, _ = io.WriteString(w, "canary-reached") // a client that is gone
	})
	for _, l := range []struct {
		to      *net.Listener
		handler http.Handler
		tls     *tls.Config
	}{{&s.secure, pages, config}, {&s.plain, pages, nil}, {&s.canary, canary, nil}} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, errors.Join(fmt.Errorf("starting the test site: %w", err), s.Close())
		}
		*l.to = listener
		server := &http.Server{
			Handler: s.counted(l.handler), TLSConfig: l.tls, ReadHeaderTimeout: time.Minute,
			// The clients are hostile pages and cut connections: nothing to say about them.
			ErrorLog:    log.New(io.Discard, "", 0),
			BaseContext: func(net.Listener) context.Context { return ctx },
		}
		if l.to == &s.canary {
			server.ConnState = func(_ net.Conn, state http.ConnState) {
				if state == http.StateNew {
					s.canaries.Add(1)
				}
			}
		}
		s.servers = append(s.servers, server)
		if l.tls != nil {
			listener = tls.NewListener(listener, l.tls)
		}
		s.wg.Go(func() { _ = server.Serve(listener) }) // http.ErrServerClosed
	}
	return s, nil
}

// Close ends all connections and waits for the servers.
func (s *Site) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	var err error
	for _, server := range s.servers {
		err = errors.Join(err, server.Close())
	}
	s.wg.Wait()
	return err
}

// counted lets requests in until the site closes, and Close wait for them.
func (s *Site) counted(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return
		}
		s.wg.Add(1)
		s.mu.Unlock()
		defer s.wg.Done()
		h.ServeHTTP(w, r)
	})
}

// Exceptions are for the recording proxy: every host that is to be reached, at
// its usual port, by its listener on loopback.
func (s *Site) Exceptions() []proxy.Exception {
	at := func(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }
	var list []proxy.Exception
	for _, host := range []string{Search, Author, Shop, CDN, SelfSigned, Expired} {
		list = append(list, proxy.Exception{Host: host, Port: 443, Dial: at(s.secure)})
	}
	for _, host := range []string{Plain, Inner} {
		list = append(list, proxy.Exception{Host: host, Port: 80, Dial: at(s.plain)})
	}
	return list
}

// Roots hold the site's own authority.
func (s *Site) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.root.cert)
	return pool
}

// RootsPEM is the same for other programs.
func (s *Site) RootsPEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.root.cert.Raw})
}

// CanaryHits is how many connections came to the listener on 127.0.0.1 that the
// page of Inner tries to reach: none may.
func (s *Site) CanaryHits() int64 { return s.canaries.Load() }

// Canary is that listener's address.
func (s *Site) Canary() netip.AddrPort { return s.canary.Addr().(*net.TCPAddr).AddrPort() }

// Resolver answers for the site's names that DNS sends to inner addresses, and
// says of all others that there are none.
func (s *Site) Resolver() proxy.Resolver { return resolver{} }

type resolver struct{}

func (resolver) Resolve(_ context.Context, host string) (proxy.Answer, []netip.Addr, error) {
	a := proxy.Answer{Host: host, Resolver: "test site", Began: time.Now()}
	var addrs []netip.Addr
	switch host {
	case Rebind:
		addrs = []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	case Mixed:
		addrs = []netip.Addr{netip.MustParseAddr("8.8.8.8"), netip.MustParseAddr("127.0.0.1")}
	case Metadata:
		addrs = []netip.Addr{netip.MustParseAddr("169.254.169.254")}
	default:
		return a, nil, errors.New("NXDOMAIN")
	}
	for _, addr := range addrs {
		a.Records = append(a.Records, proxy.DNSRecord{Name: host, Type: "A", TTL: 0, Data: addr.String()})
	}
	return a, addrs, nil
}

// certificates makes the authority and a certificate for each host.
func (s *Site) certificates() (*tls.Config, error) {
	now := time.Now()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Zhenglian test site"},
		NotBefore: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), NotAfter: now.Add(30 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	s.root = authority{key, cert}
	leaves := map[string]*tls.Certificate{}
	for i, host := range []string{Search, Author, Shop, CDN, SelfSigned, Expired} {
		leafKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		leaf := &x509.Certificate{
			SerialNumber: big.NewInt(int64(10 + i)), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		parent, signer := s.root.cert, s.root.key
		switch host {
		case SelfSigned:
			parent, signer = leaf, leafKey
		case Expired:
			leaf.NotBefore, leaf.NotAfter = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		}
		der, err := x509.CreateCertificate(rand.Reader, leaf, parent, &leafKey.PublicKey, signer)
		if err != nil {
			return nil, err
		}
		leaves[host] = &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: leafKey}
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := leaves[hello.ServerName]; c != nil {
				return c, nil
			}
			return nil, fmt.Errorf("no host %q here", hello.ServerName)
		},
	}, nil
}
