package ca

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// State is how far a certificate or a revocation has come.
type State string

// The states, in their order; refused takes the place of issued.
const (
	Intended State = "intended" // the register knows it; nothing else does
	Signed   State = "signed"   // certificate and statement are in the register
	Issued   State = "issued"   // on the chain; the certificate may be handed out
	Refused  State = "refused"  // the chain refuses it for good; it counts as revoked
	Revoked  State = "revoked"  // of revocations: on the chain
)

// Role is whom a certificate is for.
type Role string

// The roles.
const (
	RoleMember    Role = "member"
	RoleResponder Role = "responder" // the authority's own, for OCSP; on no chain
)

// Entry is one certificate in the register.
type Entry struct {
	Serial    *big.Int
	Issuer    string // kid of the CA key
	Role      Role
	Request   evidence.Digest
	Key       *evidence.PublicKey
	Subject   Subject
	NotBefore int64 // Unix seconds, both included
	NotAfter  int64
	State     State
	DER       []byte // nil while intended
	Statement []byte // registered bytes, nil while intended
	Position  uint64 // in the log, once issued
	Reason    string // why refused
	Changed   time.Time
}

// Revocation is one revoked key in the register.
type Revocation struct {
	KID       evidence.Digest
	Reason    int // CRLReason, RFC 5280 §5.3.1
	State     State
	Statement []byte // nil when the key's holder revoked it
	Position  uint64
	At        time.Time // block time once revoked, before that of the intent
}

// Register is the CA's part of the application database. Each method is one
// transaction; what it returned without an error is on disk.
type Register struct {
	db  *store.DB
	now func() time.Time
}

// NewRegister uses a database that store.Open made.
func NewRegister(db *store.DB, now func() time.Time) *Register {
	if now == nil {
		now = time.Now
	}
	return &Register{db, now}
}

// ErrUnknown: the register has no such certificate or revocation.
var ErrUnknown = errors.New("the register of certificates has no such entry")

// errMoved: another process took the same step.
var errMoved = errors.New("the register changed meanwhile")

const entryColumns = `serial, issuer, role, request, public_key, member, kind, assurance, demo, organization, not_before, not_after, state, der, statement, position, reason, changed`

func serialText(n *big.Int) string { return SerialHex(n) }

// scanner is a row of either kind.
type scanner interface{ Scan(...any) error }

func scanEntry(row scanner) (*Entry, error) {
	var (
		e                      Entry
		serial, request        string
		spki                   []byte
		kind, assurance, demo  int64
		position               *int64
		changed                int64
		role, state, org, mber string
	)
	err := row.Scan(&serial, &e.Issuer, &role, &request, &spki, &mber, &kind, &assurance, &demo, &org,
		&e.NotBefore, &e.NotAfter, &state, &e.DER, &e.Statement, &position, &e.Reason, &changed)
	if err != nil {
		return nil, err
	}
	e.Role, e.State, e.Changed = Role(role), State(state), time.UnixMilli(changed)
	e.Subject = Subject{Member: mber, Kind: evidence.MemberKind(kind), Assurance: int(assurance), Demo: demo != 0, Organization: org}
	if position != nil {
		e.Position = uint64(*position)
	}
	var ok bool
	if e.Serial, ok = new(big.Int).SetString(serial, 16); !ok {
		return nil, fmt.Errorf("the register has a serial number %.60q", serial)
	}
	if e.Request, err = evidence.ParseDigest(request); err != nil {
		return nil, fmt.Errorf("request of certificate %s: %w", serial, err)
	}
	if e.Key, err = evidence.ParsePublicKey(spki); err != nil {
		return nil, fmt.Errorf("key of certificate %s: %w", serial, err)
	}
	return &e, nil
}

// intend records a certificate that is to be signed. When the request was used
// before, it returns that entry instead, and nothing is recorded.
func (r *Register) intend(ctx context.Context, e *Entry) (earlier *Entry, err error) {
	err = r.db.In(ctx, func(tx *store.Tx) error {
		earlier, err = scanEntry(tx.QueryRow(ctx, "SELECT "+entryColumns+" FROM ca_certificates WHERE request = $1", e.Request.String()))
		if !errors.Is(err, store.ErrNone) {
			return err
		}
		earlier = nil
		_, err := tx.Exec(ctx, `INSERT INTO ca_certificates (serial, issuer, role, request, kid, public_key, member, kind, assurance, demo, organization, not_before, not_after, state, reason, changed)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, '', $15)`,
			serialText(e.Serial), e.Issuer, string(e.Role), e.Request.String(), e.Key.KID().String(), e.Key.DER(), e.Subject.Member,
			int64(e.Subject.Kind), e.Subject.Assurance, number(e.Subject.Demo), e.Subject.Organization, e.NotBefore, e.NotAfter, string(Intended), r.now().UnixMilli())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("recording the intent to issue: %w", err)
	}
	return earlier, nil
}

func number(b bool) int {
	if b {
		return 1
	}
	return 0
}

// advance writes what e became, if the register still has it in state from.
func (r *Register) advance(ctx context.Context, e *Entry, from State) error {
	err := r.db.In(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, `UPDATE ca_certificates SET state = $1, der = $2, statement = $3, position = $4, reason = $5, changed = $6 WHERE serial = $7 AND state = $8`,
			string(e.State), e.DER, e.Statement, int64(e.Position), e.Reason, r.now().UnixMilli(), serialText(e.Serial), string(from))
		if err == nil && n != 1 {
			return errMoved
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("recording certificate %x as %s: %w", e.Serial, e.State, err)
	}
	return nil
}

func (r *Register) entry(ctx context.Context, where string, args ...any) (*Entry, error) {
	e, err := scanEntry(r.db.QueryRow(ctx, "SELECT "+entryColumns+" FROM ca_certificates WHERE "+where, args...))
	if errors.Is(err, store.ErrNone) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("reading the register of certificates: %w", err)
	}
	return e, nil
}

