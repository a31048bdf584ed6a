package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/testalliance"
)

// fakeNode answers like a node's API for a log of n entries, three in a block,
// the newest of them in the block at now.
func fakeNode(t *testing.T, a *testalliance.Alliance, n int, now time.Time) *httptest.Server {
	t.Helper()
	blockTime := func(position int) time.Time { return now.Add(-time.Duration((n-1-position)/3) * 6 * time.Hour) }
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			t.Error(err)
		}
	}
	mux.HandleFunc("GET /api/v1/status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, map[string]any{"height": 9, "block_time": now, "size": n, "root": strings.Repeat("a", 64), "witnessed_size": n - 1, "pending": 1, "ready": false,
			"reasons":    []any{map[string]string{"code": "no-quorum", "what": "peers"}},
			"peers":      map[string]any{"notary": map[string]any{"reachable": true, "last_heard": now, "witnessed_size": n}, "court": map[string]any{"reachable": false, "witnessed_size": 0}},
			"timestamps": map[string]any{"authorities": []string{"tsa"}, "size": n, "last": now, "backlog": 2, "failures": 1},
			"tsa":        map[string]any{"ready": true, "entries": 4, "last": now, "clock_error_seconds": 0.25}})
	})
	mux.HandleFunc("GET /api/v1/positions/{position}", func(w http.ResponseWriter, r *http.Request) {
		var position int
		if _, err := fmt.Sscan(r.PathValue("position"), &position); err != nil || position >= n {
			http.NotFound(w, r)
			return
		}
		answer(w, map[string]any{"position": position, "digest": evidence.SumSHA256(fmt.Appendf(nil, "%d", position)), "block_time": blockTime(position), "witnesses": []string{"court", "notary"}, "final": true})
	})
	mux.HandleFunc("GET /api/v1/checkpoints/{size}", func(w http.ResponseWriter, r *http.Request) {
		var size uint64
		if _, err := fmt.Sscan(r.PathValue("size"), &size); err != nil || size > a.Size() {
			http.NotFound(w, r)
			return
		}
		text, err := a.Cosigned(size)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(text)
	})
	mux.HandleFunc("GET /api/v1/checkpoints/{size}/timestamps", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server
}

func TestNodeOverHTTP(t *testing.T) {
	a, err := testalliance.New("console", 4)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 { // a log to have checkpoints of
		if _, err := a.Enrol(fmt.Sprintf("m:%026d", i), 2, true); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Date(2026, 11, 22, 15, 5, 38, 0, time.UTC)
	const entries = 38
	node := fakeNode(t, a, entries, now)
	c, err := client.New(client.Config{Policy: a.Policy, URLs: map[string]string{a.Policy.Institutions[0].ID: node.URL}, Patience: -1})
	if err != nil {
		t.Fatal(err)
	}
	n := &NodeOverHTTP{Base: node.URL, Client: c, Now: func() time.Time { return now }}
	v, err := n.Node(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v.Gap != "" {
		t.Errorf("a gap: %s", v.Gap)
	}
	if v.Size != entries || v.WitnessedSize != entries-1 || v.Ready || len(v.Reasons) != 1 || v.Reasons[0].Code != "no-quorum" || v.Pending != 1 {
		t.Errorf("the status: %+v", v)
	}
	if len(v.Peers) != 2 || v.Peers[0].ID != "court" || v.Peers[0].Name == "" || v.Peers[0].Reachable || !v.Peers[1].Reachable {
		t.Errorf("the peers: %+v", v.Peers)
	}
	if v.Stamps == nil || v.Stamps.Backlog != 2 || v.Authority == nil || *v.Authority.ClockError != 250*time.Millisecond {
		t.Errorf("timestamps: %+v %+v", v.Stamps, v.Authority)
	}
	if len(v.Entries) != consoleEntries || v.Entries[0].Position != entries-1 || !strings.Contains(v.Entries[0].Witnesses[0], "法院") {
		t.Errorf("the entries: %+v", v.Entries)
	}
	// Entries 37, 36, 35 are one block, witnessed only up to 37; then 34, 31, 28.
	var sizes []uint64
	for _, cp := range v.Checkpoints {
		sizes = append(sizes, cp.Size)
		if len(cp.Signers) != 4 || strings.Contains(cp.Signers[0], "/") {
			t.Errorf("the signers: %v", cp.Signers)
		}
	}
	if !slices.Equal(sizes, []uint64{35, 32, 29}) {
		t.Errorf("checkpoints of sizes %v", sizes)
	}
	// Four blocks of three a day; a day begins at midnight in Beijing.
	total := uint64(0)
	for _, d := range v.Days {
		total += d.Count
	}
	if len(v.Days) != consoleDays || total != entries || v.Days[consoleDays-1].Count != 12 || !v.Days[consoleDays-1].Day.Equal(time.Date(2026, 11, 21, 16, 0, 0, 0, time.UTC)) {
		t.Errorf("the days: %+v", v.Days)
	}
	if again, err := n.Node(t.Context()); err != nil || !slices.Equal(again.Days, v.Days) {
		t.Errorf("asked again: %+v, %v", again.Days, err)
	}

	n.Members = func(context.Context) (*MembersView, error) { return nil, errors.New("the register is closed") }
	if v, err := n.Node(t.Context()); err != nil || v.Size != entries || !strings.Contains(v.Gap, "the register is closed") {
		t.Errorf("with a gap: %+v, %v", v, err)
	}
	node.Close()
	if _, err := n.Node(t.Context()); err == nil {
		t.Error("a node that is gone has a status")
	}
}

func TestChart(t *testing.T) {
	if c := newChart([]DayView{{}, {}}); c != nil {
		t.Errorf("a chart of nothing: %+v", c)
	}
	c := newChart([]DayView{{Count: 1}, {Count: 1000}, {Count: 500}, {}})
	if c.Total != 1501 || c.Top != 1000 || c.Bars[0].Height != 2 || c.Bars[1].Height != chartHeight || c.Bars[2].Height != chartHeight/2 || c.Bars[3].Height != 0 {
		t.Errorf("%+v", c)
	}
}
