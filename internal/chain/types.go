package chain

import (
	"errors"
	"fmt"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/registry"
)

// Outcome says what became of one submitted statement.
type Outcome struct {
	Digest   evidence.Digest // of the bytes submitted; zero when they are no statement
	Code     evidence.Code   // CodeOK, CodeRegistered (known before) or why it was refused
	Field    string          // the offending field of a refusal, where there is one
	Reason   string          // a sentence for a person, for refusals
	Accepted bool            // durable on this node and on its way into the log, or in it already
	Position uint64          // its place in the log, when Known
	Known    bool            // Position is set
	Final    bool            // a quorum of institutions has signed a root that covers it
	Entry    evidence.Digest // digest of the bytes registered, when Known: differs from Digest when the same content was registered with another signature
}

// Record is one entry of the log with all that a node knows about it.
type Record struct {
	Position  uint64
	Entry     evidence.Digest
	Height    int64
	Time      time.Time // block time, milliseconds
	Witnesses []string  // institutions whose signature over a covering root is here
	Final     bool
}

// Receipts of one entry: institution id → its receipts (one, or a second in
// another algorithm beside it), all over the earliest root that covers the
// entry and that a quorum signed, or the latest where none is yet.
type Receipts map[string][][]byte

// TrailView is what the log has of a trail as of a tree size.
type TrailView struct {
	Trail     evidence.Digest
	Positions []uint64
	Entries   []evidence.Digest
	evidence.Checkpoint
	Time time.Time // block time of the checkpoint
}

// MemberView is what the registry knows of a key.
type MemberView struct {
	KID         evidence.Digest
	Holder      string // member or institution id
	Institution bool   // an institution's statement key
	Kind        string // member kind or institution kind
	Assurance   uint64
	Demo        bool
	DER         []byte
	EnrolledAt  uint64 // log position of the enrolment; 0 for genesis keys, see Genesis
	Genesis     bool
	Passkey     *evidence.Passkey // of a passkey, which signs no statements and no requests
	// Certificates of a member's key in the order of the log; the key registers
	// nothing after the last of them has ended.
	Certificates []registry.Issued
	Revoked      bool
	RevokedAt    uint64 // log position from which on the key registers nothing
	Reason       uint64 // CRLReason
}

// Status is what an operator and a health check look at.
type Status struct {
	Institution string
	Height      int64
	BlockTime   time.Time // zero before the first block
	evidence.Checkpoint
	WitnessedSize uint64            // the largest size whose root a quorum signed
	Peers         map[string]Peer   // by institution
	Pending       int               // statements accepted and not yet in the log
	Faults        map[string]string // what is broken: store → sentence; empty when healthy
	CatchingUp    bool
	DiskFree      uint64 // bytes
}

// Peer is how this node sees another institution's node.
type Peer struct {
	Reachable     bool
	LastHeard     time.Time
	WitnessedSize uint64 // largest size it signed that reached us
	LastError     string
}

// Errors of Submit and the lookups.
var (
	ErrNotFound = errors.New("not in this log")
	ErrDiskFull = errors.New("the disk is full: nothing new is accepted until there is room; what was accepted stays served")
	ErrStopping = errors.New("the node is stopping")
)

// OverloadError asks the client to come back: the node has as much unproposed
// work as it may hold.
type OverloadError struct{ RetryAfter time.Duration }

func (e *OverloadError) Error() string {
	return fmt.Sprintf("the node is full: send it again in %s", e.RetryAfter)
}

// DamagedError says which store is broken and where; the node does not serve it.
type DamagedError struct{ Store, Detail string }

func (e *DamagedError) Error() string { return fmt.Sprintf("the %s is damaged: %s", e.Store, e.Detail) }