func (r *Register) entries(ctx context.Context, where string, args ...any) ([]*Entry, error) {
	list, err := store.Collect[*Entry](r.db.Query(ctx, "SELECT "+entryColumns+" FROM ca_certificates WHERE "+where, args...))(func(rows *store.Rows) (*Entry, error) { return scanEntry(rows) })
	if err != nil {
		return nil, fmt.Errorf("reading the register of certificates: %w", err)
	}
	return list, nil
}

// BySerial returns the entry of a serial number, or ErrUnknown.
func (r *Register) BySerial(ctx context.Context, serial *big.Int) (*Entry, error) {
	return r.entry(ctx, "serial = $1", serialText(serial))
}

// ByKey returns the entries of a key, the newest first.
func (r *Register) ByKey(ctx context.Context, kid evidence.Digest) ([]*Entry, error) {
	return r.entries(ctx, "kid = $1 ORDER BY not_after DESC, serial", kid.String())
}

// ByMember returns the entries of a member, the newest first.
func (r *Register) ByMember(ctx context.Context, member string) ([]*Entry, error) {
	return r.entries(ctx, "role = 'member' AND member = $1 ORDER BY not_after DESC, serial", member)
}

// All returns members' entries, the last changed first, at most limit.
func (r *Register) All(ctx context.Context, limit int) ([]*Entry, error) {
	return r.entries(ctx, "role = 'member' ORDER BY changed DESC, serial LIMIT $1", limit)
}

// unfinished returns what a power cut left between two steps.
func (r *Register) unfinished(ctx context.Context) ([]*Entry, error) {
	return r.entries(ctx, "role = 'member' AND state IN ('intended', 'signed') ORDER BY changed, serial")
}

// live returns members' entries that are issued and not past their end.
func (r *Register) live(ctx context.Context) ([]*Entry, error) {
	return r.entries(ctx, "role = 'member' AND state = 'issued' AND not_after >= $1 ORDER BY serial", r.now().Unix())
}

// lastEnd returns when the last of an issuer's certificates for members ends, in
// Unix seconds, and 0 when there is none.
func (r *Register) lastEnd(ctx context.Context, issuer string) (end int64, err error) {
	if err := r.db.QueryRow(ctx, "SELECT COALESCE(MAX(not_after), 0) FROM ca_certificates WHERE issuer = $1 AND role = 'member'", issuer).Scan(&end); err != nil {
		return 0, fmt.Errorf("reading the register of certificates: %w", err)
	}
	return end, nil
}

const revocationColumns = "kid, reason, state, statement, position, at"

func scanRevocation(row scanner) (*Revocation, error) {
	var v Revocation
	var kid, state string
	var position *int64
	var at int64
	if err := row.Scan(&kid, &v.Reason, &state, &v.Statement, &position, &at); err != nil {
		return nil, err
	}
	v.State, v.At = State(state), time.Unix(at, 0).UTC()
	if position != nil {
		v.Position = uint64(*position)
	}
	var err error
	v.KID, err = evidence.ParseDigest(kid)
	return &v, err
}

// Revocation returns what the register has on a key, or ErrUnknown.
func (r *Register) Revocation(ctx context.Context, kid evidence.Digest) (*Revocation, error) {
	v, err := scanRevocation(r.db.QueryRow(ctx, "SELECT "+revocationColumns+" FROM ca_revocations WHERE kid = $1", kid.String()))
	if errors.Is(err, store.ErrNone) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("reading the register of revocations: %w", err)
	}
	return v, nil
}

