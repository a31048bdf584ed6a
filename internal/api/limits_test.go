package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"go.uber.org/goleak"
)

// closing runs the tests and lets go of the connections the tests' clients
// keep.
type closing struct{ *testing.M }

func (c closing) Run() int {
	defer http.DefaultClient.CloseIdleConnections()
	return c.M.Run()
}

func TestMain(m *testing.M) {
	// klog comes with tessera's reader and flushes for ever.
	goleak.VerifyTestMain(closing{m}, goleak.IgnoreAnyFunction("k8s.io/klog/v2.(*flushDaemon).run.func1"))
}

// running starts Run on loopback; stop ends it and returns its error.
func running(t *testing.T, c Config) (address string, stop func() error) {
	t.Helper()
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	stopped := false
	var result error
	stop = func() error {
		if !stopped {
			stopped = true
			cancel()
			result = <-done
		}
		return result
	}
	t.Cleanup(func() { _ = stop() })
	return l.Addr().String(), stop
}

func TestSlowLoris(t *testing.T) {
	n := newFakeNode(t)
	address, _ := running(t, Config{Node: n, Limits: Limits{ReadHeaderTimeout: 100 * time.Millisecond, ReadTimeout: 200 * time.Millisecond}})
	for name, sent := range map[string]string{
		"header": "GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ",
		"body":   "POST /entries HTTP/1.1\r\nHost: x\r\nContent-Type: application/cose\r\nContent-Length: 100\r\n\r\nabc",
	} {
		t.Run(name, func(t *testing.T) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if _, err := io.WriteString(c, sent); err != nil {
				t.Fatal(err)
			}
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			b, err := io.ReadAll(c) // returns when the server closes
			if err != nil {
				t.Fatalf("the connection stays open: %v", err)
			}
			if name == "body" && !strings.HasPrefix(string(b), "HTTP/1.1 408 ") {
				t.Fatalf("%q", b)
			}
		})
	}
}

func TestHeaderFlood(t *testing.T) {
	n := newFakeNode(t)
	address, _ := running(t, Config{Node: n})
	r, _ := http.NewRequest("GET", "http://"+address+"/healthz", nil)
	for i := range 600 {
		r.Header.Set(fmt.Sprintf("X-Flood-%d", i), strings.Repeat("a", 100))
	}
	res, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Fatal(res.Status)
	}
}

func TestConnectionLimit(t *testing.T) {
	n := newFakeNode(t)
	address, _ := running(t, Config{Node: n, Limits: Limits{MaxConnections: 2}})
	open := func() (net.Conn, *bufio.Reader) {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
		return c, bufio.NewReader(c)
	}
	first, r1 := open()
	second, r2 := open()
	defer second.Close()
	for _, r := range []*bufio.Reader{r1, r2} {
		if _, err := http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	third, r3 := open()
	defer third.Close()
	_ = third.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if _, err := r3.Peek(1); err == nil {
		t.Fatal("a third connection is served")
	}
	first.Close()
	_ = third.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := http.ReadResponse(r3, nil); err != nil {
		t.Fatalf("the third is not served after the first left: %v", err)
	}
}

func TestRateLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.RequestsPerSecond = 5 })
	refused := answerOf{}
	for range 40 {
		if a := w.get("/api/v1/status"); a.status == 429 {
			refused = a
			break
		}
	}
	p := w.want(refused, 429, "rate-limit")
	if refused.header.Get("Retry-After") != "1" || p.Detail != "Only 5 requests per second are allowed." {
		t.Fatalf("%v %+v", refused.header, p)
	}
	// Who watches the node, and the public log, have their own measure.
	for range 10 {
		if a := w.get("/healthz"); a.status != 200 {
			t.Fatal(a.status)
		}
		if a := w.get("/checkpoint"); a.status != 200 {
			t.Fatal(a.status)
		}
	}
}

