package ca

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
)

// Chain is the alliance as the authority needs it: its own node, through which
// statements become final, and what the registry of keys says.
type Chain interface {
	// Register sends a statement and returns its position once receipts of a
	// quorum prove it final. The same bytes may be sent again. An error that is a
	// *RefusedError is for good.
	Register(ctx context.Context, statement []byte) (position uint64, err error)
	// Key returns what the registry knows of a member's key. A key that it does
	// not know gives a Key with an empty Member.
	Key(ctx context.Context, kid evidence.Digest) (*Key, error)
}

// Key is a member's key in the registry of the chain.
type Key struct {
	Member     string
	EnrolledBy string // institution id
	Kind       evidence.MemberKind
	Assurance  int
	Demo       bool

	Revoked   bool
	Reason    int // CRLReason
	RevokedAt time.Time
	Position  uint64 // of the revocation
}

// RefusedError says that the rules of the chain refuse a statement.
type RefusedError struct {
	Code   string // of the rule
	Reason string
}

func (e *RefusedError) Error() string {
	return fmt.Sprintf("the rules of the chain refuse it (%s): %s", e.Code, e.Reason)
}

// SubjectError says why a key gets no certificate, or not this one.
type SubjectError struct {
	Code   SubjectCode
	Reason string
}

// SubjectCode names a reason, for translation.
type SubjectCode string

// The reasons.
const (
	SubjectNotEnrolled SubjectCode = "not-enrolled" // no member of this institution's has the key
	SubjectDiffers     SubjectCode = "differs"      // the registry says otherwise than the caller
	SubjectRevoked     SubjectCode = "revoked"
	SubjectNoCA        SubjectCode = "no-ca"    // the institution has no CA for keys of this algorithm
	SubjectValidity    SubjectCode = "validity" // outside of MinValidity to MaxValidity
	SubjectUsed        SubjectCode = "used"     // the request's certificate has ended or was refused
	SubjectNone        SubjectCode = "none"     // there is no certificate to renew
	SubjectReason      SubjectCode = "reason"   // no CRLReason for revocations that are for good
)

func (e *SubjectError) Error() string { return e.Reason }

func refuse(code SubjectCode, format string, args ...any) error {
	return &SubjectError{code, fmt.Sprintf(format, args...)}
}

// PendingError says that a certificate or a revocation is recorded and not final
// on the chain yet: the same call, or Resume, finishes it.
type PendingError struct {
	Serial *big.Int // nil for a revocation
	Err    error
}

func (e *PendingError) Error() string {
	return "it is recorded and will be finished, but the chain has not confirmed it yet: " + e.Err.Error()
}
func (e *PendingError) Unwrap() error { return e.Err }

// Config says how an institution issues.
type Config struct {
	Institution   string    // id, the issuer of its statements
	Issuers       []*Issuer // of P-256, and of SM2 where SM2 keys get certificates; the present and the former ones
	Register      *Register
	Chain         Chain
	Statement     evidence.Signer // the institution's statement key
	URL           string          // where Handler is reached, without a final "/", as it stands in certificates
	Demonstration bool
	// PolicyArc is the arc under which the policies of the assurance levels are;
	// empty means ExamplePolicyArc, which only a demonstration may use.
	PolicyArc string
	// Names puts an enterprise's name into its certificates. Off, they hold the
	// pseudonymous member id alone.
	Names bool
	// ListValidity is how long a revocation list is good for, a day when zero. A
	// new one is signed at half of that and after each revocation.
	ListValidity time.Duration
	// SyncInterval is how often Run asks the chain; five minutes when zero. OCSP
	// answers "try later" when the last time is more than three intervals ago.
	SyncInterval time.Duration
	Now          func() time.Time
	Logger       *slog.Logger
}

// Authority issues and revokes. It is safe for concurrent use; several
// processes may share a register.
type Authority struct {
	cfg     Config
	present map[evidence.Algorithm]*Issuer // of Config.Issuers, the newest of each

	mu         sync.Mutex
	synced     time.Time
	responders map[string]*responder // by issuer
	lists      sync.Mutex            // one list is signed at a time
}

