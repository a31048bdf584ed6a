package identity

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-webauthn/webauthn/protocol"
	"github.com/go-webauthn/webauthn/webauthn"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/store"
)

// What a caller tells apart with errors.Is. The pages say each in the reader's
// language, with the next step.
var (
	ErrUnknown    = errors.New("there is no such entry")                            // also for what is another's: the two look the same
	ErrForbidden  = errors.New("this person may not do this")                       // no role, no mandate, her own application
	ErrState      = errors.New("the entry is not in a state that allows this")      // decided already, revoked, not submitted
	ErrTaken      = errors.New("this key or credential is registered already")      //
	ErrDocument   = errors.New("this document is registered for somebody else")     // to the person whose document was verified, and to officers
	ErrLevel      = errors.New("the person is not identified well enough for this") // apply at the desk first
	ErrPermission = errors.New("confirm with a passkey first")                      // or with a recovery code
	ErrCeremony   = errors.New("the confirmation does not count")                   // expired, used, another session's, or wrong
	ErrConflict   = errors.New("sign-in and register disagree about who this is")   // another document than the one registered
)

// Who acts: the caller vouches for it.
type Who struct {
	Person  string // id
	Session string // an id of the session, not its token; ceremonies count in it alone
	Address string // network address, for lock-outs
}

// Role of an officer.
type Role string

// The roles.
const (
	RoleRA       Role = "ra"       // decides about applications
	RoleOperator Role = "operator" // looks at the node's state
)

// Officer gives roles to whoever signs in as this subject of this issuer.
type Officer struct {
	Issuer, Subject string
	Roles           []Role
}

// Config of a Register.
type Config struct {
	DB       *store.DB
	Keys     *store.Keys
	Chain    Chain  // nil: statements wait
	Origin   string // of the portal, such as https://portal.example; its host is the WebAuthn RP ID
	Name     string // of the institution, shown by authenticators
	Demo     bool   // identities are a demonstration's
	Officers []Officer
	Now      func() time.Time // nil: time.Now
}

// Register is the register of one institution.
type Register struct {
	db    *store.DB
	keys  *store.Keys
	chain Chain
	auth  *webauthn.WebAuthn
	rpID  string
	demo  bool
	roles map[string][]Role // by hex blind identity
	now   func() time.Time

	delivering sync.Mutex // one delivery at a time, in order
	wake       chan struct{}
}

