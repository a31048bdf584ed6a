package web

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/go-chi/httprate"
)

type requestIDKey struct{}

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestIDKey{}).(string)
	return id
}

// guard is what holds for every request, whatever it asks for.
func (s *Site) guard(next http.Handler) http.Handler {
	return s.observe(s.headers(s.ownHost(s.limit(next))))
}

// observe names and logs each request: its route, never its path or address,
// which may tell who did what. A panic becomes an answer.
func (s *Site) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := rand.Text()[:12]
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
		rec := &recorder{ResponseWriter: w}
		defer func() {
			if p := recover(); p != nil {
				if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
					panic(p)
				}
				// The value of a panic may hold what the request held: its type and
				// the stack say where to look.
				s.log.Error("request panicked", "request", id, "route", r.Pattern, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				if rec.status == 0 {
					s.plainProblem(rec, r, fail(http.StatusInternalServerError, "problem.internal"))
				}
			}
			s.log.LogAttrs(r.Context(), slog.LevelDebug, "request", slog.String("request", id), slog.String("route", r.Pattern),
				slog.Int("status", rec.status), slog.Duration("took", time.Since(began)))
		}()
		next.ServeHTTP(rec, r)
	})
}

// plainProblem answers outside any session.
func (s *Site) plainProblem(w http.ResponseWriter, hr *http.Request, p *Problem) {
	rt := route{kind: kindPage}
	if strings.HasPrefix(hr.URL.Path, "/app/") {
		rt.kind = kindApp
	}
	r := s.newRequest(w, hr, rt)
	r.kind = rt.kind
	r.sessionless = true
	r.problem(p)
}

// recorder keeps the status of an answer.
type recorder struct {
	http.ResponseWriter
	status int
}

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// contentPolicy of pages: nothing inline, no other host, no text made into
// HTML or a script's address but by the policy named zhenglian (trusted.js).
func (s *Site) contentPolicy() string {
	forms := strings.Join(append([]string{"'self'"}, s.config.FormTargets...), " ")
	return "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; worker-src 'self'; " +
		"form-action " + forms + "; frame-ancestors 'none'; base-uri 'none'; require-trusted-types-for 'script'; trusted-types zhenglian"
}

func (s *Site) headers(next http.Handler) http.Handler {
	policy := s.contentPolicy()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Permissions-Policy", "camera=(), microphone=(), geolocation=(), payment=(), usb=(), publickey-credentials-get=(self), publickey-credentials-create=(self)")
		h.Set("Cache-Control", "no-store")
		if s.https {
			h.Set("Strict-Transport-Security", "max-age=31536000")
		}
		next.ServeHTTP(w, r)
	})
}

// ownHost refuses requests for another host than the origin's: a name that
// somebody points at this address would otherwise be served as this portal.
func (s *Site) ownHost(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != s.host && r.URL.Path != "/healthz" {
			s.plainProblem(w, r, fail(http.StatusMisdirectedRequest, "problem.other-host", "origin", s.config.Origin))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Beside is for a handler of another protocol at the same origin, without
// sessions: the rate is that of pages. Clients of such protocols may name no
// host (OpenSSL's for OCSP does not).
func (s *Site) Beside(h http.Handler) http.Handler {
	return s.limitBy(s.config.Limits.PagesPerMinute, h)
}

// limitBy lets n requests a minute pass for a client address; all when n is
// negative.
func (s *Site) limitBy(n int, next http.Handler) http.Handler {
	if n < 0 {
		return next
	}
	return httprate.LimitBy(n, time.Minute, func(r *http.Request) (string, error) { return s.clientAddress(r), nil },
		httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			s.plainProblem(w, r, fail(http.StatusTooManyRequests, "problem.too-many").after(time.Minute))
		}))(next)
}

// limit counts requests by client address over windows of a minute.
func (s *Site) limit(next http.Handler) http.Handler {
	pages := s.limitBy(s.config.Limits.PagesPerMinute, next)
	acts := s.limitBy(s.config.Limits.ActsPerMinute, pages)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasPrefix(r.URL.Path, "/static/"), r.URL.Path == "/healthz":
			next.ServeHTTP(w, r)
		case r.Method == http.MethodGet || r.Method == http.MethodHead:
			pages.ServeHTTP(w, r)
		default:
			acts.ServeHTTP(w, r)
		}
	})
}

// clientAddress is the connection's, or behind a trusted proxy the last address
// of X-Forwarded-For that no trusted proxy has. An IPv6 /64 counts as one.
func (s *Site) clientAddress(r *http.Request) string {
	trusted := func(text string) bool {
		a, err := netip.ParseAddr(text)
		return err == nil && slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	chain := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(chain) - 1; i >= 0 && trusted(host); i-- {
		next := strings.TrimSpace(chain[i])
		if _, err := netip.ParseAddr(next); err != nil {
			break
		}
		host = next
	}
	return httprate.CanonicalizeIP(host)
}
