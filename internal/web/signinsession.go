package web

import (
	"fmt"
	"net/http"
	"time"

	"github.com/zhenglian/zhenglian/internal/identity"
	"github.com/zhenglian/zhenglian/internal/identity/signin"
)

// sessionView is what the page about the session shows.
type sessionView struct {
	Provider        string
	Issuer, Subject string
	SignedIn        time.Time // at the provider: what step-up renews
	Since           time.Time // of this session
	Ends            time.Time // at the latest
	Idle            int       // minutes
	Level           int       // of this sign-in
	Reasons         []string
}

func (r *request) sessionView() sessionView {
	v := sessionView{Since: r.session().Since(), Ends: r.site.sessions.Deadline(r.Context()), Idle: int(r.site.config.SessionIdle.Minutes())}
	w, ok := r.way()
	if !ok {
		return v
	}
	v.Issuer, v.Subject, v.SignedIn, v.Level = w.Issuer, w.Subject, w.SignedIn, w.Level
	v.Provider = w.Provider
	for _, c := range r.site.config.Parts.Providers.Choices() {
		if c.ID == w.Provider {
			v.Provider = r.providerName(c)
		}
	}
	for _, reason := range w.Reasons {
		v.Reasons = append(v.Reasons, r.reason(reason))
	}
	return v
}

// reason says why a level is not higher.
func (r *request) reason(why signin.Reason) string {
	key := "signin.reason-" + why.Code
	if !r.site.texts.has(key) {
		key = "signin.reason-other"
	}
	return r.T(key, "detail", why.Detail)
}

// sessionShow is "who am I".
func (s *Site) sessionShow(r *request) error {
	return r.render(http.StatusOK, "signin-session", r.sessionView())
}

// signinConfirm asks the person to sign in again at her provider. Pages that want
// a fresh sign-in lead here, with next, when the way's SignedIn is too long ago.
func (s *Site) signinConfirm(r *request) error {
	next := r.next("/session")
	w, ok := r.way()
	for _, p := range r.providers(next, true) {
		if ok && p.ID == w.Provider {
			return r.render(http.StatusOK, "signin-confirm", &p)
		}
	}
	// Her provider is not configured any more: only a new sign-in helps.
	return r.render(http.StatusOK, "signin-confirm", (*signinProvider)(nil))
}

// signoutHere ends this session. What the provider keeps is the provider's.
func (s *Site) signoutHere(r *request) error {
	if err := r.signOut(); err != nil {
		return err
	}
	r.notice("success", "signin.signed-out")
	r.redirect("/")
	return nil
}

func (s *Site) signoutAsk(r *request) error {
	return r.render(http.StatusOK, "signin-everywhere", nil)
}

// signoutEverywhere ends all of the person's sessions, this one too.
func (s *Site) signoutEverywhere(r *request) error {
	who := identity.Who{Person: r.person.ID, Address: s.clientAddress(r.Request)}
	if _, err := s.config.Parts.Entrance.SignOutEverywhere(r.Context(), who); err != nil {
		return fmt.Errorf("ending all sessions: %w", err)
	}
	if err := r.signOut(); err != nil {
		return err
	}
	r.notice("success", "signin.signed-out-everywhere")
	r.redirect("/")
	return nil
}
