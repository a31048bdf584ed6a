package httpsig

import (
	"container/heap"
	"crypto/sha256"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// nonceCache remembers what was used until it is stale anyway. Not trusted with
// more than that: whoever empties it (a restart) is stopped by the rule on
// signatures older than the verifier.
type nonceCache struct {
	mu     sync.Mutex
	max    int
	perKey int
	seen   map[[32]byte]struct{}
	keys   map[evidence.Digest]int
	expiry expiryQueue
}

type nonceEntry struct {
	id    [32]byte
	kid   evidence.Digest
	until time.Time
}

func newNonceCache(limit, perKey int) *nonceCache {
	return &nonceCache{max: limit, perKey: perKey, seen: map[[32]byte]struct{}{}, keys: map[evidence.Digest]int{}}
}

// use records the nonce of a key, or refuses. until is when the signature is
// stale by its own `created`.
func (c *nonceCache) use(kid evidence.Digest, nonce string, now, until time.Time) error {
	id := sha256.Sum256(append(kid[:len(kid):len(kid)], nonce...))
	c.mu.Lock()
	defer c.mu.Unlock()
	c.forget(now)
	if _, ok := c.seen[id]; ok {
		return refuse(CodeReplayed, "nonce", "this signature was used before: make a new one for each request")
	}
	if c.keys[kid] >= c.perKey {
		return refuse(CodeTooMany, "keyid", "this key made more signed requests in the last minutes than the server remembers")
	}
	if len(c.seen) >= c.max {
		return refuse(CodeTooMany, "nonce", "the server cannot remember more signed requests now")
	}
	c.seen[id] = struct{}{}
	c.keys[kid]++
	heap.Push(&c.expiry, nonceEntry{id, kid, until})
	return nil
}

func (c *nonceCache) forget(now time.Time) {
	for len(c.expiry) > 0 && c.expiry[0].until.Before(now) {
		e := heap.Pop(&c.expiry).(nonceEntry)
		delete(c.seen, e.id)
		if c.keys[e.kid]--; c.keys[e.kid] == 0 {
			delete(c.keys, e.kid)
		}
	}
}

// expiryQueue is a heap by until: clients' clocks differ, so the order of
// arrival is not the order of expiry.
type expiryQueue []nonceEntry

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].until.Before(q[j].until) }
func (q expiryQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *expiryQueue) Push(x any)        { *q = append(*q, x.(nonceEntry)) }
func (q *expiryQueue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}
