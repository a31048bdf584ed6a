package chain

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	abci "github.com/cometbft/cometbft/abci/types"

	"github.com/zhenglian/zhenglian/evidence"
)

// Transactions. A block that is not empty starts with one time and goes on with
// batches; nothing else is ever in a block.
const (
	txTime  = 'T' // block time, milliseconds since 1970, 8 bytes big-endian
	txBatch = 'B' // digest of a batch and its count, 4 bytes big-endian

	txTimeLen  = 1 + 8
	txBatchLen = 1 + 32 + 4
)

const (
	// maxTimeSkew between the proposer's clock and a validator's.
	maxTimeSkew = 5000 // milliseconds; design.md, "The chain"
	// maxBlockStatements bounds how long a block takes to apply: at 10 µs a
	// statement, half a second.
	maxBlockStatements = 50_000
	// fetchWait is how long a validator looks for a batch it lacks before it
	// votes against the block. Pushes take milliseconds; a block whose batch
	// nobody has costs the alliance this long once.
	fetchWait = 500 * time.Millisecond
	// verifyWait is how long it goes on verifying what it has: under overload
	// the batch may stand behind others, and a vote against the block would only
	// add another round to the load.
	verifyWait = 10 * time.Second

	appVersion = 1 // the number of the rules
)

// Codes of CheckTx.
const (
	checkMalformed = 1
	checkNotHeld   = 2
	checkCommitted = 3
)

// app is the node as CometBFT sees it.
type app struct {
	abci.BaseApplication
	n *Node

	pending *applied // between FinalizeBlock and Commit
}

func (a *app) Info(context.Context, *abci.RequestInfo) (*abci.ResponseInfo, error) {
	cur := a.n.machine.cur.Load()
	r := &abci.ResponseInfo{Data: "zhenglian", AppVersion: appVersion, LastBlockHeight: cur.Height}
	if cur.Height > 0 {
		r.LastBlockAppHash = cur.appHash()
	}
	return r, nil
}

func (a *app) InitChain(context.Context, *abci.RequestInitChain) (*abci.ResponseInitChain, error) {
	return &abci.ResponseInitChain{AppHash: a.n.machine.cur.Load().appHash()}, nil
}

// batchTx reads a batch transaction.
func batchTx(tx []byte) (digest evidence.Digest, count uint32, ok bool) {
	if len(tx) != txBatchLen || tx[0] != txBatch {
		return digest, 0, false
	}
	copy(digest[:], tx[1:])
	return digest, binary.BigEndian.Uint32(tx[33:]), true
}

// CheckTx lets a batch into the mempool only when this node could vote for it:
// what a proposer takes from its own mempool it can always defend.
func (a *app) CheckTx(_ context.Context, req *abci.RequestCheckTx) (*abci.ResponseCheckTx, error) {
	digest, count, ok := batchTx(req.Tx)
	if !ok {
		return &abci.ResponseCheckTx{Code: checkMalformed, Log: "not a batch"}, nil
	}
	b := a.n.pool.get(digest)
	if b == nil || int(count) != len(b.items) {
		return &abci.ResponseCheckTx{Code: checkNotHeld, Log: "this node does not hold the batch"}, nil
	}
	return &abci.ResponseCheckTx{}, nil
}

// PrepareProposal puts every batch of the mempool that is held and not yet
// committed into the block, after the time. A transaction that has become
// useless is taken out of the mempool, since one that is always left out would
// make blocks without end.
func (a *app) PrepareProposal(_ context.Context, req *abci.RequestPrepareProposal) (*abci.ResponsePrepareProposal, error) {
	cur := a.n.machine.cur.Load()
	now := max(a.n.now().UnixMilli(), cur.Time+1)
	txs := [][]byte{binary.BigEndian.AppendUint64([]byte{txTime}, uint64(now))}
	size, statements := int64(txTimeLen+8), 0
	seen := map[evidence.Digest]bool{}
	for _, tx := range req.Txs {
		digest, count, ok := batchTx(tx)
		if !ok || seen[digest] || a.n.pool.get(digest) == nil {
			a.n.forget(tx)
			continue
		}
		if committed, err := a.n.committed(digest); err != nil {
			return nil, err
		} else if committed {
			a.n.forget(tx)
			continue
		}
		if statements+int(count) > maxBlockStatements || size+txBatchLen+8 > req.MaxTxBytes {
			break // the next block takes it
		}
		seen[digest] = true
		statements += int(count)
		size += txBatchLen + 8
		txs = append(txs, tx)
	}
	if len(txs) == 1 {
		txs = nil
	}
	return &abci.ResponsePrepareProposal{Txs: txs}, nil
}

// ProcessProposal votes for a block only when every batch in it is verified and
// durable on this node's disk, and its time is near this node's clock.
func (a *app) ProcessProposal(ctx context.Context, req *abci.RequestProcessProposal) (*abci.ResponseProcessProposal, error) {
	if err := a.checkProposal(ctx, req.Txs); err != nil {
		a.n.log.Warn("voting against a block", "height", req.Height, "proposer", fmt.Sprintf("%X", req.ProposerAddress), "reason", err)
		return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_REJECT}, nil
	}
	return &abci.ResponseProcessProposal{Status: abci.ResponseProcessProposal_ACCEPT}, nil
}

