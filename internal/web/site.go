package web

import (
	"cmp"
	"fmt"
	"html/template"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/alexedwards/scs/v2"
)

// Site is the portal.
type Site struct {
	config   Config
	host     string // of Config.Origin
	https    bool
	log      *slog.Logger
	texts    *catalogues
	statics  *statics
	sessions *scs.SessionManager
	across   *http.CrossOriginProtection
	pages    map[string]map[string]*template.Template // language → template name → set
	routes   []Route
	nav      []navEntry
	mux      *http.ServeMux
	handler  http.Handler
	err      error // first mistake made while pages were registered
}

// Route is one line of the access table.
type Route struct {
	Method  string
	Pattern string // path without the language, as registered
	Access  string // public, signedIn, member, officer, operator
	Kind    string // page, app, bare
}

// New checks the configuration, the texts and the templates, and puts the pages
// together. It contacts nobody.
func New(c Config) (*Site, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	origin, err := url.Parse(c.Origin)
	if err != nil {
		return nil, fmt.Errorf("reading the origin: %w", err)
	}
	s := &Site{config: c, host: origin.Host, https: origin.Scheme == "https", log: c.Logger, mux: http.NewServeMux(), across: http.NewCrossOriginProtection()}
	if s.texts, err = loadTexts(textFiles); err != nil {
		return nil, err
	}
	if s.statics, err = loadStatics(staticFiles, wasmFiles); err != nil {
		return nil, err
	}
	if s.pages, err = loadTemplates(templateFiles, s); err != nil {
		return nil, err
	}
	s.sessions = newSessions(c, s.https)
	s.areas()
	if s.err != nil {
		return nil, s.err
	}
	slices.SortStableFunc(s.nav, func(a, b navEntry) int { return cmp.Compare(a.order, b.order) })
	s.mux.Handle("GET /static/", s.statics)
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	s.mux.Handle("/", s.serve(route{kind: kindBare, who: public}, func(r *request) error {
		if r.Method == http.MethodGet && s.offers(r.URL.Path) { // somebody left the language out
			r.redirect(r.URL.RequestURI())
			return nil
		}
		return fail(http.StatusNotFound, "problem.not-found")
	}))
	s.handler = s.guard(s.mux)
	return s, nil
}

// Handler serves the portal.
func (s *Site) Handler() http.Handler { return s.handler }

// Routes returns the access table: every page and endpoint and who may use it,
// in the order of registration.
func (s *Site) Routes() []Route { return slices.Clone(s.routes) }

// Languages lists the languages of the pages, as they stand in the address.
func Languages() []string { return slices.Clone(languages) }

type navEntry struct {
	order     int
	path, key string
	who       access
}

// navigate puts a page into the navigation. Lower orders come first; officers'
// and operators' entries are shown to them alone.
func (s *Site) navigate(order int, path, key string, who access) {
	s.nav = append(s.nav, navEntry{order, path, key, who})
}

// offers reports whether a page is registered, "/keys" or "POST /keys": what
// leads to it may be shown.
func (s *Site) offers(pattern string) bool {
	method, path, ok := splitPattern(pattern)
	if !ok {
		method, path = http.MethodGet, pattern
	}
	return slices.ContainsFunc(s.routes, func(r Route) bool { return r.Kind == "page" && r.Method == method && r.Pattern == path })
}

// mistake keeps the first error of registering, which New returns.
func (s *Site) mistake(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf("putting the pages together: "+format, args...)
	}
}

// splitPattern parts "GET /keys/{kid}".
func splitPattern(pattern string) (method, path string, ok bool) {
	method, path, ok = strings.Cut(pattern, " ")
	return method, path, ok && strings.HasPrefix(path, "/")
}
