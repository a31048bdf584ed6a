package chain

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/zhenglian/zhenglian/evidence"
)

// Stamper asks a timestamp authority for a token (RFC 3161) over an imprint,
// SHA-256, and returns one that has been checked: the authority's id, as in a
// package's path, and the token's DER. The error says what each authority did.
type Stamper interface {
	Stamp(ctx context.Context, imprint [32]byte) (authority string, token []byte, err error)
	Authorities() []string // their ids, in the order in which they are asked
}

// stamps has new checkpoints stamped, outside the consensus's path: deposits are
// final without a token, and an authority that is away delays nothing.
//
//	quorum of cosignatures ─► public checkpoint ─► Stamper ─► index, T
//
// Under load one token a second serves all that came since the last, since a
// later checkpoint covers every earlier statement. A crash may lose the newest
// tokens; the newest checkpoint is then stamped again. The older ones cannot be
// computed anew: their statements are covered by the next token.
type stamps struct {
	mu   sync.Mutex
	size uint64 // of the newest checkpoint stamped by this process
	err  error  // of the last attempt
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

func stampKey(size uint64, authority string) []byte { return append(u64key('T', size), authority...) }

// runStamper stamps until ctx ends. No error of an authority ends the node.
func (n *Node) runStamper(ctx context.Context) error {
	if n.cfg.Stamper == nil {
		return nil
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
	if have, err := n.tokensAt(b.Size); err != nil || len(have) > 0 { // of before the start
		return false, err
	}
	cp := evidence.CosignedCheckpoint{Origin: n.origin, Checkpoint: b.Checkpoint}
	asking, cancel := context.WithTimeout(ctx, stampWait)
	defer cancel()
	authority, token, err := n.cfg.Stamper.Stamp(asking, sha256.Sum256([]byte(cp.Body())))
	if err == nil {
		if err := n.idx.db.Set(stampKey(b.Size, authority), token, pebble.NoSync); err != nil {
			return false, fmt.Errorf("storing a timestamp token: %w", err)
		}
	}
	n.stamps.mu.Lock()
	before := n.stamps.err
	n.stamps.err = err
	if err == nil {
		n.stamps.size = b.Size
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

// StampStatus is how the tokens of this node stand.
type StampStatus struct {
	Authorities []string // asked by this node; none: it asks nobody
	Size        uint64   // of the newest checkpoint stamped since the start
	LastError   string   // of the last attempt; empty when it succeeded
}

// Stamps returns whom this node asks for tokens, and how that goes.
func (n *Node) Stamps() StampStatus {
	if n.cfg.Stamper == nil {
		return StampStatus{}
	}
	n.stamps.mu.Lock()
	defer n.stamps.mu.Unlock()
	s := StampStatus{Authorities: n.cfg.Stamper.Authorities(), Size: n.stamps.size}
	if n.stamps.err != nil {
		s.LastError = n.stamps.err.Error()
	}
	return s
}

// tokensAt returns the tokens over the checkpoint of a size, by authority.
func (n *Node) tokensAt(size uint64) (map[string][]byte, error) {
	out := map[string][]byte{}
	err := n.idx.scan(u64key('T', size), u64key('T', size+1), func(k, v []byte) (bool, error) {
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
// own block.
func (n *Node) stampedBoundary(position uint64) (b boundary, sigs map[string]witnessWire, err error) {
	size, _, err := n.TimestampFor(position)
	if err != nil || size == 0 {
		return boundary{}, nil, err
	}
	own, err := n.boundaryOf(position)
	if err != nil {
		return boundary{}, nil, err
	}
	b, ok, err := n.idx.boundaryAt(size)
	if err != nil || !ok || b.Time-own.Time > stampNear.Milliseconds() {
		return boundary{}, nil, err
	}
	if sigs, err = n.witness.at(b.Height); err != nil || len(sigs) < evidence.Quorum(len(n.alliance.Institutions)) {
		return boundary{}, nil, err
	}
	return b, sigs, nil
}
