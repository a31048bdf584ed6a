package web

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/alexedwards/scs/v2"
)

// Keys of a session's data.
const (
	sessionPerson = "person"
	sessionSince  = "since"
	sessionGen    = "generation"
	sessionNotice = "notice"
)

// newSessions sets the cookie as tight as the address allows: __Host- pins it to
// this host and to https (RFC 6265bis §4.1.3.2). SameSite is Lax since a
// provider's answer comes from another site.
func newSessions(c Config, https bool) *scs.SessionManager {
	m := scs.New()
	m.Store = c.Sessions
	m.HashTokenInStore = true
	m.IdleTimeout = c.SessionIdle
	m.Lifetime = c.SessionLife
	m.Cookie.Name = "zhenglian"
	m.Cookie.Path = "/"
	m.Cookie.HttpOnly = true
	m.Cookie.SameSite = http.SameSiteLaxMode
	m.Cookie.Persist = false
	if https {
		m.Cookie.Name = "__Host-zhenglian"
		m.Cookie.Secure = true
	}
	m.ErrorFunc = func(w http.ResponseWriter, r *http.Request, err error) {
		if r.Context().Err() != nil {
			return // the reader has left
		}
		c.Logger.Error("session store failed", "route", r.Pattern, "error", err)
		http.Error(w, "会话存储暂时不可用，请稍后重试。\nSessions cannot be stored just now: try again shortly.", http.StatusServiceUnavailable)
	}
	return m
}

// session gives handlers a place for what must outlive a request: small values
// under a key that begins with the area's name.
type session struct{ r *request }

// Put stores a value; Take returns and removes it, empty when there is none.
func (s session) Put(key, value string) { s.r.site.sessions.Put(s.r.Context(), key, value) }

// Get returns a value, empty when there is none.
func (s session) Get(key string) string { return s.r.site.sessions.GetString(s.r.Context(), key) }

// Take returns a value and removes it: for what may be used once.
func (s session) Take(key string) string { return s.r.site.sessions.PopString(s.r.Context(), key) }

// Since is when the person of this session signed in.
func (s session) Since() time.Time {
	return time.UnixMilli(s.r.site.sessions.GetInt64(s.r.Context(), sessionSince))
}

// signIn makes the session the person's, under a new cookie: who knew the one
// before knows nothing. generation is the person's at this moment.
func (r *request) signIn(person string, generation int64) error {
	m := r.site.sessions
	if err := m.RenewToken(r.Context()); err != nil {
		return fmt.Errorf("renewing the session: %w", err)
	}
	m.Remove(r.Context(), sessionActing) // another person may have chosen it
	m.Put(r.Context(), sessionPerson, person)
	m.Put(r.Context(), sessionSince, r.site.config.Now().UnixMilli())
	m.Put(r.Context(), sessionGen, generation)
	return r.identify()
}

// signOut ends the session.
func (r *request) signOut() error {
	if err := r.site.sessions.Destroy(r.Context()); err != nil {
		return fmt.Errorf("ending the session: %w", err)
	}
	r.person = nil
	return nil
}

// identify sets the request's person from its session, and for whom she acts. A session that her
// sign-out everywhere ended, or whose person is no more, is destroyed.
func (r *request) identify() error {
	r.person = nil
	m := r.site.sessions
	id := m.GetString(r.Context(), sessionPerson)
	if id == "" || r.site.config.Parts.People == nil {
		return nil
	}
	p, err := r.site.config.Parts.People.Person(r.Context(), id)
	switch {
	case errors.Is(err, ErrNoPerson):
		return r.signOut()
	case err != nil:
		return fmt.Errorf("looking up who is signed in: %w", err)
	case m.GetInt64(r.Context(), sessionGen) != p.Generation:
		return r.signOut()
	}
	r.person = p
	return r.act()
}
