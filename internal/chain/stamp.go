package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Stamper asks a timestamp authority for a token (RFC 3161) over an imprint,
// SHA-256, and returns one that has been checked: the authority's id, as in a
// package's path, and the token's DER. The error says what each authority did.
type Stamper interface {
	Stamp(ctx context.Context, imprint [32]byte) (authority string, token []byte, err error)
	// Check reports whether a token is one of this authority over the imprint, and
	// its time; tokens of peers pass here.
	Check(authority string, imprint [32]byte, token []byte) (time.Time, error)
	Authorities() []string // their ids, in the order in which they are asked
}

// stamps has new checkpoints stamped, outside the consensus's path: deposits are
// final without a token, and an authority that is away delays nothing.
//
//	quorum of cosignatures ─► public checkpoint ─► Stamper ─► tokenFile ─► index, T
//
// Under load one token a second serves all that came since the last, since a
// later checkpoint covers every earlier statement. Tokens cannot be computed
// anew, so they have a file of their own; peers have them too.
type stamps struct {
	mu       sync.Mutex
	size     uint64    // of the newest checkpoint with a token
	at       time.Time // when that token came here, or its own time after a start
	failures uint64    // rounds in which no authority gave a token, since the start
	err      error     // of the last attempt
}

// kept notes a token that is stored.
func (s *stamps) kept(r *tokenRecord, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Kind == tokenCheckpoint && r.N > s.size {
		s.size, s.at = r.N, now
	}
}

const (
	stampEvery = time.Second
	// stampLook is how soon a checkpoint is seen that became public by the passing
	// of time, while an institution is away.
	stampLook = 250 * time.Millisecond
	// stampBackoff bounds the wait after failures; a new token is then at most
	// this late after an authority has come back.
	stampBackoff = 30 * time.Second
	// stampWait bounds one round of all authorities.
	stampWait = 20 * time.Second
	// stampNear is how much later than a statement's own block a stamped one may
	// be and still be preferred for receipts: a token a month later would make the
	// witnessed time a month later too.
	stampNear = time.Minute
)

