package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/httprate"
	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

// Providers are who people sign in with: *signin.RelyingParty. Their callback is
// Origin + "/signin/callback".
type Providers interface {
	Choices() []signin.Choice
	Begin(ctx context.Context, id string, o signin.Options) (*signin.Begun, error)
	Finish(ctx context.Context, id, kept string, query url.Values) (*signin.Identity, error)
}

// Entrance is what signing in needs of the register: *identity.Register.
type Entrance interface {
	SignIn(ctx context.Context, s identity.SignIn) (*identity.Person, error)
	Attempt(ctx context.Context, action identity.Action, person, address string) error
	Passed(ctx context.Context, action identity.Action, person, address string) error
	SignOutEverywhere(ctx context.Context, who identity.Who) (generation int64, err error)
}

const (
	sessionWay     = "signin.way"     // how the person of this session signed in
	sessionPending = "signin.pending" // sign-ins on their way, at most pendingMost

	// pendingMost: somebody may begin in several windows; more than these few is a
	// script.
	pendingMost = 4
	// signInsPerMinute from one address: each costs requests to a provider. A hall
	// full of people behind one address stays below it.
	signInsPerMinute = 60
)

// way is how a session's person signed in; kept with the session.
type way struct {
	Provider, Issuer, Subject string
	Level                     int
	Reasons                   []signin.Reason
	SignedIn                  time.Time
}

// underway is a sign-in between the two halves.
type underway struct {
	State, Pending string
	Lang, Next     string
	Person         string // who confirms that it is her; empty: a sign-in
}

func (s *Site) signin() {
	if s.config.Parts.Providers == nil || s.config.Parts.Entrance == nil {
		return
	}
	limiter := httprate.NewRateLimiter(signInsPerMinute, time.Minute)
	limited := func(h func(*request) error) func(*request) error {
		return func(r *request) error {
			if s.config.Limits.ActsPerMinute >= 0 && limiter.OnLimit(r.w, r.Request, s.clientAddress(r.Request)) {
				return fail(http.StatusTooManyRequests, "problem.too-many").after(time.Minute)
			}
			return h(r)
		}
	}
	s.page("GET /signin", public, s.signinChoose)
	s.bare("GET /signin/with/{provider}", public, limited(s.signinBegin))
	s.bare("GET /signin/callback/{provider}", public, limited(s.signinFinish))
	s.page("GET /signin/confirm", signedIn, s.signinConfirm)
	s.page("POST /signout", signedIn, s.signoutHere)
	s.page("GET /session", signedIn, s.sessionShow)
	s.page("GET /signout/everywhere", signedIn, s.signoutAsk)
	s.page("POST /signout/everywhere", signedIn, s.signoutEverywhere)
}

// signinProvider is a provider as a page offers it.
type signinProvider struct {
	ID, Name, Path string
	Demonstration  bool
}

func (r *request) providers(next string, confirm bool) []signinProvider {
	var out []signinProvider
	for _, c := range r.site.config.Parts.Providers.Choices() {
		q := url.Values{"lang": {r.lang}}
		if next != r.path("/") {
			q.Set("next", next)
		}
		if confirm {
			q.Set("confirm", "yes")
		}
		out = append(out, signinProvider{c.ID, r.providerName(c), "/signin/with/" + c.ID + "?" + q.Encode(), c.Demonstration})
	}
	return out
}

func (r *request) providerName(c signin.Choice) string {
	if r.lang == "en" && c.NameEN != "" || c.NameZH == "" {
		return c.NameEN
	}
	return c.NameZH
}

// signinChoose offers the providers.
func (s *Site) signinChoose(r *request) error {
	next := r.next("/")
	if r.person != nil {
		http.Redirect(r.w, r.Request, next, http.StatusSeeOther)
		return nil
	}
	return r.render(http.StatusOK, "signin", r.providers(next, false))
}

