package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/cometbft/cometbft/mempool"

	"github.com/zhenglian/zhenglian/evidence"
)

// adoptOrphans offers again what is durable here and not in the log: it may
// have been accepted from a client just before a crash. What does not fit into
// the pool now stays an orphan, before which safe never moves, for the next try.
func (n *Node) adoptOrphans() error {
	n.locMu.Lock()
	orphans := maps.Clone(n.orphans)
	n.locMu.Unlock()
	adopted := 0
	for d, loc := range orphans {
		ok, err := n.adopt(d, loc)
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		n.locMu.Lock()
		delete(n.orphans, d)
		n.locMu.Unlock()
		adopted++
	}
	if adopted > 0 {
		n.log.Info("took up batches that were accepted and not yet in the log", "batches", adopted)
	}
	return nil
}

// adopt takes up one orphan; false says that the pool is full.
func (n *Node) adopt(d evidence.Digest, loc location) (bool, error) {
	if committed, err := n.committed(d); err != nil || committed {
		return true, err
	}
	raw, err := n.batches.get(d, loc)
	var b *batch
	if err == nil {
		b, err = decodeBatch(raw)
	}
	if err != nil {
		n.log.Warn("an uncommitted batch cannot be read", "batch", d, "error", err)
		return true, nil
	}
	n.verifier.verify(b.items)
	b.loc = loc
	finish, ok := n.pool.reserve(n.id, len(raw), loc)
	if !ok {
		return false, nil
	}
	p := finish(n.newPending(b, n.id))
	if there, err := n.settled(p); err != nil || there {
		return true, err
	}
	n.peers.push(p)
	return true, nil
}

// committed reports whether a batch is in the log.
func (n *Node) committed(d evidence.Digest) (bool, error) {
	v, err := n.idx.get(digestKey('b', d))
	return v != nil, err
}

var errNotBatch = errors.New("not a batch")

// admit takes a batch from a peer: decoded, verified, durable, in the mempool.
// A batch held or committed already is no error.
func (n *Node) admit(ctx context.Context, raw []byte, from string) (*pending, error) {
	digest := evidence.SumSHA256(raw)
	if p := n.pool.get(digest); p != nil {
		return p, nil
	}
	if committed, err := n.committed(digest); err != nil || committed {
		return nil, err
	}
	call := &fetchCall{done: make(chan struct{})}
	if other, busy := n.fetching.LoadOrStore(digest, call); busy {
		c := other.(*fetchCall)
		select {
		case <-c.done:
			return c.p, c.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() {
		n.fetching.Delete(digest)
		close(call.done)
	}()
	call.p, call.err = n.admitOnce(ctx, raw, from)
	return call.p, call.err
}

// fetchCall lets one batch that comes from several sides be verified once.
type fetchCall struct {
	done chan struct{}
	p    *pending
	err  error
}

func (n *Node) admitOnce(ctx context.Context, raw []byte, from string) (*pending, error) {
	if n.disk.full.Load() {
		return nil, ErrDiskFull
	}
	b, err := decodeBatch(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotBatch, err)
	}
	n.verifier.verify(b.items)
	p, err := n.store(context.WithoutCancel(ctx), b, from)
	if err != nil {
		return nil, err
	}
	if there, err := n.settled(p); err != nil || there {
		return p, err
	}
	n.offer(p)
	return p, nil
}

// settled reports whether a batch that has just entered the pool is in the log
// already: a block committed it meanwhile, or the same statements were sent
// again in the same batch. No further block will answer for it, so it is
// answered from the log and leaves the pool.
func (n *Node) settled(p *pending) (bool, error) {
	v, err := n.idx.get(digestKey('b', p.digest))
	if err != nil || v == nil {
		return false, err
	}
	results, err := n.resultsOf(p.batch, binary.BigEndian.Uint64(v))
	if err != nil {
		return true, err
	}
	if n.pool.remove(p.digest) != nil { // else the block that committed it answers
		p.results = results
		close(p.done)
	}
	return true, nil
}

// resultsOf returns what the block that committed a batch made of it.
func (n *Node) resultsOf(b *batch, height uint64) ([]result, error) {
	v, err := n.idx.get(u64key('h', height))
	if err != nil {
		return nil, err
	}
	blk, err := decodeBlock(v)
	if err != nil {
		return nil, err
	}
	out := make([]result, len(b.items))
	for _, bb := range blk.Batches {
		if bb.Digest != b.digest {
			continue
		}
		for _, r := range bb.Refused {
			if int(r.At) < len(out) {
				out[r.At] = result{code: r.Code, reason: fmt.Sprintf("block %d refused it: %s", height, r.Code)}
			}
		}
	}
	for i := range out {
		if out[i].code != evidence.CodeOK && out[i].code != evidence.CodeRegistered {
			continue
		}
		at, ok, err := n.machine.known(b.items[i].id)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, &DamagedError{"index", fmt.Sprintf("statement %d of batch %s is not where block %d put it", i, b.digest, height)}
		}
		out[i] = result{code: evidence.CodeRegistered, position: at}
	}
	return out, nil
}

