package verify

import (
	"context"

	"github.com/zhenglian/zhenglian/evidence"
)

// Options say whom to trust. The zero value trusts nobody: the report can then
// say at most "consistent, issuer not established".
type Options struct {
	// Policy is the verifier's own list of institution keys.
	Policy *evidence.Policy
	// Alliance pins an alliance by its id instead: the founding document in the
	// package is trusted if, and only if, it has this digest. With a Policy as
	// well, both must name the same alliance.
	Alliance *evidence.Digest
	// Log is the court's own copy of the log, where the verifier has one.
	Log LogView
	// Progress, if set, is told how many bytes of the package were read, of how
	// many in all. It is called from the goroutine of Check.
	Progress func(done, total int64)
}

// LogView is a verifier's own copy of the log. It is trusted. An error means
// that the log could not be asked; Check then returns it, since a court must
// not decide on half of its log.
type LogView interface {
	// Institution is the id of the institution whose copy this is.
	Institution() string
	// Checkpoint is the size and root as of which all other methods answer.
	Checkpoint(ctx context.Context) (evidence.Checkpoint, error)
	// Root returns the root at a size; known is false for a size beyond the log.
	Root(ctx context.Context, size uint64) (root evidence.Digest, known bool, err error)
	// Lookup finds an entry (a statement's digest).
	Lookup(ctx context.Context, entry evidence.Digest) (position uint64, known bool, err error)
	// Trail lists the statements of a trail in ascending position; none when
	// the log has no such trail.
	Trail(ctx context.Context, trail evidence.Digest) ([]LogEntry, error)
	// Statement returns the registered bytes at a position of the log.
	Statement(ctx context.Context, position uint64) ([]byte, error)
	// Key returns what the registry knows of a member's or institution's key.
	Key(ctx context.Context, kid evidence.Digest) (status KeyStatus, known bool, err error)
}

// LogEntry is one statement's place in the log.
type LogEntry struct {
	Position uint64
	Entry    evidence.Digest
}

// KeyStatus is a key's entry in the registry.
type KeyStatus struct {
	Key         *evidence.PublicKey
	Holder      string // member or institution id
	Institution bool   // an institution's statement key
	Kind        string // as in Who
	Assurance   int
	Demo        bool
	Commitment  evidence.Digest // zero when not known
	Genesis     bool            // known from the founding on
	EnrolledAt  uint64          // position of the enrolment
	Revoked     bool
	RevokedAt   uint64 // position of the revocation
	// Passkey is what its statement at EnrolledAt says; nil for keys that sign
	// statements.
	Passkey *evidence.Passkey
}