// signinBegin sends the browser to a provider. It is a link of this portal's own
// pages: what another site leads here is shown the choice first, so that nobody is
// signed in who did not ask.
func (s *Site) signinBegin(r *request) error {
	q := r.URL.Query()
	if slices.Contains(languages, q.Get("lang")) {
		r.lang = q.Get("lang")
	}
	next := r.next("/")
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
		r.redirect("/signin" + r.nextQuery(next))
		return nil
	}
	o := signin.Options{Language: r.lang}
	u := underway{Lang: r.lang, Next: next}
	id := r.PathValue("provider")
	if q.Get("confirm") != "" {
		w, ok := r.way()
		if r.person == nil || !ok {
			r.redirect("/signin" + r.nextQuery(next))
			return nil
		}
		id, o.Fresh, o.Subject, u.Person = w.Provider, true, w.Subject, r.person.ID
	}
	begun, err := s.config.Parts.Providers.Begin(r.Context(), id, o)
	if err != nil {
		return s.signinFailed(r, u, err)
	}
	u.State, u.Pending = begun.State, begun.Pending
	if err := r.keepUnderway(u); err != nil {
		return err
	}
	http.Redirect(r.w, r.Request, begun.Redirect, http.StatusSeeOther)
	return nil
}

// signinFinish takes the provider's answer. Attempts count before they are made;
// what is the provider's fault or the person's choice is given back.
func (s *Site) signinFinish(r *request) error {
	ctx, entrance := r.Context(), s.config.Parts.Entrance
	u, err := r.takeUnderway(r.URL.Query().Get("state"))
	if err != nil {
		return err
	}
	if u.Lang != "" {
		r.lang = u.Lang
	}
	address := s.clientAddress(r.Request)
	err = entrance.Attempt(ctx, identity.ActionSignIn, u.Person, address)
	if locked := new(identity.Locked); errors.As(err, &locked) {
		wait := max(time.Second, locked.Until.Sub(s.config.Now()))
		return fail(http.StatusTooManyRequests, "signin.locked", "until", beijing(locked.Until)).after(wait)
	} else if err != nil {
		return fmt.Errorf("counting the attempt: %w", err)
	}
	passed := func() error {
		if err := entrance.Passed(ctx, identity.ActionSignIn, u.Person, address); err != nil {
			return fmt.Errorf("giving the attempt back: %w", err)
		}
		return nil
	}
	who, err := s.config.Parts.Providers.Finish(ctx, r.PathValue("provider"), u.Pending, r.URL.Query())
	if err != nil {
		if signin.IsCode(err, signin.Cancelled) || signin.IsCode(err, signin.Unreachable) {
			if err := passed(); err != nil {
				return err
			}
		}
		return s.signinFailed(r, u, err)
	}
	if u.Person != "" && (r.person == nil || r.person.ID != u.Person) {
		return s.signinFailed(r, u, &signin.Error{Code: signin.NotBegun, Provider: who.Provider, Err: errors.New("the session that asked is over")})
	}
	person, err := entrance.SignIn(ctx, identity.SignIn{Issuer: who.Issuer, Subject: who.Subject, Facts: factsOf(who), Address: address})
	switch {
	case errors.Is(err, identity.ErrDocument), errors.Is(err, identity.ErrConflict):
		// The provider did its part: this is nobody's guess.
		if err := passed(); err != nil {
			return err
		}
		key := "signin.other-account"
		if errors.Is(err, identity.ErrConflict) {
			key = "signin.changed-hands"
		}
		return fail(http.StatusConflict, key).because(err)
	case err != nil:
		return fmt.Errorf("signing in: %w", err)
	}
	if err := passed(); err != nil {
		return err
	}
	w := way{Provider: who.Provider, Issuer: who.Issuer, Subject: who.Subject, Level: int(who.Level), Reasons: who.Reasons, SignedIn: who.SignedIn}
	if err := r.enter(person, w, u.Person != ""); err != nil {
		return err
	}
	if u.Person != "" {
		r.notice("success", "signin.confirmed")
	} else {
		r.notice("success", "signin.welcome", "name", r.callName(who))
	}
	http.Redirect(r.w, r.Request, r.localPath(u.Next, "/"), http.StatusSeeOther)
	return nil
}

