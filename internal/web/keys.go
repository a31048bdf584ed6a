package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/ca"
)

// Register is the register of persons as the pages of keys, applications and the
// desk need it: *identity.Register.
type Register interface {
	Person(ctx context.Context, id string) (*identity.Person, error)
	Members(ctx context.Context, who identity.Who) ([]*identity.Member, error)
	Facts(ctx context.Context, person string) ([]identity.Fact, error)
	KeysOf(ctx context.Context, who identity.Who, member string) ([]*identity.Key, error)
	Passkeys(ctx context.Context, who identity.Who, member string) ([]*identity.Passkey, error)
	Label(ctx context.Context, who identity.Who, kid evidence.Digest, label string) error
	Revoke(ctx context.Context, who identity.Who, kid evidence.Digest, reason identity.Reason) error
	Deliver(ctx context.Context) error

	BeginPasskey(ctx context.Context, who identity.Who, member, label string) (*identity.Ceremony, error)
	FinishPasskey(ctx context.Context, who identity.Who, id string, answer []byte) (*identity.Passkey, error)
	BeginStepUp(ctx context.Context, who identity.Who, member string, permit identity.Permit) (*identity.Ceremony, error)
	FinishStepUp(ctx context.Context, who identity.Who, id string, answer []byte) error
	Recover(ctx context.Context, who identity.Who, code string) (member string, err error)

	Accesses(ctx context.Context, person string, limit int) ([]identity.Access, error)
	Export(ctx context.Context, who identity.Who) (*identity.Export, error)
	Erase(ctx context.Context, who identity.Who) ([]identity.Kept, error)

	Draft(ctx context.Context, who identity.Who, kind identity.ApplicationKind) (*identity.Application, error)
	Application(ctx context.Context, who identity.Who, id string) (*identity.Application, error)
	Applications(ctx context.Context, who identity.Who) ([]*identity.Application, error)
	SaveDraft(ctx context.Context, who identity.Who, id string, b identity.Body) error
	AddDocument(ctx context.Context, who identity.Who, id, name string, content []byte) (document string, err error)
	RemoveDocument(ctx context.Context, who identity.Who, id, document string) error
	SubmitApplication(ctx context.Context, who identity.Who, id string) error
	Withdraw(ctx context.Context, who identity.Who, id string) error
	Document(ctx context.Context, who identity.Who, application, id string) (content []byte, media string, err error)

	Queue(ctx context.Context, officer identity.Who, state identity.ApplicationState) ([]*identity.Application, error)
	OpenApplication(ctx context.Context, officer identity.Who, id, purpose string) (*identity.Opened, error)
	OpenDocument(ctx context.Context, officer identity.Who, application, id, purpose string) (content []byte, media string, err error)
	Decide(ctx context.Context, officer identity.Who, id string, d identity.Decision) (*identity.Decided, error)
}

// Certificates is what the pages need of the certification authority.
type Certificates interface {
	// ByKey returns a key's certificates, as of *ca.Register.
	ByKey(ctx context.Context, kid evidence.Digest) ([]*ca.Entry, error)
	// Sync takes over from the chain what is revoked, as of *ca.Authority.
	Sync(ctx context.Context) error
}

// deliverTime is how long a page waits for the log. What takes longer is on disk
// and goes on without it.
const deliverTime = 5 * time.Second

func (s *Site) keys() {
	if s.config.Parts.Register == nil {
		return
	}
	s.page("GET /keys", signedIn, s.keysPage)
	s.page("GET /keys/log", signedIn, s.keysLog)
	s.page("GET /keys/data", signedIn, s.keysData)
	s.bare("GET /keys/my-data.json", signedIn, s.keysExport)
	s.page("POST /keys/data/erase", signedIn, s.keysErase)
	s.page("GET /keys/passkey/{member}", signedIn, s.keysPasskey)
	if s.config.Parts.Enroller != nil {
		s.page("GET /keys/request", signedIn, s.keysRequest)
		s.page("POST /keys/request", signedIn, s.keysEnrol)
	}
	s.page("GET /keys/{kid}", signedIn, s.keyPage)
	s.page("POST /keys/{kid}/label", signedIn, s.keyLabel)
	s.page("POST /keys/{kid}/revoke", signedIn, s.keyRevoke)
	s.navigate(30, "/keys", "keys.nav", signedIn)

	s.app("POST /app/passkeys", signedIn, s.appBeginPasskey)
	s.app("POST /app/passkeys/{id}", signedIn, s.appFinishPasskey)
	s.app("POST /app/passkeys/permits", signedIn, s.appBeginPasskeyPermit)
	s.app("POST /app/passkeys/permits/{id}", signedIn, s.appFinishPasskeyPermit)

	s.applications()
	s.lost()
}

