package web

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/custody"
	"github.com/zhenglian/zhenglian/internal/identity"
)

// Custody keeps members' deposits: *custody.Custody. Every call names the member
// of the session, never one that the browser named.
type Custody interface {
	PutPiece(ctx context.Context, member, name string, offset int64, piece []byte, digest evidence.Digest, last bool) (have int64, err error)
	Size(ctx context.Context, member, name string) (int64, error)
	Pending(ctx context.Context, member, name string) (int64, error)
	Open(ctx context.Context, member, name string) (io.ReadSeekCloser, error)
	List(ctx context.Context, member, prefix string) ([]string, error)
	Used(ctx context.Context, member string) (custody.Usage, error)
	Accept(ctx context.Context, member string, statement []byte) (*custody.Deposit, error)
	Deposit(ctx context.Context, member string, digest evidence.Digest) (*custody.Deposit, error)
	Trails(ctx context.Context, member string, before int64, limit int) ([]custody.Trail, error)
	Trail(ctx context.Context, member string, trail evidence.Digest) (*custody.Trail, error)
	Next(ctx context.Context, member string, trail, kid evidence.Digest) (*custody.Next, error)
	Parts(ctx context.Context, member string, trail evidence.Digest, passkeys []evidence.Digest) (*evidence.PackageParts, error)
}

// Enroller is what the pages need of the register of members and of the CA. Its
// errors may be identity's.
type Enroller interface {
	// Describe returns how the member is enrolled, for her manifests.
	Describe(ctx context.Context, who identity.Who, member string) (evidence.Person, error)
	// Keys returns the person's signing keys for the member, revoked ones too.
	Keys(ctx context.Context, who identity.Who, member string) ([]MemberKey, error)
	// Enrol enrols the key of a PKCS #10 request, whose signature it checks, and
	// issues its certificate. member is empty for the person's first key. It
	// returns when the enrolment is in the log, or with ErrEnrolling when that
	// takes longer: the same request may then be sent again.
	Enrol(ctx context.Context, who identity.Who, member string, request []byte, label, recipient string) (*Enrolled, error)
	// Certificate returns a certificate that this institution issued for a key
	// and its chain, PEM, by the digest of its DER; nil when it has none.
	Certificate(ctx context.Context, kid, sha256 evidence.Digest) ([]byte, error)
}

// ErrEnrolling says that an enrolment is written down and not in the log yet.
var ErrEnrolling = errors.New("the enrolment is on its way")

// MemberKey is a signing key as its owner's pages show it.
type MemberKey struct {
	KID       evidence.Digest
	Label     string
	Recipient string // of the recovery key that was given with it; "" without
	Enrolled  time.Time
	NotAfter  time.Time // of the last certificate; zero: none
	Revoked   bool
}

// Enrolled is a key that may sign.
type Enrolled struct {
	Member      string
	KID         evidence.Digest
	Position    uint64
	Certificate []byte // PEM, the key's own first; nil when none was issued
}

// Acts confirms acts with a passkey: *identity.Register.
type Acts interface {
	BeginAct(ctx context.Context, who identity.Who, member string, digest evidence.Digest) (*identity.Ceremony, error)
	FinishAct(ctx context.Context, who identity.Who, id string, digest evidence.Digest, answer []byte) (*evidence.Assertion, error)
	BeginStepUp(ctx context.Context, who identity.Who, member string, permit identity.Permit) (*identity.Ceremony, error)
	FinishStepUp(ctx context.Context, who identity.Who, id string, answer []byte) error
}