func (a *app) checkProposal(ctx context.Context, txs [][]byte) error {
	if len(txs) == 0 {
		return nil
	}
	blockTime, ok := timeTx(txs[0])
	if !ok || len(txs) == 1 {
		return errors.New("it does not start with a time and go on with batches")
	}
	now := a.n.now().UnixMilli()
	if last := a.n.machine.cur.Load().Time; blockTime <= last {
		return fmt.Errorf("its time %d is not after the last block's, %d", blockTime, last)
	}
	if skew := blockTime - now; skew > maxTimeSkew || skew < -maxTimeSkew {
		return fmt.Errorf("its time is %d ms from this node's clock", skew)
	}
	seen := map[evidence.Digest]bool{}
	statements := 0
	ctx, cancel := context.WithTimeout(ctx, verifyWait)
	defer cancel()
	for i, tx := range txs[1:] {
		digest, count, ok := batchTx(tx)
		if !ok {
			return fmt.Errorf("transaction %d is not a batch", i+1)
		}
		if seen[digest] {
			return fmt.Errorf("batch %s stands in it twice", digest)
		}
		seen[digest] = true
		if committed, err := a.n.committed(digest); err != nil || committed {
			return errors.Join(err, fmt.Errorf("batch %s was committed before", digest))
		}
		b, err := a.n.obtain(ctx, digest)
		if err != nil {
			return fmt.Errorf("batch %s is not to be had: %w", digest, err)
		}
		if int(count) != len(b.items) {
			return fmt.Errorf("batch %s has %d statements, not %d", digest, len(b.items), count)
		}
		if statements += int(count); statements > maxBlockStatements {
			return fmt.Errorf("more than %d statements", maxBlockStatements)
		}
	}
	return nil
}

func timeTx(tx []byte) (int64, bool) {
	if len(tx) != txTimeLen || tx[0] != txTime {
		return 0, false
	}
	t := binary.BigEndian.Uint64(tx[1:])
	return int64(t), t < 1<<62
}

// FinalizeBlock applies a decided block. After a restart or while catching up
// it is the first to see the block, so it may have to fetch batches: it waits
// for them, since what the alliance decided cannot be skipped.
func (a *app) FinalizeBlock(ctx context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	resp, err := a.finalize(ctx, req)
	if err != nil {
		if !a.n.engine.Load() { // a replay at the start: its caller is told
			a.n.replayErr = err
			return nil, err
		}
		a.n.cannotGoOn(err)
	}
	return resp, nil
}

func (a *app) finalize(ctx context.Context, req *abci.RequestFinalizeBlock) (*abci.ResponseFinalizeBlock, error) {
	results := make([]*abci.ExecTxResult, len(req.Txs))
	blockTime := a.n.machine.cur.Load().Time + 1
	var batches []*batch
	var at []int
	for i, tx := range req.Txs {
		results[i] = &abci.ExecTxResult{}
		if t, ok := timeTx(tx); ok && i == 0 {
			blockTime = max(t, blockTime)
			continue
		}
		digest, _, ok := batchTx(tx)
		if !ok {
			results[i].Code = checkMalformed
			continue
		}
		committed, err := a.n.committed(digest)
		if err != nil {
			return nil, err
		}
		if committed {
			results[i].Code = checkCommitted
			continue
		}
		b, err := a.n.mustObtain(ctx, digest)
		if err != nil {
			return nil, fmt.Errorf("block %d: batch %s: %w", req.Height, digest, err)
		}
		batches, at = append(batches, b), append(at, i)
	}
	applied, err := a.n.applyBlock(ctx, req.Height, blockTime, batches)
	if err != nil {
		return nil, fmt.Errorf("block %d: %w", req.Height, err)
	}
	for bi := range batches {
		n := uint32(0)
		for _, r := range applied.results[bi] {
			if r.code == evidence.CodeOK {
				n++
			}
		}
		results[at[bi]].Data = binary.BigEndian.AppendUint32(nil, n)
	}
	a.pending = applied
	return &abci.ResponseFinalizeBlock{TxResults: results, AppHash: applied.next.appHash()}, nil
}

// Commit publishes what FinalizeBlock computed, answers those who wait for it,
// and has the new root witnessed.
func (a *app) Commit(context.Context, *abci.RequestCommit) (*abci.ResponseCommit, error) {
	applied := a.pending
	a.pending = nil
	if applied == nil {
		return nil, errors.New("commit without a block")
	}
	if err := a.n.machine.commit(applied); err != nil {
		if !a.n.engine.Load() {
			a.n.replayErr = err
			return nil, err
		}
		a.n.cannotGoOn(err)
	}
	a.n.afterCommit(applied)
	return &abci.ResponseCommit{}, nil
}
