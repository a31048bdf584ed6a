package ledger

import (
	"errors"
	"fmt"
	"io/fs"
)

// rebuildTiles is how many tiles a rebuild reads at a time: 1 MiB.
const rebuildTiles = 128

// open is Open over any storage; it closes disk on error.
func open(disk storage) (_ *Log, err error) {
	l := &Log{disk: disk, syncHashesEvery: syncHashesEvery}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.closeFiles())
		}
	}()
	if l.entries, err = disk.open(entriesName, true); err != nil {
		return nil, err
	}
	if l.synced, err = disk.open(syncedName, true); err != nil {
		return nil, err
	}
	if err := disk.syncDir(); err != nil {
		return nil, fmt.Errorf("making the file names durable: %w", err)
	}
	m, err := readMark(l.synced)
	if err != nil {
		return nil, err
	}
	l.mark.Store(&m)

	size, err := l.cutTornEntry()
	if err != nil {
		return nil, err
	}
	if m.size > size {
		l.recovered.Lost = m.size - size
	}
	if err := l.openLevels(size, m.derived); err != nil {
		return nil, err
	}
	st, err := l.stateAt(&state{size: size, levels: l.levels}, size)
	if err != nil {
		return nil, err
	}
	l.state.Store(st)

	if good, err := l.matchesMark(st, m); err != nil {
		return nil, err
	} else if !good {
		if st, err = l.rebuildAll(size, m); err != nil {
			return nil, err
		}
		l.state.Store(st)
	}
	return l, l.lowerMark(st)
}

// cutTornEntry returns the number of whole entries.
func (l *Log) cutTornEntry() (uint64, error) {
	length, err := l.entries.Size()
	if err != nil {
		return 0, fmt.Errorf("measuring %s: %w", entriesName, err)
	}
	l.recovered.TornBytes = length % hashSize
	if l.recovered.TornBytes > 0 {
		if err := l.entries.Truncate(length - l.recovered.TornBytes); err != nil {
			return 0, fmt.Errorf("cutting a torn entry off %s: %w", entriesName, err)
		}
	}
	if uint64(length/hashSize) > maxSize {
		return 0, fmt.Errorf("%s has %d bytes: %w", entriesName, length, ErrRange)
	}
	return uint64(length / hashSize), nil
}

// openLevels opens the hashes files of a log of size entries. It keeps of each
// what the mark vouches for (the hashes over the first derived entries) and
// computes the rest anew, even where the file has it: after a power cut a file
// can have its length and not its bytes. A file whose name is lost is rebuilt
// likewise, so its name need not be made durable here.
func (l *Log) openLevels(size, derived uint64) error {
	derived = min(derived, size)
	for level := 1; level <= maxLevel; level++ {
		name, want := levelName(level), size>>(8*level)
		f, err := l.disk.open(name, want > 0)
		if want == 0 && errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return err
		}
		length, err := f.Size()
		if err == nil && length > int64(want)*hashSize {
			err = f.Truncate(int64(want) * hashSize)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("fitting %s to %d hashes: %w", name, want, err), f.Close())
		}
		if want == 0 {
			if err := f.Close(); err != nil {
				return err
			}
			continue
		}
		l.levels = append(l.levels, f)
		vouched := derived >> (8 * level)
		have := min(uint64(length/hashSize), vouched)
		if err := l.rebuild(level, have, want); err != nil {
			return err
		}
		// The mark already says that these are on disk: make it true.
		if have < vouched {
			if err := f.Sync(); err != nil {
				return fmt.Errorf("syncing the rebuilt %s: %w", name, err)
			}
		}
	}
	return nil
}

// rebuild computes the hashes [from, to) of a level from the level below.
func (l *Log) rebuild(level int, from, to uint64) error {
	below := &state{levels: l.levels[:level-1]}
	buf := make([]byte, 0, rebuildTiles*tileWidth*hashSize)
	out := make([]byte, 0, rebuildTiles*hashSize)
	for at := from; at < to; {
		n := min(to-at, rebuildTiles)
		buf, out = buf[:n*tileWidth*hashSize], out[:0]
		if err := l.readHashes(below, level-1, at*tileWidth, buf); err != nil {
			return fmt.Errorf("rebuilding %s: %w", levelName(level), err)
		}
		for i := range n {
			root, err := subtree(buf[i*tileWidth*hashSize:(i+1)*tileWidth*hashSize], nil)
			if err != nil {
				return fmt.Errorf("rebuilding %s: %w", levelName(level), err)
			}
			out = append(out, root...)
		}
		if _, err := l.levels[level-1].WriteAt(out, int64(at)*hashSize); err != nil {
			return fmt.Errorf("rebuilding %s: %w", levelName(level), err)
		}
		at += n
		l.recovered.Rebuilt += n
	}
	return nil
}

// matchesMark compares the root at the mark, which costs O(log n) reads.
func (l *Log) matchesMark(st *state, m mark) (bool, error) {
	if m.size == 0 || m.size > st.size {
		return true, nil // nothing to compare with
	}
	at, err := l.stateAt(st, m.size)
	if err != nil {
		return false, err
	}
	return at.root == m.root, nil
}

// rebuildAll is for hashes that contradict the mark: they are computed anew
// from entries, and if the root is still another one, entries is damaged.
func (l *Log) rebuildAll(size uint64, m mark) (*state, error) {
	for i, f := range l.levels {
		if err := l.rebuild(i+1, 0, size>>(8*(i+1))); err != nil {
			return nil, err
		}
		if err := f.Sync(); err != nil {
			return nil, fmt.Errorf("syncing the rebuilt %s: %w", levelName(i+1), err)
		}
	}
	l.cache.clear()
	st, err := l.stateAt(&state{size: size, levels: l.levels}, size)
	if err != nil {
		return nil, err
	}
	good, err := l.matchesMark(st, m)
	if err != nil {
		return nil, err
	}
	if !good {
		return nil, &DamageError{File: entriesName, Length: int64(m.size) * hashSize,
			Reason: fmt.Sprintf("its first %d entries do not have the root %s that they had when last synced", m.size, m.root)}
	}
	return st, nil
}
