package ledger

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"

	"github.com/zhenglian/zhenglian/evidence"
)

// RootAt returns the root the log had at the given size, at most Size.
func (l *Log) RootAt(size uint64) (evidence.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st, err := l.readable(size)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("root at size %d: %w", size, err)
	}
	if size == st.size {
		return st.root, nil
	}
	at, err := l.stateAt(st, size)
	if err != nil {
		return evidence.Digest{}, fmt.Errorf("root at size %d: %w", size, err)
	}
	return at.root, nil
}

// Entry returns entry i, counted from 0.
func (l *Log) Entry(i uint64) (evidence.Digest, error) {
	entries, err := l.Entries(i, 1)
	if err != nil {
		return evidence.Digest{}, err
	}
	return entries[0], nil
}

// Entries returns the count entries from first on.
func (l *Log) Entries(first, count uint64) ([]evidence.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st := l.state.Load()
	if first > st.size || count > st.size-first {
		return nil, fmt.Errorf("reading %d entries from %d: the log has %d entries: %w", count, first, st.size, ErrRange)
	}
	buf, err := l.readEntries(first, count)
	if err != nil {
		return nil, fmt.Errorf("reading %d entries from %d: %w", count, first, err)
	}
	out := make([]evidence.Digest, 0, count)
	for entry := range slices.Chunk(buf, hashSize) {
		out = append(out, evidence.Digest(entry))
	}
	return out, nil
}

// InclusionProof returns the audit path of entry index in the tree of the given
// size, leaf to root (RFC 9162 §2.1.3.1), for index < size ≤ Size. In a tree of
// one entry it is empty, not nil.
func (l *Log) InclusionProof(index, size uint64) ([]evidence.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st, err := l.readable(size)
	if err == nil && index >= size {
		err = fmt.Errorf("entry %d is not among the first %d: %w", index, size, ErrRange)
	}
	if err != nil {
		return nil, fmt.Errorf("inclusion of entry %d at size %d: %w", index, size, err)
	}
	nodes, err := proof.Inclusion(index, size)
	if err == nil {
		var path []evidence.Digest
		if path, err = l.prove(st, nodes); err == nil {
			return path, nil
		}
	}
	return nil, fmt.Errorf("inclusion of entry %d at size %d: %w", index, size, err)
}

// ConsistencyProof returns the proof that the tree of size first is a prefix
// of the tree of size second (RFC 9162 §2.1.4.1), for first ≤ second ≤ Size. It
// is empty, not nil, when first is 0 or equals second.
func (l *Log) ConsistencyProof(first, second uint64) ([]evidence.Digest, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st, err := l.readable(second)
	if err == nil && first > second {
		err = fmt.Errorf("the first size is the larger: %w", ErrRange)
	}
	if err != nil {
		return nil, fmt.Errorf("consistency of sizes %d and %d: %w", first, second, err)
	}
	nodes, err := proof.Consistency(first, second)
	if err == nil {
		var path []evidence.Digest
		if path, err = l.prove(st, nodes); err == nil {
			return path, nil
		}
	}
	return nil, fmt.Errorf("consistency of sizes %d and %d: %w", first, second, err)
}

func (l *Log) prove(st *state, nodes proof.Nodes) ([]evidence.Digest, error) {
	hashes, err := l.nodes(st, nodes.IDs)
	if err != nil {
		return nil, err
	}
	h := newHasher(len(hashes))
	if hashes, err = nodes.Rehash(hashes, h.node); err != nil {
		return nil, err
	}
	path := make([]evidence.Digest, 0, len(hashes))
	for _, hash := range hashes {
		path = append(path, evidence.Digest(hash))
	}
	return path, nil
}

// readable returns the published state if it reaches size. The caller holds mu.
func (l *Log) readable(size uint64) (*state, error) {
	if l.closed {
		return nil, ErrClosed
	}
	st := l.state.Load()
	if size > st.size {
		return nil, fmt.Errorf("the log has %d entries: %w", st.size, ErrRange)
	}
	return st, nil
}

// stateAt computes the state the log had at size ≤ st.size from its files.
func (l *Log) stateAt(st *state, size uint64) (*state, error) {
	spine, err := l.nodes(st, compact.RangeNodes(0, size, nil))
	if err != nil {
		return nil, err
	}
	g, err := newGrower(size, spine, len(spine), nil)
	if err != nil {
		return nil, err
	}
	return g.state(st.levels)
}

