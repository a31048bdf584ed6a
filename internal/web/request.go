package web

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
)

// request is one request of a page, with what its handler needs to answer.
type request struct {
	*http.Request
	w      http.ResponseWriter
	site   *Site
	kind   kind
	id     string  // names the request in the log and on problem pages
	lang   string  // of Languages
	person *Person // nil: nobody is signed in

	sessionless bool // answered before there was a session
}

func (s *Site) newRequest(w http.ResponseWriter, hr *http.Request, rt route) *request {
	r := &request{Request: hr, w: w, site: s, kind: rt.kind, id: requestID(hr)}
	r.lang = s.language(hr)
	return r
}

// T returns a text in the page's language, with pairs of name and value put in.
func (r *request) T(key string, pairs ...any) string {
	text, err := r.site.texts.say(r.lang, key, pairs...)
	if err != nil {
		r.site.log.Error("a text is missing", "request", r.id, "error", err)
	}
	return text
}

// path returns the address of a page in the page's language.
func (r *request) path(p string) string { return "/" + r.lang + p }

func (r *request) session() session { return session{r} }

// redirect leads to a page by its path without language, with See Other.
func (r *request) redirect(path string) {
	http.Redirect(r.w, r.Request, r.path(path), http.StatusSeeOther)
}

// localPath returns next when it is a page of this portal in a language of it,
// and otherwise the path given in the page's language: no address that somebody
// puts into a link leads elsewhere.
func (r *request) localPath(next, otherwise string) string {
	for _, lang := range languages {
		rest, ok := strings.CutPrefix(next, "/"+lang)
		if ok && (rest == "" || rest[0] == '/' || rest[0] == '?') && !strings.ContainsAny(next, "\\\r\n\t") && !strings.Contains(next, "//") {
			return next
		}
	}
	return r.path(otherwise)
}

// notice is said at the top of the next page: tone is success, info, warning or
// danger; key a text.
func (r *request) notice(tone, key string, pairs ...any) {
	if !slices.Contains([]string{"success", "info", "warning", "danger"}, tone) {
		tone = "info"
	}
	r.session().Put(sessionNotice, tone+"\n"+r.T(key, pairs...))
}

// render writes template/NAME.html in the layout.
func (r *request) render(status int, name string, data any) error {
	set, ok := r.site.pages[r.lang][name]
	if !ok {
		return fmt.Errorf("there is no template %s", name)
	}
	var page bytes.Buffer
	if err := set.ExecuteTemplate(&page, "layout", r.view(name, data)); err != nil {
		return fmt.Errorf("rendering %s: %w", name, err)
	}
	h := r.w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Language", r.lang)
	h.Add("Vary", "Cookie")
	if r.kind == kindBare {
		h.Add("Vary", "Accept-Language")
	}
	r.w.WriteHeader(status)
	_, err := page.WriteTo(r.w)
	if err != nil {
		r.site.log.Debug("the browser went away", "request", r.id)
	}
	return nil
}

// json writes a value.
func (r *request) json(status int, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the answer: %w", err)
	}
	r.w.Header().Set("Content-Type", "application/json")
	r.w.WriteHeader(status)
	if _, err := r.w.Write(append(data, '\n')); err != nil {
		r.site.log.Debug("the browser went away", "request", r.id)
	}
	return nil
}

// readJSON reads one JSON value of at most limit bytes into v; unknown members
// are refused.
func (r *request) readJSON(v any, limit int64) error {
	if ct, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); strings.TrimSpace(ct) != "application/json" {
		return fail(http.StatusUnsupportedMediaType, "problem.bad-request")
	}
	dec := json.NewDecoder(http.MaxBytesReader(r.w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if err == nil {
		if _, more := dec.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("there is more after the value")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return fail(http.StatusRequestEntityTooLarge, "problem.too-large").because(err)
	case err != nil:
		return fail(http.StatusBadRequest, "problem.bad-request").because(err)
	}
	return nil
}