// memberApp is the endpoints of the member's scripts. They trust the session for who
// asks, and nothing else that the browser says.
func (s *Site) memberApp() {
	if s.config.Parts.Custody == nil || s.config.Parts.Enroller == nil {
		return
	}
	s.app("GET /app/member", signedIn, s.appMember)
	s.app("POST /app/keys", signedIn, s.appEnrol)
	if s.config.Parts.Acts != nil {
		s.app("POST /app/permits", member, s.appBeginPermit)
		s.app("POST /app/permits/{id}", member, s.appFinishPermit)
		s.app("POST /app/acts", member, s.appBeginAct)
		s.app("POST /app/acts/{id}", member, s.appFinishAct)
	}
	s.app("GET /app/objects", member, s.appListObjects)
	s.app("GET /app/objects/{folder}/{name}", member, s.appObject) // and HEAD
	s.app("PUT /app/objects/{folder}/{name}", member, s.appPutObject)
	s.app("GET /app/next", member, s.appNext)
	s.app("POST /app/deposits", member, s.appDeposit)
	s.app("GET /app/deposits/{digest}", member, s.appDepositState)
	s.app("GET /app/records", member, s.appRecords)
	s.app("GET /app/records/{trail}", member, s.appRecord)
	s.app("GET /app/records/{trail}/parts", member, s.appParts)
}

// sessionName is where the session's id for ceremonies is kept. It is not the
// token: who learns it can do nothing with it.
const sessionName = "app.session"

// asker names the person and her session to the register.
func (r *request) asker() identity.Who {
	id := r.session().Get(sessionName)
	if id == "" {
		id = rand.Text()
		r.session().Put(sessionName, id)
	}
	return identity.Who{Person: r.person.ID, Session: id, Address: r.site.clientAddress(r.Request)}
}

// refused turns custody's and the register's refusals into problems.
func (r *request) refused(err error) error {
	if err == nil {
		return nil
	}
	if refusal, ok := errors.AsType[*custody.Refusal](err); ok {
		status := http.StatusUnprocessableEntity
		switch refusal.Code {
		case custody.RefuseQuota:
			status = http.StatusInsufficientStorage
		case custody.RefuseLarge:
			status = http.StatusRequestEntityTooLarge
		case custody.RefuseMoved:
			status = http.StatusConflict
		case custody.RefuseTooMany:
			return fail(http.StatusTooManyRequests, "deposit.too-many").because(err).after(10 * time.Second)
		case custody.RefuseName:
			status = http.StatusBadRequest
		}
		key := "deposit." + refusal.Code
		if !r.site.texts.has(key + ".title") {
			key = "deposit.refused"
		}
		return fail(status, key, "code", refusal.Code).because(err)
	}
	if _, ok := errors.AsType[*custody.UnavailableError](err); ok {
		return fail(http.StatusServiceUnavailable, "deposit.unavailable").because(err).after(5 * time.Second)
	}
	if locked, ok := errors.AsType[*identity.Locked](err); ok {
		return fail(http.StatusTooManyRequests, "deposit.locked").because(locked).after(time.Minute)
	}
	for _, known := range []struct {
		err    error
		status int
		key    string
	}{
		{custody.ErrNotFound, http.StatusNotFound, "records.none"},
		{ErrEnrolling, http.StatusServiceUnavailable, "deposit.enrolling"},
		{identity.ErrPermission, http.StatusForbidden, "deposit.permit"},
		{identity.ErrLevel, http.StatusForbidden, "deposit.level"},
		{identity.ErrTaken, http.StatusConflict, "deposit.taken"},
		{identity.ErrCeremony, http.StatusUnprocessableEntity, "deposit.ceremony"},
		{identity.ErrState, http.StatusConflict, "deposit.no-passkey"},
		{identity.ErrUnknown, http.StatusForbidden, "deposit.not-member"},
	} {
		if errors.Is(err, known.err) {
			p := fail(known.status, known.key).because(err)
			if known.status == http.StatusServiceUnavailable {
				p = p.after(2 * time.Second)
			}
			return p
		}
	}
	return err
}

type appMember struct {
	Person  string           `json:"person"`
	Member  string           `json:"member,omitempty"`
	Details *evidence.Person `json:"details,omitempty"`
	Keys    []appKey         `json:"keys"`
	Used    int64            `json:"used"`
	Quota   int64            `json:"quota"`
	Acts    bool             `json:"acts"` // a passkey can confirm
}

