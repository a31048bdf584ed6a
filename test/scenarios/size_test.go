package scenarios

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/zhenglian/zhenglian/evidence"
)

// Alliances of other sizes work; one of seven goes on without two.
func TestSizes(t *testing.T) {
	for _, ids := range [][]string{
		{"ca"},
		{"ca", "court"},
		{"ca", "court", "forensic", "notary", "other-1", "other-2", "other-3"},
	} {
		t.Run(strconv.Itoa(len(ids)), func(t *testing.T) {
			if testing.Short() && len(ids) > 2 {
				t.Skip("seven processes")
			}
			w := newWorld(t, worldConfig{ids: ids})
			l := w.startLoad(w.node("ca"))
			l.goesOn(50)
			if faulty := len(ids) - evidence.Quorum(len(ids)); faulty > 0 {
				for _, id := range ids[len(ids)-faulty:] {
					w.node(id).Kill()
				}
				l.goesOn(50)
				for _, id := range ids[len(ids)-faulty:] {
					w.must(w.node(id).Start(w.ctx))
				}
			} else { // none may be missing: nothing is lost when one is
				last := w.node(ids[len(ids)-1])
				last.Kill()
				w.must(last.Start(w.ctx))
				w.must(last.WaitReady(w.ctx))
				l.goesOn(50)
			}
			l.end()
			w.check()
		})
	}
}

// A node that is given more than it may hold says so and when to come back; its
// memory stays bounded, and nothing acknowledged is lost.
func TestOverload(t *testing.T) {
	long(t)
	const pending = 2000 // statements
	w := newWorld(t, worldConfig{env: []string{fmt.Sprintf("ZHENGLIAN_NODE_LIMITS_PENDING_STATEMENTS=%d", pending)}})
	after := w.checkpoint()
	court := w.node("court")
	w.deposit(court, w.open(w.members[0]))
	before := memory(w, court.PID())
	// Two of four are gone: no block is made, so what is taken must be held.
	w.node("forensic").Kill()
	w.node("notary").Kill()
	var mu sync.Mutex
	busy := map[string]int{}
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			for range 3 * pending / 4 {
				st, err := w.members[0].opening(after)
				if err != nil {
					t.Error(err)
					return
				}
				a := w.send(http.MethodPost, court.API+"/api/v1/statements?wait=none", typeCOSE, st.Bytes())
				mu.Lock()
				switch {
				case a.status == http.StatusAccepted:
					w.done.accepted(st.Digest())
				case a.status == http.StatusTooManyRequests:
					if a.header.Get("Retry-After") == "" || a.Retry == 0 {
						t.Errorf("429 without a time to come back: %v", a)
					}
				default:
					t.Errorf("an overloaded node answers %v", a)
				}
				busy[strconv.Itoa(a.status)+" "+a.Code]++
				mu.Unlock()
			}
		})
	}
	work.Wait()
	t.Logf("answers: %v", busy)
	if busy["429 overloaded"] == 0 {
		t.Error("it never said that it is full")
	}
	if grown := memory(w, court.PID()) - before; grown > 200<<20 {
		t.Errorf("its memory grew by %d MiB for %d statements of 300 bytes", grown>>20, pending)
	}
	w.must(w.node("forensic").Start(w.ctx))
	w.must(w.node("notary").Start(w.ctx))
	w.eventually("the court to take deposits again", func() error {
		if a := w.try(court, w.open(w.members[0])); !a.Final {
			return fmt.Errorf("it answers %v", a)
		}
		return nil
	})
	w.check()
}

// memory is what a process holds now, in bytes.
func memory(w *world, pid int) int64 {
	w.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	w.must(err)
	for l := range strings.Lines(string(data)) {
		if v, ok := strings.CutPrefix(l, "VmRSS:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(v)[0], 10, 64)
			w.must(err)
			return kib << 10
		}
	}
	w.Fatal("no VmRSS")
	return 0
}
