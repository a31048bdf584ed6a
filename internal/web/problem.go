package web

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// Problem is an error that its reader is told of: what happened and what to do,
// as a page or, for scripts, as RFC 9457.
type Problem struct {
	Status int
	Key    string // of the texts Key.title and Key.detail
	Pairs  []any  // of name and value, for both texts
	Field  string // of a form or a JSON body, where one is at fault
	After  time.Duration
	Err    error // for the log
}

// fail returns a Problem.
func fail(status int, key string, pairs ...any) *Problem {
	return &Problem{Status: status, Key: key, Pairs: pairs}
}

// because adds what the log should have.
func (p *Problem) because(err error) *Problem { p.Err = err; return p }

// at names the field at fault.
func (p *Problem) at(field string) *Problem { p.Field = field; return p }

// after says when to try again.
func (p *Problem) after(d time.Duration) *Problem { p.After = d; return p }

func (p *Problem) Error() string {
	if p.Err == nil {
		return fmt.Sprintf("%s (%d)", p.Key, p.Status)
	}
	return fmt.Sprintf("%s (%d): %v", p.Key, p.Status, p.Err)
}

// Unwrap returns the cause.
func (p *Problem) Unwrap() error { return p.Err }

// problemView is what the template problem.html shows.
type problemView struct {
	Status        int
	Title, Detail string
	Request       string
	SignIn        bool // signing in would help
	Enrol         bool // enrolling would
}

// problemDocument is the JSON of RFC 9457, with members of our own.
type problemDocument struct {
	Type    string `json:"type"`
	Title   string `json:"title"`
	Status  int    `json:"status"`
	Detail  string `json:"detail"`
	Code    string `json:"code"`
	Field   string `json:"field,omitempty"`
	Request string `json:"request"`
}

// problem answers with an error. What is no Problem is our own fault, and is
// logged; its text never reaches the reader.
func (r *request) problem(err error) {
	var p *Problem
	if !errors.As(err, &p) {
		p = fail(http.StatusInternalServerError, "problem.internal").because(err)
	}
	if p.Status >= 500 && r.Context().Err() != nil {
		// The reader has left: she gets no answer, and nothing is wrong here.
		r.site.log.Debug("request abandoned", "request", r.id, "route", r.Pattern, "error", p.Error())
	} else if p.Status >= 500 {
		r.site.log.Error("request failed", "request", r.id, "route", r.Pattern, "error", p.Error())
	} else if p.Err != nil {
		r.site.log.Info("request refused", "request", r.id, "route", r.Pattern, "code", p.Key, "error", p.Err)
	}
	h := r.w.Header()
	h.Set("Cache-Control", "no-store")
	if p.After > 0 {
		h.Set("Retry-After", strconv.Itoa(max(1, int(p.After.Seconds()))))
	}
	title, detail := r.T(p.Key+".title", p.Pairs...), r.T(p.Key+".detail", p.Pairs...)
	if r.kind == kindApp {
		r.problemJSON(p, title, detail)
		return
	}
	data := problemView{Status: p.Status, Title: title, Detail: detail, Request: r.id,
		SignIn: p.Status == http.StatusUnauthorized && r.site.offers("/signin"), Enrol: p.Key == "problem.not-enrolled" && r.site.offers("/keys")}
	if err := r.render(p.Status, "problem", data); err != nil {
		r.site.log.Error("rendering a problem failed", "request", r.id, "error", err)
		http.Error(r.w, title+"\n"+detail, p.Status)
	}
}

func (r *request) problemJSON(p *Problem, title, detail string) {
	doc, err := json.Marshal(problemDocument{Type: "about:blank", Title: title, Status: p.Status, Detail: detail, Code: p.Key, Field: p.Field, Request: r.id})
	if err != nil {
		r.site.log.Error("encoding a problem failed", "request", r.id, "error", err)
	}
	h := r.w.Header()
	h.Set("Content-Type", "application/problem+json")
	h.Set("Content-Language", r.lang)
	r.w.WriteHeader(p.Status)
	if _, err := r.w.Write(append(doc, '\n')); err != nil {
		r.site.log.Debug("the browser went away", "request", r.id)
	}
}
