package sigbatch

import (
	"sync"

	"github.com/oasisprotocol/curve25519-voi/curve"
)

// keyCache maps encodings of public keys to decoded points, at most capacity
// of them, and evicts by the clock algorithm. Only encodings that decode are
// kept: a flood of malformed keys displaces nothing. A key enters unmarked and
// is marked when asked for again, so a flood of well-formed keys that are used
// once displaces its own kind before keys in regular use.
//
// The points are shared and never written after they enter.
type keyCache struct {
	capacity int

	mu    sync.Mutex
	index map[[KeySize]byte]int32 // into slots
	slots []keySlot               // grows to capacity, then stays
	hand  int                     // the next slot to consider for eviction
}

type keySlot struct {
	key   [KeySize]byte
	point *curve.EdwardsPoint
	used  bool // asked for since the hand last passed
}

func newKeyCache(capacity int) *keyCache {
	return &keyCache{capacity: max(0, capacity), index: make(map[[KeySize]byte]int32)}
}

// lookup fills in the point of each key that is kept and leaves the others nil.
// It takes the lock once for a whole slice.
func (c *keyCache) lookup(keys []sliceKey) {
	if c.capacity == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range keys {
		if at, ok := c.index[keys[i].key]; ok {
			keys[i].point = c.slots[at].point
			keys[i].cached = true
			c.slots[at].used = true
		}
	}
}

// insert keeps the keys that were decoded since lookup.
func (c *keyCache) insert(keys []sliceKey) {
	if c.capacity == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range keys {
		k := &keys[i]
		if k.cached || k.point == nil {
			continue
		}
		// Another goroutine may have decoded the same key meanwhile.
		if _, ok := c.index[k.key]; ok {
			continue
		}
		at := len(c.slots)
		if at < c.capacity {
			c.slots = append(c.slots, keySlot{})
		} else {
			at = c.evict()
		}
		c.slots[at] = keySlot{key: k.key, point: k.point}
		c.index[k.key] = int32(at)
	}
}

// evict frees one slot and returns its number. It passes each slot at most
// twice: the first pass clears the marks.
func (c *keyCache) evict() int {
	for c.slots[c.hand].used {
		c.slots[c.hand].used = false
		c.hand = (c.hand + 1) % len(c.slots)
	}
	at := c.hand
	c.hand = (c.hand + 1) % len(c.slots)
	delete(c.index, c.slots[at].key)
	return at
}

// len returns the number of keys kept.
func (c *keyCache) len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.index)
}
