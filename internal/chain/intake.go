package chain

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// The intake takes statements from clients and makes batches of them:
//
//	Submit ─► read, who, known already? ─► queue ─► batcher: one batch of all that waits
//	batch ─► verify at once ─► durable here ─► pushed to every peer ─► mempool
//	block ─► results ─► witnessed by a quorum ─► Submit returns
//
// A statement counts as accepted once its batch is durable on this node: from
// there on no crash loses it, because every start proposes what it finds
// uncommitted.

// submission is the statements of one Submit call on their way to a batch.
type submission struct {
	items []item
	taken chan placed // buffered: one answer for each batch it went into
}

// placed says which batch took which of the submission's items; items that
// failed their signature are in no batch.
type placed struct {
	from, to int // items[from:to]
	batch    *pending
	at       []int // place in the batch of each of these items, -1 for none
	err      error
}

// Submit registers statements: one outcome each, in order. With final it waits
// until each accepted one is final, or ctx ends: then the outcomes say how far
// each came and the error is ctx's.
func (n *Node) Submit(ctx context.Context, statements [][]byte, final bool) ([]Outcome, error) {
	if err := n.accepting(); err != nil {
		return nil, err
	}
	out := make([]Outcome, len(statements))
	sub := &submission{}
	var where []int
	for i, raw := range statements {
		it := newItem(raw)
		if it.st == nil {
			out[i] = outcomeOf(refusal(it.refuse))
			continue
		}
		out[i].Digest = it.st.Digest()
		if no := n.precheck(ctx, &it); no != nil {
			out[i].refuse(no)
			continue
		}
		sub.items = append(sub.items, it)
		where = append(where, i)
	}
	if len(sub.items) == 0 {
		return out, nil
	}
	batches := (len(sub.items)+maxBatchCount-1)/maxBatchCount + totalBytes(sub.items)/(maxBatchBytes/2) + 1
	sub.taken = make(chan placed, batches)
	select {
	case n.queue <- sub:
	case <-n.stopping:
		return nil, ErrStopping
	case <-ctx.Done():
		return out, ctx.Err()
	}
	return out, n.collect(ctx, sub, where, out, final)
}

func totalBytes(items []item) (sum int) {
	for i := range items {
		sum += len(items[i].st.Bytes())
	}
	return sum
}

// collect waits for the batches that took the submission's items.
func (n *Node) collect(ctx context.Context, sub *submission, where []int, out []Outcome, final bool) error {
	var firstErr error
	var waits []placed
	for done := 0; done < len(sub.items); {
		select {
		case p := <-sub.taken:
			done = p.to
			if p.err != nil {
				firstErr = errors.Join(firstErr, p.err)
				continue
			}
			for i := p.from; i < p.to; i++ {
				o := &out[where[i]]
				if p.at[i-p.from] < 0 {
					o.refuse(&registry.Refusal{Code: evidence.CodeBadSignature, Field: "signature", Reason: "it is not this key's signature over this content"})
					continue
				}
				o.Accepted = true
			}
			waits = append(waits, p)
		case <-ctx.Done():
			return ctx.Err()
		case <-n.stopping:
			return ErrStopping
		}
	}
	if !final || firstErr != nil {
		return firstErr
	}
	highest := uint64(0)
	for _, p := range waits {
		if p.batch == nil {
			continue
		}
		select {
		case <-p.batch.done:
		case <-ctx.Done():
			return ctx.Err()
		case <-n.stopping:
			return ErrStopping
		}
		for i := p.from; i < p.to; i++ {
			if at := p.at[i-p.from]; at >= 0 {
				o := &out[where[i]]
				digest := o.Digest
				*o = outcomeOf(p.batch.results[at])
				o.Digest = digest
				if o.Known {
					highest = max(highest, o.Position)
				}
			}
		}
	}
	if err := n.WaitFinal(ctx, highest); err != nil {
		return err
	}
	size := n.witness.finalSize()
	for i := range out {
		if !out[i].Known {
			continue
		}
		out[i].Final = out[i].Position < size
		entry, err := n.ledger.Entry(out[i].Position)
		if err != nil {
			return fmt.Errorf("reading entry %d: %w", out[i].Position, err)
		}
		out[i].Entry = entry
	}
	return nil
}

func outcomeOf(r result) Outcome {
	o := Outcome{Code: r.code, Field: r.field, Reason: r.reason}
	if r.code == evidence.CodeOK || r.code == evidence.CodeRegistered {
		o.Accepted, o.Known, o.Position = true, true, r.position
	}
	return o
}

func (o *Outcome) refuse(r *registry.Refusal) {
	o.Code, o.Field, o.Reason, o.Accepted = r.Code, r.Field, r.Reason, false
}

// precheck refuses early what the block would refuse. This node may be a few
// blocks behind the one that the client talked to before, so a checkpoint or a
// key it does not know yet gets a moment.
func (n *Node) precheck(ctx context.Context, it *item) *registry.Refusal {
	no := n.precheckNow(it)
	if no == nil || no.Code != evidence.CodeUnknownKey && no.Code != evidence.CodeUnknownCheckpoint {
		return no
	}
	if no.Code == evidence.CodeUnknownCheckpoint && it.st.After.Size <= n.machine.cur.Load().Size {
		return no
	}
	select {
	case n.patience <- struct{}{}:
		defer func() { <-n.patience }()
	default:
		return no
	}
	deadline := time.NewTimer(patienceTime)
	defer deadline.Stop()
	for {
		changed := n.blocks.changed()
		if no = n.precheckNow(it); no == nil {
			return nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return no
		case <-ctx.Done():
			return no
		case <-n.stopping:
			return no
		}
	}
}