// enter makes the session hers. Of a session before, signed in or not, nothing
// stays, unless it is hers and she confirmed it.
func (r *request) enter(person *identity.Person, w way, confirmed bool) error {
	if !confirmed {
		if err := r.site.sessions.Clear(r.Context()); err != nil {
			return fmt.Errorf("clearing the session: %w", err)
		}
	}
	text, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("keeping how she signed in: %w", err)
	}
	r.session().Put(sessionWay, string(text))
	if err := r.signIn(person.ID, person.Generation); err != nil {
		return err
	}
	if r.person == nil {
		return fail(http.StatusForbidden, "signin.refused-here")
	}
	return nil
}

// factsOf is what the register learns: the real name with its document, or at
// level 1 a name to call her by.
func factsOf(who *signin.Identity) []identity.Fact {
	fact := func(name identity.FactName, value string) identity.Fact {
		return identity.Fact{Name: name, Value: value, Source: who.Issuer, Level: int(who.Level), Verified: who.Verified}
	}
	if who.Level == signin.SelfAsserted {
		if who.Name == "" {
			return nil
		}
		return []identity.Fact{fact(identity.FactRealName, who.Name)}
	}
	return []identity.Fact{fact(identity.FactRealName, who.Facts.Name), fact(identity.FactDocument, identity.DocumentID), fact(identity.FactNumber, who.Facts.Number.Number())}
}

// callName is how the page greets her.
func (r *request) callName(who *signin.Identity) string {
	switch {
	case r.person != nil && r.person.Name != "":
		return r.person.Name
	case who.Name != "":
		return who.Name
	}
	return r.T("signin.nameless")
}

// signinFailed says what went wrong where she can choose again.
func (s *Site) signinFailed(r *request, u underway, err error) error {
	var e *signin.Error
	if !errors.As(err, &e) {
		return err
	}
	s.log.Info("sign-in failed", "request", r.id, "provider", e.Provider, "code", string(e.Code), "error", e.Err)
	tone := "danger"
	if e.Code == signin.Cancelled {
		tone = "info"
	}
	r.notice(tone, "signin.failed-"+string(e.Code))
	if u.Person != "" && r.person != nil {
		r.redirect("/signin/confirm" + r.nextQuery(u.Next))
		return nil
	}
	r.redirect("/signin" + r.nextQuery(u.Next))
	return nil
}

// next is where the sign-in leads in the end: a page of this portal, in the
// language that was chosen since.
func (r *request) next(otherwise string) string {
	next := r.localPath(r.URL.Query().Get("next"), otherwise)
	for _, lang := range languages {
		if rest, ok := strings.CutPrefix(next, "/"+lang); ok {
			return r.path(rest)
		}
	}
	return next
}

// nextQuery is the query that carries it; the front page needs none.
func (r *request) nextQuery(next string) string {
	if next == "" || next == r.path("/") {
		return ""
	}
	return "?next=" + url.QueryEscape(next)
}

func (r *request) keepUnderway(u underway) error {
	list, err := r.listUnderway()
	if err != nil {
		return err
	}
	list = append(list, u)
	list = list[max(0, len(list)-pendingMost):]
	return r.putUnderway(list)
}

// takeUnderway returns the sign-in of this state and forgets it; the zero value
// when this session has none.
func (r *request) takeUnderway(state string) (underway, error) {
	list, err := r.listUnderway()
	if err != nil {
		return underway{}, err
	}
	at := slices.IndexFunc(list, func(u underway) bool { return u.State == state })
	if at < 0 {
		return underway{}, nil
	}
	u := list[at]
	return u, r.putUnderway(slices.Delete(list, at, at+1))
}

func (r *request) listUnderway() (list []underway, err error) {
	if text := r.session().Get(sessionPending); text != "" {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, fmt.Errorf("reading the sign-ins under way: %w", err)
		}
	}
	return list, nil
}

func (r *request) putUnderway(list []underway) error {
	text, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("keeping the sign-ins under way: %w", err)
	}
	r.session().Put(sessionPending, string(text))
	return nil
}

// way returns how this session's person signed in.
func (r *request) way() (w way, ok bool) {
	text := r.session().Get(sessionWay)
	return w, text != "" && json.Unmarshal([]byte(text), &w) == nil
}