// registered turns the register's refusals into problems.
func registered(err error) error {
	var locked *identity.Locked
	if errors.As(err, &locked) {
		return fail(http.StatusTooManyRequests, "keys.locked", "until", beijing(locked.Until)).because(err).after(time.Until(locked.Until))
	}
	for _, p := range []struct {
		err    error
		status int
		key    string
	}{
		{identity.ErrUnknown, http.StatusNotFound, "keys.unknown"},
		{identity.ErrForbidden, http.StatusForbidden, "keys.forbidden"},
		{identity.ErrState, http.StatusConflict, "keys.wrong-state"},
		{identity.ErrTaken, http.StatusConflict, "keys.taken"},
		{identity.ErrDocument, http.StatusConflict, "keys.document-taken"},
		{identity.ErrConflict, http.StatusConflict, "keys.conflict"},
		{identity.ErrLevel, http.StatusForbidden, "keys.low-level"},
		{identity.ErrPermission, http.StatusForbidden, "keys.permission"},
		{identity.ErrCeremony, http.StatusUnprocessableEntity, "keys.ceremony"},
		{ErrEnrolling, http.StatusAccepted, "keys.enrolling"},
	} {
		if errors.Is(err, p.err) {
			return fail(p.status, p.key).because(err)
		}
	}
	return err
}

// keyView is a key or a passkey with its certificate.
type keyView struct {
	*identity.Key
	Certificate *ca.Entry // the one that ends last; nil: none
	NotAfter    time.Time
	NotBefore   time.Time
	Soon        bool // it ends within the time in which it should be renewed
	Ended       bool
	Own         bool // held by the reader herself
}

// memberView is one member for which the reader acts.
type memberView struct {
	*identity.Member
	Enterprise bool
	Keys       []*keyView
	Passkeys   []*identity.Passkey
	Ready      bool // has an enrolled key: a passkey can be bound
}

type keysView struct {
	Level, Here string
	Members     []*memberView
	Applied     bool // an undecided application is there
	Enrol       bool // this portal enrols keys in the browser
	Request     bool // and by a certificate request
}

// renewWithin: how long before its end a certificate is shown as ending.
const renewWithin = 30 * 24 * time.Hour

func (s *Site) keysPage(r *request) error {
	ctx, reg, who := r.Context(), s.config.Parts.Register, r.asker()
	v := keysView{Enrol: s.offers("/deposit/key"), Request: s.offers("/keys/request")}
	members, err := reg.Members(ctx, who)
	if err != nil {
		return fmt.Errorf("listing members: %w", err)
	}
	for _, m := range members {
		one := &memberView{Member: m, Enterprise: m.Kind == evidence.KindEnterprise}
		keys, err := reg.KeysOf(ctx, who, m.ID)
		if err != nil {
			return fmt.Errorf("listing keys: %w", err)
		}
		for _, k := range keys {
			kv, err := s.keyView(r, k)
			if err != nil {
				return err
			}
			one.Keys = append(one.Keys, kv)
			one.Ready = one.Ready || inForce(k.State)
		}
		// What is in force first, then what was revoked.
		slices.SortStableFunc(one.Keys, func(a, b *keyView) int { return cmp.Compare(rank(a.State), rank(b.State)) })
		if one.Passkeys, err = reg.Passkeys(ctx, who, m.ID); err != nil {
			return fmt.Errorf("listing passkeys: %w", err)
		}
		slices.SortStableFunc(one.Passkeys, func(a, b *identity.Passkey) int { return cmp.Compare(rank(a.State), rank(b.State)) })
		v.Members = append(v.Members, one)
	}
	applications, err := reg.Applications(ctx, who)
	if err != nil {
		return fmt.Errorf("listing applications: %w", err)
	}
	for _, a := range applications {
		v.Applied = v.Applied || undecided(a.State)
	}
	return r.render(http.StatusOK, "keys", v)
}

