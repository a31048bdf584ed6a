package api

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

// ask sends a signed POST without a body.
func (w *world) ask(signer evidence.Signer, path string) answerOf {
	w.t.Helper()
	r, err := http.NewRequest(http.MethodPost, w.url+path, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := httpsig.Sign(r, nil, signer, time.Now(), nil); err != nil {
		w.t.Fatal(err)
	}
	return w.send(r)
}

func TestTimestamps(t *testing.T) {
	asked := 0
	w := newWorld(t, func(c *Config) {
		c.TSA = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { asked++; w.WriteHeader(http.StatusOK) })
		c.Limits.StampsPerSecond = 3
	})
	w.trail(0)
	var p PositionTimestamp
	a := w.get("/api/v1/positions/0/timestamp")
	a.into(t, &p)
	want := base64.StdEncoding.EncodeToString([]byte("token"))
	if a.status != 200 || !p.Asking || p.Size == nil || len(p.Tokens) != 1 || p.Tokens[0] != (Token{"ca", want}) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var c CheckpointTimestamps
	w.get("/api/v1/checkpoints/1/timestamps").into(t, &c)
	if c.Size != 1 || len(c.Tokens) != 1 {
		t.Fatalf("%+v", c)
	}
	w.node.set(func() { w.node.unfinal = true })
	p = PositionTimestamp{}
	w.get("/api/v1/positions/0/timestamp").into(t, &p)
	if p.Size != nil || len(p.Tokens) != 0 || !p.Asking {
		t.Fatalf("%+v", p)
	}
	w.want(w.get("/api/v1/positions/999/timestamp"), 404, "not-found")
	w.want(w.get("/api/v1/checkpoints/999/timestamps"), 404, "not-found")
	w.want(w.get("/api/v1/checkpoints/x/timestamps"), 400, "bad-request")

	// The authority has a limit of its own.
	refused := 0
	for range 20 {
		if a := w.do(http.MethodPost, "/tsa", []byte("query")); a.status == http.StatusTooManyRequests {
			refused++
		}
	}
	if asked < 3 || refused == 0 || asked+refused != 20 {
		t.Errorf("%d queries came through, %d were refused", asked, refused)
	}
	w.want(newWorld(t).do(http.MethodPost, "/tsa", []byte("query")), 404, "no-route")
}

// A statement's own token is given for a signed request, and counted with the
// authority's.
func TestStatementTimestamps(t *testing.T) {
	w := newWorld(t)
	w.trail(0)
	var got StatementTimestamps
	w.get("/api/v1/positions/0/statement-timestamps").into(t, &got)
	if len(got.Tokens) != 0 || got.Position != 0 || len(got.Digest) != 64 {
		t.Fatalf("%+v", got)
	}
	w.want(w.do(http.MethodPost, "/api/v1/positions/0/statement-timestamps", nil), 401, "signature-missing")
	a := w.ask(w.alice, "/api/v1/positions/0/statement-timestamps")
	got = StatementTimestamps{}
	a.into(t, &got)
	if a.status != 200 || len(got.Tokens) != 1 || got.Tokens[0] != (Token{"ca", base64.StdEncoding.EncodeToString([]byte("own"))}) {
		t.Fatalf("%d %s", a.status, a.body)
	}
	got = StatementTimestamps{}
	w.get("/api/v1/positions/0/statement-timestamps").into(t, &got)
	if len(got.Tokens) != 1 {
		t.Fatalf("%+v", got)
	}
	for _, tc := range []struct {
		err    error
		status int
		code   string
	}{{chain.ErrNoAuthority, 409, "no-authority"}, {errors.New("ca.internal: connection refused"), 502, "authority-unavailable"}, {chain.ErrDiskFull, 507, "disk-full"}} {
		w.node.set(func() { w.node.stampErr = tc.err })
		a := w.ask(w.alice, "/api/v1/positions/0/statement-timestamps")
		w.want(a, tc.status, tc.code)
		if strings.Contains(string(a.body), "ca.internal") {
			t.Errorf("the answer names an address: %s", a.body)
		}
	}
	w.want(w.get("/api/v1/positions/999/statement-timestamps"), 404, "not-found")

	limited := newWorld(t, func(c *Config) { c.Limits.StampsPerSecond = 1 })
	limited.trail(0)
	refused := 0
	for range 10 {
		if a := limited.do(http.MethodPost, "/api/v1/positions/0/statement-timestamps", nil); a.status == http.StatusTooManyRequests {
			refused++
		}
	}
	if refused == 0 {
		t.Error("asking for tokens has no limit")
	}
}

// Status and metrics tell how tokens and the own authority stand; what names
// addresses and files is for institutions.
func TestTimestampStatus(t *testing.T) {
	seconds := 0.25
	w := newWorld(t, func(c *Config) {
		c.TSAStatus = func() AuthorityStatus {
			return AuthorityStatus{Entries: 7, ClockErrorSeconds: &seconds, Reason: "the register /var/tsa/register is damaged"}
		}
	})
	w.trail(0)
	var public, full Status
	w.get("/api/v1/status").into(t, &public)
	w.as(w.node.keys["court"]["statement"], "/api/v1/status").into(t, &full)
	for _, s := range []Status{public, full} {
		if s.Timestamps == nil || s.Timestamps.Backlog != 3 || s.Timestamps.Failures != 2 || s.Timestamps.Last == nil || s.TSA == nil || s.TSA.Ready || s.TSA.Entries != 7 {
			t.Fatalf("%+v %+v", s.Timestamps, s.TSA)
		}
	}
	if public.TSA.Reason != "" || public.Timestamps.LastError != "" || full.TSA.Reason == "" || full.Timestamps.LastError == "" {
		t.Errorf("%+v %+v, %+v %+v", public.TSA, public.Timestamps, full.TSA, full.Timestamps)
	}
	text := string(w.get("/metrics").body)
	for _, line := range []string{"zhenglian_timestamp_size 1\n", "zhenglian_timestamp_last_seconds 1.7e+09\n", "zhenglian_timestamp_backlog 3\n", "zhenglian_timestamp_failures_total 2\n", "zhenglian_tsa_ready 0\n", "zhenglian_tsa_entries 7\n", "zhenglian_tsa_clock_error_seconds 0.25\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q among the metrics", line)
		}
	}
}