func TestClientAddress(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} })
	for _, c := range []struct{ peer, forwarded, want string }{
		{"192.0.2.1:5", "", "192.0.2.1"},
		{"192.0.2.1:5", "198.51.100.7", "192.0.2.1"}, // not from a proxy: a lie
		{"10.0.0.1:5", "198.51.100.7", "198.51.100.7"},
		{"10.0.0.1:5", "1.1.1.1, 198.51.100.7, 10.2.2.2", "198.51.100.7"}, // the left ones are the client's words
		{"10.0.0.1:5", "nonsense", "10.0.0.1"},
		{"[2001:db8:1:2:3:4:5:6]:5", "", "2001:db8:1:2::"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr = c.peer
		r.Header.Set("X-Forwarded-For", c.forwarded)
		if got, err := w.server.clientAddress(r); got != c.want || err != nil {
			t.Errorf("%+v: %s", c, got)
		}
	}
}

func TestInFlightLimit(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MaxInFlight = 1; c.Limits.FinalWait = 5 * time.Second })
	w.node.set(func() { w.node.stuck = true })
	st := w.deposit(w.alice, "m:alice", "m").Bytes()
	done := make(chan answerOf, 1)
	go func() { done <- w.do("POST", "/api/v1/statements", st, "Content-Type", typeCOSE) }()
	for len(w.node.calls()) < 4 { // three enrolments and this
		time.Sleep(time.Millisecond)
	}
	a := w.get("/api/v1/status")
	w.want(a, 429, "overloaded")
	if a = w.get("/healthz"); a.status != 200 {
		t.Fatal(a.status)
	}
	w.server.drain() // as Run does when it stops: the wait is cut short, the answer is right
	if a = <-done; a.status != 202 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

func TestStop(t *testing.T) {
	n := newFakeNode(t)
	key := newEd25519(t)
	n.enrol(t, "m:a", key)
	n.stuck = true
	address, stop := running(t, Config{Node: n, Limits: Limits{FinalWait: time.Minute, StopTimeout: 5 * time.Second}})
	st := makeDeposit(t, key, "m:a", "m").Bytes()
	type result struct {
		status int
		err    error
	}
	done := make(chan result, 1)
	go func() {
		res, err := http.Post("http://"+address+"/api/v1/statements", typeCOSE, strings.NewReader(string(st)))
		if err != nil {
			done <- result{0, err}
			return
		}
		res.Body.Close()
		done <- result{res.StatusCode, nil}
	}()
	for len(n.calls()) < 2 {
		time.Sleep(time.Millisecond)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if r := <-done; r.err != nil || r.status != 202 {
		t.Fatalf("a deposit in progress at the stop: %+v", r)
	}
	if _, err := http.Get("http://" + address + "/healthz"); err == nil {
		t.Fatal("it still answers")
	}
}

func TestTLS(t *testing.T) {
	n := newFakeNode(t)
	n.enrol(t, "m:a", newEd25519(t))
	pair := httptest.NewTLSServer(nil)
	roots := x509.NewCertPool()
	roots.AddCert(pair.Certificate())
	cert := pair.TLS.Certificates
	pair.Close()
	address, _ := running(t, Config{Node: n, TLS: &tls.Config{Certificates: cert}})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "example.com"}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	res, err := client.Get("https://" + address + "/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 || res.ProtoMajor != 2 {
		t.Fatal(res.Status, res.Proto)
	}
}

func TestRoutesAndMethods(t *testing.T) {
	w := newWorld(t)
	w.want(w.get("/nothing"), 404, "no-route")
	w.want(w.get("/api/v1/"), 404, "no-route")
	a := w.do("DELETE", "/entries/"+strings.Repeat("0", 64), nil, "Accept", "application/json")
	w.want(a, 405, "method-not-allowed")
	if !strings.Contains(a.header.Get("Allow"), "GET") {
		t.Fatalf("%v", a.header)
	}
	for _, path := range []string{"/api/v1/status", "/nothing", "/checkpoint", "/docs"} {
		h := w.get(path).header
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Security-Policy") == "" || h.Get("Server") != "" || h.Get("Set-Cookie") != "" {
			t.Errorf("%s: %v", path, h)
		}
	}
	// A panic in a handler is an answer and a log entry, not the end.
	w.server.serve("GET /panic", func(http.ResponseWriter, *http.Request) error { panic("secret cause") })
	b := w.get("/panic")
	w.want(b, 500, "internal")
	if strings.Contains(string(b.body), "secret cause") || !strings.Contains(w.log.String(), "secret cause") {
		t.Fatalf("%s", b.body)
	}
}

