// Package ledger keeps one institution's copy of the alliance's log: the
// append-only Merkle tree of RFC 6962 §2.1 and RFC 9162 §2.1 with SHA-256,
// on disk, read as C2SP tlog-tiles.
//
//	committed batch ─► Append ─► entries, hashes.1, hashes.2 … ─► new size and root published
//	                   Sync   ─► entries on disk, then the mark in "synced" moves up
//	power cut       ─► Open   ─► torn rest cut off, hashes past the mark computed anew
//	restart         ─► Truncate to the size the chain knows, Append the rest from the batches
//	receipts, tiles ◄─ InclusionProof, ConsistencyProof, RootAt, Tile, EntryBundle
//
// # The bytes
//
// An entry is 32 bytes, the SHA-256 digest of a registered statement. A leaf
// is SHA-256(0x00 || entry), a node SHA-256(0x01 || left || right), and the
// root of the empty log is SHA-256 of nothing. The directory holds:
//
//	entries    32 bytes an entry; entry i at byte 32·i
//	hashes.L   L = 1 … 7: the root of every complete subtree of 256^L entries, 32
//	           bytes each, the k-th at byte 32·k: tile level L of tlog-tiles
//	synced     two slots, at bytes 0 and 512, written in turn; the valid slot with
//	           the highest sequence holds. A slot is four big-endian fields, sequence
//	           (8 bytes), size (8), derived (8), root (32), and the SHA-256 of these
//	           56 bytes: "the first size entries are on disk and have this root; of
//	           the hashes, those over the first derived entries are on disk"
//
// Tiles of level 0 are hashed from entries when asked for. Everything but
// entries is derived from it and may be deleted while the log is closed: Open
// computes it again (without synced, all of it).
//
// # What a crash costs
//
// Append writes past the published size and publishes afterwards, so a crash
// or a full disk in the middle leaves bytes that nobody was shown. Append does
// not wait for the disk; Sync does, with one fsync of entries. The mark in
// synced is written only after that, so it never promises too much; that it is
// itself not waited for only makes Open compute more. What lies past the mark
// after a power cut is whatever the disk kept: Open computes the hashes over it
// but cannot know it is right. The caller, who has the batches and the size and
// root the chain agreed on, compares:
//
//  1. Open. If Size is at least the agreed size and RootAt of it is the agreed
//     root, Truncate to it: done.
//  2. Otherwise Truncate(Synced) and Append what is missing from the batches.
//
// # Trust
//
// The directory is trusted by nobody but its own institution: whoever alters it
// can make proofs that fail, never proofs that verify against a root that was
// signed before. Check finds such damage and says where it is.
package ledger

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/zhenglian/zhenglian/evidence"
)

const (
	hashSize  = 32
	tileWidth = 256 // hashes in a full tile (tlog-tiles, Merkle Tree)

	// maxSize keeps byte offsets in an int64. Such a log would need 2^63 bytes.
	maxSize = 1<<58 - 1
	// maxLevel is the highest tile level a log of maxSize has: 256^7 = 2^56.
	maxLevel = 7

	// syncHashesEvery is how many entries may pass between two fsyncs of the
	// hashes files. Open hashes at most that many entries again after a crash,
	// well under a second's work, and each Sync is spared an fsync or two.
	syncHashesEvery = 1 << 20
)

var (
	// ErrRange says that an index, size, level or width lies outside the log.
	ErrRange = errors.New("outside the log")
	// ErrDamaged is matched by every *DamageError.
	ErrDamaged = errors.New("log damaged")
	// ErrClosed is returned by every method that needs the files after Close.
	ErrClosed = errors.New("log is closed")
	// ErrInUse is returned by Open when the directory is open already, here or
	// in another process.
	ErrInUse = errors.New("log directory is in use; stop the process that has it open")
	// ErrTruncated is returned by Check when the log was truncated meanwhile.
	ErrTruncated = errors.New("log was truncated meanwhile; run the check again")
	// ErrSyncFailed is returned by every write after an fsync has failed: the
	// system may have dropped what it could not write and would report success
	// the next time.
	ErrSyncFailed = errors.New("an earlier fsync failed; close and open the log, Truncate(Synced()), append again")
)