// New checks the configuration. It reads nothing and starts nothing.
func New(cfg Config) (*Authority, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.ListValidity == 0 {
		cfg.ListValidity = 24 * time.Hour
	}
	if cfg.SyncInterval == 0 {
		cfg.SyncInterval = 5 * time.Minute
	}
	if cfg.PolicyArc == "" {
		cfg.PolicyArc = ExamplePolicyArc
	}
	if err := checkArc(cfg.PolicyArc, cfg.Demonstration); err != nil {
		return nil, err
	}
	if len(cfg.Issuers) == 0 || cfg.Register == nil || cfg.Chain == nil || cfg.Statement == nil || cfg.URL == "" || cfg.Institution == "" {
		return nil, errors.New("a certification authority needs a CA key, a register, the chain, a statement key, an address and its institution's id")
	}
	cfg.URL = strings.TrimRight(cfg.URL, "/")
	a := &Authority{cfg: cfg, present: map[evidence.Algorithm]*Issuer{}, responders: map[string]*responder{}}
	names := map[string]bool{}
	for _, i := range cfg.Issuers {
		if names[i.Name()] {
			return nil, fmt.Errorf("two CA keys called %s are given", i.Name())
		}
		names[i.Name()] = true
		if p := a.present[i.public.Algorithm()]; p == nil || p.Generation < i.Generation {
			a.present[i.public.Algorithm()] = i
		}
	}
	for _, i := range a.present {
		if i.Key == nil {
			return nil, &KeyGoneError{i.Name()}
		}
	}
	return a, nil
}

// KeyGoneError says that the key of an issuer is not there, and that something
// was to be signed with it.
type KeyGoneError struct{ Name string }

func (e *KeyGoneError) Error() string {
	return fmt.Sprintf("the CA key %s is not there: restore it from the institution's backup", e.Name)
}

// Present returns the issuer that signs certificates for keys of an algorithm: an
// SM2 key gets one of the SM2 CA, the others one of the P-256 CA, so that their
// holders can use them. It is nil where there is none.
func (a *Authority) Present(alg evidence.Algorithm) *Issuer {
	if alg != evidence.SM2SM3 {
		alg = evidence.ES256
	}
	return a.present[alg]
}

// Issuers returns all issuers, the present and the former ones.
func (a *Authority) Issuers() []*Issuer { return slices.Clone(a.cfg.Issuers) }

// closed reports whether a former issuer's work is done: its last certificate
// has ended long enough ago that no list needs to say anything of it.
func (a *Authority) closed(ctx context.Context, i *Issuer) (bool, error) {
	if a.present[i.public.Algorithm()] == i {
		return false, nil
	}
	last, err := a.cfg.Register.lastEnd(ctx, i.ID())
	return err == nil && last < a.cfg.Now().Add(-keptAfterEnd).Unix(), err
}

func (a *Authority) issuer(id string) *Issuer {
	for _, i := range a.cfg.Issuers {
		if i.ID() == id {
			return i
		}
	}
	return nil
}

func (a *Authority) places(i *Issuer) places {
	return places{ocsp: a.cfg.URL + "/ca/ocsp", crl: a.cfg.URL + "/ca/" + i.Name() + ".crl", issuer: a.cfg.URL + "/ca/" + i.Name() + ".crt"}
}

// Register returns the register that the authority writes to.
func (a *Authority) Register() *Register { return a.cfg.Register }

// Issue certifies the key of a request for a member whom the institution has
// enrolled with it. validity counts from now; zero means DefaultValidity.
//
// A key that has a certificate gets another: that is how it is renewed. The same
// request gives the same certificate again, as long as that is good.
//
// Errors: *RequestError, *SubjectError, *RefusedError for good; *PendingError
// when the same call finishes it later.
func (a *Authority) Issue(ctx context.Context, request []byte, s Subject, validity time.Duration) (*Entry, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	return a.issue(ctx, r, s, validity)
}

// IssueEnrolled is Issue for whomever the registry of the chain names as the
// key's holder.
func (a *Authority) IssueEnrolled(ctx context.Context, request []byte, organization string, validity time.Duration) (*Entry, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	known, err := a.cfg.Chain.Key(ctx, r.Key.KID())
	if err != nil {
		return nil, fmt.Errorf("asking the chain for key %s: %w", r.Key.KID(), err)
	}
	return a.issue(ctx, r, Subject{known.Member, known.Kind, known.Assurance, known.Demo, organization}, validity)
}