// New returns a register over an open database.
func New(c Config) (*Register, error) {
	u, err := url.Parse(c.Origin)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Hostname() != "localhost" {
		return nil, fmt.Errorf("the origin %q is neither https://HOST nor http://localhost:PORT: browsers offer passkeys on those alone", c.Origin)
	}
	if c.DB == nil || c.Keys == nil {
		return nil, errors.New("the register needs a database and its keys")
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Name == "" {
		c.Name = u.Hostname()
	}
	auth, err := webauthn.New(&webauthn.Config{
		RPID:                  u.Hostname(),
		RPDisplayName:         c.Name,
		RPOrigins:             []string{u.Scheme + "://" + u.Host},
		AttestationPreference: protocol.PreferNoAttestation,
		AuthenticatorSelection: protocol.AuthenticatorSelection{
			ResidentKey:        protocol.ResidentKeyRequirementPreferred,
			RequireResidentKey: protocol.ResidentKeyNotRequired(),
			UserVerification:   protocol.VerificationRequired,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("passkeys for %s: %w", c.Origin, err)
	}
	r := &Register{db: c.DB, keys: c.Keys, chain: c.Chain, auth: auth, rpID: u.Hostname(), demo: c.Demo, roles: map[string][]Role{}, now: c.Now, wake: make(chan struct{}, 1)}
	for _, o := range c.Officers {
		id := r.identity(o.Issuer, o.Subject)
		r.roles[id] = append(r.roles[id], o.Roles...)
	}
	return r, nil
}

// RelyingParty returns the WebAuthn RP ID.
func (r *Register) RelyingParty() string { return r.rpID }

// SealedColumns lists what Keys.Reseal has to go through.
func SealedColumns() []store.Column {
	return []store.Column{
		{Table: "sessions", Column: "data", Row: "token"},
		{Table: "signins", Column: "subject", Row: "identity"},
		{Table: "facts", Column: "value", Row: "id"},
		{Table: "members", Column: "detail", Row: "id"},
		{Table: "member_keys", Column: "label", Row: "kid"},
		{Table: "member_keys", Column: "recipient", Row: "kid"},
		{Table: "passkeys", Column: "label", Row: "kid"},
		{Table: "passkeys", Column: "record", Row: "kid"},
		{Table: "ceremonies", Column: "data", Row: "id"},
		{Table: "applications", Column: "body", Row: "id"},
		{Table: "applications", Column: "reply", Row: "id"},
		{Table: "documents", Column: "name", Row: "id"},
		{Table: "documents", Column: "content", Row: "id"},
		{Table: "accesses", Column: "purpose", Row: "seq"},
	}
}

// newID returns prefix and 26 random characters of lower-case base32: 130 bits.
func newID(prefix string) string { return prefix + random(26) }

func random(n int) string {
	raw := make([]byte, (n*5+7)/8)
	rand.Read(raw)
	return strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))[:n]
}

// blindID joins values unambiguously and blinds them.
func (r *Register) blindID(purpose string, values ...string) []byte {
	var b strings.Builder
	for _, v := range values {
		fmt.Fprintf(&b, "%d:%s", len(v), v)
	}
	return r.keys.Blind(purpose, b.String())
}

func (r *Register) identity(issuer, subject string) string {
	return hex.EncodeToString(r.blindID("sign-in", issuer, subject))
}

func (r *Register) millis() int64 { return r.now().UnixMilli() }

func fromMillis(n *int64) time.Time {
	if n == nil {
		return time.Time{}
	}
	return time.UnixMilli(*n)
}

// one scans a row; no row is ErrUnknown.
func one(row *store.Row, to ...any) error {
	err := row.Scan(to...)
	if errors.Is(err, store.ErrNone) {
		return ErrUnknown
	}
	return err
}

func digestOf(b []byte) (d evidence.Digest, err error) {
	if len(b) != len(d) {
		return d, fmt.Errorf("a digest of %d bytes in the database", len(b))
	}
	return evidence.Digest(b), nil
}

// Sweep removes ceremonies and permissions that have expired, and ends mandates
// that are over.
func (r *Register) Sweep(ctx context.Context) error {
	err := r.db.In(ctx, func(tx *store.Tx) error {
		now := r.millis()
		for _, q := range []string{"DELETE FROM ceremonies WHERE expires <= $1", "DELETE FROM permissions WHERE expires <= $1"} {
			if _, err := tx.Exec(ctx, q, now); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "DELETE FROM lockouts WHERE last <= $1 AND until <= $2", now-lockoutMemory.Milliseconds(), now)
		return err
	})
	if err != nil {
		return fmt.Errorf("removing what has expired: %w", err)
	}
	return r.endMandates(ctx)
}

// Run delivers what waits for the chain and sweeps, until ctx ends. failed hears
// of what did not work and will be tried again; it may be nil.
func (r *Register) Run(ctx context.Context, failed func(error)) error {
	retry := time.NewTicker(2 * time.Second) // a node that restarts is back within a few
	defer retry.Stop()
	sweep := time.NewTicker(time.Minute)
	defer sweep.Stop()
	// A mandate that ended while nobody ran ends before anything else goes out.
	if err := r.Sweep(ctx); err != nil && ctx.Err() == nil && failed != nil {
		failed(err)
	}
	for {
		if err := r.Deliver(ctx); err != nil && ctx.Err() == nil && failed != nil {
			failed(err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.wake:
		case <-retry.C:
		case <-sweep.C:
			if err := r.Sweep(ctx); err != nil && ctx.Err() == nil && failed != nil {
				failed(err)
			}
		}
	}
}
