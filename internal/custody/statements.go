package custody

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/client"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// State is how far a statement has come.
type State string

// The states, in order but for the last.
const (
	Received State = "received" // durable here, on its way
	Chained  State = "chained"  // it has a place in the log
	Final    State = "final"    // a quorum of institutions has signed for it
	Refused  State = "refused"  // the rules refuse it; it is in no log
)

// Deposit is a statement of a member and what became of it. Times are zero when
// they are not known.
type Deposit struct {
	Statement *evidence.Statement
	Trail     evidence.Digest
	Received  time.Time
	State     State
	Position  uint64    // from Chained on
	TreeSize  uint64    // from Final on
	NotBefore time.Time // time of the checkpoint that the statement names
	NotLater  time.Time // block time by which a quorum had signed
	Witnesses []string  // institutions whose receipts were seen
	Stamped   time.Time // when a timestamp token over it was seen
	Code      string    // why refused
	Reason    string
}

// Digest returns the statement's digest.
func (d *Deposit) Digest() evidence.Digest { return d.Statement.Digest() }

const (
	// maxWaiting statements of one member that are not final: a page waits for
	// each before it signs the next.
	maxWaiting = 100
	// clockAhead is what the chain allows (spec/statement.md): told here at once.
	clockAhead = 10 * time.Minute
)

// Accept keeps a statement that the member signed, durably, and returns it;
// Run sees it through. The same statement again is answered with what became of
// it. Refusals are *Refusal, and nothing is kept then; *UnavailableError says
// that the institutions could not be asked who holds the key.
func (c *Custody) Accept(ctx context.Context, member string, data []byte) (*Deposit, error) {
	s, err := evidence.ParseStatement(append([]byte{}, data...))
	if err != nil {
		code := "malformed"
		if f, ok := errors.AsType[*evidence.FormatError](err); ok {
			code = f.Code.String()
		}
		return nil, refuse(code, "%v", err)
	}
	if s.Issuer != member {
		return nil, refuse(RefuseMember, "the statement is in another member's name")
	}
	if known, err := c.known(ctx, member, s); err == nil || !errors.Is(err, ErrNotFound) {
		return known, err
	}
	if err := c.checkStatement(ctx, member, s); err != nil {
		return nil, err
	}
	trail, _ := s.Trail()
	defer c.trails.lock(trail.String())()
	if err := c.continues(ctx, member, s); err != nil {
		return nil, err
	}
	if err := c.insert(ctx, member, s); err != nil {
		if !store.IsDuplicate(err) {
			return nil, err
		}
		known, err := c.known(ctx, member, s) // the same page twice, or another process
		if errors.Is(err, ErrNotFound) {
			return nil, refuse(RefuseMoved, "another statement follows %s already", s.Prev)
		}
		return known, err
	}
	select {
	case c.wake <- struct{}{}:
	default: // Run will look anyway
	}
	return c.Deposit(ctx, member, s.Digest())
}

// known finds a statement of the member by what was signed. ErrNotFound.
func (c *Custody) known(ctx context.Context, member string, s *evidence.Statement) (*Deposit, error) {
	return one(c.query(ctx, `WHERE member = $1 AND id = $2`, member, s.ID().String()))
}

// checkStatement holds the rules that do not depend on the trail.
func (c *Custody) checkStatement(ctx context.Context, member string, s *evidence.Statement) error {
	if s.ContentType != evidence.TypeDeposit {
		return refuse(RefuseKind, "%s is no deposit", s.ContentType)
	}
	m, err := c.config.Alliance.Member(ctx, s.KID)
	switch {
	case errors.Is(err, client.ErrNotFound):
		return refuse(evidence.CodeUnknownKey.String(), "no member has the key %s", s.KID)
	case err != nil:
		return &UnavailableError{err}
	case m.Holder != member || m.OfNode || m.Passkey != nil:
		return refuse(RefuseMember, "the key is not one of this member's signing keys")
	case m.Revoked:
		return refuse(evidence.CodeRevokedKey.String(), "the key was revoked")
	}
	if n := len(m.Certificates); n > 0 {
		last := m.Certificates[0].NotAfter
		for _, cert := range m.Certificates {
			if cert.NotAfter.After(last) {
				last = cert.NotAfter
			}
		}
		if c.config.Now().After(last) {
			return refuse(RefuseExpired, "the key's certificate ended %s: renew it", last.UTC().Format(time.RFC3339))
		}
	}
	if err := m.Key.Verify(s.ToBeSigned(), s.Signature); err != nil {
		return refuse(evidence.CodeBadSignature.String(), "%v", err)
	}
	if s.IssuedAt > c.config.Now().Add(clockAhead).Unix() {
		return refuse(evidence.CodeClockAhead.String(), "the device's clock is more than ten minutes ahead: set it, and sign again")
	}
	manifest := fmt.Sprintf("objects/%x", s.Payload)
	if _, err := c.Size(ctx, member, manifest); errors.Is(err, ErrNotFound) {
		return refuse(RefuseManifest, "%s is not here: upload the manifest's ciphertext first", manifest)
	} else if err != nil {
		return err
	}
	var waiting int
	err = c.config.DB.QueryRow(ctx, `SELECT COUNT(*) FROM custody_statements WHERE member = $1 AND state IN ('received', 'chained')`, member).Scan(&waiting)
	if err != nil {
		return fmt.Errorf("counting what waits: %w", err)
	}
	if waiting >= maxWaiting {
		return refuse(RefuseTooMany, "%d statements wait", waiting)
	}
	return nil
}

