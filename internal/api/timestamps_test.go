package api

import (
	"encoding/base64"
	"net/http"
	"testing"
)

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
