package chain

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"

	"github.com/zhenglian/zhenglian/evidence"
)

// The index finds things in the log. It is derived from blocks and batches:
// without it the node computes it again from them, block by block.
//
// Keys, by their first byte:
//
//	S                       → state: the last block applied (one record)
//	h height                → block: what it put into the log
//	s size                  → height, time and root of the block that ended there
//	b batch digest[:16]     → height that committed the batch
//	i statement ID[:16]     → position: makes deposits idempotent
//	e entry[:16]            → position: looks a digest up
//	t trail[:16] position   → a later statement of that trail
//	k kid[:16] height       → positions this key registered in that block
//	r position              → bytes of a registry statement
//	w height institution    → that institution's signatures over the root
//	W institution           → height and size of the newest of them
//	T size authority        → timestamp token over the checkpoint of that size
//	O position authority    → timestamp token over the statement there
//	U                       → how much of the file of tokens is in T and O
//	V institution           → how much of that peer's file of tokens was read
//
// It has no write-ahead log: a crash loses the newest blocks from it, and
// replaying them is how every start begins. One batch of writes a block keeps
// it always at the end of some block. Tokens alone cannot be computed again:
// they come back from their file.
//
// Trusted by this node alone: whoever alters it can make this node answer
// wrongly about positions, or propose what the others refuse; receipts come
// from the ledger and do not depend on it.
type index struct {
	db *pebble.DB
}

// prefixLen of a digest names it in the index. Making two digests that share 16
// bytes takes 2^64 hashes and harms only the one who made both.
const prefixLen = 16

func openIndex(dir string, log *slog.Logger, corrupt, fatal func(detail string)) (*index, error) {
	opts := &pebble.Options{
		DisableWAL:                  true,
		MemTableSize:                64 << 20,
		MemTableStopWritesThreshold: 4,
		L0CompactionThreshold:       4,
		FormatMajorVersion:          pebble.FormatNewest,
		Logger:                      pebbleLog{log, fatal},
		// The read that meets it returns the error; pebble would end the process.
		EventListener: &pebble.EventListener{
			DataCorruption:  func(i pebble.DataCorruptionInfo) { corrupt(i.String()) },
			BackgroundError: slowly(func(err error) { log.Error("index", "error", err) }),
		},
	}
	opts.Levels[0].FilterPolicy = bloom.FilterPolicy(10)
	for i := 1; i < len(opts.Levels); i++ {
		opts.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	opts.Levels[0].Compression = nil
	cache := pebble.NewCache(64 << 20)
	defer cache.Unref()
	opts.Cache = cache
	db, err := pebble.Open(dir, opts)
	if err != nil {
		if errors.Is(err, fs.ErrPermission) || isNoSpace(err) || errors.Is(err, syscall.EAGAIN) { // EAGAIN: another process holds it
			return nil, fmt.Errorf("opening the index in %s: %w", dir, err)
		}
		return nil, &DamagedError{"index", fmt.Sprintf("%v; move %s away and start again: it is computed anew from the blocks", err, dir)}
	}
	return &index{db}, nil
}

// slowly passes on one error a second and slows down whoever has them: pebble
// tries again at once when the disk is full, for as long as it is.
func slowly(say func(error)) func(error) {
	var mu sync.Mutex
	var last time.Time
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		time.Sleep(10 * time.Millisecond)
		if now := time.Now(); now.Sub(last) >= time.Second {
			last = now
			say(err)
		}
	}
}

type pebbleLog struct {
	log   *slog.Logger
	fatal func(string) // does not return
}

func (l pebbleLog) Infof(string, ...any) {}
func (l pebbleLog) Errorf(format string, args ...any) {
	l.log.Error("index", "error", fmt.Sprintf(format, args...))
}

