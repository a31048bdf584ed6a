package api

import (
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// pendingFor is how long a registration in progress is remembered: a block
// takes a fraction of a second, an alliance without a quorum may take minutes.
const pendingFor = 10 * time.Minute

// maxPending bounds the memory: 65,536 entries of about 100 bytes.
const maxPending = 1 << 16

// pendingSet remembers the digests that were accepted and are not final, so
// that a status query can tell "on its way" from "never seen". Not trusted and
// not kept: whoever loses it (a restart) makes clients send the same statement
// again, which is idempotent.
type pendingSet struct {
	now  func() time.Time
	mu   sync.Mutex
	at   map[evidence.Digest]time.Time
	ring []evidence.Digest // oldest first
}

func newPendingSet(now func() time.Time) *pendingSet {
	return &pendingSet{now: now, at: map[evidence.Digest]time.Time{}}
}

func (p *pendingSet) add(d evidence.Digest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.at[d]; ok {
		return
	}
	for len(p.ring) > 0 && (len(p.ring) >= maxPending || p.now().Sub(p.at[p.ring[0]]) > pendingFor) {
		delete(p.at, p.ring[0])
		p.ring = p.ring[1:]
	}
	p.at[d] = p.now()
	p.ring = append(p.ring, d)
}

func (p *pendingSet) has(d evidence.Digest) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	t, ok := p.at[d]
	return ok && p.now().Sub(t) <= pendingFor
}