type appKey struct {
	KID       evidence.Digest `json:"kid"`
	Label     string          `json:"label"`
	Recipient string          `json:"recipient"`
	Enrolled  time.Time       `json:"enrolled"`
	NotAfter  *time.Time      `json:"not_after,omitempty"`
	Revoked   bool            `json:"revoked"`
}

func (s *Site) appMember(r *request) error {
	v := appMember{Person: r.person.ID, Member: r.person.Member, Keys: []appKey{}}
	if v.Member == "" {
		return r.json(http.StatusOK, v)
	}
	details, err := s.config.Parts.Enroller.Describe(r.Context(), r.asker(), v.Member)
	if err != nil {
		return r.refused(fmt.Errorf("describing the member: %w", err))
	}
	v.Details = &details
	keys, err := s.config.Parts.Enroller.Keys(r.Context(), r.asker(), v.Member)
	if err != nil {
		return r.refused(fmt.Errorf("listing keys: %w", err))
	}
	for _, k := range keys {
		one := appKey{KID: k.KID, Label: k.Label, Recipient: k.Recipient, Enrolled: k.Enrolled, Revoked: k.Revoked}
		if !k.NotAfter.IsZero() {
			one.NotAfter = &k.NotAfter
		}
		v.Keys = append(v.Keys, one)
	}
	if v.Acts, err = s.hasPasskey(r); err != nil {
		return r.refused(fmt.Errorf("listing passkeys: %w", err))
	}
	used, err := s.config.Parts.Custody.Used(r.Context(), v.Member)
	if err != nil {
		return err
	}
	v.Used, v.Quota = used.Bytes, used.Quota
	return r.json(http.StatusOK, v)
}

// hasPasskey reports whether an act can be confirmed now. Without a register to
// ask, the confirmation itself finds out.
func (s *Site) hasPasskey(r *request) (bool, error) {
	if s.config.Parts.Acts == nil || s.config.Parts.Register == nil {
		return s.config.Parts.Acts != nil, nil
	}
	all, err := s.config.Parts.Register.Passkeys(r.Context(), r.asker(), r.person.Member)
	return slices.ContainsFunc(all, func(p *identity.Passkey) bool { return p.Person == r.person.ID && p.State == identity.StateEnrolled }), err
}

func (s *Site) appEnrol(r *request) error {
	var v struct {
		Request   []byte `json:"request"`
		Label     string `json:"label"`
		Recipient string `json:"recipient"`
	}
	if err := r.readJSON(&v, 16<<10); err != nil {
		return err
	}
	e, err := s.config.Parts.Enroller.Enrol(r.Context(), r.asker(), r.person.Member, v.Request, v.Label, v.Recipient)
	if err != nil {
		return r.refused(fmt.Errorf("enrolling a key: %w", err))
	}
	return r.json(http.StatusCreated, map[string]any{"member": e.Member, "kid": e.KID, "position": e.Position, "certificate": string(e.Certificate)})
}

func (s *Site) appBeginPermit(r *request) error {
	c, err := s.config.Parts.Acts.BeginStepUp(r.Context(), r.asker(), r.person.Member, identity.PermitKey)
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, c)
}

// ceremonyAnswer is a PublicKeyCredential as its toJSON writes it.
type ceremonyAnswer struct {
	Digest evidence.Digest `json:"digest"`
	Answer json.RawMessage `json:"answer"`
}

func (s *Site) appFinishPermit(r *request) error {
	var v ceremonyAnswer
	if err := r.readJSON(&v, 16<<10); err != nil {
		return err
	}
	if err := s.config.Parts.Acts.FinishStepUp(r.Context(), r.asker(), r.PathValue("id"), v.Answer); err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, map[string]bool{"ok": true})
}

func (s *Site) appBeginAct(r *request) error {
	var v ceremonyAnswer
	if err := r.readJSON(&v, 4<<10); err != nil {
		return err
	}
	if err := r.power(identity.PowerDeposit); err != nil {
		return err
	}
	c, err := s.config.Parts.Acts.BeginAct(r.Context(), r.asker(), r.person.Member, v.Digest)
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, c)
}

