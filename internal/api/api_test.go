package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// logBuffer collects the server's log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is a running server over a fake node, with members.
type world struct {
	t                          *testing.T
	node                       *fakeNode
	server                     *Server
	url                        string
	log                        *logBuffer
	alice, bob, mallory, ghost evidence.Signer
}

func newWorld(t *testing.T, change ...func(*Config)) *world {
	t.Helper()
	w := &world{t: t, node: newFakeNode(t), log: new(logBuffer), alice: newEd25519(t), bob: newP256(t), mallory: newSM2(t), ghost: newEd25519(t)}
	w.node.enrol(t, "m:alice", w.alice)
	w.node.enrol(t, "m:bob", w.bob)
	w.node.enrol(t, "m:mallory", w.mallory)
	ts := httptest.NewUnstartedServer(nil)
	w.url = "http://" + ts.Listener.Addr().String()
	c := Config{Node: w.node, Addresses: []string{w.url}, Logger: slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Limits: Limits{FinalWait: 200 * time.Millisecond, RequestsPerSecond: -1, ReadsPerSecond: -1}}
	for _, f := range change {
		f(&c)
	}
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	w.server = s
	ts.Config.Handler = s.Handler()
	ts.Start()
	t.Cleanup(ts.Close)
	return w
}

// deposit makes a signed deposit of a manifest; without trail it opens one.
func (w *world) deposit(signer evidence.Signer, issuer, manifest string, trail ...evidence.Digest) *evidence.Statement {
	w.t.Helper()
	return makeDeposit(w.t, signer, issuer, manifest, trail...)
}

func makeDeposit(t testing.TB, signer evidence.Signer, issuer, manifest string, trail ...evidence.Digest) *evidence.Statement {
	t.Helper()
	payload := evidence.SumSHA256([]byte(manifest))
	s := evidence.Statement{Issuer: issuer, Subject: evidence.SubjectNewTrail, IssuedAt: 1700000000, ContentType: evidence.TypeDeposit,
		Payload: payload[:], ManifestSM3: evidence.SumSM3([]byte(manifest)), After: evidence.Checkpoint{Size: 1, Root: evidence.Digest{9}}}
	if len(trail) > 0 {
		s.Subject, s.Prev = evidence.TrailSubject(trail[0]), trail[len(trail)-1]
	}
	st, err := s.Sign(signer)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

func (w *world) register(st *evidence.Statement) uint64 {
	w.t.Helper()
	out, err := w.node.Submit(context.Background(), [][]byte{st.Bytes()}, true)
	if err != nil || !out[0].Accepted {
		w.t.Fatalf("registering: %+v %v", out, err)
	}
	return out[0].Position
}

type answerOf struct {
	status int
	header http.Header
	body   []byte
}

func (a answerOf) problem(t *testing.T) Problem {
	t.Helper()
	var p Problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("no problem: %d %q", a.status, a.body)
	}
	return p
}

func (a answerOf) into(t *testing.T, v any) {
	t.Helper()
	if err := json.Unmarshal(a.body, v); err != nil {
		t.Fatalf("%v in %d %q", err, a.status, a.body)
	}
}