func (s *Site) keyView(r *request, k *identity.Key) (*keyView, error) {
	v := &keyView{Key: k, Own: k.Person == r.person.ID}
	if s.config.Parts.Certificates == nil {
		return v, nil
	}
	all, err := s.config.Parts.Certificates.ByKey(r.Context(), k.KID)
	if err != nil {
		return nil, fmt.Errorf("listing certificates: %w", err)
	}
	for _, e := range all {
		if e.State == ca.Issued && (v.Certificate == nil || e.NotAfter > v.Certificate.NotAfter) {
			v.Certificate = e
		}
	}
	if e := v.Certificate; e != nil {
		now := s.config.Now()
		v.NotBefore, v.NotAfter = time.Unix(e.NotBefore, 0), time.Unix(e.NotAfter, 0)
		live := inForce(k.State)
		v.Ended = live && now.After(v.NotAfter)
		v.Soon = live && !v.Ended && now.Add(renewWithin).After(v.NotAfter)
	}
	return v, nil
}

// Serial is the certificate's serial number in hexadecimal.
func (v *keyView) Serial() string { return ca.SerialHex(v.Certificate.Serial) }

type keyPageView struct {
	KID     evidence.Digest
	Member  *identity.Member
	Key     *keyView          // or
	Passkey *identity.Passkey // one of both
	Label   string
	Active  bool // not revoked and not refused
	Renew   bool // in this browser
}

func inForce(state identity.State) bool {
	return state == identity.StateEnrolled || state == identity.StateWaiting
}

func rank(state identity.State) int {
	if inForce(state) {
		return 0
	}
	return 1
}

// findKey looks among what the reader may see.
func (s *Site) findKey(r *request) (*keyPageView, error) {
	ctx, reg, who := r.Context(), s.config.Parts.Register, r.asker()
	kid, err := evidence.ParseDigest(r.PathValue("kid"))
	if err != nil {
		return nil, fail(http.StatusNotFound, "keys.unknown")
	}
	members, err := reg.Members(ctx, who)
	if err != nil {
		return nil, fmt.Errorf("listing members: %w", err)
	}
	for _, m := range members {
		keys, err := reg.KeysOf(ctx, who, m.ID)
		if err != nil {
			return nil, fmt.Errorf("listing keys: %w", err)
		}
		for _, k := range keys {
			if k.KID == kid {
				kv, err := s.keyView(r, k)
				return &keyPageView{KID: kid, Member: m, Key: kv, Label: k.Label, Active: inForce(k.State), Renew: s.offers("/deposit/key") && k.Holder == identity.HolderBrowser && m.ID == r.person.Member}, err
			}
		}
		passkeys, err := reg.Passkeys(ctx, who, m.ID)
		if err != nil {
			return nil, fmt.Errorf("listing passkeys: %w", err)
		}
		for _, p := range passkeys {
			if p.KID == kid {
				return &keyPageView{KID: kid, Member: m, Passkey: p, Label: p.Label, Active: inForce(p.State)}, nil
			}
		}
	}
	return nil, fail(http.StatusNotFound, "keys.unknown")
}

func (s *Site) keyPage(r *request) error {
	v, err := s.findKey(r)
	if err != nil {
		return err
	}
	return r.render(http.StatusOK, "keys-one", v)
}

func (s *Site) keyLabel(r *request) error {
	v, err := s.findKey(r)
	if err != nil {
		return err
	}
	label := strings.TrimSpace(r.PostFormValue("label"))
	if len([]rune(label)) > 60 {
		return fail(http.StatusUnprocessableEntity, "keys.long-label").at("label")
	}
	if err := s.config.Parts.Register.Label(r.Context(), r.asker(), v.KID, label); err != nil {
		return registered(fmt.Errorf("labelling a key: %w", err))
	}
	r.notice("success", "keys.labelled")
	r.redirect("/keys/" + v.KID.String())
	return nil
}

func (s *Site) keyRevoke(r *request) error {
	v, err := s.findKey(r)
	if err != nil {
		return err
	}
	reason, err := strconv.Atoi(r.PostFormValue("reason"))
	if err != nil || !ca.ReasonOK(reason) || r.PostFormValue("sure") == "" {
		return fail(http.StatusUnprocessableEntity, "keys.not-sure").at("reason")
	}
	if err := s.config.Parts.Register.Revoke(r.Context(), r.asker(), v.KID, identity.Reason(reason)); err != nil {
		return registered(fmt.Errorf("revoking a key: %w", err))
	}
	if s.deliver(r) {
		r.notice("success", "keys.revoked-now")
	} else {
		r.notice("warning", "keys.revoked-soon")
	}
	r.redirect("/keys/" + v.KID.String())
	return nil
}