var update = flag.Bool("update", false, "write testdata/openapi.json anew")

func TestOpenAPI(t *testing.T) {
	w := newWorld(t)
	a := w.get("/openapi.json")
	if a.header.Get("Content-Type") != "application/openapi+json" {
		t.Fatalf("%v", a.header)
	}
	got := append(a.body, '\n')
	const file = "testdata/openapi.json"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Fatalf("the API changed and %s did not: look at what changes for clients, then run the test with -update", file)
	}
	var doc struct {
		OpenAPI string                               `json:"openapi"`
		Paths   map[string]map[string]huma.Operation `json:"paths"`
	}
	if err := json.Unmarshal(got, &doc); err != nil || !strings.HasPrefix(doc.OpenAPI, "3.1") {
		t.Fatal(err, doc.OpenAPI)
	}
	// Every route is in it, and everything in it is a route.
	want2 := map[string]bool{}
	for _, r := range strings.Fields(`POST/entries GET/entries/{id} GET/entries/{id}/receipts GET/.well-known/scitt-keys GET/.well-known/scitt-keys/{kid}
		GET/checkpoint GET/tile/{level}/{index} GET/tile/entries/{index} POST/api/v1/statements POST/api/v1/batches GET/api/v1/statements/{digest}
		GET/api/v1/statements/{digest}/bytes GET/api/v1/statements/{digest}/transparent GET/api/v1/positions/{position} GET/api/v1/positions/{position}/receipts
		GET/api/v1/trails/{digest} GET/api/v1/trails/{digest}/head GET/api/v1/keys/{kid}/positions GET/api/v1/members/{kid} GET/api/v1/checkpoints/{size}
		GET/api/v1/checkpoints/{size}/timestamps GET/api/v1/positions/{position}/timestamp POST/tsa
		GET/api/v1/key-changes GET/api/v1/positions/{position}/statement-timestamps POST/api/v1/positions/{position}/statement-timestamps
		GET/api/v1/alliance GET/api/v1/policy GET/api/v1/status GET/healthz GET/readyz GET/metrics GET/openapi.json GET/docs`) {
		want2[r] = true
	}
	for path, methods := range doc.Paths {
		for method, op := range methods {
			name := strings.ToUpper(method) + path
			if !want2[name] {
				t.Errorf("%s is documented and not expected", name)
			}
			delete(want2, name)
			if op.Summary == "" || op.Responses["default"] == nil || len(op.Tags) != 1 {
				t.Errorf("%s is not described", name)
			}
			concrete := strings.NewReplacer("{level}", "0", "{index}", "000", "{size}", "1", "{position}", "0", "{digest}", strings.Repeat("0", 64), "{kid}", strings.Repeat("0", 64), "{id}", strings.Repeat("0", 64)).Replace(path)
			r := httptest.NewRequest(strings.ToUpper(method), concrete, nil)
			if _, pattern := w.server.mux.Handler(r); pattern == "" {
				t.Errorf("%s is documented and no route", name)
			}
		}
	}
	for name := range want2 {
		t.Errorf("%s is not documented", name)
	}
	if strings.Contains(string(got), "ErrorModel") {
		t.Error("an error form is documented that nothing answers with")
	}
	page := string(w.get("/docs").body)
	for _, part := range []string{"GET /api/v1/trails/{digest}", "POST /entries", "Signed request."} {
		if !strings.Contains(page, part) {
			t.Errorf("the page lacks %q", part)
		}
	}
	for _, foreign := range []string{"<script", "http://", "https://", "src="} {
		if strings.Contains(page, foreign) {
			t.Errorf("the page holds %q", foreign)
		}
	}
}
