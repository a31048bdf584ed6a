package ledger

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// Tile returns the first width hashes (1 to 256) of a Merkle tile, 32 bytes
// each, as C2SP tlog-tiles serves them at tile/<level>/<index>: on level 0
// leaf hashes, on level L the roots of complete subtrees of 256^L entries. Any
// width up to what the log has is given, also of a tile that is full by now.
func (l *Log) Tile(level int, index uint64, width int) ([]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st := l.state.Load()
	buf, err := func() ([]byte, error) {
		if l.closed {
			return nil, ErrClosed
		}
		if level < 0 || level > maxLevel {
			return nil, fmt.Errorf("levels go from 0 to %d: %w", maxLevel, ErrRange)
		}
		if err := checkWidth(index, width, st.size>>(8*level)); err != nil {
			return nil, err
		}
		buf := make([]byte, width*hashSize)
		return buf, l.readHashes(st, level, index*tileWidth, buf)
	}()
	if err != nil {
		return nil, fmt.Errorf("tile %d of level %d, width %d: %w", index, level, width, err)
	}
	return buf, nil
}

// EntryBundle returns the first width entries (1 to 256) of the bundle that
// C2SP tlog-tiles serves at tile/entries/<index>: before each entry its length
// in two big-endian bytes, here always 0x0020.
func (l *Log) EntryBundle(index uint64, width int) ([]byte, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	st := l.state.Load()
	err := checkWidth(index, width, st.size)
	var entries []byte
	if err == nil {
		entries, err = l.readEntries(index*tileWidth, uint64(width))
	}
	if err != nil {
		return nil, fmt.Errorf("entry bundle %d, width %d: %w", index, width, err)
	}
	out := make([]byte, 0, width*(2+hashSize))
	for entry := range slices.Chunk(entries, hashSize) {
		out = binary.BigEndian.AppendUint16(out, hashSize)
		out = append(out, entry...)
	}
	return out, nil
}

// checkWidth tells whether tile index has width hashes when its level has count.
func checkWidth(index uint64, width int, count uint64) error {
	if width < 1 || width > tileWidth {
		return fmt.Errorf("widths go from 1 to %d: %w", tileWidth, ErrRange)
	}
	switch full := count / tileWidth; {
	case index < full, index == full && uint64(width) <= count%tileWidth:
		return nil
	case index == full && count%tileWidth > 0:
		return fmt.Errorf("the tile is %d wide so far: %w", count%tileWidth, ErrRange)
	}
	return fmt.Errorf("the log has no such tile yet: %w", ErrRange)
}