// deliver takes what waits to the log, and reports whether all of it is there. A
// failure is logged and tried again by the register: nothing is lost.
func (s *Site) deliver(r *request) bool {
	ctx, cancel := context.WithTimeout(r.Context(), deliverTime)
	defer cancel()
	if err := s.config.Parts.Register.Deliver(ctx); err != nil {
		s.log.Warn("statements wait for the log", "request", r.id, "error", err)
		return false
	}
	if s.config.Parts.Certificates != nil {
		if err := s.config.Parts.Certificates.Sync(ctx); err != nil {
			s.log.Warn("the revocation list waits", "request", r.id, "error", err)
		}
	}
	return true
}

// accessView is an entry of the access log as its subject reads it.
type accessView struct {
	identity.Access
	By     string // the actor's name; empty: the register itself
	Own    bool
	Action string // a text's key
}

// shownAccesses: what a person reads; the export has all.
const shownAccesses = 200

func (s *Site) keysLog(r *request) error {
	all, err := s.config.Parts.Register.Accesses(r.Context(), r.person.ID, shownAccesses)
	if err != nil {
		return fmt.Errorf("reading the access log: %w", err)
	}
	names := map[string]string{}
	var rows []accessView
	for _, a := range all {
		v := accessView{Access: a, Own: a.Actor == r.person.ID, Action: "keys.access-" + a.Action}
		if !s.texts.has(v.Action) {
			v.Action = "keys.access-other"
		}
		if !v.Own && a.Actor != "" {
			if _, ok := names[a.Actor]; !ok {
				p, err := s.config.Parts.Register.Person(r.Context(), a.Actor)
				if err != nil && !errors.Is(err, identity.ErrUnknown) {
					return fmt.Errorf("looking up who looked: %w", err)
				}
				if p != nil {
					names[a.Actor] = p.Name
				}
				if names[a.Actor] == "" {
					names[a.Actor] = a.Actor
				}
			}
			v.By = names[a.Actor]
		}
		rows = append(rows, v)
	}
	return r.render(http.StatusOK, "keys-log", rows)
}

func (s *Site) keysData(r *request) error {
	facts, err := s.config.Parts.Register.Facts(r.Context(), r.person.ID)
	if err != nil {
		return fmt.Errorf("reading facts: %w", err)
	}
	return r.render(http.StatusOK, "keys-data", struct{ Facts []factView }{s.factViews(r, facts)})
}

// factView is a fact with its name in words.
type factView struct {
	Name, Value, Source string
	Level               int
	Verified            time.Time
}

func (s *Site) factViews(r *request, facts []identity.Fact) []factView {
	var out []factView
	for _, f := range facts {
		v := factView{string(f.Name), f.Value, f.Source, f.Level, f.Verified}
		if key := "keys.fact-" + string(f.Name); s.texts.has(key) {
			v.Name = r.T(key)
		}
		if f.Name == identity.FactDocument {
			if key := "keys.document-" + f.Value; s.texts.has(key) {
				v.Value = r.T(key)
			}
		}
		if strings.HasPrefix(f.Source, "desk:") {
			v.Source = r.T("keys.from-desk")
		}
		out = append(out, v)
	}
	return out
}

func (s *Site) keysExport(r *request) error {
	e, err := s.config.Parts.Register.Export(r.Context(), r.asker())
	if err != nil {
		return registered(fmt.Errorf("exporting: %w", err))
	}
	data, err := e.JSON()
	if err != nil {
		return err
	}
	h := r.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `attachment; filename="my-data.json"`)
	_, err = r.w.Write(data)
	return err
}

func (s *Site) keysErase(r *request) error {
	if r.PostFormValue("sure") == "" {
		return fail(http.StatusUnprocessableEntity, "keys.not-sure").at("sure")
	}
	kept, err := s.config.Parts.Register.Erase(r.Context(), r.asker())
	if err != nil {
		return registered(fmt.Errorf("erasing: %w", err))
	}
	if len(kept) > 1 {
		r.notice("success", "keys.erased-part")
		r.redirect("/keys/data")
		return nil
	}
	if err := r.signOut(); err != nil {
		return err
	}
	r.redirect("/")
	return nil
}