// offer puts a batch into this node's own mempool.
func (n *Node) offer(p *pending) {
	if !n.started.Load() {
		return
	}
	if err := n.mempool.CheckTx(p.tx(), nil, mempool.TxInfo{}); err != nil && !errors.Is(err, mempool.ErrTxInCache) {
		n.log.Warn("the mempool does not take a batch; it is offered again", "batch", p.digest, "error", err)
	}
}

// forget takes a useless transaction out of the mempool.
func (n *Node) forget(tx []byte) {
	n.work.Go(func() error { // CometBFT holds a lock while it prepares a proposal
		_ = n.mempool.RemoveTxByKey(txKey(tx)) // gone already is as well
		return nil
	})
}

// obtain returns a batch that is verified and durable here, fetching it from
// the peers when it is not.
func (n *Node) obtain(ctx context.Context, digest evidence.Digest) (*batch, error) {
	if p := n.pool.get(digest); p != nil {
		return p.batch, nil
	}
	if c, busy := n.fetching.Load(digest); busy {
		select {
		case <-c.(*fetchCall).done:
			if p := n.pool.get(digest); p != nil {
				return p.batch, nil
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	look, cancel := context.WithTimeout(ctx, fetchWait)
	defer cancel()
	raw, err := n.localOrFetch(look, digest)
	if err != nil {
		return nil, err
	}
	p, err := n.admit(ctx, raw, "")
	if err != nil {
		return nil, err
	}
	if p == nil {
		return nil, errors.New("it was committed already")
	}
	return p.batch, nil
}

// localOrFetch returns a batch's bytes from disk, where a crash may have left
// it, or from a peer; a push that is on its way is given a moment first.
func (n *Node) localOrFetch(ctx context.Context, digest evidence.Digest) ([]byte, error) {
	n.locMu.Lock()
	loc, ok := n.orphans[digest]
	n.locMu.Unlock()
	if ok {
		if raw, err := n.batches.get(digest, loc); err == nil {
			return raw, nil
		}
	}
	n.metrics.fetched.Inc()
	return n.peers.fetch(ctx, digest)
}

// mustObtain is obtain for a decided block: it tries until it has the batch.
func (n *Node) mustObtain(ctx context.Context, digest evidence.Digest) (*batch, error) {
	said := false
	for {
		tryCtx, cancel := context.WithTimeout(ctx, peerTimeout)
		b, err := n.obtainDecided(tryCtx, digest)
		cancel()
		if err == nil {
			if said {
				n.clearFault("batches")
			}
			return b, nil
		}
		if !said {
			n.log.Warn("waiting for a batch that the alliance committed", "batch", digest, "error", err)
			n.fault("batches", fmt.Sprintf("batch %s, which the alliance committed, is not to be had yet: %v", digest, err))
			said = true
		}
		select {
		case <-n.stopping:
			return nil, ErrStopping
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// obtainDecided differs from obtain in what it does with a batch found on this
// node's own disk: it is durable where it lies and is not written again.
func (n *Node) obtainDecided(ctx context.Context, digest evidence.Digest) (*batch, error) {
	if p := n.pool.get(digest); p != nil {
		return p.batch, nil
	}
	n.locMu.Lock()
	loc, ok := n.orphans[digest]
	n.locMu.Unlock()
	if ok {
		if raw, err := n.batches.get(digest, loc); err == nil {
			b, err := decodeBatch(raw)
			if err != nil {
				return nil, err
			}
			n.verifier.verify(b.items)
			b.loc = loc
			return b, nil
		}
	}
	return n.obtain(ctx, digest)
}
