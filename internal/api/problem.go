package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/zhenglian/zhenglian/evidence"
	"github.com/zhenglian/zhenglian/internal/chain"
	"github.com/zhenglian/zhenglian/internal/httpsig"
)

const (
	typeProblemJSON = "application/problem+json"
	typeProblemCBOR = "application/concise-problem-details+cbor"

	// problemURN is the prefix of every problem type; the code follows. It is also
	// the key of our own map in concise problem details (RFC 9290 §3.2).
	problemURN = "urn:zhenglian:problem"
)

// Problem is an error answer: RFC 9457, with members of ours.
type Problem struct {
	Type       string `json:"type" doc:"urn:zhenglian:problem: and the code"`
	Title      string `json:"title" doc:"What happened, in the reader's language"`
	Status     int    `json:"status"`
	Detail     string `json:"detail,omitempty" doc:"What exactly, for a developer"`
	Code       string `json:"code" doc:"A stable word for programs"`
	Field      string `json:"field,omitempty" doc:"The offending field of the request or statement"`
	Hint       string `json:"hint,omitempty" doc:"What to do, in the reader's language"`
	RetryAfter int    `json:"retry_after,omitempty" doc:"Seconds, as in the Retry-After field"`
	Request    string `json:"request,omitempty" doc:"Names the request in the node's log"`

	lang string
	cbor bool
}

// Error, GetStatus, GetHeaders and ContentType make huma write a Problem.
func (p *Problem) Error() string  { return p.Code + ": " + p.Title }
func (p *Problem) GetStatus() int { return p.Status }

// GetHeaders returns the fields that go with the answer.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{"Content-Language": {p.lang}, "Cache-Control": {"no-store"}}
	h.Add("Vary", "Accept, Accept-Language")
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(p.RetryAfter))
	}
	if p.Status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", `Signature realm="zhenglian"`)
		h.Set("Accept-Signature", `zhenglian=("@method" "@target-uri");created;keyid;nonce`)
	}
	return h
}

// ContentType is RFC 9457's or RFC 9290's.
func (p *Problem) ContentType(string) string {
	if p.cbor {
		return typeProblemCBOR
	}
	return typeProblemJSON
}

// write encodes the problem in the form chosen for it.
func (p *Problem) write(w io.Writer) error {
	if !p.cbor {
		return json.NewEncoder(w).Encode(p)
	}
	b, err := p.concise()
	if err != nil {
		return err
	}
	_, err = w.Write(b)
	return err
}

// concise encodes RFC 9290 concise problem details: title and detail in the
// words of SCRAPI, English by default, and a map of ours with code, field,
// reason and hint; the hint carries its language (tag 38).
func (p *Problem) concise() ([]byte, error) {
	title, detail := scrapiWords(p)
	own := map[int]any{0: p.Code}
	if p.Field != "" {
		own[1] = p.Field
	}
	if p.Detail != "" {
		own[2] = p.Detail
	}
	if p.Hint != "" {
		own[3] = cbor.Tag{Number: 38, Content: []string{p.lang, p.Hint}}
	}
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		return nil, fmt.Errorf("encoding a problem: %w", err)
	}
	return mode.Marshal(map[any]any{-1: title, -2: detail, problemURN: own})
}

// failure is a refusal with all that a Problem needs but the language.
type failure struct {
	status     int
	code       string
	field      string
	detail     string // for a developer; never an internal error's text
	retryAfter time.Duration
}

func (f *failure) Error() string { return f.code + ": " + f.field + ": " + f.detail }

func fail(status int, code, field, format string, args ...any) *failure {
	return &failure{status: status, code: code, field: field, detail: fmt.Sprintf(format, args...)}
}

func (f *failure) after(d time.Duration) *failure {
	f.retryAfter = d
	return f
}

// failureOf finds what an error means to a client. internal is true when it
// means nothing to one: the text then goes to the log alone.
func failureOf(err error) (f *failure, internal bool) {
	var overload *chain.OverloadError
	var damaged *chain.DamagedError
	var signature *httpsig.Error
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &f):
		return f, false
	case errors.As(err, &overload):
		return fail(http.StatusTooManyRequests, "overloaded", "", "the node has as much unfinished work as it may hold").after(overload.RetryAfter), false
	case errors.Is(err, chain.ErrDiskFull):
		return fail(http.StatusInsufficientStorage, "disk-full", "", "%v", chain.ErrDiskFull), false
	case errors.Is(err, chain.ErrStopping):
		return fail(http.StatusServiceUnavailable, "stopping", "", "%v", chain.ErrStopping).after(5 * time.Second), false
	case errors.Is(err, chain.ErrNotFound):
		return fail(http.StatusNotFound, "not-found", "", "%v", chain.ErrNotFound), false
	case errors.As(err, &damaged):
		return fail(http.StatusServiceUnavailable, "damaged", "", "the %s of this node is damaged; ask another institution", damaged.Store), true
	case errors.As(err, &signature):
		status := http.StatusUnauthorized
		if signature.Code == httpsig.CodeTooMany {
			status = http.StatusTooManyRequests
		}
		f = fail(status, string(signature.Code), signature.Field, "%s", signature.Reason)
		if status == http.StatusTooManyRequests {
			f.after(time.Minute)
		}
		return f, false
	case errors.As(err, &large):
		return fail(http.StatusRequestEntityTooLarge, "too-large", "body", "at most %d bytes are allowed", large.Limit), false
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return fail(http.StatusServiceUnavailable, "unfinished", "", "the request ended before the node was done; sending the same again is safe").after(time.Second), false
	}
	return fail(http.StatusInternalServerError, "internal", "", ""), true
}

// refused turns the outcome of one refused statement into a failure. Statements
// that are none are 400 (413 when too long), the others 422.
func refused(o chain.Outcome) *failure {
	status := http.StatusUnprocessableEntity
	switch o.Code {
	case evidence.CodeEmpty, evidence.CodeMalformed, evidence.CodeNotDeterministic:
		status = http.StatusBadRequest
	case evidence.CodeOversize:
		status = http.StatusRequestEntityTooLarge
	}
	return fail(status, o.Code.String(), o.Field, "%s", o.Reason)
}

func seconds(d time.Duration) int {
	if d <= 0 {
		return 0
	}
	return int(math.Ceil(d.Seconds()))
}

// problem makes the answer to an error, in the reader's language and format,
// and logs what only the operator may see.
func (s *Server) problem(r *http.Request, err error) *Problem {
	f, internal := failureOf(err)
	lang := s.language(r)
	text := wordsOf(f.code, lang)
	p := &Problem{Type: problemURN + ":" + f.code, Title: text.title, Status: f.status, Detail: f.detail, Code: f.code,
		Field: f.field, Hint: text.hint, RetryAfter: seconds(f.retryAfter), Request: requestID(r), lang: lang, cbor: wantsCBOR(r)}
	if p.Status == http.StatusTooManyRequests && p.RetryAfter == 0 {
		p.RetryAfter = 1
	}
	if internal {
		s.log.LogAttrs(r.Context(), slog.LevelError, "request failed", slog.String("request", p.Request), slog.String("route", route(r)), slog.String("error", err.Error()))
	}
	return p
}

// writeError answers with a problem. Nothing may have been written before.
func (s *Server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	p := s.problem(r, err)
	for k, v := range p.GetHeaders() {
		w.Header()[k] = v
	}
	w.Header().Set("Content-Type", p.ContentType(""))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_ = p.write(w) // the client went away: nobody is left to tell
	}
}
