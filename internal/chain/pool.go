package chain

import (
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// pool holds the batches that are durable and verified here and wait to be
// committed. It is bounded by bytes: the intake refuses above ownLimit, peers
// are refused above the same limit each.
type pool struct {
	mu       sync.Mutex
	pending  map[evidence.Digest]*pending
	bytes    map[string]int64 // by the institution that brought them
	limit    int64
	inflight map[*location]struct{} // ends of the store when a write began
}

// pending is a batch on its way into the log.
type pending struct {
	*batch
	from    string // institution that pushed it; this one's own id for own batches
	since   time.Time
	acks    chan string   // institutions that hold it, of those it was pushed to
	done    chan struct{} // closed when results are set
	results []result
}

func (n *Node) newPending(b *batch, from string) *pending {
	return &pending{batch: b, from: from, since: n.now(), acks: make(chan string, 2*len(n.cfg.Peers)), done: make(chan struct{})}
}

func newPool(limit int64) *pool {
	return &pool{pending: map[evidence.Digest]*pending{}, bytes: map[string]int64{}, limit: limit, inflight: map[*location]struct{}{}}
}

// reserve counts bytes against an institution before its batch is verified and
// written, and remembers where the store ended, so that safe never moves past
// a write that has begun. What a block needs is fetched in nobody's name ("")
// and never refused: a decided block cannot wait for itself. The returned function ends the reservation: with a
// pending batch it takes its place in the pool, with nil it is gone.
func (p *pool) reserve(from string, n int, end location) (finish func(*pending) *pending, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if from != "" && p.bytes[from]+int64(n) > p.limit {
		return nil, false
	}
	p.bytes[from] += int64(n)
	mark := &end
	p.inflight[mark] = struct{}{}
	return func(b *pending) *pending {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.inflight, mark)
		if b != nil {
			if old, twice := p.pending[b.digest]; twice {
				p.bytes[from] -= int64(n)
				return old
			}
			p.pending[b.digest] = b
			return b
		}
		p.bytes[from] -= int64(n)
		return nil
	}, true
}

func (p *pool) get(d evidence.Digest) *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pending[d]
}

// bytesOf returns how much an institution has waiting here.
func (p *pool) bytesOf(from string) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes[from]
}

// remove takes a batch out; its bytes are free again.
func (p *pool) remove(d evidence.Digest) *pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.pending[d]
	if b != nil {
		delete(p.pending, d)
		p.bytes[b.from] -= int64(len(b.raw))
	}
	return b
}

// safe returns the place in the batch store before which every batch is
// committed or given up, leaving aside those about to be committed.
func (p *pool) safe(end location, except []*batch) location {
	p.mu.Lock()
	defer p.mu.Unlock()
	skip := make(map[evidence.Digest]bool, len(except))
	for _, b := range except {
		skip[b.digest] = true
	}
	for mark := range p.inflight {
		if mark.before(end) {
			end = *mark
		}
	}
	for d, b := range p.pending {
		if !skip[d] && b.loc.before(end) {
			end = b.loc
		}
	}
	return end
}

// before returns the batches that came before t.
func (p *pool) before(t time.Time) []*pending {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []*pending
	for _, b := range p.pending {
		if b.since.Before(t) {
			out = append(out, b)
		}
	}
	return out
}

// statements returns how many wait.
func (p *pool) statements() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.pending {
		n += len(b.items)
	}
	return n
}
