package custody

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// Alliance is what custody asks the institutions: *client.Client, with the
// institution's statement key as signer.
type Alliance interface {
	Member(ctx context.Context, kid evidence.Digest) (*client.Member, error)
	Checkpoint(ctx context.Context) (*evidence.CosignedCheckpoint, error)
	CheckpointAt(ctx context.Context, size uint64) (*evidence.CosignedCheckpoint, error)
	Submit(ctx context.Context, statement []byte) (*client.Outcome, error)
	Lookup(ctx context.Context, entry evidence.Digest) (*client.Record, error)
	Deposit(ctx context.Context, statement []byte) (*client.Final, error)
	AwaitTimestamp(ctx context.Context, position uint64, wait time.Duration) (stamped, asking bool, err error)
	Trail(ctx context.Context, trail evidence.Digest) (*client.Trail, error)
	Parts(ctx context.Context, t *client.Trail, passkeys []evidence.Digest) (*evidence.PackageParts, error)
}

// Config of a Custody. DB, Dir and Alliance are required.
type Config struct {
	DB       *store.DB
	Dir      string // of the members' ciphertext, one folder a member
	Alliance Alliance
	Quota    int64         // bytes of ciphertext a member may keep (10 GiB)
	MaxBlob  int64         // bytes of one blob (4 GiB: an hour of video)
	Retry    time.Duration // between attempts when no institution answers (5 s)
	Logger   *slog.Logger  // nil: nothing is logged
	Now      func() time.Time
}

// Custody keeps members' deposits. It is safe for concurrent use.
type Custody struct {
	config Config
	blobs  *blobs
	wake   chan struct{} // there may be statements to submit
	trails locks         // by name: one statement at a time finds out where its trail ends
}

// Errors that callers tell apart. ErrNotFound is also what another member's
// things answer.
var (
	ErrNotFound = errors.New("there is no such thing of this member")
	ErrExist    = errors.New("a blob of this name is kept already")
)

// Refusal says why something that a member sent is not taken. Code is one of
// the Refuse constants or of evidence.Code's names; Detail is for logs and
// programmers, in English.
type Refusal struct {
	Code   string
	Detail string
}

func (r *Refusal) Error() string { return r.Code + ": " + r.Detail }

// Why custody refuses by itself. Statements may also be refused with the names
// of evidence.Code, before they are kept or, by the chain, after.
const (
	RefuseName       = "blob-name"        // no name that a vault gives
	RefusePiece      = "piece"            // its bytes are not those declared
	RefuseLarge      = "too-large"        // a piece or blob
	RefuseQuota      = "quota"            // all that the member may keep
	RefuseBlob       = "blob-form"        // a head or grant that fits no object here
	RefuseKind       = "kind"             // no deposit
	RefuseMember     = "not-your-key"     // signed by, or in the name of, somebody else
	RefuseExpired    = "expired-key"      // its last certificate has ended
	RefuseManifest   = "manifest-missing" // the manifest's ciphertext is not here
	RefuseTrail      = "not-your-trail"   // the key may not add to it
	RefuseMoved      = "trail-moved"      // prev is not the trail's last statement
	RefuseTooMany    = "too-many"         // statements that wait
	RefusePrevious   = "previous-refused" // the statement before it was refused
	RefuseRegistered = "registered"       // the log has the same content under another signature
)

func refuse(code, format string, args ...any) error {
	return &Refusal{code, fmt.Sprintf(format, args...)}
}

// OffsetError says how many bytes of a blob are here, where the next piece has
// to begin.
type OffsetError struct{ Have int64 }

func (e *OffsetError) Error() string {
	return fmt.Sprintf("%d bytes of the blob are here: send the piece that begins there", e.Have)
}

// UnavailableError says that no institution could be asked: nothing was kept,
// the same request may be sent again.
type UnavailableError struct{ Err error }

func (e *UnavailableError) Error() string { return "asking the institutions: " + e.Err.Error() }

// Unwrap returns what the client said.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Open makes the folder when it is missing. Close it after use, and Run it for
// statements to leave.
func Open(c Config) (*Custody, error) {
	if c.DB == nil || c.Dir == "" || c.Alliance == nil {
		return nil, errors.New("opening custody: database, folder and alliance are required")
	}
	if c.Quota == 0 {
		c.Quota = 10 << 30
	}
	if c.MaxBlob == 0 {
		c.MaxBlob = 4 << 30
	}
	if c.Retry == 0 {
		c.Retry = 5 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening custody: %w", err)
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return nil, fmt.Errorf("opening custody: %w", err)
	}
	return &Custody{config: c, blobs: &blobs{dir: c.Dir, root: root}, wake: make(chan struct{}, 1)}, nil
}

// Close lets go of the folder. Run must have returned.
func (c *Custody) Close() error { return c.blobs.root.Close() }

func (c *Custody) now() int64 { return c.config.Now().UnixMilli() }