func (s *Site) appFinishAct(r *request) error {
	var v ceremonyAnswer
	if err := r.readJSON(&v, 16<<10); err != nil {
		return err
	}
	a, err := s.config.Parts.Acts.FinishAct(r.Context(), r.asker(), r.PathValue("id"), v.Digest, v.Answer)
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, a)
}

// digestOf reads a digest from the path or the query; empty is zero.
func digestOf(text string) (d evidence.Digest, err error) {
	if text == "" {
		return d, nil
	}
	if d, err = evidence.ParseDigest(text); err != nil {
		return d, fail(http.StatusNotFound, "records.none").because(err)
	}
	return d, nil
}

func (s *Site) appNext(r *request) error {
	trail, err := digestOf(r.URL.Query().Get("trail"))
	if err != nil {
		return err
	}
	kid, err := digestOf(r.URL.Query().Get("kid"))
	if err != nil {
		return err
	}
	n, err := s.config.Parts.Custody.Next(r.Context(), r.person.Member, trail, kid)
	if err != nil {
		return r.refused(err)
	}
	v := map[string]any{"after": string(n.After)}
	if !n.Prev.IsZero() {
		v["prev"] = n.Prev
	}
	return r.json(http.StatusOK, v)
}

// appDeposit takes a signed statement. It answers 202 once the statement is
// durable here: what follows is told by its state.
func (s *Site) appDeposit(r *request) error {
	if ct, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || ct != "application/cose" {
		return fail(http.StatusUnsupportedMediaType, "problem.bad-request")
	}
	data, err := io.ReadAll(http.MaxBytesReader(r.w, r.Body, evidence.MaxStatement+1))
	if err != nil {
		return fail(http.StatusBadRequest, "problem.bad-request").because(err)
	}
	if err := r.power(identity.PowerDeposit); err != nil {
		return err
	}
	if err := s.mayAct(r, evidence.ActDeposit); err != nil {
		return err
	}
	d, err := s.config.Parts.Custody.Accept(r.Context(), r.person.Member, data)
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusAccepted, r.step(d))
}

// mayAct refuses an act for which the member's identity is not known well enough
// by the institution's policy. Whether a passkey confirmed it stands in the
// manifest, which is not for the portal to read: the verifier looks.
func (s *Site) mayAct(r *request, kind string) error {
	p := s.policy()
	if p == nil {
		return nil
	}
	rule := p.ActRule(kind)
	if rule == nil {
		return nil
	}
	who, err := s.config.Parts.Enroller.Describe(r.Context(), r.asker(), r.person.Member)
	if err != nil {
		return r.refused(err)
	}
	if who.Assurance < rule.Assurance {
		return r.refused(fmt.Errorf("level %d where %d is needed: %w", who.Assurance, rule.Assurance, identity.ErrLevel))
	}
	return nil
}

func (s *Site) appDepositState(r *request) error {
	digest, err := digestOf(r.PathValue("digest"))
	if err != nil {
		return err
	}
	d, err := s.config.Parts.Custody.Deposit(r.Context(), r.person.Member, digest)
	if err != nil {
		return r.refused(err)
	}
	return r.json(http.StatusOK, r.step(d))
}

// appStep is a statement as scripts see it. Times are absent when not known.
type appStep struct {
	Digest    evidence.Digest `json:"digest"`
	Manifest  evidence.Digest `json:"manifest"`
	Trail     evidence.Digest `json:"trail"`
	KID       evidence.Digest `json:"kid"`
	State     custody.State   `json:"state"`
	Received  time.Time       `json:"received"`
	IssuedAt  time.Time       `json:"issued_at"` // the signer's clock
	Position  *uint64         `json:"position,omitempty"`
	NotBefore *time.Time      `json:"not_before,omitempty"`
	NotLater  *time.Time      `json:"not_later,omitempty"`
	Stamped   *time.Time      `json:"stamped,omitempty"`
	Witnesses []string        `json:"witnesses"`
	Code      string          `json:"code,omitempty"`
	Refusal   string          `json:"refusal,omitempty"` // in the reader's language
}