// Renew certifies a key again for the same subject, by a request that the key
// signed anew. Errors as of Issue.
func (a *Authority) Renew(ctx context.Context, request []byte, validity time.Duration) (*Entry, error) {
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	all, err := a.cfg.Register.ByKey(ctx, r.Key.KID())
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(e *Entry) bool { return e.Role == RoleMember && e.State == Issued })
	if i < 0 {
		return nil, refuse(SubjectNone, "key %s has no certificate to renew", r.Key.KID())
	}
	return a.issue(ctx, r, all[i].Subject, validity)
}

// Rekey certifies another key of the same member, enrolled before, and then
// revokes the old one as superseded. When the second half fails, the first
// stands: the same call goes on with it.
func (a *Authority) Rekey(ctx context.Context, request []byte, old evidence.Digest, validity time.Duration) (*Entry, error) {
	before, err := a.cfg.Chain.Key(ctx, old)
	if err != nil {
		return nil, fmt.Errorf("asking the chain for key %s: %w", old, err)
	}
	r, err := ParseRequest(request)
	if err != nil {
		return nil, err
	}
	if r.Key.KID() == old {
		return nil, refuse(SubjectDiffers, "the request is of the old key itself")
	}
	e, err := a.issue(ctx, r, Subject{Member: before.Member, Kind: before.Kind, Assurance: before.Assurance, Demo: before.Demo}, validity)
	if err != nil {
		return nil, err
	}
	_, err = a.Revoke(ctx, old, 4)
	return e, err
}

// checkSubject compares what the caller says with the chain.
func (a *Authority) checkSubject(ctx context.Context, key *evidence.PublicKey, s Subject) error {
	known, err := a.cfg.Chain.Key(ctx, key.KID())
	switch {
	case err != nil:
		return fmt.Errorf("asking the chain for key %s: %w", key.KID(), err)
	case known.Member == "" || known.EnrolledBy != a.cfg.Institution:
		return refuse(SubjectNotEnrolled, "%v: %s", errNotOurs, key.KID())
	case known.Revoked:
		return refuse(SubjectRevoked, "key %s is revoked", key.KID())
	case known.Member != s.Member || known.Kind != s.Kind || known.Assurance != s.Assurance || known.Demo != s.Demo:
		return refuse(SubjectDiffers, "key %s is enrolled for member %s of kind %s at assurance %d, not for what was asked", key.KID(), known.Member, known.Kind, known.Assurance)
	case s.Demo && !a.cfg.Demonstration:
		// An invented person under a real authority would be believed by software
		// that reads no policies.
		return refuse(SubjectDiffers, "key %s is an invented person's, and this authority is no demonstration's", key.KID())
	}
	return nil
}

func (a *Authority) issue(ctx context.Context, r *Request, s Subject, validity time.Duration) (*Entry, error) {
	if validity == 0 {
		validity = DefaultValidity
	}
	if validity < MinValidity || validity > MaxValidity-backdated {
		return nil, refuse(SubjectValidity, "a certificate cannot be valid for %s: from %s to %s", validity, MinValidity, MaxValidity-backdated)
	}
	i := a.Present(r.Key.Algorithm())
	if i == nil {
		return nil, refuse(SubjectNoCA, "this institution certifies no %s keys", r.Key.Algorithm())
	}
	if !a.cfg.Names {
		s.Organization = ""
	}
	if !validOrganization(s.Organization) {
		return nil, refuse(SubjectDiffers, "an organization's name has up to 64 printable characters")
	}
	if err := a.checkSubject(ctx, r.Key, s); err != nil {
		return nil, err
	}
	serial, err := newSerial(rand.Reader)
	if err != nil {
		return nil, err
	}
	now := a.cfg.Now()
	e := &Entry{Serial: serial, Issuer: i.ID(), Role: RoleMember, Request: r.Digest, Key: r.Key, Subject: s, State: Intended,
		NotBefore: now.Add(-backdated).Unix() + 1, NotAfter: now.Add(validity).Unix()}
	if last := i.Certificate.NotAfter.Unix(); e.NotAfter > last {
		return nil, refuse(SubjectValidity, "the CA certificate ends on %s, before this one would", i.Certificate.NotAfter.Format(time.DateOnly))
	}
	earlier, err := a.cfg.Register.intend(ctx, e)
	if err != nil {
		return nil, err
	}
	if earlier != nil {
		if earlier.Subject != s || earlier.State == Refused || earlier.NotAfter <= now.Unix() {
			return nil, refuse(SubjectUsed, "this request was used already: make a new one")
		}
		e = earlier
	}
	if err := a.finish(ctx, e); err != nil {
		return nil, err
	}
	return e, nil
}