// continues checks that a step names the last statement of a trail that its
// key may add to.
func (c *Custody) continues(ctx context.Context, member string, s *evidence.Statement) error {
	trail, _ := s.Trail()
	if s.Subject == evidence.SubjectNewTrail {
		return nil
	}
	end, err := c.end(ctx, member, trail, s.KID)
	if err != nil {
		return err
	}
	if end != s.Prev {
		return refuse(RefuseMoved, "the trail's last statement is %s: sign a step that names it", end)
	}
	return nil
}

// end returns the last statement of a trail: the last one here that may still
// be registered, or, when none waits, what the institutions have, which includes
// what the member added elsewhere.
func (c *Custody) end(ctx context.Context, member string, trail, kid evidence.Digest) (evidence.Digest, error) {
	rows, err := c.query(ctx, `WHERE member = $1 AND trail = $2 AND state <> 'refused' ORDER BY seq`, member, trail.String())
	if err != nil {
		return evidence.Digest{}, err
	}
	if len(rows) == 0 {
		return evidence.Digest{}, refuse(RefuseTrail, "this member has no trail %s here", trail)
	}
	if opening := rows[0].Statement; opening.Subject == evidence.SubjectNewTrail && opening.KID == kid && rows[len(rows)-1].State != Final {
		return rows[len(rows)-1].Digest(), nil
	}
	t, err := c.config.Alliance.Trail(ctx, trail)
	if err != nil {
		return evidence.Digest{}, &UnavailableError{err}
	}
	if owner, rights := t.Rights(kid); !owner && rights&evidence.RightAppend == 0 {
		return evidence.Digest{}, refuse(RefuseTrail, "the key may not add to this trail: open a new one, or authorise the key with the one that opened it")
	}
	last := rows[len(rows)-1].Digest()
	for _, step := range t.Steps {
		if step.Digest() == last {
			return t.Last(), nil
		}
	}
	return last, nil // the institution that answered is a moment behind
}