// Fatalf is called by the store when it cannot go on, such as on a write error
// in the background; going on would risk answers that are not on disk.
func (l pebbleLog) Fatalf(format string, args ...any) {
	msg := fmt.Sprintf(format, args...)
	l.log.Error("index", "fatal", msg)
	l.fatal(msg)
	panic(&DamagedError{"index", msg}) // before there is a node that could end
}

func u64key(prefix byte, n uint64) []byte {
	return binary.BigEndian.AppendUint64([]byte{prefix}, n)
}

func digestKey(prefix byte, d evidence.Digest) []byte {
	return append([]byte{prefix}, d[:prefixLen]...)
}

// get returns a copy of the value, or nil when there is none.
func (x *index) get(key []byte) ([]byte, error) {
	v, closer, err := x.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, damaged("index", err)
	}
	out := append([]byte{}, v...)
	return out, closer.Close()
}

// position reads a key that holds one.
func (x *index) position(key []byte) (uint64, bool, error) {
	v, closer, err := x.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, damaged("index", err)
	}
	p, n := binary.Uvarint(v)
	if n <= 0 {
		err = &DamagedError{"index", fmt.Sprintf("key %x holds no position", key)}
	}
	return p, err == nil, errors.Join(err, closer.Close())
}

func damaged(store string, err error) error {
	if errors.Is(err, pebble.ErrCorruption) {
		return &DamagedError{store, err.Error()}
	}
	return fmt.Errorf("reading the %s: %w", store, err)
}

// scan visits the keys from lower to below upper in order until visit says stop.
func (x *index) scan(lower, upper []byte, visit func(key, value []byte) (bool, error)) (err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return damaged("index", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		v, verr := it.ValueAndErr()
		if verr != nil {
			return damaged("index", verr)
		}
		if more, err := visit(it.Key(), v); err != nil || !more {
			return err
		}
	}
	if err := it.Error(); err != nil {
		return damaged("index", err)
	}
	return nil
}

