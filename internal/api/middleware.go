package api

import (
	"context"
	"crypto/rand"
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

type requestKey struct{} // *http.Request, for huma's handlers
type requestIDKey struct{}

func requestID(r *http.Request) string {
	id, _ := r.Context().Value(requestIDKey{}).(string)
	return id
}

// route is the pattern that matched: paths hold digests and kids, which belong
// in no log.
func route(r *http.Request) string {
	if r.Pattern == "" {
		return "none"
	}
	return r.Pattern
}

// wrap puts everything around the routes that holds for all of them.
func (s *Server) wrap(next http.Handler) http.Handler {
	return s.observe(s.securityHeaders(s.limitInFlight(s.limitRate(next))))
}

// observe names, counts and logs each request and turns a panic into an answer.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		id := rand.Text()[:12]
		r = r.WithContext(context.WithValue(r.Context(), requestIDKey{}, id))
		rec := &recorder{ResponseWriter: w}
		s.metrics.inFlight.Inc()
		defer func() {
			s.metrics.inFlight.Dec()
			if p := recover(); p != nil {
				if p == http.ErrAbortHandler {
					panic(p)
				}
				s.log.Error("request panicked", "request", id, "route", route(r), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
				if rec.status == 0 {
					s.writeError(rec, r, fail(http.StatusInternalServerError, "internal", "", ""))
				}
			}
			took := time.Since(began)
			s.metrics.request(route(r), rec.status, took)
			s.log.LogAttrs(r.Context(), logLevel(route(r), rec.status), "request", slog.String("request", id), slog.String("route", route(r)),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", took))
		}()
		next.ServeHTTP(rec, r)
	})
}

// logLevel lets failures stand out; that a node is not ready is an answer.
func logLevel(route string, status int) slog.Level {
	if status >= 500 && route != "GET /readyz" {
		return slog.LevelWarn
	}
	return slog.LevelDebug
}

// recorder keeps the status and length of an answer.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
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
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (s *Server) securityHeaders(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		// Lookups change and some are private; the few routes that may be cached say so.
		h.Set("Cache-Control", "no-store")
		next.ServeHTTP(w, r)
	})
}

// watched routes answer whatever the load: who watches must not be shut out.
func watched(path string) bool {
	return path == "/healthz" || path == "/readyz" || path == "/metrics"
}

// publicLog reports whether the path is a file of the public log.
func publicLog(path string) bool {
	return path == "/checkpoint" || strings.HasPrefix(path, "/tile/")
}

func (s *Server) limitInFlight(next http.Handler) http.Handler {
	slots := make(chan struct{}, s.limits.MaxInFlight)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if watched(r.URL.Path) {
			next.ServeHTTP(w, r)
			return
		}
		select {
		case slots <- struct{}{}:
			defer func() { <-slots }()
			next.ServeHTTP(w, r)
		default:
			s.writeError(w, r, fail(http.StatusTooManyRequests, "overloaded", "", "the node answers as many requests at once as it may").after(time.Second))
		}
	})
}

// limitRate counts by client address over windows of one second.
func (s *Server) limitRate(next http.Handler) http.Handler {
	limit := func(n int) http.Handler {
		if n < 0 {
			return next
		}
		return httprate.LimitBy(n, time.Second, s.clientAddress, httprate.WithLimitHandler(func(w http.ResponseWriter, r *http.Request) {
			s.writeError(w, r, fail(http.StatusTooManyRequests, "rate-limit", "", "Only %d requests per second are allowed.", n).after(time.Second))
		}))(next)
	}
	other, reads, stamps := limit(s.limits.RequestsPerSecond), limit(s.limits.ReadsPerSecond), limit(s.limits.StampsPerSecond)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case watched(r.URL.Path):
			next.ServeHTTP(w, r)
		case asksAuthority(r):
			stamps.ServeHTTP(w, r)
		case publicLog(r.URL.Path):
			reads.ServeHTTP(w, r)
		default:
			other.ServeHTTP(w, r)
		}
	})
}

// clientAddress is the peer's, or behind trusted proxies the rightmost
// forwarded one that is not a proxy of ours: what stands left of it is whatever
// the client wrote.
func (s *Server) clientAddress(r *http.Request) (string, error) {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	if len(s.config.TrustedProxies) > 0 {
		hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
		for s.trustedProxy(host) && len(hops) > 0 {
			last := strings.TrimSpace(hops[len(hops)-1])
			hops = hops[:len(hops)-1]
			if _, err := netip.ParseAddr(last); err != nil {
				break
			}
			host = last
		}
	}
	return httprate.CanonicalizeIP(host), nil
}

func (s *Server) trustedProxy(host string) bool {
	a, err := netip.ParseAddr(host)
	return err == nil && slices.ContainsFunc(s.config.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(a.Unmap()) })
}
