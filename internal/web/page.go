package web

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
)

// access is who may use a page.
type access int

const (
	public   access = iota
	signedIn        // anybody signed in
	member          // signed in and enrolled with the alliance
	officer         // of the registration desk
	operator        // of the node
)

func (a access) String() string {
	return [...]string{"public", "signedIn", "member", "officer", "operator"}[a]
}

// admits reports whether a person may use what is open to a.
func (a access) admits(p *Person) bool {
	switch a {
	case public:
		return true
	case signedIn:
		return p != nil
	case member:
		return p != nil && p.Member != ""
	case officer:
		return p != nil && slices.Contains(p.Roles, RoleOfficer)
	case operator:
		return p != nil && slices.Contains(p.Roles, RoleOperator)
	}
	return false
}

type kind int

const (
	kindPage kind = iota // HTML, language in the path
	kindApp              // JSON
	kindBare             // HTML, language by session or Accept-Language
)

func (k kind) String() string { return [...]string{"page", "app", "bare"}[k] }

type route struct {
	kind kind
	who  access
}

// page registers a handler for a pattern without the language, such as
// "GET /keys/{kid}", in every language.
func (s *Site) page(pattern string, who access, h func(*request) error) {
	method, path, ok := splitPattern(pattern)
	if !ok {
		s.mistake("%q is not METHOD /path", pattern)
		return
	}
	s.routes = append(s.routes, Route{method, path, who.String(), kindPage.String()})
	if path == "/" {
		path = "/{$}"
	}
	for _, lang := range languages {
		s.mux.Handle(method+" /"+lang+path, s.serve(route{kindPage, who}, h))
	}
}

// app registers an endpoint of the pages' scripts: under /app/, JSON, errors as
// problems (RFC 9457) in the language that Accept-Language names.
func (s *Site) app(pattern string, who access, h func(*request) error) {
	s.register(pattern, route{kindApp, who}, h)
}

// bare registers a page without a language in its path: where a provider or
// another program sends the browser to.
func (s *Site) bare(pattern string, who access, h func(*request) error) {
	s.register(pattern, route{kindBare, who}, h)
}

func (s *Site) register(pattern string, rt route, h func(*request) error) {
	method, path, ok := splitPattern(pattern)
	if !ok {
		s.mistake("%q is not METHOD /path", pattern)
		return
	}
	s.routes = append(s.routes, Route{method, path, rt.who.String(), rt.kind.String()})
	s.mux.Handle(pattern, s.serve(rt, h))
}

// serve is the way of every request that has a page or an endpoint: session,
// person, access, handler, and the error as a page.
func (s *Site) serve(rt route, h func(*request) error) http.Handler {
	inner := http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		r := s.newRequest(w, hr, rt)
		err := s.handle(r, rt, h)
		if err != nil {
			r.problem(err)
		}
	})
	return s.sessions.LoadAndSave(inner)
}

func (s *Site) handle(r *request, rt route, h func(*request) error) error {
	if err := s.fromHere(r.Request); err != nil {
		return err
	}
	if err := r.identify(); err != nil {
		return err
	}
	if !rt.who.admits(r.person) {
		return r.refuse(rt)
	}
	if rt.kind == kindApp {
		if err := r.samePage(); err != nil {
			return err
		}
	}
	return h(r)
}

// refuse says what somebody without access can do: sign in, enrol, or nothing.
func (r *request) refuse(rt route) error {
	switch {
	case r.person == nil && !r.site.offers("/signin"):
		return fail(http.StatusForbidden, "problem.no-sign-in")
	case r.person == nil && rt.kind == kindPage && r.Method == http.MethodGet:
		r.redirect("/signin?next=" + url.QueryEscape(r.URL.RequestURI()))
		return nil
	case r.person == nil:
		return fail(http.StatusUnauthorized, "problem.signed-out")
	case rt.who == member:
		return fail(http.StatusForbidden, "problem.not-enrolled")
	}
	return fail(http.StatusForbidden, "problem.not-yours")
}

// fromHere refuses what another site made the browser send. The library lets a
// request without both headers pass, since no browser sends one; with a session's
// cookie on it, it must have one.
func (s *Site) fromHere(r *http.Request) error {
	if err := s.across.Check(r); err != nil {
		return fail(http.StatusForbidden, "problem.other-site")
	}
	safe := r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodOptions
	if safe || r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != "" {
		return nil
	}
	if _, err := r.Cookie(s.sessions.Cookie.Name); errors.Is(err, http.ErrNoCookie) {
		return nil
	}
	return fail(http.StatusForbidden, "problem.other-site")
}