// last returns the largest key from lower to below upper, nil when there is none.
func (x *index) last(lower, upper []byte) (key []byte, err error) {
	it, err := x.db.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, damaged("index", err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	if it.Last() {
		key = append([]byte{}, it.Key()...)
	}
	if err := it.Error(); err != nil {
		return nil, damaged("index", err)
	}
	return key, nil
}

// state is where the node's log stands after a block.
type state struct {
	Height   int64
	Time     int64 // block time, milliseconds since 1970; 0 before the first
	Size     uint64
	Root     evidence.Digest
	Registry evidence.Digest
	Safe     location // every batch before it is committed at or below Height, or expired
}

func (s *state) encode() []byte {
	b := binary.BigEndian.AppendUint64(nil, uint64(s.Height))
	b = binary.BigEndian.AppendUint64(b, uint64(s.Time))
	b = binary.BigEndian.AppendUint64(b, s.Size)
	b = append(b, s.Root[:]...)
	b = append(b, s.Registry[:]...)
	return s.Safe.append(b)
}

func decodeState(b []byte) (*state, error) {
	if len(b) != 24+64+locationLen {
		return nil, &DamagedError{"index", "the state record has the wrong length"}
	}
	return &state{
		Height: int64(binary.BigEndian.Uint64(b)), Time: int64(binary.BigEndian.Uint64(b[8:])), Size: binary.BigEndian.Uint64(b[16:]),
		Root: evidence.Digest(b[24:]), Registry: evidence.Digest(b[56:]), Safe: readLocation(b[88:]),
	}, nil
}

// appHash is what the validators agree on after each block: SHA-256 over the
// log's size and root and the registry's running hash. A block that adds
// nothing leaves it as it was.
func (s *state) appHash() []byte {
	b := binary.BigEndian.AppendUint64(nil, s.Size)
	b = append(b, s.Root[:]...)
	b = append(b, s.Registry[:]...)
	h := evidence.SumSHA256(b)
	return h[:]
}

// block is what one block put into the log: its batches in order, and which of
// their statements were registered.
type block struct {
	First   uint64 // position of the first entry
	Time    int64
	Batches []blockBatch
}

type blockBatch struct {
	Digest evidence.Digest
	Loc    location
	Count  uint32
	// Refused lists the statements, by their place in the batch, that were not
	// registered; with their codes they answer the one who submitted them.
	Refused []refused
}

type refused struct {
	At   uint32
	Code evidence.Code
}

func (b *blockBatch) registered() uint64 { return uint64(b.Count) - uint64(len(b.Refused)) }

func (b *block) encode() []byte {
	out := binary.AppendUvarint(nil, b.First)
	out = binary.AppendUvarint(out, uint64(b.Time))
	out = binary.AppendUvarint(out, uint64(len(b.Batches)))
	for _, p := range b.Batches {
		out = append(out, p.Digest[:]...)
		out = p.Loc.append(out)
		out = binary.AppendUvarint(out, uint64(p.Count))
		out = binary.AppendUvarint(out, uint64(len(p.Refused)))
		for _, r := range p.Refused {
			out = binary.AppendUvarint(out, uint64(r.At))
			out = binary.AppendUvarint(out, uint64(r.Code))
		}
	}
	return out
}

func decodeBlock(data []byte) (*block, error) {
	r := &varReader{b: data}
	b := &block{First: r.uvarint(), Time: int64(r.uvarint())}
	for n := r.uvarint(); n > 0 && r.err == nil; n-- {
		p := blockBatch{Digest: evidence.Digest(r.take(32)), Loc: readLocation(r.take(locationLen)), Count: uint32(r.uvarint())}
		for m := r.uvarint(); m > 0 && r.err == nil; m-- {
			p.Refused = append(p.Refused, refused{At: uint32(r.uvarint()), Code: evidence.Code(r.uvarint())})
		}
		b.Batches = append(b.Batches, p)
	}
	if r.err != nil || len(r.b) != 0 {
		return nil, &DamagedError{"index", "a block record cannot be read"}
	}
	return b, nil
}

// varReader reads a record; after the first error it returns zeros.
type varReader struct {
	b   []byte
	err error
}

func (r *varReader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.err, r.b = io.ErrUnexpectedEOF, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *varReader) take(n int) []byte {
	if len(r.b) < n {
		r.err, r.b = io.ErrUnexpectedEOF, nil
		return make([]byte, n)
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

// boundary is the end of a block in the log.
type boundary struct {
	Height int64
	Time   int64
	evidence.Checkpoint
}

func (b boundary) encode() []byte {
	out := binary.BigEndian.AppendUint64(nil, uint64(b.Height))
	out = binary.BigEndian.AppendUint64(out, uint64(b.Time))
	return append(out, b.Root[:]...)
}

func decodeBoundary(size uint64, v []byte) (boundary, error) {
	if len(v) != 48 {
		return boundary{}, &DamagedError{"index", "a boundary record has the wrong length"}
	}
	return boundary{int64(binary.BigEndian.Uint64(v)), int64(binary.BigEndian.Uint64(v[8:])), evidence.Checkpoint{Size: size, Root: evidence.Digest(v[16:])}}, nil
}

// boundaryAt returns the block that ended exactly at size.
func (x *index) boundaryAt(size uint64) (boundary, bool, error) {
	v, err := x.get(u64key('s', size))
	if err != nil || v == nil {
		return boundary{}, false, err
	}
	b, err := decodeBoundary(size, v)
	return b, err == nil, err
}

// boundariesFrom visits the blocks that ended at size or later, in order.
func (x *index) boundariesFrom(size uint64, visit func(boundary) (bool, error)) error {
	return x.scan(u64key('s', size), []byte{'s' + 1}, func(k, v []byte) (bool, error) {
		b, err := decodeBoundary(binary.BigEndian.Uint64(k[1:]), v)
		if err != nil {
			return false, err
		}
		return visit(b)
	})
}
