package chain

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/ledger"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// maxClockAhead is how far a signer's clock may be ahead of block time.
const maxClockAhead = 10 * 60 * 1000 // milliseconds; design.md, "Statement, trail and time"

// machine is the deterministic state machine: apply computes what a block does
// to the log, commit makes it so. One goroutine (CometBFT's) calls them; the
// rest of the node reads the published state.
type machine struct {
	log    *slog.Logger
	idx    *index
	ledger *ledger.Log
	reg    *registry.Registry
	filter idFilter

	cur atomic.Pointer[state] // the last block committed

	mu     sync.RWMutex
	recent map[uint64]evidence.Digest // roots of the newest boundaries
	order  []uint64                   // their sizes, oldest first
}

// recentBoundaries kept in memory answer nearly every `after`: at twenty blocks
// a second these are seven minutes.
const recentBoundaries = 8192

// applied is what apply computed and commit makes so.
type applied struct {
	next    state
	block   *block
	entries []evidence.Digest
	ids     [][prefixLen]byte // of the statements registered, for the filter
	writes  *pebble.Batch
	batches []*batch
	results [][]result // a batch's, a statement's
}

// result of one statement of a committed batch.
type result struct {
	code     evidence.Code
	field    string
	reason   string
	position uint64 // CodeOK, CodeRegistered
}

// hasRoot reports whether the log ever ended a block with this size and root.
func (m *machine) hasRoot(c evidence.Checkpoint) (bool, error) {
	if c.Size == 0 {
		return c.Root == emptyRoot, nil
	}
	m.mu.RLock()
	root, ok := m.recent[c.Size]
	m.mu.RUnlock()
	if ok {
		return root == c.Root, nil
	}
	if c.Size > m.cur.Load().Size {
		return false, nil
	}
	b, ok, err := m.idx.boundaryAt(c.Size)
	return ok && b.Root == c.Root, err
}

var emptyRoot = evidence.SumSHA256(nil)

// known returns the position of a statement that is in the log already.
func (m *machine) known(id evidence.Digest) (uint64, bool, error) {
	if !m.filter.mayHave(id) {
		return 0, false, nil
	}
	return m.idx.position(digestKey('i', id))
}

// judge says what the rules make of a statement at this point of the log, in
// this order: what can be read, whose it is, the signature, whether it is there
// already (in the log or, here, earlier in the block), then whether it may be.
func (m *machine) judge(it *item, blockTime int64, here map[evidence.Digest]uint64) (result, error) {
	if it.st == nil {
		return refusal(it.refuse), nil
	}
	key, no := m.reg.Holder(it.st)
	if no != nil {
		return refusal(no), nil
	}
	if it.sig == sigUnknown { // its key was enrolled after the batch came
		it.sig = sigBad
		if key.Public.Verify(it.st.ToBeSigned(), it.st.Signature) == nil {
			it.sig = sigGood
		}
	}
	if it.sig != sigGood {
		return result{code: evidence.CodeBadSignature, field: "signature", reason: "it is not this key's signature over this content"}, nil
	}
	if p, ok := here[it.id]; ok {
		return result{code: evidence.CodeRegistered, position: p}, nil
	}
	if p, ok, err := m.known(it.id); err != nil || ok {
		return result{code: evidence.CodeRegistered, position: p}, err
	}
	if no := m.reg.Check(it.st, blockTime); no != nil {
		return refusal(no), nil
	}
	if ahead := it.st.IssuedAt*1000 - blockTime; ahead > maxClockAhead {
		return result{code: evidence.CodeClockAhead, field: "protected.claims.iat", reason: fmt.Sprintf("the signer's clock is %d seconds ahead of the chain's; at most %d are allowed: set the clock", ahead/1000, maxClockAhead/1000)}, nil
	}
	if !it.st.Registry() {
		ok, err := m.hasRoot(it.st.After)
		if err != nil {
			return result{}, err
		}
		if !ok {
			return result{code: evidence.CodeUnknownCheckpoint, field: "protected.after", reason: fmt.Sprintf("this log never had size %d with that root: take a checkpoint from this alliance", it.st.After.Size)}, nil
		}
	}
	return result{code: evidence.CodeOK}, nil
}

func refusal(r *registry.Refusal) result {
	return result{code: r.Code, field: r.Field, reason: r.Reason}
}