func (l *Log) nodes(st *state, ids []compact.NodeID) ([][]byte, error) {
	hashes := make([][]byte, 0, len(ids))
	for _, id := range ids {
		hash, err := l.node(st, id)
		if err != nil {
			return nil, err
		}
		hashes = append(hashes, hash)
	}
	return hashes, nil
}

// node returns the root of a complete subtree of st. Nodes between two tile
// levels are computed with the whole tile below, which is kept for the next
// proof; a tile that is not full yet is computed again when the log has grown
// past what was kept.
func (l *Log) node(st *state, id compact.NodeID) ([]byte, error) {
	level, height := int(id.Level/8), id.Level%8
	tile := tileID{level, id.Index >> (8 - height)}
	if t := l.cache.get(tile); t != nil && t.has(height, id.Index) {
		return t.node(height, id.Index), nil
	}
	if height == 0 {
		hash := make([]byte, hashSize)
		return hash, l.readHashes(st, level, id.Index, hash)
	}
	first := tile.index * tileWidth
	t := &tileNodes{width: min(tileWidth, st.size>>(8*level)-first)}
	hashes := make([]byte, t.width*hashSize)
	if err := l.readHashes(st, level, first, hashes); err != nil {
		return nil, err
	}
	if _, err := subtree(hashes, t); err != nil {
		return nil, err
	}
	l.cache.put(tile, t)
	return t.node(height, id.Index), nil
}

// readHashes fills buf with the hashes of a tile level from index first on.
// Those of level 0 are hashed from entries.
func (l *Log) readHashes(st *state, level int, first uint64, buf []byte) error {
	if level > 0 {
		return readFull(st.levels[level-1], levelName(level), first, buf)
	}
	if err := readFull(l.entries, entriesName, first, buf); err != nil {
		return err
	}
	for entry := range slices.Chunk(buf, hashSize) {
		hash := leafHash(entry)
		copy(entry, hash[:])
	}
	return nil
}

func (l *Log) readEntries(first, count uint64) ([]byte, error) {
	if l.closed {
		return nil, ErrClosed
	}
	buf := make([]byte, count*hashSize)
	return buf, readFull(l.entries, entriesName, first, buf)
}

// readFull reads records of 32 bytes from record first on. A file that ends
// before is damaged, for only published records are asked for.
func readFull(f file, name string, first uint64, buf []byte) error {
	off := int64(first) * hashSize
	n, err := f.ReadAt(buf, off)
	if n == len(buf) {
		return nil
	}
	if errors.Is(err, io.EOF) {
		return &DamageError{File: name, Offset: off + int64(n), Length: int64(len(buf) - n), Reason: "the file ends there"}
	}
	return fmt.Errorf("reading %d bytes of %s at byte %d: %w", len(buf), name, off, err)
}

// tileID names a tile.
type tileID struct {
	level int
	index uint64
}

// tileNodes holds the nodes over the first width hashes of a tile, those of
// complete subtrees: 256 hashes, then 128, 64, … 1.
type tileNodes struct {
	width uint64
	nodes [(2*tileWidth - 1) * hashSize]byte
}

// node is the place of a node, height levels up from the tile's hashes; of its
// index only the part within the tile counts.
func (t *tileNodes) node(height uint, index uint64) []byte {
	start := 2*tileWidth - 2*tileWidth>>height
	at := (start + int(index&(tileWidth>>height-1))) * hashSize
	return t.nodes[at : at+hashSize : at+hashSize]
}

func (t *tileNodes) has(height uint, index uint64) bool {
	return (index&(tileWidth>>height-1)+1)<<height <= t.width
}

// cachedTiles bounds the cache: 256 tiles of 16 KiB are 4 MiB, the level 0
// tiles of the last 65,536 entries, whose receipts are the ones asked for.
const cachedTiles = 256

// tileCache keeps the nodes of tiles, first in, first out.
type tileCache struct {
	mu    sync.Mutex
	tiles map[tileID]*tileNodes
	order []tileID // ring
	next  int
}

func (c *tileCache) get(id tileID) *tileNodes {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tiles[id]
}

func (c *tileCache) put(id tileID, nodes *tileNodes) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tiles == nil {
		c.tiles = make(map[tileID]*tileNodes, cachedTiles)
	}
	if old := c.tiles[id]; old != nil {
		if nodes.width > old.width {
			c.tiles[id] = nodes
		}
		return
	}
	if len(c.order) < cachedTiles {
		c.order = append(c.order, id)
	} else {
		delete(c.tiles, c.order[c.next])
		c.order[c.next] = id
		c.next = (c.next + 1) % cachedTiles
	}
	c.tiles[id] = nodes
}

func (c *tileCache) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tiles, c.order, c.next = nil, nil, 0
}