// Log is an open log. Append, Sync, Truncate and Close may be called from any
// goroutine and exclude each other where they must (an Append can run during a
// Sync); any number of readers run beside them and see only what is published.
type Log struct {
	disk            storage
	entries         file
	synced          file
	syncHashesEvery uint64 // entries

	writeMu sync.Mutex // one Append at a time; guards levels and overlong
	levels  []file     // levels[i] is hashes.(i+1)
	// overlong says that files may hold more than is published, because cutting
	// off what a failed Append wrote has failed too.
	overlong bool

	syncMu sync.Mutex // one Sync at a time; guards changes of mark

	// mu is held for reading by whoever touches a file, and for writing by
	// Truncate and Close alone, so readers never wait for Append or Sync.
	// Order: writeMu, syncMu, mu.
	mu         sync.RWMutex
	closed     bool
	generation uint64 // counts truncations

	state     atomic.Pointer[state]
	mark      atomic.Pointer[mark]
	broken    atomic.Bool
	cache     tileCache
	recovered Recovery
}

// state is what readers see. It never changes once published.
type state struct {
	size   uint64
	root   evidence.Digest
	spine  [][]byte // roots of the complete subtrees of [0, size), left to right
	levels []file
}

// Recovery says what Open found and mended.
type Recovery struct {
	TornBytes int64  // bytes cut off the end of entries: part of an entry
	Lost      uint64 // entries that had been synced and are gone; append them again from the batches
	Rebuilt   uint64 // hashes computed anew in the hashes files
}

// Open opens the log in dir, creating both when absent. It mends what a crash
// leaves behind (see Recovered) and compares the root with the one last
// synced; when that differs even after the derived files were rebuilt, the
// entries themselves are damaged and the error is a *DamageError.
func Open(dir string) (*Log, error) {
	disk, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("opening log %s: %w", dir, err)
	}
	l, err := open(disk)
	if err != nil {
		return nil, fmt.Errorf("opening log %s: %w", dir, err)
	}
	return l, nil
}

// Append adds entries at the end and returns the new size and root. It hands
// the bytes to the operating system and does not wait for the disk: see Sync.
// On error (a full disk, say) the log stays at its previous size and can be
// appended to again. No entries is no error.
func (l *Log) Append(entries []evidence.Digest) (size uint64, root evidence.Digest, err error) {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	st := l.state.Load()
	if err := l.writable(); err != nil {
		return st.size, st.root, fmt.Errorf("appending: %w", err)
	}
	if len(entries) == 0 {
		return st.size, st.root, nil
	}
	if l.overlong {
		l.overlong = l.cut(st.size) != nil
	}
	next, err := l.extend(st, entries)
	if err != nil {
		// Bytes past the published size mean nothing while the log is open, but
		// would be entries to the next Open. If they cannot be cut off now, the
		// next Append or Close does it; after a crash, the caller's Truncate.
		l.overlong = l.cut(st.size) != nil
		return st.size, st.root, fmt.Errorf("appending %d entries at %d: %w", len(entries), st.size, err)
	}
	l.state.Store(next)
	return next.size, next.root, nil
}

// extend writes entries and the hashes they complete after st.
func (l *Log) extend(st *state, entries []evidence.Digest) (*state, error) {
	if uint64(len(entries)) > maxSize-st.size {
		return nil, fmt.Errorf("more than %d entries: %w", uint64(maxSize), ErrRange)
	}
	var complete [maxLevel + 1][]byte
	g, err := newGrower(st.size, st.spine, 2*len(entries), func(level int, _ uint64, hash []byte) {
		complete[level] = append(complete[level], hash...)
	})
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, len(entries)*hashSize)
	for i := range entries {
		buf = append(buf, entries[i][:]...)
	}
	if err := g.append(buf); err != nil {
		return nil, err
	}
	if _, err := l.entries.WriteAt(buf, int64(st.size)*hashSize); err != nil {
		return nil, fmt.Errorf("writing %s: %w", entriesName, err)
	}
	for level := 1; level <= maxLevel && len(complete[level]) > 0; level++ {
		if level > len(l.levels) {
			if err := l.addLevel(); err != nil {
				return nil, err
			}
		}
		off := int64(st.size>>(8*level)) * hashSize
		if _, err := l.levels[level-1].WriteAt(complete[level], off); err != nil {
			return nil, fmt.Errorf("writing %s: %w", levelName(level), err)
		}
	}
	return g.state(l.levels)
}

// addLevel creates the next hashes file. Its name is made durable at once,
// which happens seven times in a log's life at most.
func (l *Log) addLevel() error {
	name := levelName(len(l.levels) + 1)
	f, err := l.disk.open(name, true)
	if err != nil {
		return fmt.Errorf("creating %s: %w", name, err)
	}
	if err := l.disk.syncDir(); err != nil {
		return errors.Join(fmt.Errorf("creating %s: %w", name, err), f.Close())
	}
	l.levels = append(slices.Clip(l.levels), f)
	return nil
}

