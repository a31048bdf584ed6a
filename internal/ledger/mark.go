package ledger

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/zhenglian/zhenglian/evidence"
)

// mark is one slot of the file synced: what is known to be on disk.
type mark struct {
	sequence uint64
	size     uint64          // entries on disk
	derived  uint64          // entries whose hashes in hashes.L are on disk; at most size
	root     evidence.Digest // of the first size entries
}

const (
	markBody = 8 + 8 + 8 + hashSize
	markSize = markBody + sha256.Size
	// markStride puts each slot into a disk sector of its own, so that writing
	// one cannot tear the other.
	markStride = 512
)

func (m mark) encode() []byte {
	b := make([]byte, 0, markSize)
	b = binary.BigEndian.AppendUint64(b, m.sequence)
	b = binary.BigEndian.AppendUint64(b, m.size)
	b = binary.BigEndian.AppendUint64(b, m.derived)
	b = append(b, m.root[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// decodeMark reports false for a slot that was never written, or torn.
func decodeMark(b []byte) (mark, bool) {
	if len(b) != markSize || sha256.Sum256(b[:markBody]) != [sha256.Size]byte(b[markBody:]) {
		return mark{}, false
	}
	m := mark{
		sequence: binary.BigEndian.Uint64(b),
		size:     binary.BigEndian.Uint64(b[8:]),
		derived:  binary.BigEndian.Uint64(b[16:]),
		root:     evidence.Digest(b[24:markBody]),
	}
	return m, m.sequence > 0 && m.derived <= m.size && m.size <= maxSize
}

// write puts m into the slot that its sequence names: never the slot of the
// mark before it, which stays readable if this write is torn.
func (m mark) write(f file) error {
	if _, err := f.WriteAt(m.encode(), int64(m.sequence%2)*markStride); err != nil {
		return fmt.Errorf("writing %s: %w", syncedName, err)
	}
	return nil
}

// readMark returns the mark that holds, the zero mark when there is none.
func readMark(f file) (mark, error) {
	var best mark
	for slot := range int64(2) {
		b := make([]byte, markSize)
		n, err := f.ReadAt(b, slot*markStride)
		if err != nil && !errors.Is(err, io.EOF) {
			return mark{}, fmt.Errorf("reading %s: %w", syncedName, err)
		}
		if m, ok := decodeMark(b[:n]); ok && m.sequence > best.sequence {
			best = m
		}
	}
	return best, nil
}

// lowerMark makes sure, durably, that no mark on disk vouches for more than
// st. Both slots are replaced: were the old one left, a torn write of the next
// mark could bring it back. After an error the old mark still holds here, and
// on disk the old or the new one, both of them true.
func (l *Log) lowerMark(st *state) error {
	old := *l.mark.Load()
	if old.size <= st.size {
		return nil
	}
	next := mark{sequence: old.sequence, size: st.size, derived: min(old.derived, st.size), root: st.root}
	for range 2 {
		next.sequence++
		if err := next.write(l.synced); err != nil {
			return err
		}
		if err := l.synced.Sync(); err != nil {
			l.broken.Store(true)
			return fmt.Errorf("syncing %s: %w", syncedName, err)
		}
	}
	l.mark.Store(&next)
	return nil
}
