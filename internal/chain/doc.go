// Package chain is one institution's node of the alliance: it takes statements,
// has them ordered by BFT consensus, keeps the log, and witnesses its roots.
//
//	Submit ─► intake: batch, verify, durable ─► peers (mutual TLS) ─► every node: verify, durable
//	       ─► CometBFT orders the batch's digest; a validator votes only for what it holds
//	FinalizeBlock ─► machine: judge each statement, append to ledger and registry ─► Commit
//	       ─► witness: receipt signature and cosignature over the root, exchanged with the peers
//	       ─► final once a quorum has signed a root that covers the statement ─► receipts
//
// The tour, from the bottom up: batch.go (what is gossiped) · batchstore.go
// (where it lies) · index.go (how things are found) · machine.go (what a block
// does, deterministic) · pool.go, intake.go (from a client to a batch) ·
// peers.go (between institutions) · witness.go (signing roots) · app.go,
// comet.go (the consensus engine; the only importer of CometBFT is this
// package) · node.go (putting it together, restarts) · query.go (answers).
//
// # What is durable when
//
// Three writes, each before the next thing happens: the batch (fsync in the
// batch store before it is acknowledged, proposed or voted for), the block
// (CometBFT's block store, synced before it is applied), the vote (CometBFT's
// signing state, synced before it is sent). Ledger and index follow without
// fsync: a crash takes them back to an earlier block and every start applies
// the missing blocks again. docs/deposit-cycle.md goes through the points where
// the power may fail.
//
// # Trust
//
// No other node is trusted: every statement of every batch is verified here,
// peers' signatures over roots are checked against this node's own roots. The
// data directory is trusted not to be altered while the node runs; what was
// altered before is found when it is read (batches, ledger) or at start (index,
// vote state), named, and fetched or computed again.
package chain