// apply computes the block. Only the registry changes already, because each
// statement is judged by what those before it did; a crash before commit loses
// it and the block is applied again. When the disk has no room for the entries
// it asks noRoom, which waits, and tries again: a decided block is not refused.
func (m *machine) apply(height, blockTime int64, batches []*batch, safe location, noRoom func(error) error) (*applied, error) {
	cur := m.cur.Load()
	a := &applied{next: *cur, batches: batches, results: make([][]result, len(batches)), writes: m.idx.db.NewBatch()}
	a.next.Height = height
	if len(batches) > 0 {
		a.next.Time = blockTime
		a.block = &block{First: cur.Size, Time: blockTime}
	}
	here := map[evidence.Digest]uint64{} // IDs registered earlier in this block
	keys := map[evidence.Digest][]byte{}
	var found finds
	for bi, b := range batches {
		bb := blockBatch{Digest: b.digest, Loc: b.loc, Count: uint32(len(b.items))}
		a.results[bi] = make([]result, len(b.items))
		for i := range b.items {
			it := &b.items[i]
			r, err := m.judge(it, blockTime, here)
			if err != nil {
				return nil, fmt.Errorf("statement %d of batch %s: %w", i, b.digest, err)
			}
			if r.code != evidence.CodeOK {
				bb.Refused = append(bb.Refused, refused{uint32(i), r.code})
				a.results[bi][i] = r
				continue
			}
			r.position = cur.Size + uint64(len(a.entries))
			a.results[bi][i] = r
			here[it.id] = r.position
			a.entries = append(a.entries, it.entry)
			found = append(found, newFind('i', it.id, r.position), newFind('e', it.entry, r.position))
			keys[it.st.KID] = binary.AppendUvarint(keys[it.st.KID], r.position)
			if trail, ok := laterInTrail(it.st); ok {
				_ = a.writes.Set(binary.BigEndian.AppendUint64(digestKey('t', trail), r.position), nil, nil)
			}
			if it.st.Registry() {
				if err := m.reg.Apply(it.st, r.position); err != nil {
					return nil, err
				}
				_ = a.writes.Set(u64key('r', r.position), it.st.Bytes(), nil)
			}
		}
		_ = a.writes.Set(digestKey('b', b.digest), binary.BigEndian.AppendUint64(nil, uint64(height)), nil)
		a.block.Batches = append(a.block.Batches, bb)
	}
	found.write(a.writes)
	a.ids = make([][prefixLen]byte, 0, len(here))
	for id := range here {
		a.ids = append(a.ids, [prefixLen]byte(id[:]))
	}
	for _, kid := range slices.SortedFunc(maps.Keys(keys), func(a, b evidence.Digest) int { return bytes.Compare(a[:], b[:]) }) {
		_ = a.writes.Set(binary.BigEndian.AppendUint64(digestKey('k', kid), uint64(height)), keys[kid], nil)
	}
	a.next.Registry = m.reg.Hash()
	a.next.Safe = safe
	if len(a.entries) > 0 {
		for {
			var err error
			if a.next.Size, a.next.Root, err = m.ledger.Append(a.entries); err == nil {
				break
			}
			err = fmt.Errorf("appending to the log: %w", err)
			if !isNoSpace(err) {
				return nil, err
			}
			if err := noRoom(err); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

// find is an index entry from a digest to a position. A block's finds are
// written in order: the store takes sorted keys at a third of the cost.
type find struct {
	hi, lo   uint64 // the digest's first 16 bytes, big-endian
	position uint64
	prefix   byte
}

type finds []find

func newFind(prefix byte, d evidence.Digest, position uint64) find {
	return find{binary.BigEndian.Uint64(d[:]), binary.BigEndian.Uint64(d[8:]), position, prefix}
}

func (f finds) write(w *pebble.Batch) {
	slices.SortFunc(f, func(a, b find) int {
		return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.hi, b.hi), cmp.Compare(a.lo, b.lo))
	})
	var value [binary.MaxVarintLen64]byte
	for i := range f {
		v := value[:binary.PutUvarint(value[:], f[i].position)]
		op := w.SetDeferred(1+prefixLen, len(v))
		op.Key[0] = f[i].prefix
		binary.BigEndian.PutUint64(op.Key[1:], f[i].hi)
		binary.BigEndian.PutUint64(op.Key[9:], f[i].lo)
		copy(op.Value, v)
		_ = op.Finish() // errors only when the batch is closed already
	}
}

func laterInTrail(s *evidence.Statement) (evidence.Digest, bool) {
	if s.Subject == evidence.SubjectNewTrail || s.Registry() {
		return evidence.Digest{}, false
	}
	return s.Trail()
}

// commit makes an applied block the current state.
func (m *machine) commit(a *applied) error {
	if a.block != nil {
		_ = a.writes.Set(u64key('h', uint64(a.next.Height)), a.block.encode(), nil)
	}
	grown := len(a.entries) > 0
	if grown {
		b := boundary{a.next.Height, a.next.Time, evidence.Checkpoint{Size: a.next.Size, Root: a.next.Root}}
		_ = a.writes.Set(u64key('s', a.next.Size), b.encode(), nil)
	}
	_ = a.writes.Set([]byte{'S'}, a.next.encode(), nil)
	m.filter.add(a.ids)
	if err := m.idx.db.Apply(a.writes, pebble.NoSync); err != nil {
		return fmt.Errorf("writing the index: %w", err)
	}
	if err := a.writes.Close(); err != nil {
		return err
	}
	if grown {
		m.remember(a.next.Size, a.next.Root)
	}
	m.cur.Store(&a.next)
	return nil
}

func (m *machine) remember(size uint64, root evidence.Digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recent[size] = root
	m.order = append(m.order, size)
	if len(m.order) > recentBoundaries {
		delete(m.recent, m.order[0])
		m.order = m.order[1:]
	}
}

// load brings ledger and registry to the state the index knows, rebuilding from
// the batches what the ledger lost or has wrong.
func (m *machine) load(ctx context.Context, fetch func(context.Context, blockBatch) (*batch, error)) error {
	v, err := m.idx.get([]byte{'S'})
	if err != nil {
		return err
	}
	cur := &state{Root: emptyRoot, Registry: m.reg.Hash()}
	if v != nil {
		if cur, err = decodeState(v); err != nil {
			return err
		}
	}
	err = m.idx.scan([]byte{'r'}, []byte{'r' + 1}, func(k, v []byte) (bool, error) {
		st, err := evidence.ParseStatement(slices.Clone(v))
		if err != nil {
			return false, &DamagedError{"index", fmt.Sprintf("a registry statement cannot be read: %v", err)}
		}
		return true, m.reg.Apply(st, binary.BigEndian.Uint64(k[1:]))
	})
	if err != nil {
		return err
	}
	if m.reg.Hash() != cur.Registry {
		return &DamagedError{"index", "the registry statements do not lead to the registry's hash; move data/index away and start again: it is computed anew from the blocks"}
	}
	if err := m.mendLedger(ctx, cur, fetch); err != nil {
		return err
	}
	m.cur.Store(cur)
	return nil
}

// mendLedger compares the ledger with the root the chain agreed on. What is too
// long is cut off (the blocks come again), what is missing or wrong comes from
// the batches.
func (m *machine) mendLedger(ctx context.Context, cur *state, fetch func(context.Context, blockBatch) (*batch, error)) error {
	if m.ledger.Size() >= cur.Size {
		if root, err := m.ledger.RootAt(cur.Size); err == nil && root == cur.Root {
			return m.ledger.Truncate(cur.Size)
		}
	}
	from := min(m.ledger.Synced(), cur.Size)
	m.log.Warn("rebuilding the end of the log from the batches", "from", from, "to", cur.Size)
	if err := m.ledger.Truncate(from); err != nil {
		return fmt.Errorf("truncating the log to %d: %w", from, err)
	}
	var heights []int64
	if err := m.idx.boundariesFrom(from+1, func(b boundary) (bool, error) {
		heights = append(heights, b.Height)
		return true, nil
	}); err != nil {
		return err
	}
	for _, h := range heights {
		entries, first, err := m.blockEntries(ctx, h, fetch)
		if err != nil {
			return err
		}
		if _, _, err := m.ledger.Append(entries[m.ledger.Size()-first:]); err != nil {
			return fmt.Errorf("rebuilding the log: %w", err)
		}
	}
	root, err := m.ledger.RootAt(cur.Size)
	if err != nil || root != cur.Root {
		return &DamagedError{"ledger", fmt.Sprintf("its root at size %d is not the one the chain agreed on (%v); move data/ledger and data/index away and start again", cur.Size, errors.Join(err))}
	}
	return nil
}

// blockEntries returns the entries a block added, from its batches.
func (m *machine) blockEntries(ctx context.Context, height int64, fetch func(context.Context, blockBatch) (*batch, error)) ([]evidence.Digest, uint64, error) {
	v, err := m.idx.get(u64key('h', uint64(height)))
	if err != nil {
		return nil, 0, err
	}
	blk, err := decodeBlock(v)
	if err != nil {
		return nil, 0, err
	}
	var entries []evidence.Digest
	for _, bb := range blk.Batches {
		b, err := fetch(ctx, bb)
		if err != nil {
			return nil, 0, err
		}
		skip := bb.Refused
		for i := range b.items {
			if len(skip) > 0 && int(skip[0].At) == i {
				skip = skip[1:]
				continue
			}
			entries = append(entries, b.items[i].st.Digest())
		}
	}
	return entries, blk.First, nil
}