// finish takes steps 2 to 4 of the package comment from wherever e is.
func (a *Authority) finish(ctx context.Context, e *Entry) error {
	if e.State == Intended {
		if err := a.signEntry(ctx, e); err != nil {
			return a.moved(ctx, e, err)
		}
	}
	if e.State == Signed {
		position, err := a.cfg.Chain.Register(ctx, e.Statement)
		var refused *RefusedError
		switch {
		case errors.As(err, &refused):
			e.State, e.Reason = Refused, refused.Error()
			if err := a.cfg.Register.advance(ctx, e, Signed); err != nil {
				return a.moved(ctx, e, err)
			}
			a.cfg.Logger.Warn("the chain refuses a certificate", "serial", SerialHex(e.Serial), "kid", e.Key.KID(), "code", refused.Code)
			return refused
		case err != nil:
			return &PendingError{e.Serial, err}
		}
		e.State, e.Position = Issued, position
		if err := a.cfg.Register.advance(ctx, e, Signed); err != nil {
			return a.moved(ctx, e, err)
		}
		a.cfg.Logger.Info("certificate issued", "serial", SerialHex(e.Serial), "kid", e.Key.KID(), "member", e.Subject.Member, "position", position)
	}
	return nil
}

func (a *Authority) signEntry(ctx context.Context, e *Entry) error {
	i := a.issuer(e.Issuer)
	if i == nil {
		return fmt.Errorf("certificate %x was to be signed by CA key %s, which is not configured", e.Serial, e.Issuer)
	}
	der, err := i.sign(e, a.places(i), a.cfg.PolicyArc)
	if err != nil {
		return err
	}
	next := *e
	next.State, next.DER = Signed, der
	content := evidence.Certificate{KID: e.Key.KID(), Serial: evidence.CertificateSerial(e.Serial), NotBefore: e.NotBefore, NotAfter: e.NotAfter, SHA256: evidence.SumSHA256(der)}
	if next.Statement, err = a.statement(evidence.TypeCertificate, content.Encode()); err != nil {
		return err
	}
	if err := a.cfg.Register.advance(ctx, &next, Intended); err != nil {
		return err
	}
	*e = next
	return nil
}

// moved: another process took this step first. What it did is read, and the
// certificate made here, which never left this process, is forgotten.
func (a *Authority) moved(ctx context.Context, e *Entry, err error) error {
	if !errors.Is(err, errMoved) {
		return err
	}
	now, readErr := a.cfg.Register.BySerial(ctx, e.Serial)
	if readErr != nil {
		return readErr
	}
	*e = *now
	switch e.State {
	case Issued:
		return nil
	case Refused:
		return &RefusedError{"refused", e.Reason}
	}
	return &PendingError{e.Serial, err}
}

// statement signs a statement of the registry.
func (a *Authority) statement(contentType string, content []byte) ([]byte, error) {
	s, err := evidence.Statement{Issuer: a.cfg.Institution, Subject: evidence.SubjectRegistry, IssuedAt: a.cfg.Now().Unix(), ContentType: contentType, Payload: content}.Sign(a.cfg.Statement)
	if err != nil {
		return nil, fmt.Errorf("signing a statement of the registry: %w", err)
	}
	return s.Bytes(), nil
}

// CertificatePEM returns an issued certificate and, after it, its issuer's.
func (a *Authority) CertificatePEM(e *Entry) ([]byte, error) {
	i := a.issuer(e.Issuer)
	if e.State != Issued || i == nil {
		return nil, ErrUnknown
	}
	var b bytes.Buffer
	for _, der := range [][]byte{e.DER, i.Certificate.Raw} {
		if err := encodePEM(&b, "CERTIFICATE", der); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}