func (c *Custody) insert(ctx context.Context, member string, s *evidence.Statement) error {
	trail, _ := s.Trail()
	prev := ""
	if !s.Prev.IsZero() {
		prev = s.Prev.String()
	}
	err := c.config.DB.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO custody_statements
			(digest, id, seq, member, kid, trail, prev, manifest, statement, received, state, witnesses, code, reason)
			VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM custody_statements), $3, $4, $5, $6, $7, $8, $9, 'received', '', '', '')`,
			s.Digest().String(), s.ID().String(), member, s.KID.String(), trail.String(), prev, evidence.Digest(s.Payload).String(), s.Bytes(), c.now())
		return err
	})
	if err != nil {
		return fmt.Errorf("keeping a statement: %w", err)
	}
	return nil
}

const columns = `SELECT statement, trail, received, state, position, tree_size, not_before, not_later, witnesses, stamped, code, reason FROM custody_statements `

func (c *Custody) query(ctx context.Context, where string, args ...any) ([]Deposit, error) {
	all, err := store.Collect[Deposit](c.config.DB.Query(ctx, columns+where, args...))(scan)
	if err != nil {
		return nil, fmt.Errorf("reading statements: %w", err)
	}
	return all, nil
}

func scan(r *store.Rows) (d Deposit, err error) {
	var data []byte
	var trail, witnesses string
	var received int64
	var position, size, before, later, stamped *int64
	if err = r.Scan(&data, &trail, &received, &d.State, &position, &size, &before, &later, &witnesses, &stamped, &d.Code, &d.Reason); err != nil {
		return d, err
	}
	if d.Statement, err = evidence.ParseStatement(data); err != nil {
		return d, fmt.Errorf("a row's statement: %w", err)
	}
	if d.Trail, err = evidence.ParseDigest(trail); err != nil {
		return d, fmt.Errorf("a row's trail: %w", err)
	}
	at := func(ms *int64) time.Time {
		if ms == nil {
			return time.Time{}
		}
		return time.UnixMilli(*ms)
	}
	d.Received, d.NotBefore, d.NotLater, d.Stamped = at(&received), at(before), at(later), at(stamped)
	if position != nil {
		d.Position = uint64(*position)
	}
	if size != nil {
		d.TreeSize = uint64(*size)
	}
	d.Witnesses = strings.Fields(witnesses)
	return d, nil
}

func one(all []Deposit, err error) (*Deposit, error) {
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, ErrNotFound
	}
	return &all[0], nil
}

// Deposit returns one statement of the member. ErrNotFound.
func (c *Custody) Deposit(ctx context.Context, member string, digest evidence.Digest) (*Deposit, error) {
	return one(c.query(ctx, `WHERE member = $1 AND digest = $2`, member, digest.String()))
}

// Trail is a trail of a member as it was deposited here.
type Trail struct {
	Trail evidence.Digest
	Last  int64     // orders trails by what happened last; a cursor for Trails
	Steps []Deposit // in order; the first opened it, unless it was opened elsewhere
}

// Trails returns the member's trails, the one that was added to last first, at
// most limit of them and only those before the cursor (0: from the first).
func (c *Custody) Trails(ctx context.Context, member string, before int64, limit int) ([]Trail, error) {
	if before <= 0 {
		before = 1<<62 - 1
	}
	trails, err := store.Collect[Trail](c.config.DB.Query(ctx, `SELECT trail, MAX(seq) FROM custody_statements WHERE member = $1
		GROUP BY trail HAVING MAX(seq) < $2 ORDER BY MAX(seq) DESC LIMIT $3`, member, before, limit))(func(r *store.Rows) (t Trail, err error) {
		var name string
		if err = r.Scan(&name, &t.Last); err == nil {
			t.Trail, err = evidence.ParseDigest(name)
		}
		return t, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading trails: %w", err)
	}
	for i := range trails {
		if trails[i].Steps, err = c.query(ctx, `WHERE member = $1 AND trail = $2 ORDER BY seq`, member, trails[i].Trail.String()); err != nil {
			return nil, err
		}
	}
	return trails, nil
}

// Trail returns one trail of the member. ErrNotFound.
func (c *Custody) Trail(ctx context.Context, member string, trail evidence.Digest) (*Trail, error) {
	steps, err := c.query(ctx, `WHERE member = $1 AND trail = $2 ORDER BY seq`, member, trail.String())
	if err != nil {
		return nil, err
	}
	if len(steps) == 0 {
		return nil, ErrNotFound
	}
	return &Trail{Trail: trail, Steps: steps}, nil
}

// Next is what a statement of the trail has to name.
type Next struct {
	Prev  evidence.Digest // zero: it opens a trail
	After []byte          // cosigned checkpoint
}

// Next returns what the next statement of a trail has to name, or one that
// opens a trail when trail is zero. *Refusal when the key may not add to it.
func (c *Custody) Next(ctx context.Context, member string, trail, kid evidence.Digest) (*Next, error) {
	var n Next
	var err error
	if !trail.IsZero() {
		if n.Prev, err = c.end(ctx, member, trail, kid); err != nil {
			return nil, err
		}
	}
	cp, err := c.config.Alliance.Checkpoint(ctx)
	if err != nil {
		return nil, &UnavailableError{err}
	}
	n.After = cp.Encode()
	return &n, nil
}

// Parts gathers the package of the member's trail, all but its plaintext.
// ErrNotFound, *UnavailableError.
func (c *Custody) Parts(ctx context.Context, member string, trail evidence.Digest, passkeys []evidence.Digest) (*evidence.PackageParts, error) {
	if _, err := c.Trail(ctx, member, trail); err != nil {
		return nil, err
	}
	t, err := c.config.Alliance.Trail(ctx, trail)
	if err != nil {
		return nil, &UnavailableError{err}
	}
	parts, err := c.config.Alliance.Parts(ctx, t, passkeys)
	if err != nil {
		return nil, &UnavailableError{err}
	}
	return parts, nil
}