// cut shortens every file to what a log of size needs.
func (l *Log) cut(size uint64) error {
	var errs []error
	if err := l.entries.Truncate(int64(size) * hashSize); err != nil {
		errs = append(errs, fmt.Errorf("cutting %s: %w", entriesName, err))
	}
	for i, f := range l.levels {
		if err := f.Truncate(int64(size>>(8*(i+1))) * hashSize); err != nil {
			errs = append(errs, fmt.Errorf("cutting %s: %w", levelName(i+1), err))
		}
	}
	return errors.Join(errs...)
}

// Sync waits until every entry published before the call is on disk. It may
// run beside Append. After an error nothing more can be written: ErrSyncFailed
// says how to go on.
func (l *Log) Sync() error {
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	if err := l.writable(); err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	st := l.state.Load()
	return l.sync(st, st.size-l.mark.Load().derived >= l.syncHashesEvery)
}

// sync moves the mark up to st; with derived, for the hashes too.
func (l *Log) sync(st *state, derived bool) error {
	next := *l.mark.Load()
	if next.size == st.size && !(derived && next.derived < st.size) {
		return nil
	}
	if err := l.entries.Sync(); err != nil {
		l.broken.Store(true)
		return fmt.Errorf("syncing %s at %d entries: %w", entriesName, st.size, err)
	}
	if derived {
		for i, f := range st.levels {
			if err := f.Sync(); err != nil {
				l.broken.Store(true)
				return fmt.Errorf("syncing %s at %d entries: %w", levelName(i+1), st.size, err)
			}
		}
		next.derived = st.size
	}
	next.sequence++
	next.size, next.root = st.size, st.root
	if err := next.write(l.synced); err != nil {
		return err
	}
	l.mark.Store(&next)
	return nil
}

// Truncate takes the log back to its first size entries, as recovery needs; it
// waits for readers to finish. When cutting a file fails, the log is at the
// new size all the same, but would be longer again after a restart: call it
// once more. Any other error leaves the log as it was.
func (l *Log) Truncate(size uint64) error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.writable(); err != nil {
		return fmt.Errorf("truncating to %d entries: %w", size, err)
	}
	st := l.state.Load()
	if size > st.size {
		return fmt.Errorf("truncating to %d entries: the log has %d: %w", size, st.size, ErrRange)
	}
	if size < st.size {
		next, err := l.stateAt(st, size)
		if err != nil {
			return fmt.Errorf("truncating to %d entries: %w", size, err)
		}
		// The mark comes down, durably, before any byte it vouches for goes.
		if err := l.lowerMark(next); err != nil {
			return fmt.Errorf("truncating to %d entries: %w", size, err)
		}
		l.state.Store(next)
		l.generation++
		l.cache.clear()
	}
	if err := l.cut(size); err != nil {
		l.overlong = true
		return fmt.Errorf("truncating to %d entries: %w", size, err)
	}
	l.overlong = false
	return nil
}

// Close syncs, unless an fsync failed before, and closes the files. A log
// closed without error opens without computing anything. Close twice is
// harmless.
func (l *Log) Close() error {
	l.writeMu.Lock()
	defer l.writeMu.Unlock()
	l.syncMu.Lock()
	defer l.syncMu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	var err error
	if l.broken.Load() {
		err = ErrSyncFailed
	} else {
		st := l.state.Load()
		if l.overlong {
			err = l.cut(st.size)
		}
		err = errors.Join(err, l.sync(st, true))
	}
	if err = errors.Join(err, l.closeFiles()); err != nil {
		return fmt.Errorf("closing log: %w", err)
	}
	return nil
}

func (l *Log) closeFiles() error {
	var errs []error
	for _, f := range append([]file{l.entries, l.synced}, l.levels...) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(append(errs, l.disk.close())...)
}

func (l *Log) writable() error {
	switch {
	case l.closed:
		return ErrClosed
	case l.broken.Load():
		return ErrSyncFailed
	}
	return nil
}

// Head returns the published size and its root, as of one moment.
func (l *Log) Head() (size uint64, root evidence.Digest) {
	st := l.state.Load()
	return st.size, st.root
}

// Size returns the number of published entries.
func (l *Log) Size() uint64 { return l.state.Load().size }

// Root returns the root of all published entries.
func (l *Log) Root() evidence.Digest { return l.state.Load().root }

// Synced returns a size known to be on disk with the root it had then. After a
// power cut it may be lower than the last Sync reached, never higher.
func (l *Log) Synced() uint64 { return l.mark.Load().size }

// Recovered reports what Open mended.
func (l *Log) Recovered() Recovery { return l.recovered }