func (w *world) do(method, path string, body []byte, header ...string) answerOf {
	w.t.Helper()
	r, err := http.NewRequest(method, w.url+path, bytes.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if body == nil {
		r.Body, r.ContentLength = nil, 0
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return w.send(r)
}

func (w *world) send(r *http.Request) answerOf {
	w.t.Helper()
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	defer client.CloseIdleConnections()
	res, err := client.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return answerOf{res.StatusCode, res.Header, b}
}

func (w *world) get(path string, header ...string) answerOf {
	w.t.Helper()
	return w.do("GET", path, nil, header...)
}

// as sends a GET signed by a key.
func (w *world) as(signer evidence.Signer, path string) answerOf {
	w.t.Helper()
	return w.send(w.signed(signer, path))
}

func (w *world) signed(signer evidence.Signer, path string) *http.Request {
	w.t.Helper()
	r, err := http.NewRequest("GET", w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := httpsig.Sign(r, nil, signer, time.Now(), nil); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) want(a answerOf, status int, code string) Problem {
	w.t.Helper()
	p := a.problem(w.t)
	if a.status != status || p.Code != code || p.Status != status {
		w.t.Fatalf("answer %d %s, want %d with code %q", a.status, a.body, status, code)
	}
	return p
}

func TestVocabulary(t *testing.T) {
	for c := evidence.CodeOK; c <= evidence.CodeRegistered; c++ {
		if _, ok := vocabulary[c.String()]; !ok {
			t.Errorf("code %q has no words", c)
		}
	}
	for _, c := range []httpsig.Code{httpsig.CodeMissing, httpsig.CodeMalformed, httpsig.CodeStale, httpsig.CodeInvalid, httpsig.CodeReplayed, httpsig.CodeTooMany} {
		if _, ok := vocabulary[string(c)]; !ok {
			t.Errorf("code %q has no words", c)
		}
	}
	for code, pair := range vocabulary {
		if pair[0].title == "" || pair[1].title == "" || (pair[0].hint == "") != (pair[1].hint == "") {
			t.Errorf("code %q: %+v", code, pair)
		}
	}
}

func TestDeposit(t *testing.T) {
	w := newWorld(t)
	st := w.deposit(w.alice, "m:alice", "manifest one")
	var first Deposited
	a := w.do("POST", "/api/v1/statements", st.Bytes(), "Content-Type", typeCOSE)
	a.into(t, &first)
	if a.status != 201 || first.Code != "ok" || !first.Final || first.Position == nil || *first.Position != 3 || first.Digest != st.Digest().String() ||
		a.header.Get("Location") != w.url+"/entries/"+first.Digest {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// The same again: the same position.
	var again Deposited
	a = w.do("POST", "/api/v1/statements", st.Bytes(), "Content-Type", typeStatement)
	a.into(t, &again)
	if a.status != 200 || again.Code != "already-registered" || *again.Position != 3 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	// The same content with another signature: the entry that stands is named.
	// (SM2 signatures are made with a random number.)
	one, two := w.deposit(w.mallory, "m:mallory", "twice"), w.deposit(w.mallory, "m:mallory", "twice")
	if one.Digest() == two.Digest() || one.ID() != two.ID() {
		t.Fatal("the two do not differ in the signature alone")
	}
	pos := w.register(one)
	a = w.do("POST", "/api/v1/statements", two.Bytes(), "Content-Type", typeCOSE)
	a.into(t, &again)
	if a.status != 200 || again.Digest != two.Digest().String() || again.Entry != one.Digest().String() || *again.Position != pos || again.Location != w.url+"/entries/"+again.Entry {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a = w.do("POST", "/entries", two.Bytes(), "Content-Type", typeCOSE); a.status != 201 || a.header.Get("Location") != w.url+"/entries/"+one.Digest().String() {
		t.Fatalf("%d %v", a.status, a.header)
	}
	// In JSON, with its manifest.
	st2 := w.deposit(w.alice, "m:alice", "manifest two")
	body, _ := json.Marshal(Deposit{Statement: st2.Bytes(), Manifest: []byte("manifest two")})
	if a = w.do("POST", "/api/v1/statements", body, "Content-Type", "application/json"); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	body, _ = json.Marshal(Deposit{Statement: st2.Bytes(), Manifest: []byte("manifest 2")})
	p := w.want(w.do("POST", "/api/v1/statements", body, "Content-Type", "application/json", "Accept-Language", "zh-Hans-CN"), 422, "manifest-mismatch")
	if p.Field != "payload" || !strings.Contains(p.Title, "清单") || p.Type != "urn:zhenglian:problem:manifest-mismatch" {
		t.Fatalf("%+v", p)
	}
	// Multipart, the manifest before the statement.
	for _, c := range []struct {
		manifest string
		status   int
	}{{"manifest 3", 201}, {"manifest three", 422}} {
		form, kind := multipartBody(t, "manifest", []byte(c.manifest), "statement", w.deposit(w.alice, "m:alice", "manifest 3").Bytes())
		if a = w.do("POST", "/api/v1/statements", form, "Content-Type", kind); a.status != c.status {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
}

// Bodies with a manifest take a place, of which there are few.
func TestManifestPlaces(t *testing.T) {
	w := newWorld(t, func(c *Config) { c.Limits.MaxManifests = 1 })
	st := w.deposit(w.alice, "m:alice", "m")
	large, _ := json.Marshal(Deposit{Statement: st.Bytes(), Manifest: make([]byte, 20_000)})
	small, _ := json.Marshal(Deposit{Statement: st.Bytes()})
	w.server.large <- struct{}{}
	w.want(w.do("POST", "/api/v1/statements", large, "Content-Type", "application/json"), 429, "overloaded")
	if a := w.do("POST", "/api/v1/statements", small, "Content-Type", "application/json"); a.status != 201 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	<-w.server.large
	w.want(w.do("POST", "/api/v1/statements", large, "Content-Type", "application/json"), 422, "manifest-mismatch")
	huge, _ := json.Marshal(Deposit{Statement: st.Bytes(), Manifest: make([]byte, evidence.MaxManifest+3)})
	w.want(w.do("POST", "/api/v1/statements", huge, "Content-Type", "application/json"), 413, "too-large")
	w.want(w.do("POST", "/api/v1/statements", make([]byte, 8<<20), "Content-Type", "application/json"), 400, "bad-request")
	form, kind := multipartBody(t, "statement", st.Bytes(), "manifest", make([]byte, evidence.MaxManifest+1))
	w.want(w.do("POST", "/api/v1/statements", form, "Content-Type", kind), 413, "too-large")
	form, kind = multipartBody(t, "manifest", []byte("m"))
	w.want(w.do("POST", "/api/v1/statements", form, "Content-Type", kind), 400, "empty")
	form, kind = multipartBody(t, "statement", st.Bytes(), "statement", st.Bytes())
	w.want(w.do("POST", "/api/v1/statements", form, "Content-Type", kind), 400, "bad-request")
}

func TestDepositRefusals(t *testing.T) {
	w := newWorld(t)
	good := w.deposit(w.alice, "m:alice", "m")
	tampered := slices.Clone(good.Bytes())
	tampered[len(tampered)-1] ^= 1
	for _, c := range []struct {
		name   string
		body   []byte
		kind   string
		status int
		code   string
		field  string
	}{
		{"empty", []byte{}, typeCOSE, 400, "empty", "statement"},
		{"garbage", []byte("hello"), typeCOSE, 400, "malformed", "statement"},
		{"oversize", make([]byte, evidence.MaxStatement+1), typeCOSE, 413, "oversize", "statement"},
		{"unknown key", w.deposit(w.ghost, "m:ghost", "m").Bytes(), typeCOSE, 422, "unknown-key", "protected.kid"},
		{"tampered", tampered, typeCOSE, 422, "bad-signature", "signature"},
		{"media type", good.Bytes(), "text/plain", 415, "unsupported-media", "content-type"},
		{"JSON syntax", []byte(`{"statement": `), "application/json", 400, "bad-request", "body"},
		{"JSON field", []byte(`{"secret":1}`), "application/json", 400, "bad-request", "body"},
		{"JSON type", []byte(`{"statement":7}`), "application/json", 400, "bad-request", "statement"},
		{"JSON base64", []byte(`{"statement":"%%"}`), "application/json", 400, "bad-request", "body"},
		{"JSON tail", []byte(`{"statement":"AA=="}{}`), "application/json", 400, "bad-request", "body"},
		{"JSON empty", []byte(`{}`), "application/json", 400, "empty", "statement"},
		{"multipart without boundary", []byte("x"), "multipart/form-data", 400, "bad-request", "content-type"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, lang := range []string{"en", "zh-CN"} {
				a := w.do("POST", "/api/v1/statements", c.body, "Content-Type", c.kind, "Accept-Language", lang)
				p := w.want(a, c.status, c.code)
				if p.Field != c.field || a.header.Get("Content-Type") != typeProblemJSON || a.header.Get("Content-Language") != lang || p.Title != wordsOf(c.code, lang).title {
					t.Fatalf("%+v %v", p, a.header)
				}
			}
		})
	}
	if a := w.do("POST", "/api/v1/statements?wait=ever", good.Bytes(), "Content-Type", typeCOSE); a.status != 400 {
		t.Fatalf("%d %s", a.status, a.body)
	}
}

func TestNodeTroubles(t *testing.T) {
	w := newWorld(t)
	st := w.deposit(w.alice, "m:alice", "m").Bytes()
	post := func() answerOf { return w.do("POST", "/api/v1/statements", st, "Content-Type", typeCOSE) }
	w.node.set(func() { w.node.overload = 1 })
	a := post()
	w.want(a, 429, "overloaded")
	if a.header.Get("Retry-After") != "1" {
		t.Fatalf("Retry-After %q", a.header.Get("Retry-After"))
	}
	secret := fmt.Errorf("pebble: open /var/lib/node/secret-path: broken")
	for _, c := range []struct {
		err    error
		status int
		code   string
	}{{errDiskFull, 507, "disk-full"}, {errStopping, 503, "stopping"}, {secret, 500, "internal"}} {
		w.node.set(func() { w.node.fault = c.err })
		a := post()
		w.want(a, c.status, c.code)
		if strings.Contains(string(a.body), "secret-path") {
			t.Fatalf("an internal error is shown: %s", a.body)
		}
	}
	if a = w.get("/api/v1/positions/0"); a.status != 500 || strings.Contains(string(a.body), "secret-path") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if !strings.Contains(w.log.String(), "secret-path") {
		t.Fatal("the operator does not learn the cause")
	}
	w.node.set(func() { w.node.fault, w.node.stuck = nil, true })
	if a = post(); a.status != 202 || a.header.Get("Retry-After") == "" {
		t.Fatalf("%d %s", a.status, a.body)
	}
}