func (r *request) step(d *custody.Deposit) appStep {
	at := func(t time.Time) *time.Time {
		if t.IsZero() {
			return nil
		}
		t = t.UTC()
		return &t
	}
	v := appStep{Digest: d.Digest(), Manifest: evidence.Digest(d.Statement.Payload), Trail: d.Trail, KID: d.Statement.KID, State: d.State, Received: d.Received.UTC(),
		IssuedAt: time.Unix(d.Statement.IssuedAt, 0).UTC(), NotBefore: at(d.NotBefore), NotLater: at(d.NotLater), Stamped: at(d.Stamped), Witnesses: append([]string{}, d.Witnesses...), Code: d.Code}
	if d.State == custody.Chained || d.State == custody.Final {
		v.Position = &d.Position
	}
	if d.State == custody.Refused {
		v.Refusal = r.refusalText(d.Code)
	}
	return v
}

// refusalText says why a statement was refused and what to do.
func (r *request) refusalText(code string) string {
	key := "deposit." + code
	if !r.site.texts.has(key + ".detail") {
		key = "deposit.refused"
	}
	return r.T(key+".detail", "code", code)
}

// recordsPage is how many trails a page of records has.
const recordsPage = 20

func (s *Site) appRecords(r *request) error {
	before, _ := strconv.ParseInt(r.URL.Query().Get("before"), 10, 64) // 0: from the first
	trails, err := s.config.Parts.Custody.Trails(r.Context(), r.person.Member, before, recordsPage)
	if err != nil {
		return err
	}
	type trail struct {
		Trail evidence.Digest `json:"trail"`
		Last  int64           `json:"last"`
		Steps []appStep       `json:"steps"`
	}
	out := make([]trail, len(trails))
	for i, t := range trails {
		out[i] = trail{t.Trail, t.Last, make([]appStep, len(t.Steps))}
		for j := range t.Steps {
			out[i].Steps[j] = r.step(&t.Steps[j])
		}
	}
	return r.json(http.StatusOK, map[string]any{"trails": out, "more": len(out) == recordsPage})
}

func (s *Site) appRecord(r *request) error {
	digest, err := digestOf(r.PathValue("trail"))
	if err != nil {
		return err
	}
	t, err := s.config.Parts.Custody.Trail(r.Context(), r.person.Member, digest)
	if err != nil {
		return r.refused(err)
	}
	steps := make([]appStep, len(t.Steps))
	for i := range t.Steps {
		steps[i] = r.step(&t.Steps[i])
	}
	return r.json(http.StatusOK, map[string]any{"trail": t.Trail, "steps": steps})
}

// maxPasskeys that one package may name: more than a person has.
const maxPasskeys = 16

func (s *Site) appParts(r *request) error {
	digest, err := digestOf(r.PathValue("trail"))
	if err != nil {
		return err
	}
	var passkeys []evidence.Digest
	for _, text := range r.URL.Query()["passkey"] {
		kid, err := digestOf(text)
		if err != nil || len(passkeys) == maxPasskeys {
			return fail(http.StatusBadRequest, "problem.bad-request").because(err)
		}
		passkeys = append(passkeys, kid)
	}
	parts, err := s.config.Parts.Custody.Parts(r.Context(), r.person.Member, digest, passkeys)
	if err != nil {
		return r.refused(err)
	}
	for i := range parts.Signers {
		key, err := evidence.ParsePublicKey(parts.Signers[i].Key)
		if err != nil {
			return fmt.Errorf("key of a signer: %w", err)
		}
		for j := range parts.Signers[i].Certificates {
			c := &parts.Signers[i].Certificates[j]
			chain, err := s.config.Parts.Enroller.Certificate(r.Context(), key.KID(), c.SHA256)
			if err != nil {
				return fmt.Errorf("fetching a certificate: %w", err)
			}
			c.Chain = string(chain)
		}
	}
	return r.json(http.StatusOK, parts)
}
