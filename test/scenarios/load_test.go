package scenarios

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/local"
)

// promises is what the nodes have said of deposits.
type promises struct {
	mu    sync.Mutex
	at    map[evidence.Digest]uint64
	taken map[evidence.Digest]bool // accepted: durable on one node, not final yet
}

func newPromises() *promises {
	return &promises{at: map[evidence.Digest]uint64{}, taken: map[evidence.Digest]bool{}}
}

// final notes an acknowledgement; one that differs from an earlier one is the
// error.
func (p *promises) final(a Ack) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if old, ok := p.at[a.Entry]; ok && old != a.Position {
		return fmt.Errorf("deposit %s was acknowledged at position %d and then at %d", a.Entry, old, a.Position)
	}
	p.at[a.Entry] = a.Position
	return nil
}

func (p *promises) accepted(d evidence.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken[d] = true
}

func (p *promises) list() (acks []Ack, accepted []evidence.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for d, at := range p.at {
		acks = append(acks, Ack{d, at})
	}
	for d := range p.taken {
		accepted = append(accepted, d)
	}
	return acks, accepted
}

// load is depositors at work, one an institution. Each sends small batches, one
// after the other, and when its institution fails sends the same batch again
// until it is taken: a deposit is idempotent.
type load struct {
	w     *world
	stop  func()
	work  sync.WaitGroup
	final map[string]*atomic.Int64 // by institution
	mu    sync.Mutex
	err   error
}

const (
	loadBatch = 10
	// loadPause keeps the load far below what two processors can do, so that a
	// scenario tells faults from overload: 400 deposits a second and institution.
	loadPause = 25 * time.Millisecond
	// loadMax ends a load that nobody stops.
	loadMax = 20_000
)

// startLoad makes every third batch not wait for finality: what was merely
// accepted may not be lost either.
func (w *world) startLoad(nodes ...*local.Node) *load {
	if len(nodes) == 0 {
		nodes = w.a.Nodes
	}
	stopped := make(chan struct{})
	l := &load{w: w, stop: sync.OnceFunc(func() { close(stopped) }), final: map[string]*atomic.Int64{}}
	after := w.checkpoint()
	for i, n := range nodes {
		l.final[n.ID] = new(atomic.Int64)
		m := w.members[i%len(w.members)]
		l.work.Go(func() { l.run(stopped, n, m, after) })
	}
	w.Cleanup(l.end)
	return l
}

func (l *load) run(stopped <-chan struct{}, n *local.Node, m *member, after evidence.Checkpoint) {
	tick := time.NewTicker(loadPause)
	defer tick.Stop()
	for sent := 0; sent < loadMax; sent += loadBatch {
		statements := make([][]byte, loadBatch)
		for i := range statements {
			st, err := m.opening(after)
			if err != nil {
				l.fail(err)
				return
			}
			statements[i] = st.Bytes()
		}
		wait := "final"
		if sent/loadBatch%3 == 2 {
			wait = "none"
		}
		for {
			lines, err := l.w.batch(l.w.ctx, n, wait, statements)
			for _, x := range lines {
				if x.Status/100 == 5 && err == nil {
					err = fmt.Errorf("%s: %s", n.ID, x.Code)
				}
				if x.Status/100 == 4 && x.Status != 429 {
					l.fail(fmt.Errorf("%s refuses a good deposit: %+v", n.ID, x))
					return
				}
				if x.Final {
					l.final[n.ID].Add(1)
				}
			}
			select {
			case <-stopped:
				return
			case <-l.w.ctx.Done():
				return
			case <-tick.C:
			}
			if err == nil {
				break
			}
		}
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
	}
}

// goesOn waits until these institutions (all that have load, when none is
// named) have each called n more deposits final.
func (l *load) goesOn(n int64, ids ...string) {
	l.w.Helper()
	if len(ids) == 0 {
		for id := range l.final {
			ids = append(ids, id)
		}
	}
	from := map[string]int64{}
	for _, id := range ids {
		from[id] = l.final[id].Load()
	}
	l.w.eventually(fmt.Sprintf("%d more deposits at each of %v", n, ids), func() error {
		for _, id := range ids {
			if got := l.final[id].Load() - from[id]; got < n {
				return fmt.Errorf("%d at %s", got, id)
			}
		}
		return nil
	})
}

// end stops the load and waits for it; a failure of the load is the test's.
func (l *load) end() {
	l.stop()
	l.work.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil {
		l.w.Error(l.err)
		l.err = nil
	}
}