const (
	patienceTime = 500 * time.Millisecond
	// patienceMax bounds how many strangers with unknown keys can wait at once.
	patienceMax = 64
)

func (n *Node) precheckNow(it *item) *registry.Refusal {
	if _, no := n.reg.Holder(it.st); no != nil {
		return no
	}
	now := max(n.now().UnixMilli(), n.machine.cur.Load().Time)
	if no := n.reg.Check(it.st, now); no != nil {
		// What is registered already keeps its position even when the key was
		// revoked or expired since; the block finds that out.
		if _, ok, err := n.machine.known(evidence.SumSHA256(it.st.ToBeSigned())); err != nil || !ok {
			return no
		}
		return nil
	}
	if ahead := it.st.IssuedAt*1000 - now; ahead > maxClockAhead {
		return &registry.Refusal{Code: evidence.CodeClockAhead, Field: "protected.claims.iat", Reason: fmt.Sprintf("the signer's clock is %d seconds ahead; at most %d are allowed: set the clock", ahead/1000, maxClockAhead/1000)}
	}
	if !it.st.Registry() {
		if ok, err := n.machine.hasRoot(it.st.After); err == nil && !ok {
			return &registry.Refusal{Code: evidence.CodeUnknownCheckpoint, Field: "protected.after", Reason: fmt.Sprintf("this log never had size %d with that root: take a checkpoint from this alliance", it.st.After.Size)}
		}
	}
	return nil
}

// runBatcher makes one batch of all that waits, as often as it can: alone, a
// statement waits for nothing; under load batches grow by themselves.
func (n *Node) runBatcher(ctx context.Context) error {
	slots := make(chan struct{}, batchersAtOnce)
	defer func() {
		for range batchersAtOnce {
			slots <- struct{}{} // wait for those still at work
		}
	}()
	for {
		var subs []*submission
		select {
		case <-ctx.Done():
			return nil
		case s := <-n.queue:
			subs = append(subs, s)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		count := len(subs[0].items)
		for more := true; more && count < maxBatchCount; {
			select {
			case s := <-n.queue:
				subs = append(subs, s)
				count += len(s.items)
			default:
				more = false
			}
		}
		go func() {
			defer func() { <-slots }()
			n.makeBatches(ctx, subs)
		}()
	}
}

// batchersAtOnce lets one batch be verified while another is written.
const batchersAtOnce = 2

// makeBatches verifies the submissions together, and cuts them into batches at
// the limits, never dividing more than it must.
func (n *Node) makeBatches(ctx context.Context, subs []*submission) {
	var all []item
	for _, s := range subs {
		all = append(all, s.items...)
	}
	n.verifier.verify(all)
	type part struct {
		sub      *submission
		from, to int
		at       []int
	}
	var parts []part
	var raws [][]byte
	var items []item
	bytes := batchHeader
	flush := func() {
		if len(parts) == 0 {
			return
		}
		var b *pending
		var err error
		if len(items) > 0 {
			b, err = n.admitOwn(ctx, raws, items)
		}
		for _, p := range parts {
			p.sub.taken <- placed{p.from, p.to, b, p.at, err}
		}
		parts, raws, items, bytes = nil, nil, nil, batchHeader
	}
	k := 0
	for _, s := range subs {
		p := part{sub: s}
		for i := range s.items {
			it := all[k]
			k++
			if it.sig == sigBad {
				p.at = append(p.at, -1)
				p.to = i + 1
				continue
			}
			if raw := it.st.Bytes(); len(items) == maxBatchCount || bytes+2+len(raw) > maxBatchBytes {
				if p.to > p.from {
					parts = append(parts, p)
				}
				flush()
				p = part{sub: s, from: i}
			}
			raw := it.st.Bytes()
			raws, items = append(raws, raw), append(items, it)
			bytes += 2 + len(raw)
			p.at = append(p.at, len(items)-1)
			p.to = i + 1
		}
		parts = append(parts, p)
	}
	flush()
}

// admitOwn makes a batch of verified items durable, has it pushed, and offers
// it to the mempool.
func (n *Node) admitOwn(ctx context.Context, raws [][]byte, items []item) (*pending, error) {
	b := &batch{raw: encodeBatch(raws), items: items}
	b.digest = evidence.SumSHA256(b.raw)
	p, err := n.store(ctx, b, n.id)
	if err != nil {
		return nil, err
	}
	n.metrics.accepted.Add(float64(len(items)))
	if there, err := n.settled(p); err != nil || there {
		return p, err
	}
	n.peers.push(p)
	return p, nil
}

// store makes a verified batch durable and puts it into the pool.
func (n *Node) store(ctx context.Context, b *batch, from string) (*pending, error) {
	if n.disk.full.Load() {
		return nil, ErrDiskFull
	}
	finish, ok := n.pool.reserve(from, len(b.raw), n.batches.endsAt())
	if !ok {
		return nil, &OverloadError{RetryAfter: time.Second}
	}
	loc, err := n.batches.put(ctx, b.digest, b.raw)
	if err != nil {
		finish(nil)
		n.disk.check()
		if isNoSpace(err) {
			return nil, ErrDiskFull
		}
		return nil, err
	}
	b.loc = loc
	return finish(n.newPending(b, from)), nil
}

// accepting says whether new statements can be taken at all.
func (n *Node) accepting() error {
	select {
	case <-n.stopping:
		return ErrStopping
	default:
	}
	if n.disk.full.Load() {
		return ErrDiskFull
	}
	if n.pool.bytesOf(n.id) >= n.cfg.PendingBytes {
		return &OverloadError{RetryAfter: time.Second}
	}
	return nil
}