// runStamper stamps until ctx ends. No error of an authority ends the node.
func (n *Node) runStamper(ctx context.Context) error {
	if n.cfg.Stamper == nil {
		return nil
	}
	if err := n.loadStamps(); err != nil {
		return err
	}
	backoff := stampEvery
	for {
		changed := n.witness.final.changed()
		wait := stampLook
		stamped, err := n.stampNewest(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			var damage *DamagedError
			if errors.As(err, &damage) {
				return err
			}
			wait, backoff, changed = backoff, min(2*backoff, stampBackoff), nil
		case stamped:
			wait, backoff, changed = stampEvery, stampEvery, nil // at most one a second
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// stampNewest has the public checkpoint stamped, unless it is.
func (n *Node) stampNewest(ctx context.Context) (bool, error) {
	b := n.witness.checkpointBoundary()
	n.stamps.mu.Lock()
	done := n.stamps.size >= b.Size
	n.stamps.mu.Unlock()
	if done {
		return false, nil
	}
	asking, cancel := context.WithTimeout(ctx, stampWait)
	defer cancel()
	authority, token, err := n.cfg.Stamper.Stamp(asking, n.bodyDigest(b))
	if err == nil {
		err = n.keepTokens([]tokenRecord{{tokenCheckpoint, b.Size, authority, token}})
	}
	n.stamps.mu.Lock()
	before := n.stamps.err
	n.stamps.err = err
	if err != nil && ctx.Err() == nil {
		n.stamps.failures++
	}
	n.stamps.mu.Unlock()
	switch {
	case ctx.Err() != nil:
	case err != nil && (before == nil || before.Error() != err.Error()):
		n.log.Warn("no timestamp authority gave a token; asking again", "size", b.Size, "error", err)
	case err == nil && before != nil:
		n.log.Info("timestamp tokens are given again", "size", b.Size, "authority", authority)
	}
	return err == nil, err
}

// loadStamps finds the newest token of before the start, so that no second one
// is asked for.
func (n *Node) loadStamps() error {
	newest, err := n.idx.last([]byte{tokenCheckpoint}, []byte{tokenCheckpoint + 1})
	if err != nil || newest == nil {
		return err
	}
	size := binary.BigEndian.Uint64(newest[1:])
	b, ok, err := n.idx.boundaryAt(size)
	if err != nil || !ok {
		return err
	}
	tokens, err := n.tokensAt(size)
	if err != nil {
		return err
	}
	n.stamps.mu.Lock()
	defer n.stamps.mu.Unlock()
	n.stamps.size = max(n.stamps.size, size)
	for id, token := range tokens {
		if at, err := n.cfg.Stamper.Check(id, n.bodyDigest(b), token); err == nil && at.After(n.stamps.at) {
			n.stamps.at = at
		}
	}
	return nil
}

// StampStatus is how the tokens of this node stand.
type StampStatus struct {
	Authorities []string  // asked by this node; none: it asks nobody
	Size        uint64    // of the newest checkpoint with a token
	Last        time.Time // when that token came; zero when there is none
	Backlog     uint64    // entries under the public checkpoint that no token covers
	Since       time.Time // block time of the first of them; zero without a backlog
	Failures    uint64    // rounds without a token since the start
	LastError   string    // of the last attempt; empty when it succeeded
}

// Stamps returns whom this node asks for tokens, and how that goes.
func (n *Node) Stamps() StampStatus {
	if n.cfg.Stamper == nil {
		return StampStatus{}
	}
	public := n.witness.checkpointBoundary().Size
	n.stamps.mu.Lock()
	s := StampStatus{Authorities: n.cfg.Stamper.Authorities(), Size: n.stamps.size, Last: n.stamps.at, Failures: n.stamps.failures}
	if n.stamps.err != nil {
		s.LastError = n.stamps.err.Error()
	}
	n.stamps.mu.Unlock()
	if public <= s.Size {
		return s
	}
	s.Backlog = public - s.Size
	if b, err := n.boundaryOf(s.Size); err == nil {
		s.Since = time.UnixMilli(b.Time).UTC()
	}
	return s
}

// ErrNoAuthority says that this node asks no timestamp authority.
var ErrNoAuthority = errors.New("this institution asks no timestamp authority")

// StatementTimestamps returns the tokens over the statement at a position, by
// authority; none is no error. ErrNotFound.
func (n *Node) StatementTimestamps(position uint64) (map[string][]byte, error) {
	if position >= n.machine.cur.Load().Size {
		return nil, ErrNotFound
	}
	return n.tokensOf(tokenStatement, position)
}

// StampStatement returns the tokens over the statement at a position, after
// asking an authority for one when there is none. ErrNotFound, ErrNoAuthority,
// ErrDiskFull, or what the authorities did.
func (n *Node) StampStatement(ctx context.Context, position uint64) (map[string][]byte, error) {
	have, err := n.StatementTimestamps(position)
	if err != nil || len(have) > 0 {
		return have, err
	}
	if n.cfg.Stamper == nil {
		return nil, ErrNoAuthority
	}
	if n.disk.full.Load() {
		return nil, ErrDiskFull
	}
	entry, err := n.entryAt(position)
	if err != nil {
		return nil, err
	}
	asking, cancel := context.WithTimeout(ctx, stampWait)
	defer cancel()
	authority, token, err := n.cfg.Stamper.Stamp(asking, entry)
	if err != nil {
		return nil, err
	}
	if err := n.keepTokens([]tokenRecord{{tokenStatement, position, authority, token}}); err != nil {
		return nil, err
	}
	return n.tokensOf(tokenStatement, position)
}

// tokensAt returns the tokens over the checkpoint of a size, by authority.
func (n *Node) tokensAt(size uint64) (map[string][]byte, error) {
	return n.tokensOf(tokenCheckpoint, size)
}

func (n *Node) tokensOf(kind byte, at uint64) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := n.idx.scan(u64key(kind, at), u64key(kind, at+1), func(k, v []byte) (bool, error) {
		out[string(k[9:])] = append([]byte{}, v...)
		return true, nil
	})
	return out, err
}

// Timestamps returns the tokens over the checkpoint of a block that ended at
// this size, by authority; none is no error. ErrNotFound.
func (n *Node) Timestamps(size uint64) (map[string][]byte, error) {
	if _, ok, err := n.idx.boundaryAt(size); err != nil {
		return nil, err
	} else if !ok {
		return nil, ErrNotFound
	}
	return n.tokensAt(size)
}

// TimestampFor returns the tokens over the first stamped checkpoint that covers
// a position; size 0 while there is none. ErrNotFound.
func (n *Node) TimestampFor(position uint64) (size uint64, tokens map[string][]byte, err error) {
	if position >= n.machine.cur.Load().Size {
		return 0, nil, ErrNotFound
	}
	err = n.idx.scan(u64key('T', position+1), []byte{'T' + 1}, func(k, _ []byte) (bool, error) {
		size = binary.BigEndian.Uint64(k[1:])
		return false, nil
	})
	if err != nil || size == 0 {
		return 0, nil, err
	}
	tokens, err = n.tokensAt(size)
	return size, tokens, err
}

// stampedBoundary returns the earliest block covering the position whose root
// is stamped and signed by a quorum, unless it is much later than the position's
// own block. A peer may have had a root stamped of which this node has too few
// signatures; the next serves.
func (n *Node) stampedBoundary(position uint64) (b boundary, sigs map[string]witnessWire, err error) {
	if position >= n.machine.cur.Load().Size {
		return boundary{}, nil, ErrNotFound
	}
	own, err := n.boundaryOf(position)
	if err != nil {
		return boundary{}, nil, err
	}
	tried := uint64(0)
	err = n.idx.scan(u64key(tokenCheckpoint, position+1), []byte{tokenCheckpoint + 1}, func(k, _ []byte) (bool, error) {
		size := binary.BigEndian.Uint64(k[1:])
		if size == tried {
			return true, nil
		}
		tried = size
		at, ok, err := n.idx.boundaryAt(size)
		if err != nil || !ok || at.Time-own.Time > stampNear.Milliseconds() {
			return false, err
		}
		of, err := n.witness.at(at.Height)
		if err != nil || len(of) < evidence.Quorum(len(n.alliance.Institutions)) {
			return true, err
		}
		b, sigs = at, of
		return false, nil
	})
	return b, sigs, err
}