// intendRevocation records a revocation that is to be sent. When there is one
// of this key, it returns that one, and nothing is recorded.
func (r *Register) intendRevocation(ctx context.Context, v *Revocation) (earlier *Revocation, err error) {
	err = r.db.In(ctx, func(tx *store.Tx) error {
		earlier, err = scanRevocation(tx.QueryRow(ctx, "SELECT "+revocationColumns+" FROM ca_revocations WHERE kid = $1", v.KID.String()))
		if !errors.Is(err, store.ErrNone) {
			return err
		}
		earlier = nil
		_, err := tx.Exec(ctx, "INSERT INTO ca_revocations (kid, reason, state, statement, at, changed) VALUES ($1, $2, $3, $4, $5, $6)",
			v.KID.String(), v.Reason, string(Intended), v.Statement, v.At.Unix(), r.now().UnixMilli())
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("recording the intent to revoke: %w", err)
	}
	return earlier, nil
}

// revoked records what the chain says of a key.
func (r *Register) revoked(ctx context.Context, v *Revocation) error {
	err := r.db.In(ctx, func(tx *store.Tx) error {
		n, err := tx.Exec(ctx, "UPDATE ca_revocations SET reason = $1, state = $2, position = $3, at = $4, changed = $5 WHERE kid = $6",
			v.Reason, string(Revoked), int64(v.Position), v.At.Unix(), r.now().UnixMilli(), v.KID.String())
		if err != nil || n == 1 {
			return err
		}
		_, err = tx.Exec(ctx, "INSERT INTO ca_revocations (kid, reason, state, position, at, changed) VALUES ($1, $2, $3, $4, $5, $6)",
			v.KID.String(), v.Reason, string(Revoked), int64(v.Position), v.At.Unix(), r.now().UnixMilli())
		return err
	})
	if err != nil {
		return fmt.Errorf("recording that key %s is revoked: %w", v.KID, err)
	}
	return nil
}

// withdraw forgets a revocation that the chain refused.
func (r *Register) withdraw(ctx context.Context, kid evidence.Digest) error {
	return r.db.In(ctx, func(tx *store.Tx) error {
		_, err := tx.Exec(ctx, "DELETE FROM ca_revocations WHERE kid = $1 AND state = 'intended'", kid.String())
		return err
	})
}

// unfinishedRevocations returns those that were not seen on the chain.
func (r *Register) unfinishedRevocations(ctx context.Context) ([]*Revocation, error) {
	return store.Collect[*Revocation](r.db.Query(ctx, "SELECT "+revocationColumns+" FROM ca_revocations WHERE state = 'intended' ORDER BY changed, kid"))(func(rows *store.Rows) (*Revocation, error) { return scanRevocation(rows) })
}

// list is a certificate revocation list in the register.
type list struct {
	Number                 int64
	ThisUpdate, NextUpdate time.Time
	DER                    []byte
}

// takeNumber reserves the next number of an issuer's lists: the Unix time in
// seconds, or one above the last, so that numbers grow also when the database is
// an older backup.
func (r *Register) takeNumber(ctx context.Context, issuer string, this, next time.Time) (n int64, err error) {
	err = r.db.In(ctx, func(tx *store.Tx) error {
		if err := tx.QueryRow(ctx, "SELECT COALESCE(MAX(number), 0) + 1 FROM ca_lists WHERE issuer = $1", issuer).Scan(&n); err != nil {
			return err
		}
		n = max(n, this.Unix())
		_, err := tx.Exec(ctx, "INSERT INTO ca_lists (issuer, number, this_update, next_update) VALUES ($1, $2, $3, $4)", issuer, n, this.Unix(), next.Unix())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("taking the number of a revocation list: %w", err)
	}
	return n, nil
}

// keepList stores a signed list and drops the ones before it.
func (r *Register) keepList(ctx context.Context, issuer string, n int64, der []byte) error {
	err := r.db.In(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec(ctx, "UPDATE ca_lists SET der = $1 WHERE issuer = $2 AND number = $3", der, issuer, n); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM ca_lists WHERE issuer = $1 AND number < $2", issuer, n)
		return err
	})
	if err != nil {
		return fmt.Errorf("storing revocation list %d: %w", n, err)
	}
	return nil
}

// lastList returns the newest signed list of an issuer, or ErrUnknown.
func (r *Register) lastList(ctx context.Context, issuer string) (*list, error) {
	var l list
	var this, next int64
	err := r.db.QueryRow(ctx, "SELECT number, this_update, next_update, der FROM ca_lists WHERE issuer = $1 AND der IS NOT NULL ORDER BY number DESC LIMIT 1", issuer).Scan(&l.Number, &this, &next, &l.DER)
	if errors.Is(err, store.ErrNone) {
		return nil, ErrUnknown
	}
	if err != nil {
		return nil, fmt.Errorf("reading the last revocation list: %w", err)
	}
	l.ThisUpdate, l.NextUpdate = time.Unix(this, 0).UTC(), time.Unix(next, 0).UTC()
	return &l, nil
}

// SerialHex writes a serial number as openssl does, without separators.
func SerialHex(n *big.Int) string { return hex.EncodeToString(n.Bytes()) }
