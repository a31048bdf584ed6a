package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/transparency-dev/merkle/compact"

	"github.com/zhenglian/zhenglian/evidence"
)

// checkChunk is how many entries Check hashes between two looks at the context.
const checkChunk = 64 * tileWidth

// Check computes every hash of the log again from entries, compares it with
// the hashes files, and the roots with the published one and the one last
// synced. The first damage found is returned as a *DamageError that names file
// and offset: when the entries have the right root, the hash that differs is at
// fault, otherwise the entries under it. With damage in several places the
// blame can fall on the wrong file: if the entries named turn out to be right,
// delete the hashes file and check again.
//
// Check covers the log as it is when it starts; appending may go on meanwhile.
// progress, if not nil, is told how many of the entries are done. It needs
// memory for one chunk and the time to hash the log once.
func (l *Log) Check(ctx context.Context, progress func(done, total uint64)) error {
	c, err := l.newCheck()
	if err != nil {
		return fmt.Errorf("checking: %w", err)
	}
	for at := uint64(0); at < c.st.size; {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("checking, %d of %d entries done: %w", at, c.st.size, err)
		}
		n := min(c.st.size-at, checkChunk)
		if err := c.chunk(at, n); err != nil {
			return fmt.Errorf("checking entries from %d: %w", at, err)
		}
		at += n
		if progress != nil {
			progress(at, c.st.size)
		}
	}
	if err := c.verdict(); err != nil {
		return fmt.Errorf("checking %d entries: %w", c.st.size, err)
	}
	return nil
}

type check struct {
	l          *Log
	st         *state
	mark       mark
	generation uint64
	grow       *grower
	rootAtMark evidence.Digest

	first     *DamageError // the first hash that differs
	firstLeaf uint64       // the entries under it begin here …
	leaves    uint64       // … and are so many
	err       error        // reading a hashes file
}

func (l *Log) newCheck() (*check, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if l.closed {
		return nil, ErrClosed
	}
	c := &check{l: l, mark: *l.mark.Load(), generation: l.generation}
	c.st = l.state.Load() // after the mark, so that it is not below it
	var err error
	c.grow, err = newGrower(0, nil, 2*checkChunk, c.compare)
	return c, err
}

// chunk adds n entries. It holds the lock for this chunk alone, so that a
// Truncate does not wait for the whole check.
func (c *check) chunk(at, n uint64) error {
	c.l.mu.RLock()
	defer c.l.mu.RUnlock()
	if c.l.closed {
		return ErrClosed
	}
	if c.l.generation != c.generation {
		return ErrTruncated
	}
	entries, err := c.l.readEntries(at, n)
	if err != nil {
		return err
	}
	// Stop at the mark to take the root there.
	if c.mark.size > at && c.mark.size <= at+n {
		head := (c.mark.size - at) * hashSize
		if err := c.grow.append(entries[:head]); err != nil {
			return err
		}
		if c.rootAtMark, err = c.grow.root(); err != nil {
			return err
		}
		entries = entries[head:]
	}
	return errors.Join(c.grow.append(entries), c.err)
}

// compare holds a computed hash against the stored one.
func (c *check) compare(level int, index uint64, hash []byte) {
	if c.first != nil || c.err != nil {
		return
	}
	var stored [hashSize]byte
	err := readFull(c.st.levels[level-1], levelName(level), index, stored[:])
	if errors.As(err, &c.first) {
		c.firstLeaf, c.leaves = index<<(8*level), 1<<(8*level)
		return
	}
	if err != nil {
		c.err = err
		return
	}
	if !bytes.Equal(stored[:], hash) {
		c.firstLeaf, c.leaves = index<<(8*level), 1<<(8*level)
		c.first = &DamageError{File: levelName(level), Offset: int64(index) * hashSize, Length: hashSize,
			Reason: fmt.Sprintf("hash %d is not the root of entries %d to %d, and the log's root says that the entries are right",
				index, c.firstLeaf, c.firstLeaf+c.leaves-1)}
	}
}

// verdict decides who is at fault. The roots were computed from entries alone.
func (c *check) verdict() error {
	root, err := c.grow.root()
	if err != nil {
		return err
	}
	switch {
	case c.mark.size > 0 && c.rootAtMark != c.mark.root:
		return c.entriesDamaged(c.mark.size, c.mark.root)
	case root != c.st.root:
		return c.entriesDamaged(c.st.size, c.st.root)
	case c.first != nil:
		return c.first
	}
	return nil
}

func (c *check) entriesDamaged(size uint64, root evidence.Digest) *DamageError {
	reason := fmt.Sprintf("the first %d entries do not have the root %s", size, root)
	if c.first != nil && c.firstLeaf < size {
		return &DamageError{File: entriesName, Offset: int64(c.firstLeaf) * hashSize, Length: int64(c.leaves) * hashSize,
			Reason: fmt.Sprintf("%s, and these do not have the hash in %s at byte %d", reason, c.first.File, c.first.Offset)}
	}
	// No full tile covers the damage, or the hashes were changed to fit it. The
	// roots of complete subtrees held in memory tell which stretch it is.
	from, to := uint64(0), size
	ids, spine := compact.RangeNodes(0, c.st.size, nil), c.grow.tree.Hashes()
	for i, id := range ids {
		if !bytes.Equal(spine[i], c.st.spine[i]) {
			from, to = id.Coverage()
			break
		}
	}
	return &DamageError{File: entriesName, Offset: int64(from) * hashSize, Length: int64(to-from) * hashSize, Reason: reason}
}
